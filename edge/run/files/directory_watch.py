"""Watches a directory for changes (inotify(7)). It only speeds things up: its user polls as well.

Directories are watched, not files, because editors replace a file, and Kubernetes a link to the directory it is in.
When another directory takes the place of the watched one, that one is watched.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
import watchfiles

PAUSE = 1.0
"Seconds before it tries again to watch, and between two checks whether it is still the same directory."
DEBOUNCE, STEP = 100, 20
"Milliseconds for which changes are gathered at most, and without a change after which they are reported."

Watch = Callable[[str, Callable[[], None], Callable[[], bool]], Coroutine[Any, Any, None]]

log = structlog.get_logger("styx.routes")


async def watch_directory(
    path: str, changed: Callable[[], None], reachable: Callable[[], bool], *, pause: float = PAUSE
) -> None:
    """Call `changed` when something has changed in the directory of this file. Runs until it is cancelled.

    `reachable`: whether the file could be read the last time; on a dead file system, starting to watch would block
    the loop.
    """
    directory = Path(path).parent
    while True:
        if reachable():
            try:
                await _watch(directory, changed, pause)
            except Exception as error:
                log.debug(
                    "directory not watched",
                    code="directory_not_watched",
                    directory=str(directory),
                    error=str(error),
                )
        await asyncio.sleep(pause)


async def _watch(directory: Path, changed: Callable[[], None], pause: float) -> None:
    """Watch this directory until another one is in its place. Raises whatever `watchfiles` raises."""
    watched = await asyncio.to_thread(_identity, directory)
    changes = watchfiles.awatch(
        directory,
        recursive=False,
        debounce=DEBOUNCE,
        step=STEP,
        rust_timeout=int(pause * 1000),
        yield_on_timeout=True,
    )
    async for some in changes:
        if some:
            changed()
        if await asyncio.to_thread(_identity, directory) != watched:
            return


def _identity(directory: Path) -> tuple[int, int]:
    is_now = os.stat(directory)
    return is_now.st_dev, is_now.st_ino
