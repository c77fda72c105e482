"""One look at the file of routes: what it says, or why it cannot be used. Blocking; for a thread."""

import gc
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge.rules.route_sets.route_file import LIMITS, destinations_in
from edge.rules.route_sets.route_file_guard import Judgement, RouteFileGuard
from edge.rules.route_sets.route_set import NO_ROUTES, RouteSetSummary, digest_of, route_set
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings.file import SettingsError

RECENT = 2.0
"Seconds. What was written more recently may be written again, at the same time as far as the file system tells."


@dataclass(frozen=True, slots=True)
class RouteFileTrouble:
    """Why the file cannot be used."""

    code: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouteFileContent:
    """What it says, and what becomes of that."""

    routes: RouteSet
    summary: RouteSetSummary
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class HeldRoutes:
    """What the workers have."""

    routes: RouteSet
    summary: RouteSetSummary


class RouteFileOnDisk:
    """The file, and what the last look found."""

    def __init__(self, path: str, guard: RouteFileGuard, clock: Callable[[], float]) -> None:
        self.path = path
        self._guard = guard
        self._clock = clock
        self._stamp: tuple[int, ...] | None = None
        "By which an unchanged file is known, without reading it; None = it must be read."
        self._digest: bytes | None = None
        "Of the content that the last look found."

    def look(
        self, holds: HeldRoutes | None, hold: float, *, anew: bool = False
    ) -> RouteFileTrouble | RouteFileContent | None:
        """What it says, judged against what `holds`. None = as at the last look, unless one is wanted `anew`."""
        if anew:
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
        judgement = self._guard.judge(None if holds is None else holds.summary, summary, self._clock(), hold)
        return RouteFileContent(routes, summary, judgement)

    def _trouble(self, code: str, words: tuple[str, ...]) -> RouteFileTrouble:
        self._guard.forget()
        return RouteFileTrouble(code, words)

    def _read(self) -> bytes | None:
        """Its content; None = nobody has written it since. Raises OSError."""
        # Not blocking: a named pipe that nobody writes into would keep the thread for ever.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            is_now = os.fstat(descriptor)
            if not stat.S_ISREG(is_now.st_mode):
                raise OSError(0, "it is no regular file")
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


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Of what is read nothing is garbage, and to look for some takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
