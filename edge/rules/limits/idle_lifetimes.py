"""Learns how long backends keep idle connections, from when they close them.

A request that is sent just as its backend closes the connection is lost, or must be retried if it may be (RFC 9112,
section 9.3.1). nginx closes idle connections after 75 s, uvicorn and Node.js after 5 s, gunicorn after 2 s, and few
of them announce it (`Keep-Alive: timeout=N`). So each close by a backend shortens the idle timeout of its
connections to a little less than the age of the closed one. Each connection that reaches the timeout lengthens it a
little, because a backend that restarts closes young connections as well. Pure.
"""

from math import inf
from typing import Final

from cachetools import LRUCache

CAPACITY: Final = 10_000
"Endpoints in the table; beyond it, the least recently used is forgotten."
MARGIN: Final = 1.0
MARGIN_PART: Final = 0.2
"Seconds, or part of the observed time if that is less, by which styx closes connections earlier."
SHORTEST: Final = 0.5
"Seconds: an earlier close shows a restart of the backend, not its timeout."
GROWTH: Final = 1.02
"Factor by which a timeout grows with each connection that reaches it."


class IdleLifetimes:
    """The learned idle timeouts of one worker, by endpoint."""

    __slots__ = ("_limits",)

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._limits: LRUCache[str, float] = LRUCache(capacity)

    def limit(self, endpoint: str) -> float:
        """Seconds after which an idle connection to this endpoint is closed; inf = nothing is known."""
        return self._limits.get(endpoint, inf)

    def record_close(self, endpoint: str, age: float) -> None:
        """Learn that the backend closed a connection that had been idle for `age` seconds."""
        if age >= SHORTEST:
            self._limits[endpoint] = max(SHORTEST, age - min(MARGIN, MARGIN_PART * age))

    def record_survival(self, endpoint: str) -> None:
        """Learn that a connection was idle for as long as the limit, and its backend had not closed it."""
        limit = self._limits.get(endpoint)
        if limit is not None:
            self._limits[endpoint] = limit * GROWTH
