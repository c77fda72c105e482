"""Whether anything has changed in a directory, as the kernel tells (inotify(7)). A help and no condition.

Directories are watched, not files: editors replace a file, and Kubernetes a link to the directory it is in. Another
directory may take the place of the one that is watched, and then it must be watched anew.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
import watchfiles

PAUSE = 1.0
"Seconds before it is tried again to watch, and between two looks whether it is the same directory still."
DEBOUNCE, STEP = 100, 20
"Milliseconds for which changes are gathered, and without one after which they are told."

Watch = Callable[[str, Callable[[], None], Callable[[], bool]], Coroutine[Any, Any, None]]

log = structlog.get_logger("styx.routes")


async def watch_directory(
    path: str, changed: Callable[[], None], reachable: Callable[[], bool], *, pause: float = PAUSE
) -> None:
    """For ever. Call `changed` when something has changed where this file is. `reachable`: whether it was when
    somebody looked last; on a dead file system, who begins to watch would wait for it in the loop."""
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
    """Until another directory is in its place. Raises whatever the library has to say."""
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
