"""Watches small files, such as tokens, and calls back when their content changes.

Directories are watched, not files, because editors replace a file. In a directory only the entries that lead to a
file count: a change beside them, such as of a log, is ignored. A symbolic link on the way is such an entry, too:
Kubernetes swaps a link to the directory that a file is in.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
import watchfiles

MAX_LINKS: Final = 40
"Maximum of symbolic links on the way to one file, as in the kernel (path_resolution(7))."
DEBOUNCE_MS: Final = 200
"Changes are gathered for so long, so that a file that is written in several steps is read when it is complete."

log = structlog.get_logger("styx.files")

Renew = Callable[[], Awaitable[object]]


async def watch_files(
    files: Mapping[str, Renew], *, poll: float = 5.0, read: Callable[[str], bytes] | None = None
) -> None:
    """Call the function of a file when its content has changed. Runs until it is cancelled.

    The files are also read every `poll` seconds, because a file system may report no changes: one of another
    machine does not, nor one that was out of reach.
    """
    watch = _FileWatch(files, poll, read or _content)
    while True:
        await watch.until_links_change()


class _FileWatch:
    def __init__(self, files: Mapping[str, Renew], poll: float, read: Callable[[str], bytes]) -> None:
        self._files = files
        self._poll = poll
        self._read = read
        self._known = {path: read(path) for path in files}
        self._trouble = ""
        "Why directories cannot be watched; logged once."

    async def until_links_change(self) -> None:
        """Watch the directories that the files are in now. Returns when other ones must be watched."""
        watched = entries, directories = self._entries_and_directories()
        if not directories:
            await self._without_events("no such directory")
            return
        changes = watchfiles.awatch(
            *directories,
            watch_filter=lambda _, path: path in entries,
            recursive=False,
            debounce=DEBOUNCE_MS,
            rust_timeout=int(self._poll * 1000),
            yield_on_timeout=True,
        )
        try:
            async for _ in changes:
                self._trouble = ""
                await self._compare()
                if self._entries_and_directories() != watched:
                    return
        except (OSError, RuntimeError) as error:  # the latter: no more inotify watches
            await self._without_events(str(error))

    def _entries_and_directories(self) -> tuple[set[str], list[str]]:
        entries = {entry for path in self._files for entry in entries_of(path)}
        return set(map(str, entries)), sorted({str(entry.parent) for entry in entries if entry.parent.is_dir()})

    async def _without_events(self, why: str) -> None:
        if why != self._trouble:
            self._trouble = why
            log.warning("files not watched", code="files_not_watched", files=sorted(self._files), error=why)
        await asyncio.sleep(self._poll)
        await self._compare()

    async def _compare(self) -> None:
        """Read all files, and call the functions of those that have changed."""
        for path, renew in self._files.items():
            content = await asyncio.to_thread(self._read, path)
            if content == self._known[path]:
                continue
            self._known[path] = content
            try:
                await renew()
            except Exception as error:  # the other files are still watched
                log.error("changed file not used", code="changed_file_not_used", file=path, error=str(error))


def entries_of(path: str) -> set[Path]:
    """The directory entries that decide which file this path leads to: its own, and the links on the way."""
    found: set[Path] = set()
    here, left = Path("/"), list(reversed(Path(path).absolute().parts[1:]))
    links = 0
    while left and links <= MAX_LINKS:
        part = left.pop()
        if part == "..":
            here = here.parent
            continue
        entry = here / part
        try:
            target = Path(os.readlink(entry))
        except OSError:  # no link, or missing
            here = entry
            if not left:
                found.add(entry)
            continue
        found.add(entry)
        links += 1
        if target.is_absolute():
            here = Path("/")
        left.extend(reversed([part for part in target.parts if part != "/"]))
    return found


def _content(path: str) -> bytes:
    """A digest, for comparison only: a key or a token is not kept."""
    try:
        return sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b""
