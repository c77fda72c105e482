"""Closes idle client connections to make room for new ones when the connection limit is reached, as nginx does.

    admit ─► full? ─► the connection that is idle longest is closed ─► admitted
                           └─► none is idle: 503

A client whose idle connection is closed opens another one for its next request; a request in flight is never cut
off. Two kinds of connections are idle: those that were served before, and those that have not sent a request yet.
One of the kind with more connections is closed, so that many new connections without requests displace at most half
of those that are served.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

SCAN_EVERY: Final = 0.05
SCAN_COST: Final = 2e-6
"Seconds between two scans of all connections: a fixed part, and a part for each idle connection."
MIN_SELECTED: Final = 64
"Connections that one scan selects for closing, or a fiftieth of the idle ones if that is more."


class ClientConnection(Protocol):
    """A client connection, which may wait for a request."""

    requests: int
    "Requests received so far."

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not wait."""

    def close_idle(self) -> bool:
        """Close it to make room. False = a request has just arrived."""


class IdleConnections:
    """Finds and closes idle client connections of one worker."""

    __slots__ = ("_clock", "_connections", "_found", "_scan_after", "_settling", "closed")

    def __init__(
        self, connections: Callable[[], Iterable[object]], clock: Callable[[], float], *, settling: float = 1.0
    ) -> None:
        """`connections`: all client connections of the worker, among other objects. `settling`: seconds for which a
        connection must be idle, because its next request may be on its way."""
        self._connections = connections
        self._clock = clock
        self._settling = settling
        self._found: deque[tuple[float, ClientConnection]] = deque()
        "Connections to be closed next, and since when they are idle."
        self._scan_after = 0.0
        self.closed = 0
        "Connections closed so far."

    def close_one(self) -> bool:
        """Close the connection that is idle longest. Returns whether there was one."""
        if self._close_found():
            return True
        now = self._clock()
        if now < self._scan_after:
            return False
        self._scan(now)
        return self._close_found()

    def _close_found(self) -> bool:
        while self._found:
            since, connection = self._found.popleft()
            if connection.idle_since() == since and connection.close_idle():
                self.closed += 1
                return True
        return False

    def _scan(self, now: float) -> None:
        """Scan all connections, and select those of the larger kind that are idle longest."""
        served, unserved = list[tuple[float, int, ClientConnection]](), list[tuple[float, int, ClientConnection]]()
        for number, connection in enumerate(self._connections()):
            idle_since = getattr(connection, "idle_since", None)
            since: float | None = idle_since() if idle_since is not None else None
            if since is not None:
                waiting = cast(ClientConnection, connection)
                (served if waiting.requests else unserved).append((since, number, waiting))
        idle_count = len(served) + len(unserved)
        self._scan_after = now + SCAN_EVERY + SCAN_COST * idle_count
        larger = served if len(served) > len(unserved) else unserved
        for since, _, waiting in heapq.nsmallest(max(MIN_SELECTED, idle_count // 50), larger):
            if since <= now - self._settling:
                self._found.append((since, waiting))
