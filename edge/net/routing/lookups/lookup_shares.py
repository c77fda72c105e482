"""Limits the share that one site may have of the lookups at the core API, or of the resolutions of host names.

A core API may hang for the hostnames of one site, because it has bad data of that one. Lookups of its known
hostnames would then hold all slots of `core_api.concurrency`, and the first requests for other sites would wait.
So a site may hold at most `PER_FREE` times as many slots as stay free, but always one: a site alone has three
quarters of all, and the next one that hangs three quarters of the rest. (The dynamic thresholds of switches with
shared memory: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998.)

The lookups of a site come one after the other, and the first one waits until there is room for it. Only sites that
hold a slot wait, so that there are never more of these than slots: each release may wake them all.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from edge.net.priority_semaphore import PrioritySemaphore

PER_FREE: Final = 3
"Slots that lookups of one site may hold for each slot that stays free."


class _Site:
    """A site with lookups under way."""

    __slots__ = ("holding", "lookups", "turn")

    def __init__(self) -> None:
        self.lookups = 0
        self.holding = 0
        "Those that have a slot, or wait for nothing but a slot."
        self.turn = asyncio.Lock()
        "Held by the lookup that is the next one to get a slot."


class LookupShares:
    """The slots for lookups, with the share of each site; more of its lookups wait. Not thread-safe."""

    __slots__ = ("_released", "_sites", "_slots")

    def __init__(self, limit: int) -> None:
        self._slots = PrioritySemaphore(limit)
        self._sites: dict[str, _Site] = {}
        self._released = asyncio.Event()
        "Set when a slot is released, and replaced by the next one."

    def __len__(self) -> int:
        """Sites with lookups under way."""
        return len(self._sites)

    @asynccontextmanager
    async def slot(self, site: str | None, priority: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it in the context. `site` None = the hostname is not known, so its site is not
        either; limits of unknown hosts hold for it."""
        try:
            if site is None:
                async with self._slots.slot(priority):
                    yield
            else:
                async with self._share(site), self._slots.slot(priority):
                    yield
        finally:
            self._released.set()
            self._released = asyncio.Event()

    @asynccontextmanager
    async def _share(self, name: str) -> AsyncIterator[None]:
        """Wait until a lookup of this site may take a slot, and count it."""
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = _Site()
        site.lookups += 1
        try:
            async with site.turn:
                while site.holding and site.holding >= PER_FREE * (self._slots.free - 1):
                    await self._released.wait()
                site.holding += 1
            try:
                yield
            finally:
                site.holding -= 1
        finally:
            site.lookups -= 1
            if not site.lookups:
                del self._sites[name]
