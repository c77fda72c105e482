"""Bounds how many lookups at the core API are of the same site.

A core API may hang for the hostnames of one site, because it has bad data of that one. Lookups of its known
hostnames would then hold all slots of `core_api.concurrency`, and the first requests for other sites would wait.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SHARE: Final = 0.25
"The share of all slots that lookups of one site may hold."


class LookupShares:
    """What each site may hold of `limit` slots; more of its lookups wait for one another."""

    __slots__ = ("_limit", "_sites", "_using")

    def __init__(self, limit: int) -> None:
        self._limit = max(1, int(limit * SHARE))
        self._sites: dict[str, asyncio.Semaphore] = {}
        self._using: dict[str, int] = {}
        "Lookups that hold or wait, by site."

    def __len__(self) -> int:
        """Sites with lookups under way."""
        return len(self._sites)

    @asynccontextmanager
    async def part(self, site: str | None) -> AsyncIterator[None]:
        """Wait until a lookup of this site may take a slot. None = the hostname is not known, so its site is not
        either; limits of unknown hosts hold for it."""
        if site is None:
            yield
            return
        semaphore = self._sites.setdefault(site, asyncio.Semaphore(self._limit))
        self._using[site] = self._using.get(site, 0) + 1
        try:
            async with semaphore:
                yield
        finally:
            self._using[site] -= 1
            if not self._using[site]:
                del self._using[site], self._sites[site]
