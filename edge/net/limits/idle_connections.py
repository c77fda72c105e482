"""Client connections that wait for a request make room for new ones when there is no more, as with nginx.

    admit ─► full? ─► one that is idle for long is closed ─► admitted
                           └─► nobody is: 503

A client opens another connection when it wants to ask again; a request in flight is never cut for it. Two kinds are
idle: who was served and may ask again, and who has asked for nothing yet. The kind that has more connections gives
one up, so that a crowd of silent newcomers takes half of the places of those that are served at most.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, cast

LOOK_EVERY, LOOK_COST = 0.05, 2e-6
"Seconds between two looks at all connections, and for each that is idle."
FEWEST = 64
"Connections that one look finds at least; at most a fiftieth of all."


class Waiting(Protocol):
    """A connection of a client."""

    requests: int
    "That it has made."

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not."""

    def close_idle(self) -> bool:
        """Somebody else needs its place. False = it has just asked for something."""


class IdleClients:
    """Of one worker. `connections`: all of its clients, and others."""

    __slots__ = ("_clock", "_connections", "_found", "_look_after", "_settling", "closed")

    def __init__(
        self, connections: Callable[[], Iterable[object]], clock: Callable[[], float], *, settling: float = 1.0
    ) -> None:
        """`settling`: seconds within which the next request may be on its way."""
        self._connections = connections
        self._clock = clock
        self._settling = settling
        self._found: deque[tuple[float, Waiting]] = deque()
        "Those to be closed next."
        self._look_after = 0.0
        self.closed = 0
        "So far."

    def close_one(self) -> bool:
        """Close the one that is idle longest. Returns whether there was one."""
        if self._close_found():
            return True
        now = self._clock()
        if now < self._look_after:
            return False
        self._look(now)
        return self._close_found()

    def _close_found(self) -> bool:
        while self._found:
            since, connection = self._found.popleft()
            if connection.idle_since() == since and connection.close_idle():
                self.closed += 1
                return True
        return False

    def _look(self, now: float) -> None:
        served, silent = list[tuple[float, int, Waiting]](), list[tuple[float, int, Waiting]]()
        for number, connection in enumerate(self._connections()):
            idle_since = getattr(connection, "idle_since", None)
            since: float | None = idle_since() if idle_since is not None else None
            if since is not None:
                waiting = cast(Waiting, connection)
                (served if waiting.requests else silent).append((since, number, waiting))
        both = len(served) + len(silent)
        self._look_after = now + LOOK_EVERY + LOOK_COST * both
        more = served if len(served) > len(silent) else silent
        for since, _, waiting in heapq.nsmallest(max(FEWEST, both // 50), more):
            if since <= now - self._settling:
                self._found.append((since, waiting))
