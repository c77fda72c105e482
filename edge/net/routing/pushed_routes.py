"""The source of pushed routes: another process publishes all of them, and each worker has them in memory.

The admin process reads and publishes the routes (`route_file_reader.py`). A new set replaces the active one in
steps, so that a large set does not block any loop, and all workers switch together:

    add      part by part: differences are recorded, lookups still use the active set
    hold     lookups of hostnames that are added or removed wait from now on; all others use the active set
    switch   the new set becomes the active one, and waiting lookups end

All workers hold before any of them switches. So no worker responds that a hostname does not exist while another one
serves it already, and a removed hostname disappears from all workers at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from edge.net.routing.core_api import LookupResult
from edge.rules.route_sets.route_set import ANY, entries_in, key_for, patterns_for, response_for
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import redirect_fault
from edge.rules.settings import CoreApiSettings

FRESHNESS: Final = "max-age=300, stale-while-revalidate=300"
"Changes are published; a repeated lookup costs nothing, and it keeps an environment in use from being forgotten."
AT_ONCE: Final = 2000
"Hostnames of a set that are processed before the loop gets a turn; less than a millisecond."
T = TypeVar("T")


class ComingRoutes:
    """A set of routes that is not active yet."""

    def __init__(self, version: int, before: dict[str, bytes], at_once: int) -> None:
        self.version = version
        self.entries: dict[str, bytes] = {}
        self.moved: set[str] = set()
        "Hostnames and patterns that are added or removed."
        self.changed: list[str] = []
        "Hostnames and patterns that stay, with another route."
        self.switched = asyncio.Event()
        self._before = before
        self._at_once = at_once

    def add(self, part: bytes) -> None:
        """Add the next part. Raises ValueError when it cannot be decoded."""
        before, entries = self._before, self.entries
        for entry in entries_in(part):
            data = entry.data
            for hostname in entry.hostnames:
                entries[hostname] = data
                known = before.get(hostname)
                if known is None:
                    self.moved.add(hostname)
                elif known != data:
                    self.changed.append(hostname)

    def moves(self, hostname: str) -> bool:
        """Whether this hostname is added or removed, itself or by a pattern."""
        if hostname in self.moved:
            return True
        return (key_for(hostname, self._before) is None) is not (key_for(hostname, self.entries) is None)

    async def compare(self) -> None:
        """Record which hostnames are removed, once all parts are added."""
        async for batch in in_batches(self._before, self._at_once):
            self.moved.update(hostname for hostname in batch if hostname not in self.entries)


class PushedRoutes:
    """The pushed routes of one worker: a source of routes (`route_source.py`)."""

    def __init__(
        self, table: RouteTable, clock: Callable[[], float], label: str = "", *, at_once: int = AT_ONCE
    ) -> None:
        """`label`: what the source is called in explanations."""
        self._label = label
        self._table = table
        self._at_once = at_once
        self._clock = clock
        self.version = 0
        "The version of the active set; 0 = there is none yet."
        self.up = True
        self.arrived = asyncio.Event()
        "Set once there is an active set."
        self._entries: dict[str, bytes] = {}
        self._holding: ComingRoutes | None = None

    def __len__(self) -> int:
        return len(self._entries)

    # the interface of a source of routes

    def knows(self, hostname: str) -> bool:
        """Whether the active set has this hostname, or the set to which the workers are about to switch."""
        holding = self._holding
        return key_for(hostname, self._entries) is not None or (
            holding is not None and key_for(hostname, holding.entries) is not None
        )

    def containing(self, mark: str) -> Iterator[RouteResponse | None]:
        """The responses in the active set, each None unless its entry contains the text `mark`."""
        encoded = mark.encode()
        for hostname, data in list(self._entries.items()):
            yield response_for(hostname, data) if encoded in data else None

    async def ask(self, hostname: str, etag: str | None) -> LookupResult:
        """Look up the route of this hostname. Waits while there is no set. The caller enforces the deadline."""
        await self.arrived.wait()
        holding = self._holding
        if holding is not None and holding.moves(hostname):
            await holding.switched.wait()
        self.up = True
        return LookupResult(self._route_for(hostname), False, FRESHNESS, None, deliberate=True, source=self._label)

    def _route_for(self, hostname: str) -> RouteResponse | None:
        key = key_for(hostname, self._entries)
        if key is None:
            return None
        route = response_for(hostname, self._entries[key])
        # The target of a redirect may match the same pattern, which would be a redirect loop.
        return None if key != hostname and redirect_fault(route.redirect, hostname) else route

    def timed_out(self) -> None:
        """Record that there was no set within the caller's deadline."""
        self.up = False

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Use the name of the source. The other settings concern the process that reads the routes."""
        self._label = settings.source_label

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    # the next set

    def begin(self, version: int) -> ComingRoutes:
        """An empty set, to which parts are added before `hold` and `switch`. One at a time."""
        return ComingRoutes(version, self._entries, self._at_once)

    async def hold(self, coming: ComingRoutes) -> None:
        """Let lookups of hostnames that are added or removed wait until `switch`."""
        self._holding = coming
        async for batch in in_batches(coming.moved, self._at_once):
            for hostname in batch:
                self._table.forget_unknown_host(hostname)
                self._expire(hostname)
        if patterns := {hostname for hostname in coming.moved if hostname[0] == ANY}:
            async for batch in in_batches(self._table.unknown_hostnames(), self._at_once):
                for hostname in batch:
                    if not patterns.isdisjoint(patterns_for(hostname)):
                        self._table.forget_unknown_host(hostname)
            await self._expire_all(patterns)

    async def switch(self, coming: ComingRoutes) -> None:
        """Make this set the active one, before the first await."""
        before, self._entries, self.version = self._entries, coming.entries, coming.version
        self._holding = None
        self.arrived.set()
        coming.switched.set()
        async for batch in in_batches(coming.changed, self._at_once):
            for hostname in batch:
                self._expire(hostname)
        # Hostnames that moved from one pattern to another were looked up in the old set meanwhile.
        if patterns := {hostname for hostname in (*coming.moved, *coming.changed) if hostname[0] == ANY}:
            await self._expire_all(patterns)
        while before:  # in steps, because freeing a large set at once takes milliseconds
            for hostname in list(islice(before, self._at_once)):
                del before[hostname]
            await asyncio.sleep(0)

    async def replace(self, version: int, parts: Iterable[bytes]) -> None:
        """Switch to this set without waiting for other workers. Raises ValueError when it cannot be decoded."""
        coming = self.begin(version)
        for part in parts:
            coming.add(part)
            await asyncio.sleep(0)
        await coming.compare()
        await self.hold(coming)
        await self.switch(coming)

    async def _expire_all(self, patterns: set[str]) -> None:
        """Expire the routes of all hostnames that match one of these patterns."""
        async for batch in in_batches(self._table.hostnames(), self._at_once):
            for hostname in batch:
                if not patterns.isdisjoint(patterns_for(hostname)):
                    self._expire(hostname)

    def _expire(self, hostname: str) -> None:
        """Let the next request for this hostname look it up again."""
        route = self._table.peek(hostname)
        if route is not None:
            route.mark_stale(self._clock())
            route.invalidate()


async def in_batches(items: Iterable[T], at_once: int) -> AsyncIterator[list[T]]:
    """The items in lists of `at_once`, one list in each turn of the loop."""
    remaining = iter(items)
    while batch := list(islice(remaining, at_once)):
        yield batch
        await asyncio.sleep(0)
