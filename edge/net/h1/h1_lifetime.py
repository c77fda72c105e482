"""The lifetime of an HTTP/1.1 connection of a client: keep-alive, drain, abort, and closing because of a limit.

HangupWatch      closes it when the client leaves while reading is paused
BufferLimit      counts the bytes that it holds, and cuts it off when they are too many
IdleConnections  closes it when it is idle and a new connection needs room
DeadlineSweep    calls it when what it waits for has not come in time

Its requests and responses are in `h1_connection.py`.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from math import inf
from typing import Final

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.client import TunnelSide
from edge.net.exchange import Exchange
from edge.net.transport.read_control import ReadControl, discard
from edge.net.transport.small_reads import retained
from edge.net.transport.socket_state import descriptor_of, drop, has_input, reset
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, Body, Framing
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause

_NONE: Final = Framing.NONE
_CLOSE: Final = Framing.CLOSE


class H1Lifetime(ReadControl):
    """The waiting and ending part of an HTTP/1.1 connection; implements `PausedConnection`, `Holder` and
    `ClientConnection`."""

    __slots__ = (
        "_context",
        "_exchange",
        "_framing",
        "_permit",
        "_unsent",
        "body",
        "deadline",
        "info",
        "requests",
        "writable",
        "write",
    )

    def __init__(self, context: WorkerContext, connection: NewConnection) -> None:
        super().__init__(context.reading)
        self._context = context
        self._transport = connection.transport
        self._permit = connection.permit
        self.info = connection.info
        self.deadline = inf
        self.write: Callable[[bytes], object] = connection.transport.write
        "Sends bytes of the response. It is the transport's own method, which saves a call."
        self.writable = True
        "Whether the client takes more of the response."
        self._unsent = 0
        "Bytes in the write buffer at the last check whether the client still takes some."
        self.requests = 0
        "Requests read so far."
        # of the current request
        self._exchange: Exchange | None = None
        self.body: Body = NO_BODY
        "Decoder of the request body."
        self._framing = _NONE
        "Framing of the latest response."

    @abstractmethod
    def _refuse_held(self, cause: Cause, why: str) -> None:
        """Respond to a request whose head is incomplete with a local reply, and close."""

    @property
    def exchange(self) -> Exchange | None:
        """The exchange of the current request; None = no request in flight."""
        return self._exchange

    @property
    def is_close_delimited(self) -> bool:
        """Whether the latest response is delimited by the end of the connection."""
        return self._framing is _CLOSE

    # asyncio.Protocol

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.deadline_sweep.discard(self)
        self._leave_limits()
        context.counts.connections -= 1
        self.info.listener.connections -= 1
        context.connection_limiter.leave(self._permit)
        self._transport = None
        self.write = discard
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """Treat a client that has closed its sending side as gone, as nginx does. The loop closes the connection
        after this call."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            truncated = exchange.is_responding and self.is_close_delimited
            exchange.client_gone()
            if truncated:
                self.abort()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()
            self._context.hangups.watch(self)
            self._context.buffers.note(self)

    def _start_reading(self) -> None:
        if self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()
            self._context.hangups.unwatch(self)
            self._context.buffers.note(self)

    # the end

    def hand_over(self) -> TunnelSide:
        """Give the connection to a tunnel, with the bytes that came behind the request."""
        assert self._transport is not None
        held, self._held = self._held, b""
        self._exchange = None
        self.deadline = inf
        self._context.deadline_sweep.discard(self)  # the tunnel has a deadline of its own
        self._leave_limits()
        return TunnelSide(self._transport, self, held)

    def _close(self) -> None:
        """Close the connection. If the client is still sending, read on for a while first: unread bytes would cause
        a reset, by which the client loses the response (RFC 9112, section 9.6). Pipelined requests are dropped."""
        transport = self._transport
        if transport is None:
            return
        if self.body.done and not self._held:
            self._mark_unsent()
            transport.close()
            return
        self._context.deadline_sweep.discard(self)
        self._leave_limits()
        self._held = b""
        self._transport = None
        self.write = discard
        LingeringClose(self._context, transport, self._permit, self.info.listener).begin()

    def abort(self) -> None:
        """End a connection whose response is incomplete, so that the client notices.

        A close-delimited response would look complete after an orderly close, so its connection is reset.
        """
        self._exchange = None
        transport = self._transport
        if transport is None:
            return
        if self.is_close_delimited:
            reset(transport)
        else:
            self._mark_unsent()
            transport.close()

    def stop(self) -> None:
        """Close the connection because the edge stops. A request in flight gets a local reply; bytes that have
        arrived already are read first, and rejected."""
        transport = self._transport
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        elif transport is None or transport.is_closing():
            return
        elif self._held.strip(b"\r\n"):
            self._refuse_held(Cause.EDGE_STOPPED, "the edge stops")
        elif self.paused or not has_input(transport):
            self._mark_unsent()
            transport.close()

    def drop(self) -> None:
        """Close the connection at once because the edge stops."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        if self._transport is not None:
            drop(self._transport)

    def _leave_limits(self) -> None:
        """Remove it from the limits, because it is lost or given away."""
        self._context.hangups.unwatch(self)
        self._context.buffers.forget(self)

    # timeouts

    def shorten_idle_timeout(self, now: float, idle: float) -> None:
        """Shorten the idle timeout to `idle` seconds, because the worker drains. A client without a request so far
        keeps the timeout that it always has: it connected in order to send one. One that is still to take the rest
        of its response is not idle."""
        if self.requests and self._exchange is None and not self._held and self.writable:
            silent_since = self.deadline - self._context.hot.keep_alive
            self.deadline = min(self.deadline, max(now, silent_since + idle))

    def _mark_unsent(self) -> None:
        """Require the client to take some of the write buffer within each `timeouts.write_stall` seconds."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = self._context.clock() + self._context.hot.write_stall

    def _takes_bytes(self, transport: asyncio.Transport) -> bool:
        """Whether the client has taken bytes since the last check."""
        return transport.get_write_buffer_size() < self._unsent

    def deadline_passed(self, now: float) -> None:
        """Act on the deadline. Called by the deadline sweep."""
        self.deadline = inf
        transport = self._transport
        if transport is None:
            return
        stuck = not self.writable or transport.is_closing()
        if stuck and self._takes_bytes(transport):
            self._mark_unsent()  # slow, but alive
        elif self._exchange is not None:
            self._exchange.deadline_passed(now)
        elif stuck:
            drop(transport)  # the client does not take the end of its response
        elif self._held.strip(b"\r\n"):
            self._refuse_held(Cause.REQUEST_TIMEOUT, "timeout of the head")
        elif not self.paused and has_input(transport):
            self.deadline = now + self._context.timeouts.head  # a request has arrived, and is read in this turn
        else:
            self._mark_unsent()
            transport.close()

    # called by HangupWatch

    def descriptor(self) -> int:
        """The descriptor of its socket."""
        assert self._transport is not None
        return descriptor_of(self._transport)

    def hung_up(self, *, reset: bool) -> None:
        """Close the connection of a client that left while reading was paused."""
        if self._transport is None:
            return
        if reset:
            self._transport.abort()
        elif self._exchange is not None:
            self.eof_received()
            self._mark_unsent()
            self._transport.close()

    # called by BufferLimit

    @property
    def client(self) -> ClientKey:
        """The client that its memory is counted for; empty = unknown."""
        exchange = self._exchange
        return client_key(self.info.address if exchange is None else exchange.client_address)

    @property
    def held_bytes(self) -> int:
        """Bytes that are buffered for it: unparsed ones, the write buffer, and those of its exchange."""
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        held = len(self._held) + retained(unsent, full=not self.writable)
        return held if self._exchange is None else held + self._exchange.held_bytes

    def cut_off(self) -> None:
        """Close the connection at once because it holds more than its share of memory."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.BUFFER_LIMIT)
        elif self._held:
            self._refuse_held(Cause.BUFFER_LIMIT, "buffers over limits.buffers")
        if self._transport is not None:
            drop(self._transport)

    # called by IdleConnections

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not wait."""
        if self._exchange is not None or self._held or not self.writable or self._transport is None:
            return None
        context = self._context
        timeout = context.hot.keep_alive if self.requests else context.timeouts.head
        return None if self._transport.is_closing() else self.deadline - timeout

    def close_idle(self) -> bool:
        """Close the connection to make room. False = a request has just arrived."""
        transport = self._transport
        if transport is None or has_input(transport):
            return False
        self._mark_unsent()
        transport.close()
        return True
