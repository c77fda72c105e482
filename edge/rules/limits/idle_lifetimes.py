"""How long backends keep idle connections, learned from when they close them.

A request that is sent in the moment in which its backend closes the connection is lost, or must be repeated if it
may be (RFC 9112, section 9.3.1). nginx closes after 75 s, uvicorn and Node.js after 5 s, gunicorn after 2 s, and
few of them say so (`Keep-Alive: timeout=N`). So each close by a backend shortens the time for which its connections
are kept here to a little less than that one lived; each connection that lived for so long unharmed lets the time
grow by a little, for a backend that was restarted closes young connections as well. Pure.
"""

from math import inf

from cachetools import LRUCache

CAPACITY = 10_000
"Endpoints remembered; of more the least recently used is forgotten."
MARGIN, MARGIN_PART = 1.0, 0.2
"Seconds, or part of the observed time if that is less, by which connections are closed earlier."
SHORTEST = 0.5
"Seconds: what is closed earlier than that tells about a restart, not about a setting."
GROWTH = 1.02


class IdleLifetimes:
    """One worker's."""

    __slots__ = ("_limits",)

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._limits: LRUCache[str, float] = LRUCache(capacity)

    def limit(self, endpoint: str) -> float:
        """Seconds for which an idle connection to this endpoint is kept; inf = nothing is known."""
        return self._limits.get(endpoint, inf)

    def record_close(self, endpoint: str, age: float) -> None:
        """The backend closed a connection that had been idle for `age` seconds."""
        if age >= SHORTEST:
            self._limits[endpoint] = max(SHORTEST, age - min(MARGIN, MARGIN_PART * age))

    def record_survival(self, endpoint: str) -> None:
        """A connection was idle for as long as the limit, and its backend had not closed it."""
        limit = self._limits.get(endpoint)
        if limit is not None:
            self._limits[endpoint] = limit * GROWTH
