"""Receives a set of routes that the admin process publishes, in a worker: fetches it, holds, and switches with all.

    RoutesAre ─► RoutesWanted ─► RoutesPart ─► … ─► RoutesFetched        part by part, as fast as this loop likes
                                      HoldRoutes ─► RoutesHeld
                                    SwitchRoutes ─► the set is in use

If the connection is lost before it holds back lookups, the next `RoutesAre` begins again. After that it switches
in any case: it has the whole set, and so have the others.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from edge.net.background import Background
from edge.net.routing.pushed_routes import ComingRoutes, PushedRoutes
from edge.rules.background_tasks import BackgroundTask
from edge.run.control.control_messages import (
    AboutRoutes,
    HoldRoutes,
    Message,
    RoutesAre,
    RoutesFetched,
    RoutesHeld,
    RoutesPart,
    RoutesWanted,
    SwitchRoutes,
)

M = TypeVar("M", bound=Message)
HOLD_TIMEOUT = 1.0
"Seconds for which it waits for the others while it holds back lookups."

log = logging.getLogger("styx.routes")


class _Superseded(Exception):
    """Another set was announced, or the connection is lost that would carry the rest of this one."""


class RouteSetReceiver:
    """The receiver of one worker. `pushed`: returns the routes to update; `send`: sends to the admin process."""

    def __init__(
        self,
        pushed: Callable[[], PushedRoutes],
        send: Callable[[Message], object],
        *,
        hold_timeout: float = HOLD_TIMEOUT,
    ) -> None:
        self._pushed = pushed
        self._send = send
        self._hold_timeout = hold_timeout
        self.up_to_date = asyncio.Event()
        "Set when it has the set that was announced last."
        self._inbox: asyncio.Queue[AboutRoutes | None] = asyncio.Queue()
        "Messages from the admin process; None = its connection is lost."
        self._announced: RoutesAre | None = None
        "The set to take over next."
        self._task: asyncio.Task[None] | None = None

    def start(self, background: Background) -> None:
        """Begin to take over sets, in the background."""
        self._task = background.run(BackgroundTask.ROUTES_RECEIVER, self._work)

    async def stop(self) -> None:
        """Take over no further set."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def received(self, message: AboutRoutes) -> None:
        """Queue a message from the admin process."""
        self._inbox.put_nowait(message)

    def disconnected(self) -> None:
        """The connection is lost; the admin process announces the current set over the next one."""
        self._inbox.put_nowait(None)

    async def _work(self) -> None:
        while True:
            announced, self._announced = self._announced, None
            if announced is None:
                message = await self._inbox.get()
                if isinstance(message, HoldRoutes):  # the set is in use already
                    self._send(RoutesHeld(message.version))
                if not isinstance(message, RoutesAre):
                    continue
                announced = message
            try:
                await self._take_over(announced)
            except _Superseded:
                continue
            except Exception:  # a bug: the set in use stays in use
                log.exception("pushed routes not applied", extra={"code": "routes_push_failed"})

    async def _take_over(self, announced: RoutesAre) -> None:
        pushed, version = self._pushed(), announced.version
        if version == pushed.version:
            self._send(RoutesFetched(version))
        else:
            coming = pushed.begin(version)
            for number in range(announced.parts):
                self._send(RoutesWanted(version, number))
                coming.add((await self._expect(RoutesPart)).data)
            await coming.compare()
            self._send(RoutesFetched(version))
            await self._expect(HoldRoutes)
            await self._switch_with_others(pushed, coming)
        self.up_to_date.set()

    async def _switch_with_others(self, pushed: PushedRoutes, coming: ComingRoutes) -> None:
        try:
            await pushed.hold(coming)
            self._send(RoutesHeld(coming.version))
            with suppress(TimeoutError, _Superseded):
                async with asyncio.timeout(self._hold_timeout):
                    await self._expect(SwitchRoutes)
        finally:
            await pushed.switch(coming)

    async def _expect(self, kind: type[M]) -> M:
        """The next message. Raises _Superseded when it is not of this kind."""
        message = await self._inbox.get()
        if isinstance(message, kind):
            return message
        self._announced = message if isinstance(message, RoutesAre) else None
        raise _Superseded
