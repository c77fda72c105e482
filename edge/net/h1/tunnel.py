"""Relays bytes between a client and a backend after 101 Switching Protocols (RFC 9110, section 7.8).

    client ◄─► TunnelEnd ◄─► Tunnel ◄─► TunnelEnd ◄─► backend

Bytes are relayed both ways without parsing, so extensions, pings and close codes of a WebSocket (RFC 6455) stay
between client and backend. Either side may close its sending half; the other half goes on. The tunnel ends when
both halves are closed, when one connection is lost, or when no byte came for `timeouts.tunnel` seconds.
"""

import asyncio
from math import inf
from typing import Protocol, cast

from edge.net.client import ConnectionLost, TunnelSide
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import SmallReads, retained
from edge.net.transport.socket_state import descriptor_of, unread
from edge.net.transport.tcp_keepalive import SocketOptions, set_keepalive
from edge.net.worker_context import WorkerContext
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause

MAX_READ_AFTER_RESET = 256 * 1024
"Bytes that are read from a side after a write to it has failed."


class SwitchedExchange(Protocol):
    """The exchange that switched to another protocol, as its tunnel sees it."""

    @property
    def client_address(self) -> str:
        """Address of the client that its memory is counted for; "" = unknown."""

    def tunnelled(self, cause: Cause, bytes_in: int, bytes_out: int) -> None:
        """Record the end of the tunnel; both connections are closed."""


class TunnelEnd(asyncio.Protocol):
    """The protocol of one of the two connections: it writes received bytes to the other one."""

    __slots__ = (
        "_former",
        "_tunnel",
        "deferred",
        "early",
        "ended",
        "full",
        "lost",
        "other",
        "received_bytes",
        "transport",
        "waiting",
    )

    def __init__(self, tunnel: "Tunnel", side: TunnelSide) -> None:
        self._tunnel = tunnel
        self._former: ConnectionLost = side.former
        self.transport = side.transport
        self.early = side.early
        "Bytes of the other protocol that were received before the tunnel began."
        self.other: TunnelEnd = self
        self.received_bytes = 0
        "Bytes received from this side."
        self.ended = False
        "Whether this side has closed its sending half."
        self.lost = False
        self.full = False
        "Whether its write buffer is full."
        self.deferred = False
        "Whether reading is paused until a later turn of the loop."
        self.waiting = 0
        "Bytes in its write buffer at the last check for progress; 0 = the side keeps up."

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._tunnel.received()
        self.other.transport.write(data)
        if len(data) > SHORT and not self.deferred and not self._tunnel.reading.begin():
            self.deferred = True
            self.transport.pause_reading()
            self._tunnel.reading.defer(self._read_on)

    def _read_on(self) -> None:
        """Continue a deferred read."""
        self.deferred = False
        if not self.lost and not self.other.full:
            self._tunnel.reading.begin_resuming()
            self.resume_reading()

    def resume_reading(self) -> None:
        """Read from this side again, unless its reading is deferred: then `_read_on` does so."""
        if not self.deferred and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        self._tunnel.half_closed(self.other)
        return True  # our sending half stays open until the other side closes its own

    def pause_writing(self) -> None:
        """Stop reading from the other side until this side has caught up."""
        self.full = True
        self.waiting = self.transport.get_write_buffer_size()
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()
        self._tunnel.side_full(self)

    def resume_writing(self) -> None:
        self.full = False
        self.waiting = 0
        self._tunnel.hangups.unwatch(self.other)
        self._tunnel.note()
        self.other.resume_reading()

    def descriptor(self) -> int:
        """The descriptor of its socket. Called by `HangupWatch`."""
        return descriptor_of(self.transport)

    def hung_up(self, *, reset: bool) -> None:
        """Act on a client that was reset while nothing was read from it. (A half-close is read in its turn.)
        Called by `HangupWatch`."""
        if reset:
            self._tunnel.client_gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if exc is not None and not self.other.transport.is_closing():
            # A write has failed; bytes that this side sent before may be left in the socket.
            rest = unread(self.transport, MAX_READ_AFTER_RESET)
            self.received_bytes += len(rest)
            if rest:
                self.other.transport.write(rest)
        self._tunnel.hangups.unwatch(self)
        self._former.connection_lost(exc)
        self._tunnel.end_lost(self, exc)

    def release(self) -> None:
        """Drop the references to the tunnel and the other side, which are a cycle. Both sides are lost: nothing is
        called any more."""
        del self._tunnel, self._former, self.other

    def takes_bytes(self) -> bool:
        """Whether this side has taken bytes of its write buffer since the last check."""
        before, self.waiting = self.waiting, self.transport.get_write_buffer_size()
        return self.waiting < before


