"""Accepting a connection: the steps from the listening socket to whoever reads requests from it.

    accepted ─► counted, admitted ─► step ─► step ─► ... ─► HTTP connection
                      └─ no room: 503, and closed

The steps of a listener are listed in `Listener`: the PROXY header, if it asks for one, then the HTTP
connection. A step that reads something else first, such as TLS, is one more in that list. (HAProxy:
temporary transports.)
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

from edge.net.accept.connection_limit import Permit
from edge.net.accept.lingering_close import turn_away
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo

InfoOf = Callable[[object], ClientInfo | None]
"What is known of the client with this `peername`; None = nobody may connect from there, or it has left already."


class AcceptStep(Protocol):
    """A protocol that has the connection from now on, until the next step begins."""

    def begin(self, data: bytes) -> None:
        """`data` was read before, behind what the steps before this one used."""


class NewConnection(asyncio.Protocol):
    """A connection on its way through the steps. Until the first one begins, nothing of it is read."""

    __slots__ = ("_context", "_info_of", "_steps", "info", "permit", "transport")

    transport: asyncio.Transport
    info: ClientInfo
    "Who is at the other end, as far as the steps so far have found out."

    def __init__(self, context: WorkerContext, info_of: InfoOf, steps: Sequence["StepFactory"]) -> None:
        self._context = context
        self._info_of = info_of
        self._steps: Iterator[StepFactory] = iter(steps)
        self.permit: Permit | None = None
        "What it gives back when it ends; None = it is not admitted."

    def __repr__(self) -> str:
        return f"<NewConnection {'admitted' if self.permit is not None else 'not admitted'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        counts = self._context.counts
        counts.connections += 1
        counts.accepted += 1
        info = self._info_of(transport.get_extra_info("peername"))
        if info is None:
            self.transport.abort()
        elif self.admit(info):
            self.begin_next(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.counts.connections -= 1
        context.connection_limiter.leave(self.permit)
        self.permit = None

    def admit(self, info: ClientInfo) -> bool:
        """Count it as a connection of this client, and no more as another's. False = there is no room for it: it is
        told so and closed."""
        context = self._context
        context.connection_limiter.leave(self.permit)
        self.permit = context.connection_limiter.admit(info)
        if self.permit is None:
            turn_away(context, self.transport, info)
            return False
        self.info = info
        return True

    def begin_next(self, data: bytes) -> None:
        """Give the connection to the next step, with what was read of it and not used."""
        step = next(self._steps)(self._context, self)
        self.transport.set_protocol(cast(asyncio.Protocol, step))
        step.begin(data)


StepFactory = Callable[[WorkerContext, NewConnection], AcceptStep]
