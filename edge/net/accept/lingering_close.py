"""The lingering close: closes the sending half of a client connection, then reads and discards what the client
sends.

A close with unread bytes in the receive buffer resets the connection, and the client may lose the last response,
which it has not read yet (RFC 9112, section 9.6).
"""

import asyncio
from math import inf

from edge.net.accept.connection_limit import Permit
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import NEXT
from edge.net.transport.socket_state import discard_input, drop
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.traffic.listener_counts import ListenerCounts

LINGER = 2.0
"Seconds for which the rest of a rejected request is read and discarded, so that the client can read the response."


class LingeringClose(asyncio.BufferedProtocol):
    """The protocol of a connection in a lingering close. A member of the deadline sweep."""

    __slots__ = (
        "_context",
        "_end",
        "_listener",
        "_permit",
        "_timeout",
        "_transport",
        "_unsent",
        "deadline",
        "has_received",
    )

    def __init__(
        self,
        context: WorkerContext,
        transport: asyncio.Transport,
        permit: Permit | None,
        listener: ListenerCounts,
        *,
        timeout: float = LINGER,
        longest: float = 0.0,
    ) -> None:
        """`timeout`: seconds for which it lingers; while the client sends, again and again, up to `longest`."""
        self._context = context
        self._listener = listener
        self._transport = transport
        self._permit = permit
        self._timeout = timeout
        self._unsent = 0
        self.has_received = False
        "Whether something came since the deadline was set."
        self._end = context.clock() + longest
        self.deadline = inf

    def begin(self) -> None:
        """Take over the connection and close its sending half."""
        self._context.deadline_sweep.add(self)
        self._transport.set_protocol(self)
        self._transport.write_eof()
        self._transport.resume_reading()
        self._wait()

    def get_buffer(self, sizehint: int) -> memoryview:
        return NEXT

    def buffer_updated(self, nbytes: int) -> None:
        """Discard the bytes. Long reads use the time budget of the turn like all others."""
        self.has_received = True
        reading = self._context.reading
        if nbytes > SHORT and not reading.begin():
            self._transport.pause_reading()
            reading.defer(self._read_on)

    def data_received(self, data: bytes) -> None:
        """Discard bytes from a transport that has a buffer of its own; as `buffer_updated`."""
        self.buffer_updated(len(data))

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._context.reading.begin_resuming()
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.deadline_sweep.discard(self)
        self._context.counts.connections -= 1
        self._listener.connections -= 1
        self._context.connection_limiter.leave(self._permit)

    def deadline_passed(self, now: float) -> None:
        """Close the connection, unless the client is still taking the response. Called by the deadline sweep."""
        self.deadline = inf
        is_sending = self.has_received and now < self._end
        if is_sending or 0 < self._transport.get_write_buffer_size() < self._unsent:
            self._wait()
        else:
            self.drop()

    def stop(self) -> None:
        """Do nothing: the connection is closing already. An edge that stops may `drop` it before its deadline."""

    def drop(self) -> None:
        """Close the connection at once."""
        drop(self._transport)

    def _wait(self) -> None:
        self.has_received = False
        self._unsent = self._transport.get_write_buffer_size()
        timeout = self._context.timeouts.write_stall if self._unsent else self._timeout
        self.deadline = self._context.clock() + timeout


def turn_away_h2(context: WorkerContext, transport: asyncio.Transport, client: ClientInfo) -> None:
    """Reject a connection beyond a limit whose client speaks HTTP/2 from its first byte: GOAWAY."""
    turn_away(context, transport, client, over_h2=True)


def turn_away(
    context: WorkerContext, transport: asyncio.Transport, client: ClientInfo, *, over_h2: bool = False
) -> None:
    """Reject a connection beyond a limit: send a 503, or `over_h2` a GOAWAY, then do a lingering close. When too
    many linger already, only close it.

    Without an open file for the lingering close, the connection is closed at once. What has come of its request is
    read first, because unread bytes would cause a reset.
    """
    context.counts.refused += 1
    permit = context.connection_limiter.turn_away(client, transport.write, over_h2=over_h2)
    if permit is None:
        discard_input(transport)
        transport.abort()
    else:
        LingeringClose(context, transport, permit, client.listener, timeout=context.rejected_linger).begin()


def close_rejected(context: WorkerContext, transport: asyncio.Transport, client: ClientInfo) -> None:
    """Reject a connection beyond a limit that speaks TLS: close it, for a response could not be read."""
    context.counts.refused += 1
    discard_input(transport)
    transport.abort()
