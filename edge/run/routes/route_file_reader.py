"""Reads the file of routes for the whole edge: in the admin process, in a thread.

    look ──► unreadable, unusable     the routes in use stay in use; logged once
        └──► read ──► judged ──► due ──► taken over: published to all workers, and saved on disk

It looks every `interval` seconds, because nothing reports that a directory is back, that descriptors are available
again, or that a file on another machine has changed; and at once when the kernel reports a change in its directory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.rules.route_sets.route_file import LIMITS, destinations_in
from edge.rules.route_sets.route_file_guard import SETTLE, RouteFileGuard, RouteFileState
from edge.rules.route_sets.route_set import NO_ROUTES, digest_of, route_set, summary_of
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.run.files.directory_watch import Watch, watch_directory
from edge.run.files.reader_tasks import ReaderTasks
from edge.run.routes.route_file_on_disk import (
    HeldRoutes,
    RouteFileContent,
    RouteFileOnDisk,
    RouteFileTrouble,
    open_regular,
    without_garbage_collection,
)
from edge.run.routes.route_set_store import RouteSetStore

INTERVAL = 1.0
"Seconds between two looks."
SOON = 0.1
"Seconds between two looks while a finding has not been logged yet."
MANY_FAULTS = 10
"Maximum of faults in one event; `styx check` prints all."

log = structlog.get_logger("styx.routes")


class _Finding:
    """The result of a look that has not been taken over."""

    def __init__(self, what: RouteFileTrouble | RouteFileContent, since: float) -> None:
        self.what = what
        self.since = since
        self.logged = False


class RouteFileReader:
    """The pushed source `file`. `publish`: has all workers take over a set."""

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
        """`clock`: monotonic seconds. `settle`: seconds before a finding is logged. `watch`: reports changes
        between two looks. `background`: runs the tasks, and restarts them."""
        self._store = store
        self._publish = publish
        self._clock = clock
        self._interval = interval
        self._settle = settle
        self._tasks = ReaderTasks(
            BackgroundTask.ROUTES_FILE_READER,
            BackgroundTask.ROUTES_FILE_WATCHER,
            watch=watch,
            background=background or Background(),
        )
        self.state = RouteFileState()
        self._hold = 0.0
        self._holds: HeldRoutes | None = None
        self._finding: _Finding | None = None
        self._unsaved = False
        "Whether the routes in use could not be written to disk."
        self._turn = asyncio.Lock()
        self._file: RouteFileOnDisk | None = None

    @staticmethod
    def read_now(path: str) -> RouteSet:
        """Read the routes in this file now. Blocking. Raises OSError, UnicodeDecodeError; SettingsError for faults
        in it."""
        with open_regular(path) as file:
            data = file.read(LIMITS.bytes + 1)  # a longer file is a fault
        with without_garbage_collection():
            # One that is too long is said to be that, also if it was cut within a character.
            text = data.decode(errors="ignore" if len(data) > LIMITS.bytes else "strict")
            destinations = destinations_in(text, name=path, may_be_empty=False)
            version = time.time_ns() // 1000
            routes, _ = route_set(destinations, NO_ROUTES, version=version, source=path, digest=digest_of(data))
        return routes

    @property
    def _path(self) -> str | None:
        return None if self._file is None else self._file.path

    def reconfigure(self, settings: Settings) -> None:
        """Read the file that these settings name, if any; another one than before is taken over at once."""
        self._hold = settings.routes.removal_hold
        path = settings.core_api.location if settings.core_api.source == "file" else None
        if path == self._path:
            return
        self._tasks.cancel()
        self._file = self._holds = self._finding = None
        self.state.reset(is_read=path is not None)
        if path is not None:
            self._file = RouteFileOnDisk(path, RouteFileGuard(settle=self._settle), self._clock)
            self._tasks.start(path, lambda: self._read_on(path), lambda: self.state.good)

    async def stop(self) -> None:
        """Stop reading."""
        await self._tasks.stop()

    async def take_now(self) -> tuple[bool, list[str]]:
        """Take over the routes in the file now, however many are removed. Returns whether the file can be used, and
        line by line what has changed or what is wrong with it."""
        return (True, []) if self._file is None else await self.look(at_once=True)

    async def _read_on(self, path: str) -> None:
        async with self._turn:
            await self._publish_saved(path)
        while True:
            try:
                await self.look()
            except Exception:  # a bug: the routes in use stay in use
                log.exception("reading of the routes file failed", code="routes_file_look_failed", file=path)
            self.state.looks += 1
            await self._tasks.wait_for_change(self._pause())

    async def _publish_saved(self, path: str) -> None:
        """Publish the saved routes of this file, unless a reload has had the file read already."""
        saved = await asyncio.to_thread(self._saved, path) if self._holds is None else None
        if saved is not None:
            self._holds = saved
            self.state.hostnames = len(saved.summary.destinations)
            await self._publish(saved.routes)
            await self._save()  # these may be the routes that the master has read, which are not on disk

    def _saved(self, path: str) -> HeldRoutes | None:
        routes = self._store.read(path)
        try:
            return None if routes is None else HeldRoutes(routes, summary_of(routes))
        except ValueError as error:
            log.error(
                "saved routes of the routes file unreadable",
                code="routes_table_unreadable",
                file=path,
                error=str(error),
            )
            return None

    def _pause(self) -> float:
        finding = self._finding
        if finding is None:
            return self._interval
        due = finding.what.judgement.due if isinstance(finding.what, RouteFileContent) else self._clock() + 60
        left = max(0.0, due - self._clock())
        return min(self._interval if finding.logged else SOON, left + 0.001)

    # one look

    async def look(self, *, at_once: bool = False) -> tuple[bool, list[str]]:
        """Read the file, and take over its routes when they are due. Returns as `take_now`. `at_once`: take them
        over now in any case."""
        async with self._turn:
            assert self._file is not None
            found = await asyncio.to_thread(self._file.look, self._holds, self._hold, unconditional=at_once)
            if self._unsaved:
                await self._save()
            if found is not None:
                self._note(found)
            finding = self._finding
            if finding is None:
                return True, []
            is_old = self._clock() - finding.since >= self._settle
            if isinstance(finding.what, RouteFileTrouble):
                if (is_old or at_once) and not finding.logged:
                    self._log_trouble(finding.what)
                    finding.logged = True
                return False, list(finding.what.words)
            content = finding.what
            if not content.judgement.differs:
                return self._nothing_new(content.routes.digest)
            if at_once or content.judgement.due <= self._clock():
                return await self._take(content, at_once=at_once)
            self.state.held_back, self.state.missing = content.judgement.lost, self._file.guard.lost_since
            if is_old and not finding.logged:
                self._log_held_back(content)
                finding.logged = True
            return True, []

    def _note(self, found: RouteFileTrouble | RouteFileContent) -> None:
        before = self._finding
        was_bad = before is not None and isinstance(before.what, RouteFileTrouble) and before.logged
        self.state.good = isinstance(found, RouteFileContent)
        self.state.problem = "" if isinstance(found, RouteFileContent) else "; ".join(found.words[:3])
        if isinstance(found, RouteFileContent):
            if was_bad:
                log.info("routes file usable again", code="routes_file_usable", file=self._path)
        elif before is not None and before.what == found:
            return  # logged already, or soon
        self._finding = _Finding(found, self._clock())

    def _nothing_new(self, digest: bytes) -> tuple[bool, list[str]]:
        """The file has the routes in use, perhaps written in another way."""
        if self._holds is not None:
            routes = msgspec.structs.replace(self._holds.routes, digest=digest)
            self._holds = HeldRoutes(routes, self._holds.summary)
        self._finding, self.state.held_back, self.state.missing = None, 0, {}
        return True, []

    async def _take(self, content: RouteFileContent, *, at_once: bool) -> tuple[bool, list[str]]:
        judgement = content.judgement
        self._holds = HeldRoutes(content.routes, content.summary)
        self._finding = None
        self.state.held_back, self.state.missing = 0, {}
        self.state.hostnames = len(content.summary.destinations)
        fields = {
            "file": self._path,
            "hostnames": len(content.summary.destinations),
            "added": judgement.added,
            "removed": judgement.lost,
            "changed": judgement.changed,
            "by_reload": at_once,
        }
        if judgement.large:
            log.warning("routes file taken over", code="routes_file_taken_over", **fields)
        else:
            log.info("routes file taken over", code="routes_file_taken_over", **fields)
        await asyncio.gather(self._publish(content.routes), self._save())
        words = f"{judgement.added} hostnames added, {judgement.lost} removed, {judgement.changed} changed"
        return True, [f"file of routes: {words}"]

    async def _save(self) -> None:
        """Save the routes in use; if that fails, the next look tries again."""
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

    # log events

    def _log_trouble(self, trouble: RouteFileTrouble) -> None:
        log.error(
            "routes file not used",
            code=trouble.code,
            file=self._path,
            faults=trouble.words[:MANY_FAULTS],
            more=max(0, len(trouble.words) - MANY_FAULTS),
            hostnames=self.state.hostnames,
        )

    def _log_held_back(self, content: RouteFileContent) -> None:
        judgement = content.judgement
        left = judgement.due - self._clock()
        log.error(
            "routes file held back",
            code="routes_file_held_back",
            file=self._path,
            hostnames=self.state.hostnames,
            removed=judgement.lost,
            added=judgement.added,
            changed=judgement.changed,
            taken_over_in=round(left, 1) if left < float("inf") else None,
        )
