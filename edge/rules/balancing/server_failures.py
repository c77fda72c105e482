"""Detection of failed servers by failed connects: hundreds of containers share a server, and fail with it.

A connect that times out, or an address that cannot be reached, is evidence about the *server*: a container that is
merely broken refuses connections. When connects to three different containers of a server failed like this within
ten seconds, the server is suspect: its other containers get no request before a connect in the background has
succeeded. The first of them that responds clears the server, and all get requests at once. So a failed server costs
each worker a few connect timeouts, and not one for each of its hundreds of containers.
"""

from typing import Final

from cachetools import LRUCache

from edge.rules.outcomes import Cause

EVIDENCE: Final = frozenset({Cause.CONNECT_TIMEOUT, Cause.HOST_UNREACHABLE, Cause.CONNECTION_UNACKNOWLEDGED})
"Causes that are evidence about the server."
ENOUGH: Final = 3
"Unreachable containers of one server that make it suspect."
WINDOW: Final = 10.0
"Seconds within which they must fail."
MOST: Final = 10_000
"Servers that a worker keeps; beyond that the least recently used is dropped."


class ServerState:
    """The state of one server, a machine that containers run on, by its name in the core API."""

    __slots__ = ("_unreachable", "name", "suspect_since")

    def __init__(self, name: str) -> None:
        self.name = name
        self.suspect_since = 0.0
        "Time since which it is suspect; 0 = it is not."
        self._unreachable: dict[str, float] = {}
        "Endpoints of containers that could not be reached, and when; at most `ENOUGH`."

    def record_unreachable(self, endpoint: str, now: float) -> bool:
        """Record that one of its containers could not be reached; returns whether the server becomes suspect by
        it."""
        recent = {name: at for name, at in self._unreachable.items() if now - at <= WINDOW}
        if len(recent) < ENOUGH:
            recent[endpoint] = now
        self._unreachable = recent
        if self.suspect_since or len(recent) < ENOUGH:
            return False
        self.suspect_since = now
        return True

    def record_reached(self) -> bool:
        """Record that one of its containers could be reached; returns whether the server was suspect."""
        was, self.suspect_since = bool(self.suspect_since), 0.0
        self._unreachable.clear()
        return was

    def apply_event(self, *, suspect: bool, now: float) -> None:
        """Apply what another worker reported about this server."""
        if not suspect:
            self.record_reached()
        elif not self.suspect_since:
            self.suspect_since = now


class ServerFailures:
    """The servers that a worker knows."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: LRUCache[str, ServerState] = LRUCache(MOST)

    def get(self, name: str) -> ServerState | None:
        """Return the state of the server of this name, a new one if needed; None for ""."""
        if not name:
            return None
        server = self._known.get(name)
        if server is None:
            server = self._known[name] = ServerState(name)
        return server

    @property
    def suspect(self) -> list[str]:
        """Names of the suspect servers."""
        return [server.name for server in self._known.values() if server.suspect_since]
