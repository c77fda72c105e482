"""The part of a client connection that the limits of the worker use: its state, and ways to close it.

Hangups      closes it when the client leaves while reading is paused
Buffers      counts the bytes that it holds, and cuts it off when they are too many
IdleClients  closes it when it is idle and a new connection needs room
"""

from abc import abstractmethod
from math import inf

from edge.net.exchange import Exchange
from edge.net.h1.h1_response import ResponseWriter
from edge.net.transport.socket_state import descriptor_of, drop, has_input
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause


class WatchedClient(ResponseWriter):
    """The base of a client connection that implements `PausedConnection`, `Holder` and `ClientConnection`."""

    __slots__ = ("_exchange", "deadline", "info", "writable")

    def __init__(self, context: WorkerContext, info: ClientInfo) -> None:
        super().__init__(context)
        self.info = info
        self.deadline = inf
        self._exchange: Exchange | None = None
        "That of the current request."
        self.writable = True
        "Whether the client takes more of the response."

    @abstractmethod
    def eof_received(self) -> None:
        """Act on a client that sends no more."""

    @abstractmethod
    def _refuse_held(self, cause: Cause, why: str) -> None:
        """Respond to a request whose head is incomplete with a local reply, and close."""

    @abstractmethod
    def _mark_unsent(self) -> None:
        """Require the client to take some of the write buffer within each `timeouts.write_stall` seconds."""

    @property
    def exchange(self) -> Exchange | None:
        """The exchange of the current request; None = no request in flight."""
        return self._exchange

    def _leave_limits(self) -> None:
        """Remove it from the limits, because it is lost or given away."""
        self._context.hangups.unwatch(self)
        self._context.buffers.forget(self)

    # Hangups

    def descriptor(self) -> int:
        """The descriptor of its socket. Called by `HangupWatch`."""
        assert self._transport is not None
        return descriptor_of(self._transport)

    def hung_up(self, *, reset: bool) -> None:
        """Close the connection of a client that left while reading was paused. Called by `HangupWatch`."""
        if self._transport is None:
            return
        if reset:
            self._transport.abort()
        elif self._exchange is not None:
            self.eof_received()
            self._mark_unsent()
            self._transport.close()

    # Buffers

    @property
    def client(self) -> ClientKey:
        """The client that its memory is counted for; empty = unknown. Called by `BufferLimit`."""
        exchange = self._exchange
        return client_key(self.info.address if exchange is None else exchange.client_address)

    @property
    def held_bytes(self) -> int:
        """Bytes that are buffered for it: unparsed ones, the write buffer, and those of its exchange."""
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return len(self._held) + unsent + (0 if self._exchange is None else self._exchange.held_bytes)

    def cut_off(self) -> None:
        """Close the connection at once because it holds more than its share of memory. Called by `BufferLimit`."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.BUFFER_LIMIT)
        elif self._held:
            self._refuse_held(Cause.BUFFER_LIMIT, "buffers over limits.buffers")
        if self._transport is not None:
            drop(self._transport)

    # IdleClients

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not wait. Called by `IdleConnections`."""
        if self._exchange is not None or self._held or not self.writable or self._transport is None:
            return None
        context = self._context
        timeout = context.hot.keep_alive if self.requests else context.timeouts.head
        return None if self._transport.is_closing() else self.deadline - timeout

    def close_idle(self) -> bool:
        """Close the connection to make room. False = a request has just arrived. Called by `IdleConnections`."""
        transport = self._transport
        if transport is None or has_input(transport):
            return False
        self._mark_unsent()
        transport.close()
        return True
