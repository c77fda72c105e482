"""A connection that is about to be closed: the end of our side is sent, the rest of theirs read and thrown away.

Who closes while bytes of the client wait unread resets the connection, and the reset takes the last answer with
it that the client may not have read yet (RFC 9112, section 9.6).
"""

import asyncio
from math import inf

from edge.net.accept.connection_limit import Permit
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import NEXT
from edge.net.transport.socket_state import drop, read_away
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo

LINGER = 2.0
"Seconds for which the rest of a refused request is read and thrown away, so that its sender sees why."


class LingeringClose(asyncio.BufferedProtocol):
    """Takes over a connection that is about to be closed: sends the end, reads and throws away."""

    __slots__ = ("_context", "_patience", "_permit", "_transport", "_unsent", "deadline")

    def __init__(
        self,
        context: WorkerContext,
        transport: asyncio.Transport,
        permit: Permit | None,
        *,
        timeout: float = LINGER,
    ) -> None:
        self._context = context
        self._transport = transport
        self._permit = permit
        self._patience = timeout
        self._unsent = 0
        self.deadline = inf

    def begin(self) -> None:
        """Send the end of our side."""
        self._context.deadline_sweep.add(self)
        self._transport.set_protocol(self)
        self._transport.write_eof()
        self._transport.resume_reading()
        self._wait()

    def get_buffer(self, sizehint: int) -> memoryview:
        return NEXT

    def buffer_updated(self, nbytes: int) -> None:
        """Thrown away; one that sends as fast as it can has the time of a turn that all have."""
        reading = self._context.reading
        if nbytes > SHORT and not reading.begin():
            self._transport.pause_reading()
            reading.defer(self._read_on)

    def data_received(self, data: bytes) -> None:
        """The same, from a transport that has a buffer of its own."""
        self.buffer_updated(len(data))

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._context.reading.begin_to_listen()
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.deadline_sweep.discard(self)
        self._context.counts.connections -= 1
        self._context.connection_limiter.leave(self._permit)

    def deadline_passed(self, now: float) -> None:
        """Long enough, unless the client is still taking our answer."""
        self.deadline = inf
        if 0 < self._transport.get_write_buffer_size() < self._unsent:
            self._wait()
        else:
            self.drop()

    def stop(self) -> None:
        """It does so already: at the end of the edge it may have less time."""

    def drop(self) -> None:
        """Wait no longer."""
        drop(self._transport)

    def _wait(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        timeout = self._context.timeouts.write_stall if self._unsent else self._patience
        self.deadline = self._context.clock() + timeout


def turn_away(context: WorkerContext, transport: asyncio.Transport, peer: ClientInfo) -> None:
    """There is no room for this connection: say so, and close; when too many are told already, just close.

    Without an open file to linger with, it is closed at once; what has come of its request is read before, for
    unread it would cause a reset.
    """
    context.counts.refused += 1
    permit = context.connection_limiter.turn_away(peer, transport.write)
    if permit is None:
        read_away(transport)
        transport.abort()
    else:
        LingeringClose(context, transport, permit, timeout=context.turned_away_for).begin()
