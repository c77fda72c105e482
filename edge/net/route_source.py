"""Where routes come from: what a source of routes must be able to do, and the two that there are.

Another one needs these five members and a line in `route_source`. It says one of three things about a hostname
(`CoreAnswer`), or raises CoreApiError: "could not ask" is never "there is no such hostname".
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from edge.net.core_api import CoreAnswer, CoreApi, CoreApiError
from edge.rules.route_file import routes_in
from edge.rules.route_validation import BackendPolicy
from edge.rules.routes import RouteAnswer
from edge.rules.settings import CoreApiSettings
from edge.rules.settings_file import SettingsError

FRESHNESS = "max-age=10, stale-while-revalidate=0"
"Of routes from a file: to look again costs nothing."

log = logging.getLogger("styx.routes")


class RouteSource(Protocol):
    """Answers "where is this hostname?"."""

    up: bool
    "Whether the last question was answered."

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Who serves this hostname? Raises CoreApiError; the deadline is the caller's."""

    def timed_out(self) -> None:
        """The caller's deadline passed before there was an answer."""

    def obey(self, settings: CoreApiSettings) -> None:
        """Answer by these settings, and read files anew."""

    async def close(self) -> None:
        """Answer no more."""


def route_source(
    settings: CoreApiSettings, observe: Callable[[str, float], None], policy: BackendPolicy
) -> RouteSource:
    """The one that the settings name. `observe` is told how each question ended, and after how many seconds;
    `policy` says where backends may be that a core API names."""
    return CoreApi(settings, observe, policy) if settings.file is None else RouteFileSource(settings.file)


class RouteFileSource:
    """Routes from a file. A bad one changes nothing: the last good one holds, and the log says what is wrong."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._answers: Mapping[str, RouteAnswer] | None = None
        self._reading: asyncio.Task[None] | None = None
        self.up = True
        self.swapped: Callable[[], Awaitable[object]] | None = None
        "Called when it has other answers than before."

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Raises CoreApiError only as long as no good file was read."""
        if self._reading is None:
            self._read_anew()
        if self._answers is None:
            assert self._reading is not None
            await asyncio.shield(self._reading)
        if self._answers is None:
            self.up = False
            raise CoreApiError(f"{self._path} cannot be used; the log says why")
        self.up = True
        return CoreAnswer(self._answers.get(hostname), False, FRESHNESS, None, deliberate=True)

    def timed_out(self) -> None:
        """It is read in a thread; a disk may be slow."""
        self.up = False

    def obey(self, settings: CoreApiSettings) -> None:
        """Read the file anew; until that is done the old one holds."""
        if settings.file is not None:
            self._path = settings.file
        self._read_anew()

    def _read_anew(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._read(), name=f"read {self._path}")

    async def _read(self) -> None:
        path = self._path
        try:
            text = await asyncio.to_thread(Path(path).read_text)
            # A second of work for a large file, in which others must not wait.
            self._answers = await asyncio.to_thread(routes_in, text, name=path, generation=time.time_ns() // 1000)
            if self.swapped is not None:
                await self.swapped()
        except (OSError, UnicodeDecodeError) as error:
            log.error("cannot read the routes in %s, what was known holds: %s", path, error)
        except SettingsError as error:
            log.error("the routes in %s are not used, what was known holds:\n%s", path, error)

    async def close(self) -> None:
        """Wait for what is being read."""
        if self._reading is not None:
            await self._reading
