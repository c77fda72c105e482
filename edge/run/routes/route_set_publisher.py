"""The admin process's end of what it pushes to the workers: they fetch a set of routes, hold, and switch together.

A worker that comes later is told at once, and so is one that comes back. One that stands still holds up the others
for `time_limit` seconds: it takes over what it missed when it goes on.
"""

import asyncio
from collections.abc import Callable, Collection
from enum import IntEnum
from typing import Protocol

from edge.rules.route_sets.route_set_records import RouteSet
from edge.run.control.control_messages import (
    FromReceiver,
    HoldRoutes,
    Message,
    RoutesAre,
    RoutesFetched,
    RoutesHeld,
    RoutesPart,
    RoutesWanted,
    SwitchRoutes,
)

PATIENCE = 1.0
"Seconds without a word from any of the workers that are waited for while they fetch."
HOLD_PATIENCE = 0.5
"The same while they hold back answers."
WAITING = 512 << 20
"Bytes that may wait for a worker; it asks for one part at a time, and others may have much to tell it."


class Line(Protocol):
    """The connection of a worker."""

    def tell(self, message: Message, most: int) -> bool:
        """Returns whether there was room."""

    def close(self) -> None:
        """The worker comes back, and is told anew."""


class _Step(IntEnum):
    """What all workers shall do."""

    FETCH = 0
    HOLD = 1
    SWITCH = 2


class RoutesPublisher:
    """`lines`: those of the workers that are there."""

    def __init__(
        self, lines: Collection[Line], *, time_limit: float = PATIENCE, hold_patience: float = HOLD_PATIENCE
    ) -> None:
        self._lines = lines
        self._patience = time_limit
        self._hold_patience = hold_patience
        self._routes: RouteSet | None = None
        self._step = _Step.FETCH
        self._fetched: set[Line] = set()
        self._held: set[Line] = set()
        self._progress = asyncio.Event()

    async def publish(self, routes: RouteSet) -> None:
        """Have all workers take this over. Returns when they were told to switch. One at a time."""
        self._routes, self._step = routes, _Step.FETCH
        self._fetched.clear()
        self._held.clear()
        for line in tuple(self._lines):
            self._announce(line)
        await self._until(lambda: all(line in self._fetched for line in self._lines), self._patience)
        self._step = _Step.HOLD
        self._tell_fetched(HoldRoutes(routes.version))
        await self._until(lambda: self._fetched <= self._held, self._hold_patience)
        self._step = _Step.SWITCH
        self._tell_fetched(SwitchRoutes(routes.version))

    def withdraw(self) -> None:
        """Nothing is pushed any more; workers go on with what they have until they are told otherwise."""
        self._routes = None

    # what the lines say

    def joined(self, line: Line) -> None:
        """A worker is there."""
        self._announce(line)

    def left(self, line: Line) -> None:
        """A worker is gone."""
        self._fetched.discard(line)
        self._held.discard(line)
        self._progress.set()

    def heard(self, line: Line, message: FromReceiver) -> None:
        """From a worker."""
        routes = self._routes
        if routes is None or message.version != routes.version:
            return  # it will be told, or was told already, what holds now
        self._progress.set()
        match message:
            case RoutesWanted(version, part) if part < len(routes.parts):
                line.tell(RoutesPart(version, part, routes.parts[part]), WAITING)
            case RoutesFetched(version):
                self._fetched.add(line)
                if self._step >= _Step.HOLD:  # it is late, or new
                    line.tell(HoldRoutes(version), WAITING)
                if self._step >= _Step.SWITCH:
                    line.tell(SwitchRoutes(version), WAITING)
            case RoutesHeld():
                self._held.add(line)

    def _announce(self, line: Line) -> None:
        routes = self._routes
        if routes is not None and not line.tell(RoutesAre(routes.version, len(routes.parts)), WAITING):
            line.close()

    def _tell_fetched(self, message: Message) -> None:
        for line in self._fetched:
            line.tell(message, WAITING)

    async def _until(self, done: Callable[[], bool], time_limit: float) -> None:
        """Or until nobody has said anything for so long."""
        while not done():
            self._progress.clear()
            try:
                async with asyncio.timeout(time_limit):
                    await self._progress.wait()
            except TimeoutError:
                return
