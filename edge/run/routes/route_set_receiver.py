"""A worker's end of what the admin process pushes: it fetches a set of routes, holds, and switches when all do.

    RoutesAre ─► RoutesWanted ─► RoutesPart ─► … ─► RoutesFetched        part by part, as fast as this loop likes
                                      HoldRoutes ─► RoutesHeld
                                    SwitchRoutes ─► the set holds

What is lost before it holds back answers is begun anew, by the next `RoutesAre`. After that it switches in any
case: it has all of it, and so have the others.
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
HOLD_PATIENCE = 1.0
"Seconds for which it waits for the others while it holds back answers."

log = logging.getLogger("styx.routes")


class _Superseded(Exception):
    """There is another set, or nobody who sends the rest of this one."""


class RoutesReceiver:
    """Of one worker. `pushed`: where the routes go; `send`: to the admin process, if it is there."""

    def __init__(
        self,
        pushed: Callable[[], PushedRoutes],
        send: Callable[[Message], None],
        *,
        hold_patience: float = HOLD_PATIENCE,
    ) -> None:
        self._pushed = pushed
        self._send = send
        self._hold_patience = hold_patience
        self.up_to_date = asyncio.Event()
        "It has what the admin process has, as far as it knows."
        self._inbox: asyncio.Queue[AboutRoutes | None] = asyncio.Queue()
        "None = the admin process is gone."
        self._announced: RoutesAre | None = None
        "What is taken over next."
        self._task: asyncio.Task[None] | None = None

    def start(self, background: Background) -> None:
        """Take over from now on what comes."""
        self._task = background.run(BackgroundTask.ROUTES_RECEIVER, self._work)

    async def stop(self) -> None:
        """Take nothing more over."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def heard(self, message: AboutRoutes) -> None:
        """From the admin process."""
        self._inbox.put_nowait(message)

    def disconnected(self) -> None:
        """The admin process is gone; the next one will say what holds."""
        self._inbox.put_nowait(None)

    async def _work(self) -> None:
        while True:
            announced, self._announced = self._announced, None
            if announced is None:
                message = await self._inbox.get()
                if isinstance(message, HoldRoutes):  # the set holds already
                    self._send(RoutesHeld(message.version))
                if not isinstance(message, RoutesAre):
                    continue
                announced = message
            try:
                await self._take_over(announced)
            except _Superseded:
                continue
            except Exception:  # a fault of ours: what holds goes on to hold
                log.exception("routes of the file not taken over", extra={"code": "routes_push_failed"})

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
                async with asyncio.timeout(self._hold_patience):
                    await self._expect(SwitchRoutes)
        finally:
            await pushed.switch(coming)

    async def _expect(self, kind: type[M]) -> M:
        """The next message, which is of this kind. Raises _Superseded."""
        message = await self._inbox.get()
        if isinstance(message, kind):
            return message
        self._announced = message if isinstance(message, RoutesAre) else None
        raise _Superseded
