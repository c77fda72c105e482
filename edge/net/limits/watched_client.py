"""A client's connection, as those see it who watch over all of them: what it holds, and whether it is still there.

Hangups      has it left while nothing is read from it?
Buffers      how much memory does it hold, on whose account?
IdleClients  does it wait for a request while others have no place?
"""

import asyncio
from abc import abstractmethod

from edge.net.exchange import Exchange
from edge.net.transport.socket_state import descriptor_of, drop, has_come
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause


class WatchedClient:
    """The part of a client's connection that is watched."""

    __slots__ = ()

    _context: WorkerContext
    _transport: asyncio.Transport | None
    _exchange: Exchange | None
    _held: bytes
    info: ClientInfo
    deadline: float
    requests: int
    writable: bool

    @abstractmethod
    def eof_received(self) -> None:
        """The client sends no more."""

    @abstractmethod
    def _refuse_held(self, cause: Cause, why: str) -> None:
        """Answer a request whose head is not complete, and close."""

    @abstractmethod
    def _mark_unsent(self) -> None:
        """From now on the client must take some of what waits for it."""

    @property
    def exchange(self) -> Exchange | None:
        """The request in hand."""
        return self._exchange

    def _watch_no_more(self) -> None:
        """It is gone, or somebody else has it."""
        self._context.hangups.unwatch(self)
        self._context.buffers.forget(self)

    # Hangups

    def descriptor(self) -> int:
        """Of its socket, for `Hangups`."""
        assert self._transport is not None
        return descriptor_of(self._transport)

    def hung_up(self, *, reset: bool) -> None:
        """It has left while nothing was read from it. Called by `Hangups`."""
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
        """On whose account its memory is used; empty = nobody knows."""
        exchange = self._exchange
        return client_key(self.info.address if exchange is None else exchange.asker)

    @property
    def held_bytes(self) -> int:
        """What is kept in memory for it."""
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return len(self._held) + unsent + (0 if self._exchange is None else self._exchange.held_bytes)

    def cut_off(self) -> None:
        """It uses more memory than others. Called by `Buffers`."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.BUFFER_LIMIT)
        elif self._held:
            self._refuse_held(Cause.BUFFER_LIMIT, "too much memory is in use")
        if self._transport is not None:
            drop(self._transport)

    # IdleClients

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not."""
        if self._exchange is not None or self._held or not self.writable or self._transport is None:
            return None
        context = self._context
        timeout = context.hot.keep_alive if self.requests else context.timeouts.head
        return None if self._transport.is_closing() else self.deadline - timeout

    def close_idle(self) -> bool:
        """Another client needs its place. False = it has just asked for something."""
        transport = self._transport
        if transport is None or has_come(transport):
            return False
        self._mark_unsent()
        transport.close()
        return True
