"""After 101 Switching Protocols: two connections as one, whatever they say (RFC 9110, section 7.8).

    client ◄─► End ◄─► Tunnel ◄─► End ◄─► backend

Bytes go both ways unread and unframed, so that extensions, pings and closing codes of a WebSocket are those
of the two who speak it (RFC 6455). Either side may end its half; the other half goes on. When both halves
have ended, or one side is lost, or nobody has said anything for too long, the tunnel is over.
"""

import asyncio
from math import inf
from typing import Protocol

from edge.net.client import ConnectionLost, TunnelSide
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import SmallReads
from edge.net.transport.socket_state import descriptor_of, unread
from edge.net.transport.tcp_keepalive import Adjustable, watch_peer
from edge.net.worker_context import WorkerContext
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause

MAX_LAST_WORDS = 256 * 1024
"Bytes that are read of a side after a write to it has failed."


class Switched(Protocol):
    """The exchange that switched to another protocol."""

    @property
    def asker(self) -> str:
        """On whose account it is; "" = nobody knows."""

    def tunnelled(self, cause: Cause, bytes_in: int, bytes_out: int) -> None:
        """The tunnel is over, and both connections are gone."""


class End(asyncio.Protocol):
    """One of the two connections. What comes here leaves there."""

    __slots__ = (
        "_former",
        "_tunnel",
        "deferred",
        "early",
        "ended",
        "full",
        "lost",
        "other",
        "taken",
        "transport",
        "waiting",
    )

    def __init__(self, tunnel: "Tunnel", side: TunnelSide) -> None:
        self._tunnel = tunnel
        self._former: ConnectionLost = side.former
        self.transport = side.transport
        self.early = side.early
        "What came of it before the tunnel began."
        self.other: End = self
        self.taken = 0
        "Bytes that came from this side."
        self.ended = False
        "Whether this side has said that it sends no more."
        self.lost = False
        self.full = False
        "Whether it takes no more bytes for now."
        self.deferred = False
        "Whether others have their turn before more is read of it."
        self.waiting = 0
        "Bytes that waited for this side when it was last looked at; 0 = it takes what it gets."

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        self._tunnel.heard()
        self.other.transport.write(data)
        if len(data) > SHORT and not self.deferred and not self._tunnel.reading.begin():
            self.deferred = True
            self.transport.pause_reading()
            self._tunnel.reading.defer(self._read_on)

    def _read_on(self) -> None:
        """Others had their turn."""
        self.deferred = False
        if not self.other.full:
            self._tunnel.reading.begin_to_listen()
            self.resume_reading()

    def resume_reading(self) -> None:
        """Unless others have their turn first: then it is done later."""
        if not self.deferred and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        self._tunnel.half_closed(self.other)
        return True  # our own half stays open until the other side ends its own

    def pause_writing(self) -> None:
        """This side is slower than the other, from which nothing is read until it has caught up."""
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
        """Of its socket, for `Hangups`."""
        return descriptor_of(self.transport)

    def hung_up(self, *, reset: bool) -> None:
        """The client has left while nothing was read from it. (That it sends no more is read in its turn.)"""
        if reset:
            self._tunnel.client_gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if exc is not None and not self.other.transport.is_closing():
            # A write has failed: what it said before it left may wait to be read.
            last = unread(self.transport, MAX_LAST_WORDS)
            self.taken += len(last)
            if last:
                self.other.transport.write(last)
        self._tunnel.hangups.unwatch(self)
        self._former.connection_lost(exc)
        self._tunnel.end_lost(self, exc)

    def takes_bytes(self) -> bool:
        """Whether this side took some of what waits for it since the last look."""
        before, self.waiting = self.waiting, self.transport.get_write_buffer_size()
        return self.waiting < before


