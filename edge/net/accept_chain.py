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

from edge.net.entrance import Badge
from edge.net.lingering import turn_away
from edge.net.services import Services
from edge.rules.hops import Peer

InfoOf = Callable[[object], Peer | None]
"What is known of the client with this `peername`; None = nobody may connect from there, or it has left already."


class AcceptStep(Protocol):
    """A protocol that has the connection from now on, until the next step begins."""

    def begin(self, data: bytes) -> None:
        """`data` was read before, behind what the steps before this one used."""


class NewConnection(asyncio.Protocol):
    """A connection on its way through the steps. Until the first one begins, nothing of it is read."""

    __slots__ = ("_info_of", "_services", "_steps", "badge", "info", "transport")

    transport: asyncio.Transport
    info: Peer
    "Who is at the other end, as far as the steps so far have found out."

    def __init__(self, services: Services, info_of: InfoOf, steps: Sequence["StepFactory"]) -> None:
        self._services = services
        self._info_of = info_of
        self._steps: Iterator[StepFactory] = iter(steps)
        self.badge: Badge | None = None
        "What it gives back when it ends; None = it is not admitted."

    def __repr__(self) -> str:
        return f"<NewConnection {'admitted' if self.badge is not None else 'not admitted'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        counts = self._services.counts
        counts.connections += 1
        counts.accepted += 1
        info = self._info_of(transport.get_extra_info("peername"))
        if info is None:
            self.transport.abort()
        elif self.admit(info):
            self.begin_next(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        services = self._services
        services.counts.connections -= 1
        services.entrance.leave(self.badge)
        self.badge = None

    def admit(self, info: Peer) -> bool:
        """Count it as a connection of this client, and no more as another's. False = there is no room for it: it is
        told so and closed."""
        services = self._services
        services.entrance.leave(self.badge)
        self.badge = services.entrance.admit(info)
        if self.badge is None:
            turn_away(services, self.transport, info)
            return False
        self.info = info
        return True

    def begin_next(self, data: bytes) -> None:
        """Give the connection to the next step, with what was read of it and not used."""
        step = next(self._steps)(self._services, self)
        self.transport.set_protocol(cast(asyncio.Protocol, step))
        step.begin(data)


StepFactory = Callable[[Services, NewConnection], AcceptStep]
