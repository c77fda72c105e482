"""Routes that are pushed: all of them are here, so each question is answered at once.

Another process reads them and publishes them (`route_file_reader.py`). A new set replaces the one in
force in steps, so that no loop stands still for a large one, and all workers change over together:

    add      part by part: what is different is noted, nobody is told of it
    hold     who asks for a hostname that comes or goes waits from now on; all else is answered as before
    switch   the new set holds, and who waited is answered

All workers hold before any of them switches. So nobody is told by one worker that a hostname does not exist while
another one serves it already, and a hostname that goes is gone for all at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Final, TypeVar

from edge.net.routing.core_api import CoreAnswer
from edge.rules.route_sets.route_set import ANY, answer_for, entries_in, key_for, patterns_for
from edge.rules.routing.route_response import RouteAnswer
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import redirect_fault
from edge.rules.routing.routes import Source
from edge.rules.settings import CoreApiSettings

FRESHNESS: Final = "max-age=300, stale-while-revalidate=300"
"What changes is told; to look again costs nothing, and keeps an environment in use from being forgotten."
AT_ONCE: Final = 2000
"Hostnames of a set that are looked at before the loop gets a turn; less than a millisecond."
T = TypeVar("T")


class ComingRoutes:
    """A set that does not hold yet."""

    def __init__(self, version: int, before: dict[str, bytes], at_once: int) -> None:
        self.version = version
        self.said: dict[str, bytes] = {}
        self.moved: set[str] = set()
        "Hostnames that come or go."
        self.changed: list[str] = []
        "Hostnames that stay, and go elsewhere."
        self.switched = asyncio.Event()
        self._before = before
        self._at_once = at_once

    def add(self, part: bytes) -> None:
        """The next part. Raises ValueError when it is none."""
        before, said = self._before, self.said
        for entry in entries_in(part):
            data = entry.data
            for hostname in entry.hostnames:
                said[hostname] = data
                known = before.get(hostname)
                if known is None:
                    self.moved.add(hostname)
                elif known != data:
                    self.changed.append(hostname)

    def moves(self, hostname: str) -> bool:
        """Whether this hostname comes or goes, itself or by a pattern."""
        if hostname in self.moved:
            return True
        return (key_for(hostname, self._before) is None) is not (key_for(hostname, self.said) is None)

    async def compare(self) -> None:
        """It is complete: note what goes."""
        async for some in in_pieces(self._before, self._at_once):
            self.moved.update(hostname for hostname in some if hostname not in self.said)


class PushedRoutes:
    """A source of routes (`route_source.py`) that has all of them; of one worker."""

    def __init__(self, table: RouteTable, clock: Callable[[], float], *, at_once: int = AT_ONCE) -> None:
        self._table = table
        self._at_once = at_once
        self._clock = clock
        self.version = 0
        "Of the set that holds; 0 = there is none yet."
        self.up = True
        self.arrived = asyncio.Event()
        "There is a set."
        self._said: dict[str, bytes] = {}
        self._holding: ComingRoutes | None = None

    def __len__(self) -> int:
        return len(self._said)

    # a source of routes

    def knows(self, hostname: str) -> bool:
        """Whether the set that holds names it, or the one that all are about to switch to."""
        holding = self._holding
        return key_for(hostname, self._said) is not None or (
            holding is not None and key_for(hostname, holding.said) is not None
        )

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Waits while there is no set; the deadline is the caller's."""
        await self.arrived.wait()
        holding = self._holding
        if holding is not None and holding.moves(hostname):
            await holding.switched.wait()
        self.up = True
        return CoreAnswer(self._answer_for(hostname), False, FRESHNESS, None, deliberate=True, source=Source.FILE)

    def _answer_for(self, hostname: str) -> RouteAnswer | None:
        key = key_for(hostname, self._said)
        if key is None:
            return None
        answer = answer_for(hostname, self._said[key])
        # What a pattern redirects to may have the same pattern: it would go in a circle.
        return None if key != hostname and redirect_fault(answer.redirect, hostname) else answer

    def timed_out(self) -> None:
        """There was no set in time."""
        self.up = False

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Nothing of them concerns this; who reads the routes obeys them."""

    async def close(self) -> None:
        """There is nothing to close."""

    # the next set

    def begin(self, version: int) -> ComingRoutes:
        """To be filled, held and switched to. One at a time."""
        return ComingRoutes(version, self._said, self._at_once)

    async def hold(self, coming: ComingRoutes) -> None:
        """Answer nobody who asks for what comes or goes."""
        self._holding = coming
        async for some in in_pieces(coming.moved, self._at_once):
            for hostname in some:
                self._table.forget_absent(hostname)
                self._expire(hostname)
        if patterns := {hostname for hostname in coming.moved if hostname[0] == ANY}:
            async for some in in_pieces(self._table.absent_hostnames(), self._at_once):
                for hostname in some:
                    if not patterns.isdisjoint(patterns_for(hostname)):
                        self._table.forget_absent(hostname)
            await self._expire_all(patterns)

    async def switch(self, coming: ComingRoutes) -> None:
        """This set holds, before anything is waited for."""
        before, self._said, self.version = self._said, coming.said, coming.version
        self._holding = None
        self.arrived.set()
        coming.switched.set()
        async for some in in_pieces(coming.changed, self._at_once):
            for hostname in some:
                self._expire(hostname)
        # Who moved from one pattern to another was answered as before meanwhile.
        if patterns := {hostname for hostname in (*coming.moved, *coming.changed) if hostname[0] == ANY}:
            await self._expire_all(patterns)
        while before:  # all at once takes milliseconds
            for hostname in list(islice(before, self._at_once)):
                del before[hostname]
            await asyncio.sleep(0)

    async def replace(self, version: int, parts: Iterable[bytes]) -> None:
        """Switch to this set, whatever other workers do. Raises ValueError when it is none."""
        coming = self.begin(version)
        for part in parts:
            coming.add(part)
            await asyncio.sleep(0)
        await coming.compare()
        await self.hold(coming)
        await self.switch(coming)

    async def _expire_all(self, patterns: set[str]) -> None:
        """The same for all hostnames for which one of these may stand."""
        async for some in in_pieces(self._table.hostnames(), self._at_once):
            for hostname in some:
                if not patterns.isdisjoint(patterns_for(hostname)):
                    self._expire(hostname)

    def _expire(self, hostname: str) -> None:
        """Its next request asks here."""
        route = self._table.peek(hostname)
        if route is not None:
            route.doubt(self._clock())
            route.invalidate()


async def in_pieces(items: Iterable[T], at_once: int) -> AsyncIterator[list[T]]:
    """All of them, so many in a turn of the loop."""
    left = iter(items)
    while some := list(islice(left, at_once)):
        yield some
        await asyncio.sleep(0)
