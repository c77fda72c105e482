"""Writes routes that the workers learn to disk, in a thread: a slow disk does not delay the admin process."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.run.routes.route_store import RouteStore

PAUSE = 0.2
"Seconds for which records are gathered before they are written."
MOST = 64 << 20
"Bytes that may wait for the disk; further records are not saved."

log = structlog.get_logger("styx.routes")


class RouteWriter:
    """Gathers records of routes and appends them to a store."""

    def __init__(
        self,
        store: RouteStore,
        background: Background | None = None,
        *,
        pause: float = PAUSE,
        most: int = MOST,
    ) -> None:
        self._store = store
        self._background = background or Background()
        self._pause = pause
        self._most = most
        self._waiting: list[bytes] = []
        self._size = 0
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = ""
        "The last error; the same one is logged once, not five times a second."

    def start(self) -> None:
        """Begin to write, in the background."""
        self._task = self._background.run(BackgroundTask.ROUTE_WRITER, self._write_on)

    def write(self, records: list[bytes]) -> None:
        """Queue these records, to be written in this order."""
        if self._size < self._most:
            self._waiting += records
            self._size += sum(map(len, records))
            self._some.set()

    async def close(self) -> None:
        """Write the queued records, and stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._write_now()

    async def _write_on(self) -> None:
        await self._try(self._store.mend)
        while True:
            await self._some.wait()
            await asyncio.sleep(self._pause)
            await asyncio.shield(self._write_now())

    async def _write_now(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._some.clear()
        if waiting:
            await self._try(self._store.append, waiting)

    async def _try(self, write: Callable[..., None], *args: object) -> None:
        """Run this in a thread. Whatever error it raises is logged, and its records are lost; later ones are tried
        again."""
        try:
            await asyncio.to_thread(write, *args)
            self._failed = ""
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if why != self._failed:
                log.error(
                    "routes not saved",
                    code="routes_not_saved",
                    error=why,
                    exc_info=not isinstance(error, OSError),
                )
            self._failed = why
