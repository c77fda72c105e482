"""A semaphore with priorities: a bounded number of holders, and waiters with a higher priority first.

`asyncio.Semaphore` has one queue, in which a known route would wait behind a flood of made-up hostnames until it
expires. Here each priority has its own queue. No priority starves, because clients wait in each of them: of 16
released slots, three are offered to the second priority before the first, and one to the last priority before the
others. No lower priority takes up all slots: an eighth of them is reserved for the first priority, and a half for
the first two.
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
"The order in which the queues are tried when a slot is released, one entry after the other."
SHARES = (1.0, 0.875, 0.5)
"The share of all slots that each priority may hold, together with the lower priorities."


class PrioritySemaphore:
    """The slots of one worker, for three priorities; 0 is the highest. Not thread-safe."""

    __slots__ = ("_free", "_held", "_limits", "_passed", "_queues")

    def __init__(self, limit: int, *, shares: Sequence[float] = SHARES) -> None:
        self._free = limit
        self._limits = [ceil(limit * share) for share in shares]
        "Slots that each priority may hold, together with the lower priorities."
        self._held = [0] * len(shares)
        self._passed = 0
        "Slots passed to waiters so far."
        self._queues: list[deque[asyncio.Future[None]]] = [deque() for _ in shares]

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return self._free

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in the context. A waiter that is cancelled leaves the queue."""
        if self._has_room(priority):
            self._acquire(priority)
        else:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queues[priority].append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._release(priority)  # the slot was passed to it before the cancellation
                raise
        try:
            yield
        finally:
            self._release(priority)

    def _has_room(self, priority: int) -> bool:
        if not self._free:
            return False
        return all(sum(self._held[first:]) < self._limits[first] for first in range(1, priority + 1))

    def _acquire(self, priority: int) -> None:
        self._free -= 1
        self._held[priority] += 1

    def _release(self, priority: int) -> None:
        self._free += 1
        self._held[priority] -= 1
        for candidate in ROUND[self._passed % len(ROUND)]:
            if self._has_room(candidate) and self._pass_to_first(candidate):
                self._passed += 1
                return

    def _pass_to_first(self, priority: int) -> bool:
        queue = self._queues[priority]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                self._acquire(priority)
                waiter.set_result(None)
                return True
        return False
