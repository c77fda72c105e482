"""The base of the Reaper and the migration dragon: a task that acts periodically while it is switched on."""

import asyncio
import contextlib
from abc import ABC, abstractmethod

import structlog

from edge.platform.containers.container import ContainerFailed
from edge.platform.registry import UnknownName

log = structlog.get_logger(__name__)


class Upkeep(ABC):
    """One kind of upkeep; off until `start`. `act` is called every `pause` seconds."""

    name = ""
    seconds = 0.0
    "What an operator can set."

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._off = asyncio.Event()
        self.acted = 0
        "Number of containers it has acted on."

    @property
    def on(self) -> bool:
        return self._task is not None

    @property
    @abstractmethod
    def pause(self) -> float:
        """Seconds between two calls of `act`."""

    @abstractmethod
    async def act(self) -> None:
        """Do what is due now."""

    async def start(self) -> None:
        """Switch it on, if it is off."""
        if self._task is None:
            self._off = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._off), name=self.name)

    async def stop(self) -> None:
        """Switch it off. What it is doing is finished first."""
        task, self._task = self._task, None
        if task is not None:
            self._off.set()
            await asyncio.wait([task])

    async def _run(self, off: asyncio.Event) -> None:
        while not off.is_set():
            try:
                await self.act()
            except UnknownName:
                pass  # the container was removed meanwhile
            except (ContainerFailed, OSError) as error:
                log.error("upkeep failed", code="upkeep_failed", upkeep=self.name, error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(off.wait(), self.pause)
