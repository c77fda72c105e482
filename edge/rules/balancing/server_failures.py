"""What connects tell about whole servers: hundreds of containers share one, and go dark with it.

A connect that times out, or an address that cannot be reached, is evidence about the *server*: a container that is
merely broken refuses connections. When three different containers of one server gave such evidence within ten
seconds, it is suspect: its other containers get no request before a connect in the background has shown that they
are there. The first of them that answers clears the server, and all are tried at once. So one dead server costs
each worker a few waits, and not one for each of its hundreds of containers.
"""

from cachetools import LRUCache

from edge.rules.outcomes import Cause

EVIDENCE = frozenset({Cause.CONNECT_TIMEOUT, Cause.HOST_UNREACHABLE, Cause.CONNECTION_UNACKNOWLEDGED})
ENOUGH = 3
"Containers of one server that cannot be reached."
WINDOW = 10.0
"Seconds within which."
MOST = 10_000
"Servers remembered by a worker."


class ServerState:
    """One machine that containers run on, as the core API names it."""

    __slots__ = ("_unreachable", "name", "suspect_since")

    def __init__(self, name: str) -> None:
        self.name = name
        self.suspect_since = 0.0
        "0 = it is not."
        self._unreachable: dict[str, float] = {}
        "Containers that could not be reached, and when. At most `ENOUGH` are kept."

    def record_unreachable(self, endpoint: str, now: float) -> bool:
        """One of its containers could not be reached; returns whether that makes it suspect."""
        recent = {who: at for who, at in self._unreachable.items() if now - at <= WINDOW}
        if len(recent) < ENOUGH:
            recent[endpoint] = now
        self._unreachable = recent
        if self.suspect_since or len(recent) < ENOUGH:
            return False
        self.suspect_since = now
        return True

    def record_reached(self) -> bool:
        """One of them answered; returns whether the server was suspect."""
        was, self.suspect_since = bool(self.suspect_since), 0.0
        self._unreachable.clear()
        return was

    def hear(self, *, suspect: bool, now: float) -> None:
        """What another worker thinks of it."""
        if not suspect:
            self.record_reached()
        elif not self.suspect_since:
            self.suspect_since = now


class ServerFailures:
    """The servers that a worker has seen."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: LRUCache[str, ServerState] = LRUCache(MOST)

    def get(self, name: str) -> ServerState | None:
        """The server of this name; None for "", which names none."""
        if not name:
            return None
        server = self._known.get(name)
        if server is None:
            server = self._known[name] = ServerState(name)
        return server

    @property
    def suspect(self) -> list[str]:
        """Those that are."""
        return [server.name for server in self._known.values() if server.suspect_since]
