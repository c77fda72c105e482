"""Runs the two tasks of a reader of files: one reads again and again, the other watches and makes it read at once.

Each reader has one `ReaderTasks`. Tasks that fail are logged and restarted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.run.files.directory_watch import Watch


class ReaderTasks:
    """The tasks of one reader; none until `start`.

    `reading`, `watching`: what they are called in logs and metrics. `watch`: reports changes between two looks.
    """

    def __init__(
        self, reading: BackgroundTask, watching: BackgroundTask, *, watch: Watch, background: Background
    ) -> None:
        self._reading = reading
        self._watching = watching
        self._watch = watch
        self._background = background
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, path: str, read_on: Callable[[], Awaitable[None]], reachable: Callable[[], bool]) -> None:
        """Run `read_on`, and watch the directory that this file is in. `reachable`: whether the file could be read
        the last time. The tasks of before must have been cancelled."""
        self._tasks = [
            self._background.run(self._reading, read_on),
            self._background.run(self._watching, lambda: self._watch(path, self._wake.set, reachable)),
        ]

    def cancel(self) -> None:
        """Cancel both tasks, if they run, without waiting for their end."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def stop(self) -> None:
        """Cancel both tasks, and wait for their end."""
        tasks = self._tasks
        self.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until a change is reported, but not longer than so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
