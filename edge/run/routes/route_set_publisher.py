"""Publishes a set of routes to the workers, in the admin process: they fetch it, hold, and switch together.

The current set is announced to a worker that connects later at once, also when it connects again. A stalled worker
delays the others for `time_limit` seconds: it takes over what it missed when it continues.
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

TIMEOUT = 1.0
"Seconds to wait without a message from any worker while they fetch."
HOLD_TIMEOUT = 0.5
"Seconds to wait without a message from any worker while they hold back lookups."
WAITING = 512 << 20
"Bytes that may wait for a worker: it requests one part at a time, but other messages may wait for it, too."


class Subscriber(Protocol):
    """The connection of a worker that receives the sets."""

    def send(self, message: Message, most: int) -> bool:
        """Send a message, unless `most` bytes wait. Returns whether it was sent."""

    def close(self) -> None:
        """Close it: the worker connects again, and the set is announced to it again."""


class _Step(IntEnum):
    """The step that all workers are at."""

    FETCH = 0
    HOLD = 1
    SWITCH = 2


class RouteSetPublisher:
    """Publishes sets of routes to all workers. `connections`: those of the connected workers."""

    def __init__(
        self,
        connections: Collection[Subscriber],
        *,
        time_limit: float = TIMEOUT,
        hold_timeout: float = HOLD_TIMEOUT,
    ) -> None:
        self._connections = connections
        self._timeout = time_limit
        self._hold_timeout = hold_timeout
        self._routes: RouteSet | None = None
        self._step = _Step.FETCH
        self._fetched: set[Subscriber] = set()
        self._held: set[Subscriber] = set()
        self._progress = asyncio.Event()

    async def publish(self, routes: RouteSet) -> None:
        """Have all workers take over this set. Returns when `SwitchRoutes` has been sent. One call at a time."""
        self._routes, self._step = routes, _Step.FETCH
        self._fetched.clear()
        self._held.clear()
        for connection in tuple(self._connections):
            self._announce(connection)
        await self._until(
            lambda: all(connection in self._fetched for connection in self._connections), self._timeout
        )
        self._step = _Step.HOLD
        self._send_to_fetched(HoldRoutes(routes.version))
        await self._until(lambda: self._fetched <= self._held, self._hold_timeout)
        self._step = _Step.SWITCH
        self._send_to_fetched(SwitchRoutes(routes.version))

    def withdraw(self) -> None:
        """Publish no set any more; workers keep the one that they have until their source changes."""
        self._routes = None

    # messages from the workers

    def joined(self, connection: Subscriber) -> None:
        """A worker has connected."""
        self._announce(connection)

    def left(self, connection: Subscriber) -> None:
        """The connection of a worker is lost."""
        self._fetched.discard(connection)
        self._held.discard(connection)
        self._progress.set()

    def received(self, connection: Subscriber, message: FromReceiver) -> None:
        """Handle a message from a worker."""
        routes = self._routes
        if routes is None or message.version != routes.version:
            return  # the current set has been announced to it, or will be
        self._progress.set()
        match message:
            case RoutesWanted(version, part) if part < len(routes.parts):
                connection.send(RoutesPart(version, part, routes.parts[part]), WAITING)
            case RoutesFetched(version):
                self._fetched.add(connection)
                if self._step >= _Step.HOLD:  # the worker is late, or new
                    connection.send(HoldRoutes(version), WAITING)
                if self._step >= _Step.SWITCH:
                    connection.send(SwitchRoutes(version), WAITING)
            case RoutesHeld():
                self._held.add(connection)

    def _announce(self, connection: Subscriber) -> None:
        routes = self._routes
        if routes is not None and not connection.send(RoutesAre(routes.version, len(routes.parts)), WAITING):
            connection.close()

    def _send_to_fetched(self, message: Message) -> None:
        for connection in self._fetched:
            connection.send(message, WAITING)

    async def _until(self, done: Callable[[], bool], time_limit: float) -> None:
        """Wait until `done()` holds, or until no worker has sent a message for `time_limit` seconds."""
        while not done():
            self._progress.clear()
            try:
                async with asyncio.timeout(time_limit):
                    await self._progress.wait()
            except TimeoutError:
                return
