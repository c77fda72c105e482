"""Reads the file of routes: its routes, or why it cannot be used. Blocking; run in a thread."""

import gc
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from edge.rules.route_sets.route_file import LIMITS, destinations_in
from edge.rules.route_sets.route_file_guard import Judgement, RouteFileGuard
from edge.rules.route_sets.route_set import NO_ROUTES, RouteSetSummary, digest_of, route_set
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings.file import SettingsError

RECENT = 2.0
"Seconds. A file that was written more recently may be written again with the same time stamp."


@dataclass(frozen=True, slots=True)
class RouteFileTrouble:
    """Why the file cannot be used."""

    code: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouteFileContent:
    """The routes in the file, and when they are to be taken over."""

    routes: RouteSet
    summary: RouteSetSummary
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class HeldRoutes:
    """The routes that the workers have."""

    routes: RouteSet
    summary: RouteSetSummary


class RouteFileOnDisk:
    """The file, and what it contained when it was last read."""

    def __init__(self, path: str, guard: RouteFileGuard, clock: Callable[[], float]) -> None:
        self.path = path
        self.guard = guard
        self._clock = clock
        self._stamp: tuple[int, ...] | None = None
        "Identifies an unchanged file without reading it; None = it must be read."
        self._digest: bytes | None = None
        "Digest of the content that was last read."

    def look(
        self, holds: HeldRoutes | None, hold: float, *, unconditional: bool = False
    ) -> RouteFileTrouble | RouteFileContent | None:
        """Read the file, and judge its routes against those that the workers have (`holds`). None = unchanged since
        the last look; never, if `unconditional`. `hold`: seconds (`routes.removal_hold`)."""
        if unconditional:
            self._stamp = self._digest = None
        try:
            data = self._read()
            if data is None:
                return None
            digest = digest_of(data)
            if digest == self._digest:
                return None
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = self._digest = None
            why = getattr(error, "strerror", None) or str(error)
            words = f"cannot read {self.path}: {why}"
            return self._trouble("routes_file_unreadable", (words,))
        self._digest = digest
        try:
            with without_garbage_collection():
                routes, summary = self._understood(text, digest, holds)
        except SettingsError as error:
            faults = tuple(str(fault) for fault in error.faults)
            return self._trouble("routes_file_not_used", faults)
        judgement = self.guard.judge(None if holds is None else holds.summary, summary, self._clock(), hold)
        return RouteFileContent(routes, summary, judgement)

    def _trouble(self, code: str, words: tuple[str, ...]) -> RouteFileTrouble:
        self.guard.forget()
        return RouteFileTrouble(code, words)

    def _read(self) -> bytes | None:
        """The content of the file; None = it has not been written since. Raises OSError."""
        with open_regular(self.path) as file:
            is_now = os.fstat(file.fileno())
            written = max(is_now.st_mtime_ns, is_now.st_ctime_ns)
            stamp = (is_now.st_dev, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns, is_now.st_ctime_ns)
            if stamp == self._stamp:
                return None
            self._stamp = None if time.time_ns() - written < RECENT * 1e9 else stamp
            return file.read(LIMITS.bytes + 1)

    def _understood(self, text: str, digest: bytes, holds: HeldRoutes | None) -> tuple[RouteSet, RouteSetSummary]:
        if holds is not None and holds.routes.digest == digest:
            return holds.routes, holds.summary
        before = NO_ROUTES if holds is None else holds.summary
        least = 0 if holds is None else holds.routes.version + 1
        return route_set(
            destinations_in(text, name=self.path),
            before,
            version=max(least, time.time_ns() // 1000),
            source=self.path,
            digest=digest,
        )


def open_regular(path: str) -> BinaryIO:
    """Open this file. Raises OSError, also when it is not a regular file."""
    # Not blocking: a named pipe without a writer would block the process for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise OSError(0, "it is no regular file")


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Without garbage collection: nothing that is read is garbage, and collecting takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
