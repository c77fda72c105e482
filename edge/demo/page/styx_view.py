"""Polls the state of the containers from styx's status once a second, while a browser has the demo's page open."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec

from edge.admin.status_page.status_records import Snapshot
from edge.demo.page.demo_records import SeenByStyx

PERIOD: Final = 0.5

AskAdmin = Callable[[str], Awaitable[tuple[int, str]]]


class StyxView:
    """The last status of styx. `ask`: sends a GET to its admin server."""

    def __init__(self, ask: AskAdmin, *, is_wanted: Callable[[], bool]) -> None:
        self._ask = ask
        self._is_wanted = is_wanted
        self._task: asyncio.Task[None] | None = None
        self.containers: dict[tuple[str, str, str], SeenByStyx] = {}
        "By site, environment and id."
        self.retries: float | None = None
        "Per second; None = the status is not known."

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="styx view")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            if self._is_wanted():
                await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Read the status once. While styx does not respond, nothing is known."""
        try:
            status, body = await self._ask("/v1/status")
            snapshot = msgspec.json.decode(body, type=Snapshot) if status == 200 else None
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            snapshot = None
        if snapshot is None:
            self.containers, self.retries = {}, None
            return
        self.retries = snapshot.now.retries
        self.containers = {
            (environment.site, environment.environment, seen.id): SeenByStyx(
                seen.condition, round(seen.points, 2), round(seen.share, 4), seen.why, seen.in_flight
            )
            for environment in snapshot.environments.shown
            for seen in environment.containers
        }
