"""Bounds how many lookups at the core API are of the same site.

A core API may hang for the hostnames of one site, because it has bad data of that one. Lookups of its known
hostnames would then hold all slots of `core_api.concurrency`, and the first requests for other sites would wait.
So a site may hold at most `PER_FREE` times as many slots as stay free, but always one: a site alone has three
quarters of all, and the next one that hangs three quarters of the rest. (The dynamic thresholds of switches with
shared memory: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998.)
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from edge.net.priority_semaphore import PrioritySemaphore

PER_FREE: Final = 3
"Slots that lookups of one site may hold for each slot that stays free."


class LookupShares:
    """The slots for lookups, with the share of each site; more of its lookups wait. Not thread-safe."""

    __slots__ = ("_admitted", "_holding", "_slots", "_waiting")

    def __init__(self, limit: int) -> None:
        self._slots = PrioritySemaphore(limit)
        self._holding: dict[str, int] = {}
        "Lookups that have a slot, or wait for nothing but a slot, by site."
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        "Lookups beyond the share of their site, by site; it holds at least one. The site to try first is first."
        self._admitted = 0
        "Lookups that need not wait any longer, and have not taken their slot yet."

    def __len__(self) -> int:
        """Sites with lookups under way."""
        return len(self._holding)

    @asynccontextmanager
    async def slot(self, site: str | None, priority: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in the context. `site` None = the hostname is not known, so its site is not
        either; limits of unknown hosts hold for it."""
        if site is not None:
            await self._enter(site)
        try:
            async with self._slots.slot(priority):
                yield
        finally:
            if site is not None:
                self._leave(site)
            self._admit_waiting()

    def _has_room(self, site: str) -> bool:
        holding = self._holding.get(site, 0)
        return not holding or holding < PER_FREE * (self._slots.free - self._admitted - 1)

    async def _enter(self, site: str) -> None:
        """Wait until a lookup of this site may take a slot, and count it."""
        if self._has_room(site):
            self._holding[site] = self._holding.get(site, 0) + 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(site, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was admitted before the cancellation
                self._admitted -= 1
                self._leave(site)
                self._admit_waiting()
            raise
        self._admitted -= 1

    def _leave(self, site: str) -> None:
        self._holding[site] -= 1
        if not self._holding[site]:
            del self._holding[site]
            self._admit(site)

    def _admit_waiting(self) -> None:
        """Admit those that wait, a lookup of each site in turn, while there is room. (Sites without room hold many
        slots, so they are few.)"""
        while self._waiting and self._slots.free - self._admitted > 1:
            site = next((each for each in self._waiting if self._has_room(each)), None)
            if site is None:
                return
            self._admit(site)

    def _admit(self, site: str) -> None:
        """Admit the first lookup of this site that waits, if any does."""
        queue = self._waiting.pop(site, deque())
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._admitted += 1
                self._holding[site] = self._holding.get(site, 0) + 1
                break
        if queue:
            self._waiting[site] = queue