class Tunnel:
    """See the module. Its deadline is watched by the sweep."""

    __slots__ = (
        "_backend",
        "_cause",
        "_client",
        "_context",
        "_heard",
        "deadline",
        "exchange",
        "hangups",
        "reading",
    )

    def __init__(
        self,
        context: WorkerContext,
        exchange: Switched,
        client: TunnelSide,
        backend: TunnelSide,
    ) -> None:
        """`exchange` is told when the tunnel is over."""
        self._context = context
        self.hangups = context.hangups
        self.reading = context.reading
        self.exchange = exchange
        self._client = End(self, client)
        self._backend = End(self, backend)
        self._client.other, self._backend.other = self._backend, self._client
        self._cause = Cause.OK
        self._heard = 0.0
        self.deadline = inf

    def begin(self) -> None:
        """Take the connections over, with what came from either side behind the switch."""
        self._heard = self._context.clock()
        self.deadline = self._heard + self._context.timeouts.tunnel
        self._context.deadline_sweep.add(self)
        both = (self._client, self._backend)
        timeouts = self._context.timeouts
        backend: Adjustable = self._backend.transport.get_extra_info("socket")
        watch_peer(backend, timeouts.unacknowledged, stall=timeouts.write_stall)
        for end in both:
            end.transport.set_protocol(SmallReads(end))
            end.transport.resume_reading()
        for end in both:
            early, end.early = end.early, b""
            if early:
                end.data_received(early)
        for end in both:
            # That a side is full is told once, and it may have been told to whom the connection belonged before.
            if end.transport.get_write_buffer_size() > end.transport.get_write_buffer_limits()[1]:
                end.pause_writing()

    def heard(self) -> None:
        """One side said something."""
        self._heard = self._context.clock()

    def side_full(self, end: End) -> None:
        """One side has more waiting than is good: it must take some, every `write_stall` seconds."""
        if end is self._backend:  # of a backend that left, what it said before is still to be read
            self.hangups.watch(self._client)
        self.note()
        self.deadline = min(self.deadline, self._context.clock() + self._context.timeouts.write_stall)

    def half_closed(self, other: End) -> None:
        """One side sends no more: the `other` is told. What it has still to say must not take for ever."""
        if not other.transport.is_closing():
            other.transport.write_eof()
        if self._client.ended and self._backend.ended:
            self._close()
        else:
            self.deadline = self._context.clock() + self._patience

    def end_lost(self, end: End, exc: Exception | None) -> None:
        """A connection is gone; so the other one has nobody to talk to."""
        if exc is not None and self._cause is Cause.OK:
            self._cause = Cause.CLIENT_GONE if end is self._client else Cause.TUNNEL_CUT
        if not end.other.lost:
            self._close()
            return
        self._context.deadline_sweep.discard(self)
        self._context.buffers.forget(self)
        self.exchange.tunnelled(self._cause, self._client.taken, self._backend.taken)

    def note(self) -> None:
        """One side has more waiting than before, or less."""
        self._context.buffers.note(self)

    @property
    def client(self) -> ClientKey:
        """On whose account its memory is used; empty = nobody knows."""
        return client_key(self.exchange.asker)

    @property
    def held_bytes(self) -> int:
        """What waits for either side."""
        ends = (self._client, self._backend)
        return sum(end.transport.get_write_buffer_size() for end in ends if not end.lost)

    def cut_off(self) -> None:
        """It uses more memory than others. Called by `Buffers`."""
        if self._cause is Cause.OK:
            self._cause = Cause.BUFFER_LIMIT
        self._abort()

    def client_gone(self) -> None:
        """It is not there any more, and its backend takes nothing."""
        if self._cause is Cause.OK:
            self._cause = Cause.CLIENT_GONE
        self._abort()

    def deadline_passed(self, now: float) -> None:
        """The deadline has passed, unless somebody spoke meanwhile. Called by the sweep."""
        full = [end for end in (self._client, self._backend) if end.waiting or end.transport.is_closing()]
        if any(end.takes_bytes() for end in full):
            self.deadline = now + self._context.timeouts.write_stall
        elif full:
            if self._cause is Cause.OK:
                self._cause = Cause.CLIENT_STALLED if full[0] is self._client else Cause.TUNNEL_CUT
            self._abort()
        elif now < self._heard + self._patience:
            self.deadline = self._heard + self._patience
        else:
            self._cause = Cause.TUNNEL_IDLE
            self._close()

    def stop(self) -> None:
        """The edge stops: both sides lose their connection, behind what is still to be written."""
        if not (self._client.transport.is_closing() or self._backend.transport.is_closing()):
            self._cause = Cause.EDGE_STOPPED
            self._close()

    def drop(self) -> None:
        """The edge stops now."""
        if self._cause is Cause.OK:
            self._cause = Cause.EDGE_STOPPED
        self._abort()

    @property
    def _patience(self) -> float:
        timeouts = self._context.timeouts
        one_way = self._client.ended or self._backend.ended
        return min(timeouts.tunnel, timeouts.between_bytes) if one_way else timeouts.tunnel

    def _close(self) -> None:
        """End both connections behind what is still to be written."""
        self.deadline = self._context.clock() + self._context.timeouts.write_stall
        for end in (self._client, self._backend):
            if not end.transport.is_closing():
                end.waiting = end.transport.get_write_buffer_size()
                end.transport.close()

    def _abort(self) -> None:
        self.deadline = inf
        for end in (self._client, self._backend):
            if not end.lost:
                end.transport.abort()
