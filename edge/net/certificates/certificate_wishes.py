"""Names for which a handshake found no certificate, and which styx may obtain from an ACME authority.

    handshake ─► not told lately ─► the source of routes knows it ─► told to the issuer
                                      └─ it does not: the client is charged, as for a request to an unknown host

A name that somebody made up never gets further than the source of routes.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from edge.rules.acme.issuance_plan import may_be_ordered
from edge.rules.limits.lookup_queue import Done
from edge.rules.routing.routes import Route

AGAIN: Final = 10.0
"Seconds after which a name is told again."
MOST: Final = 1000
"Names that wait to be told, or were told lately. Beyond it, further ones come up again at their next handshake."


class Resolve(Protocol):
    """Looks a hostname up: `RouteResolver.resolve`."""

    def __call__(self, hostname: str, done: Done, client: str = "") -> None: ...


def is_known(route: Route | None) -> bool:
    """Whether the source of routes knows a hostname whose lookup has led to this."""
    return route is not None and route.response is not None


async def known_to_source(resolve: Resolve, hostname: str) -> str:
    """Whether the source of routes knows a hostname: `known`, `unknown`, or `unsure` if it could not be asked."""
    found: asyncio.Future[Route | None] = asyncio.get_running_loop().create_future()

    def done(route: Route | None) -> None:
        if not found.done():
            found.set_result(route)

    resolve(hostname, done)
    route = await found
    return "unsure" if route is None else "known" if is_known(route) else "unknown"


class CertificateWishes:
    """The names of one worker."""

    __slots__ = ("_asked_at", "_clock", "_resolve", "_wanted")

    def __init__(self, resolve: Resolve, clock: Callable[[], float]) -> None:
        self._resolve = resolve
        self._clock = clock
        self._asked_at: dict[str, float] = {}
        "When each known name was looked up, in this order; and names that are being looked up."
        self._wanted: dict[str, None] = {}
        "Known names that are to be told."

    def __len__(self) -> int:
        return len(self._asked_at)

    def add(self, hostname: str, client: str) -> None:
        """A handshake of this client found no certificate for this name."""
        now, asked = self._clock(), self._asked_at
        while asked and asked[first := next(iter(asked))] + AGAIN <= now:
            del asked[first]
        is_full = len(asked) >= MOST or len(self._wanted) >= MOST
        if hostname in asked or is_full or not may_be_ordered(hostname):
            return
        asked[hostname] = now

        def done(route: Route | None) -> None:
            if is_known(route):
                self._wanted[hostname] = None
            else:  # unknown names have a memory and limits of their own
                asked.pop(hostname, None)

        self._resolve(hostname, done, client)

    def take(self) -> list[str]:
        """The names to tell now."""
        taken = list(self._wanted)
        self._wanted.clear()
        return taken
