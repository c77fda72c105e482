"""At most so many at once; of those that wait, the ones with the higher priority first.

`asyncio.Semaphore` has one queue, in which a known route would wait behind a flood of made-up hostnames until it
can no longer be renewed. Here each priority has a queue of its own. None of them starves, for a client waits behind
each: of 16 slots that are given on, three go to the second priority before the first, and one goes to the last. And
none takes up all slots: an eighth of them is kept for the first priority, and a half for the first two.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import ceil

ROUND = (
    *((0, 1, 2), (0, 1, 2), (0, 1, 2), (1, 0, 2)) * 3,
    *((0, 1, 2), (0, 1, 2), (0, 1, 2), (2, 0, 1)),
)
"In which order the queues are looked at when a slot is given on, one time after the other."
SHARES = (1.0, 0.875, 0.5)
"The part of all slots that each priority may hold, together with those behind it."


class PrioritySemaphore:
    """Of one worker, for three priorities, 0 being the first. Not for several threads."""

    __slots__ = ("_free", "_given_on", "_held", "_most", "_queues")

    def __init__(self, limit: int, *, shares: Sequence[float] = SHARES) -> None:
        self._free = limit
        self._most = [ceil(limit * share) for share in shares]
        "Slots that each priority may hold, together with those behind it."
        self._held = [0] * len(shares)
        self._given_on = 0
        "Slots given on to those that waited."
        self._queues: list[deque[asyncio.Future[None]]] = [deque() for _ in shares]

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it. A waiter that is cancelled leaves the queue."""
        if self._has_room(priority):
            self._take(priority)
        else:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queues[priority].append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._give_back(priority)  # it was given just now
                raise
        try:
            yield
        finally:
            self._give_back(priority)

    def _has_room(self, priority: int) -> bool:
        if not self._free:
            return False
        return all(sum(self._held[first:]) < self._most[first] for first in range(1, priority + 1))

    def _take(self, priority: int) -> None:
        self._free -= 1
        self._held[priority] += 1

    def _give_back(self, priority: int) -> None:
        self._free += 1
        self._held[priority] -= 1
        for candidate in ROUND[self._given_on % len(ROUND)]:
            if self._has_room(candidate) and self._give_to_first(candidate):
                self._given_on += 1
                return

    def _give_to_first(self, priority: int) -> bool:
        queue = self._queues[priority]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                self._take(priority)
                waiter.set_result(None)
                return True
        return False
