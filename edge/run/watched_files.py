"""Files that are watched: what belongs to one is called when its content changes."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
import watchfiles

LOOK_AGAIN = 5.0
"Seconds after which files are looked at without being told: a directory may have been replaced, or mounted over."

log = structlog.get_logger("styx.admin")

_Seen = tuple[tuple[int, ...], bytes]
"What stat(2) said of a file, and a digest of its content."


class FileWatcher:
    """Directories are watched, not files: editors replace a file, and Kubernetes a link to its directory."""

    def __init__(self) -> None:
        self._files: Mapping[str, Callable[[], Awaitable[None]]] = {}
        self._before: dict[str, _Seen] = {}

    def follow(self, files: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """By path, what to do when the content has changed. What a file holds that was not followed before is known
        to whom it concerns."""
        self._files = files
        self._before = {path: self._before.get(path) or _seen(path, None) for path in files}

    async def watch(self) -> None:
        """For as long as nothing goes wrong; begun again, it misses nothing. Raises what the library raises, above
        all when a directory is not there."""
        await self.look()
        directories = sorted({str(Path(path).parent) for path in self._files})
        async for _ in watchfiles.awatch(
            *directories,
            recursive=False,
            debounce=200,
            rust_timeout=int(1000 * LOOK_AGAIN),
            yield_on_timeout=True,
        ):
            await self.look()

    async def look(self) -> None:
        """Call what belongs to the files that have changed."""
        for path, renew in tuple(self._files.items()):
            before = self._before[path]
            now = await asyncio.to_thread(_seen, path, before)
            if self._files.get(path) is not renew:
                return  # others are followed meanwhile
            self._before[path] = now
            if now[1] == before[1]:
                continue
            try:
                await renew()
            except Exception as error:  # whatever it is, the other files have nothing to do with it
                log.error(
                    "a file changed, but what was read before holds",
                    code="file_not_renewed",
                    file=path,
                    error=str(error) or type(error).__name__,
                )


def _seen(path: str, before: _Seen | None) -> _Seen:
    """The content is read only when stat(2) says something else than before. What cannot be read has none."""
    try:
        stat = os.stat(path)
        marks = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if before is not None and before[0] == marks:
            return before
        return marks, hashlib.blake2b(Path(path).read_bytes()).digest()
    except OSError:
        return (), b""
