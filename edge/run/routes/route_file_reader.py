"""Who reads the file of routes, for the whole edge: in the admin process, in a thread.

    look ──► unreadable, unusable     what holds goes on to hold; told once
        └──► read ──► judged ──► due ──► taken over: pushed to all workers, and kept on disk

It looks each `interval` seconds, for nothing tells that a directory is back, that descriptors are to be had again,
or that a file on another machine has changed; and at once when the kernel tells of a change in its directory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.rules.route_sets.route_file import destinations_in
from edge.rules.route_sets.route_file_guard import SETTLE, RouteFileGuard, RouteFileState
from edge.rules.route_sets.route_set import NO_ROUTES, digest_of, route_set, summary_of
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.run.files.directory_watch import Watch, watch_directory
from edge.run.routes.route_file_on_disk import (
    HeldRoutes,
    RouteFileContent,
    RouteFileOnDisk,
    RouteFileTrouble,
    without_garbage_collection,
)
from edge.run.routes.route_set_store import RouteSetStore

INTERVAL = 1.0
"Seconds between two looks."
SOON = 0.1
"The same while something was found that is not told yet."
MANY_FAULTS = 10
"More are not told in one event; `styx check` tells all."

log = structlog.get_logger("styx.routes")


class _Finding:
    """What a look found, and is not dealt with yet."""

    def __init__(self, what: RouteFileTrouble | RouteFileContent, since: float) -> None:
        self.what = what
        self.since = since
        self.told = False


class RoutesFileReader:
    """See the module. `publish`: have all workers take a set over."""

    def __init__(
        self,
        store: RouteSetStore,
        publish: Callable[[RouteSet], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
        settle: float = SETTLE,
        watch: Watch = watch_directory,
        background: Background | None = None,
    ) -> None:
        """`watch`: how it is told of changes before it looks by itself. `background`: keeps it running."""
        self._store = store
        self._publish = publish
        self._clock = clock
        self._interval = interval
        self._settle = settle
        self._watch = watch
        self._background = background or Background()
        self.state = RouteFileState()
        self._hold = 0.0
        self._holds: HeldRoutes | None = None
        self._finding: _Finding | None = None
        self._unsaved = False
        "What holds could not be written to disk."
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._file: RouteFileOnDisk | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    def read_now(path: str) -> RouteSet:
        """What the file says now. Blocking. Raises OSError, UnicodeDecodeError; SettingsError for faults in it."""
        data = Path(path).read_bytes()
        with without_garbage_collection():
            destinations = destinations_in(data.decode(), name=path, may_be_empty=False)
            version = time.time_ns() // 1000
            routes, _ = route_set(destinations, NO_ROUTES, version=version, source=path, digest=digest_of(data))
        return routes

    @property
    def _path(self) -> str | None:
        return None if self._file is None else self._file.path

    def reconfigure(self, settings: Settings) -> None:
        """Read the file that these settings name, if they do; another one than before is taken over at once."""
        self._hold = settings.routes.removal_hold
        path = settings.core_api.location if settings.core_api.source == "file" else None
        if path == self._path:
            return
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._file = self._holds = self._finding = None
        self.state.reset(is_read=path is not None)
        if path is not None:
            self._file = RouteFileOnDisk(path, RouteFileGuard(settle=self._settle), self._clock)
            self._tasks = [
                self._background.run(BackgroundTask.ROUTES_FILE_READER, lambda: self._read_on(path)),
                self._background.run(
                    BackgroundTask.ROUTES_FILE_WATCHER,
                    lambda: self._watch(path, self._wake.set, lambda: self.state.good),
                ),
            ]

    async def stop(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def take_now(self) -> tuple[bool, list[str]]:
        """Take over what the file says now, whatever it no longer names. Returns whether it can be used, and in
        words what is different or what is wrong with it."""
        return (True, []) if self._file is None else await self.look(at_once=True)

    async def _read_on(self, path: str) -> None:
        async with self._turn:
            await self._go_on(path)
        while True:
            try:
                await self.look()
            except Exception:  # a fault of ours: what holds goes on to hold
                log.exception("look at the file of routes failed", code="routes_file_look_failed", file=path)
            self.state.looks += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()

    async def _go_on(self, path: str) -> None:
        """With what the one before us knew of the file, unless somebody has had it read already."""
        kept = await asyncio.to_thread(self._kept, path) if self._holds is None else None
        if kept is not None:
            self._holds = kept
            self.state.hostnames = len(kept.summary.said)
            await self._publish(kept.routes)
            await self._save()  # it may be what the master has read

    def _kept(self, path: str) -> HeldRoutes | None:
        routes = self._store.read(path)
        try:
            return None if routes is None else HeldRoutes(routes, summary_of(routes))
        except ValueError as error:
            log.error(
                "saved routes of the file unreadable", code="routes_table_unreadable", file=path, error=str(error)
            )
            return None

    def _pause(self) -> float:
        finding = self._finding
        if finding is None:
            return self._interval
        due = finding.what.judgement.due if isinstance(finding.what, RouteFileContent) else self._clock() + 60
        left = max(0.0, due - self._clock())
        return min(self._interval if finding.told else SOON, left + 0.001)

    # one look

    async def look(self, *, at_once: bool = False) -> tuple[bool, list[str]]:
        """Whether the file can be used, and what is different or wrong. `at_once`: see `take_now`."""
        async with self._turn:
            assert self._file is not None
            found = await asyncio.to_thread(self._file.look, self._holds, self._hold, anew=at_once)
            if self._unsaved:
                await self._save()
            if found is not None:
                self._note(found)
            finding = self._finding
            if finding is None:
                return True, []
            is_old = self._clock() - finding.since >= self._settle
            if isinstance(finding.what, RouteFileTrouble):
                if (is_old or at_once) and not finding.told:
                    self._tell_trouble(finding.what)
                    finding.told = True
                return False, list(finding.what.words)
            content = finding.what
            if not content.judgement.differs:
                return self._nothing_new(content.routes.digest)
            if at_once or content.judgement.due <= self._clock():
                return await self._take(content, at_once=at_once)
            self.state.held_back = content.judgement.lost
            if is_old and not finding.told:
                self._tell_held_back(content)
                finding.told = True
            return True, []

    def _note(self, found: RouteFileTrouble | RouteFileContent) -> None:
        before = self._finding
        was_bad = before is not None and isinstance(before.what, RouteFileTrouble) and before.told
        self.state.good = isinstance(found, RouteFileContent)
        if isinstance(found, RouteFileContent):
            if was_bad:
                log.info("file of routes usable again", code="routes_file_usable", file=self._path)
        elif before is not None and before.what == found:
            return  # told already, or soon
        self._finding = _Finding(found, self._clock())

    def _nothing_new(self, digest: bytes) -> tuple[bool, list[str]]:
        """The same in other words, or as before."""
        if self._holds is not None:
            routes = msgspec.structs.replace(self._holds.routes, digest=digest)
            self._holds = HeldRoutes(routes, self._holds.summary)
        self._finding, self.state.held_back = None, 0
        return True, []

    async def _take(self, content: RouteFileContent, *, at_once: bool) -> tuple[bool, list[str]]:
        judgement = content.judgement
        self._holds = HeldRoutes(content.routes, content.summary)
        self._finding = None
        self.state.held_back, self.state.hostnames = 0, len(content.summary.said)
        fields = {
            "file": self._path,
            "hostnames": len(content.summary.said),
            "added": judgement.added,
            "removed": judgement.lost,
            "changed": judgement.changed,
            "by_reload": at_once,
        }
        if judgement.large:
            log.warning("routes of the file taken over", code="routes_file_taken_over", **fields)
        else:
            log.info("routes of the file taken over", code="routes_file_taken_over", **fields)
        await asyncio.gather(self._publish(content.routes), self._save())
        words = f"{judgement.added} hostnames added, {judgement.lost} removed, {judgement.changed} changed"
        return True, [f"file of routes: {words}"]

    async def _save(self) -> None:
        """What holds; or try again at the next look."""
        try:
            if self._holds is not None:
                await asyncio.to_thread(self._store.write, self._holds.routes)
            self._unsaved = False
        except OSError as error:
            if not self._unsaved:
                log.error(
                    "routes of the file not saved", code="routes_table_not_saved", file=self._path, error=str(error)
                )
            self._unsaved = True

    # what is told

    def _tell_trouble(self, trouble: RouteFileTrouble) -> None:
        log.error(
            "file of routes not used",
            code=trouble.code,
            file=self._path,
            faults=trouble.words[:MANY_FAULTS],
            more=max(0, len(trouble.words) - MANY_FAULTS),
            hostnames=self.state.hostnames,
        )

    def _tell_held_back(self, content: RouteFileContent) -> None:
        judgement = content.judgement
        left = judgement.due - self._clock()
        log.error(
            "routes of the file held back",
            code="routes_file_held_back",
            file=self._path,
            hostnames=self.state.hostnames,
            removed=judgement.lost,
            added=judgement.added,
            changed=judgement.changed,
            taken_over_in=round(left, 1) if left < float("inf") else None,
        )