class Tunnel:
    """Two connections after a switch of protocols. A member of the deadline sweep."""

    __slots__ = (
        "_backend",
        "_cause",
        "_client",
        "_context",
        "_received_at",
        "deadline",
        "exchange",
        "hangups",
        "reading",
    )

    def __init__(
        self,
        context: WorkerContext,
        exchange: SwitchedExchange,
        client: TunnelSide,
        backend: TunnelSide,
    ) -> None:
        """`exchange`: its `tunnelled` is called when the tunnel has ended."""
        self._context = context
        self.hangups = context.hangups
        self.reading = context.reading
        self.exchange = exchange
        self._client = TunnelEnd(self, client)
        self._backend = TunnelEnd(self, backend)
        self._client.other, self._backend.other = self._backend, self._client
        self._cause = Cause.OK
        self._received_at = 0.0
        self.deadline = inf

    def begin(self) -> None:
        """Take over both connections, and relay the bytes that each side sent behind the switch."""
        self._received_at = self._context.clock()
        self.deadline = self._received_at + self._context.timeouts.tunnel
        self._context.deadline_sweep.add(self)
        both = (self._client, self._backend)
        timeouts = self._context.timeouts
        backend: SocketOptions = self._backend.transport.get_extra_info("socket")
        set_keepalive(backend, timeouts.unacknowledged, stall=timeouts.write_stall)
        for end in both:
            end.transport.set_protocol(cast(asyncio.BaseProtocol, SmallReads(end)))
            end.transport.resume_reading()
        for end in both:
            early, end.early = end.early, b""
            if early:
                end.data_received(early)
        for end in both:
            # `pause_writing` is called once, and may have been called on the former protocol of the connection.
            if end.transport.get_write_buffer_size() > end.transport.get_write_buffer_limits()[1]:
                end.pause_writing()

    def received(self) -> None:
        """Record that bytes were received, which restarts the idle timeout."""
        self._received_at = self._context.clock()

    def side_full(self, end: TunnelEnd) -> None:
        """Require a side whose write buffer is full to take some within each `timeouts.write_stall` seconds."""
        if (
            end is self._backend and self._client.descriptor() >= 0
        ):  # not for the client's buffer: bytes of a backend that left are still to be read
            self.hangups.watch(self._client)
        self.note()
        self.deadline = min(self.deadline, self._context.clock() + self._context.timeouts.write_stall)

    def half_closed(self, other: TunnelEnd) -> None:
        """Pass the end of one half on to the `other` side, whose own half gets a shorter idle timeout."""
        if not other.transport.is_closing():
            other.transport.write_eof()
        if self._client.ended and self._backend.ended:
            self._close()
        else:
            self.deadline = self._context.clock() + self._idle_timeout

    def end_lost(self, end: TunnelEnd, exc: Exception | None) -> None:
        """Close the other connection after one was lost; after both, report the end to the exchange."""
        if exc is not None and self._cause is Cause.OK:
            self._cause = Cause.CLIENT_GONE if end is self._client else Cause.TUNNEL_CUT
        if not end.other.lost:
            self._close()
            return
        self._context.deadline_sweep.discard(self)
        self._context.buffers.forget(self)
        self.exchange.tunnelled(self._cause, self._client.received_bytes, self._backend.received_bytes)
        self._client.release()
        self._backend.release()

    def note(self) -> None:
        """Update the count of buffered bytes."""
        self._context.buffers.note(self)

    @property
    def client(self) -> ClientKey:
        """The client that its memory is counted for; empty = unknown."""
        return client_key(self.exchange.client_address)

    @property
    def held_bytes(self) -> int:
        """Bytes in the write buffers of both sides."""
        ends = (self._client, self._backend)
        return sum(retained(end.transport.get_write_buffer_size(), full=end.full) for end in ends if not end.lost)

    @property
    def relayed(self) -> tuple[int, int]:
        """Bytes received so far from the client and from the backend."""
        return self._client.received_bytes, self._backend.received_bytes

    def cut_off(self) -> None:
        """End the tunnel because it holds more than its share of memory. Called by `BufferLimit`."""
        self._abort(Cause.BUFFER_LIMIT)

    def client_gone(self) -> None:
        """End the tunnel because its client is gone, which was noticed while the backend was blocked."""
        self._abort(Cause.CLIENT_GONE)

    def deadline_passed(self, now: float) -> None:
        """End the tunnel, unless bytes came or were taken meanwhile: then set the next deadline. Called by the
        deadline sweep."""
        full = [end for end in (self._client, self._backend) if end.waiting or end.transport.is_closing()]
        if any(end.takes_bytes() for end in full):
            self.deadline = now + self._context.timeouts.write_stall
        elif full:
            self._abort(Cause.CLIENT_STALLED if full[0] is self._client else Cause.TUNNEL_CUT)
        elif now < self._received_at + self._idle_timeout:
            self.deadline = self._received_at + self._idle_timeout
        else:
            self._cause = Cause.TUNNEL_IDLE
            self._close()

    def stop(self) -> None:
        """Close both connections after their write buffers are flushed, because the edge stops."""
        if not (self._client.transport.is_closing() or self._backend.transport.is_closing()):
            self._cause = Cause.EDGE_STOPPED
            self._close()

    def drop(self) -> None:
        """Close both connections at once because the edge stops."""
        self._abort(Cause.EDGE_STOPPED)

    @property
    def _idle_timeout(self) -> float:
        """Seconds without a byte after which the tunnel ends."""
        timeouts = self._context.timeouts
        one_way = self._client.ended or self._backend.ended
        return min(timeouts.tunnel, timeouts.between_bytes) if one_way else timeouts.tunnel

    def _close(self) -> None:
        """Close both connections after their write buffers are flushed."""
        self.deadline = self._context.clock() + self._context.timeouts.write_stall
        for end in (self._client, self._backend):
            if not end.transport.is_closing():
                end.waiting = end.transport.get_write_buffer_size()
                end.transport.close()

    def _abort(self, cause: Cause) -> None:
        """Close both connections at once, for this cause unless there is one already."""
        if self._cause is Cause.OK:
            self._cause = cause
        self.deadline = inf
        for end in (self._client, self._backend):
            if not end.lost:
                end.transport.abort()
