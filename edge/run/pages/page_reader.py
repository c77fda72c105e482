"""Reads the directory of error pages for the whole edge: in the admin process, in a thread.

    look ──► unreadable                     the pages in use stay in use; logged once
      └────► changed, at rest ──► checked ──► given to all workers
                                     └──► a template with a fault: what it was before stays in use; logged once

It looks every `interval` seconds, because nothing reports that a directory is back, and at once when the kernel
reports a change in it. A change is taken over when nothing has changed for `settle` seconds: a file that is half
written is a template, too.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.rules.pages.page_records import PageRecord
from edge.rules.pages.template_files import (
    CheckedPages,
    PageFault,
    PagesState,
    checked_pages,
    importance,
    record_of,
    usable_pages,
)
from edge.rules.settings import Settings
from edge.run.control.control_messages import PagesAre
from edge.run.files.directory_watch import Watch, watch_directory
from edge.run.files.reader_tasks import ReaderTasks
from edge.run.pages.page_directory import Stamp, read_templates, stamps_in

INTERVAL: Final = 2.0
"Seconds between two looks."
SETTLE: Final = 0.2
"Seconds without a change before one is taken over."
TAKE_TIMEOUT: Final = 3.0
"Seconds for a reload to read the pages: they may be on a disk that hangs."
MOST_TRIES: Final = 5
"Times that a reload reads pages that change meanwhile."
MANY_FAULTS: Final = 10
"Maximum of faults in one event; `styx check` prints all."

log = structlog.get_logger("styx.pages")


class _Taken(NamedTuple):
    """The templates taken over from a directory."""

    checked: CheckedPages
    "The templates in use, and the faults of the others, which are logged."
    stamps: dict[str, Stamp]
    "What was in the directory."


class PageReader:
    """Reads the directory of pages. `publish`: gives templates to all workers."""

    def __init__(
        self,
        publish: Callable[[PagesAre], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
        settle: float = SETTLE,
        watch: Watch = watch_directory,
        background: Background | None = None,
    ) -> None:
        """`clock`: monotonic seconds. `watch`: reports changes between two looks. `background`: runs the tasks."""
        self._publish = publish
        self._clock = clock
        self._interval = interval
        self._settle = settle
        self._tasks = ReaderTasks(
            BackgroundTask.PAGES_READER,
            BackgroundTask.PAGES_WATCHER,
            watch=watch,
            background=background or Background(),
        )
        self.state = PagesState()
        self._directory: str | None = ""
        "None = there is no such directory; empty = the settings are not known yet."
        self._taken: _Taken | None = None
        "What was taken over last; None = nothing was read yet."
        self._coming: tuple[dict[str, Stamp], float] | None = None
        "What is in it now and was not yet read, and since when."
        self._unreadable_since: float | None = None
        self._turn = asyncio.Lock()

    def reconfigure(self, settings: Settings) -> None:
        """Read the directory that these settings name, if any. Without one the built-in page is used."""
        directory = settings.pages.directory
        if directory == self._directory:
            return
        self._tasks.cancel()
        self._directory, self._taken, self._coming, self._unreadable_since = directory, None, None, None
        self.state.reset(is_used=directory is not None)
        if directory is None:
            self._publish(PagesAre([]))  # also at the start: a worker may wait for it
            return
        self._tasks.start(f"{directory}/pages", self._read_on, lambda: self.state.is_readable)

    async def stop(self) -> None:
        """Stop reading."""
        await self._tasks.stop()

    async def take_now(self) -> None:
        """Take over what is in the directory now, if that can be read in time."""
        if self._directory:
            with suppress(TimeoutError):
                async with asyncio.timeout(TAKE_TIMEOUT):
                    await self.look(at_once=True)

    async def _read_on(self) -> None:
        await self.look(at_once=True)
        while True:
            await self._tasks.wait_for_change(self._settle if self._is_waiting else self._interval)
            await self.look()

    @property
    def _is_waiting(self) -> bool:
        """Whether something is to be taken over, or told, unless it changes within a moment."""
        is_new_trouble = self._unreadable_since is not None and self.state.is_readable
        return self._coming is not None or is_new_trouble

    async def look(self, *, at_once: bool = False) -> None:
        """Look into the directory, and take over what has changed and is at rest. `at_once`: whether it is at rest
        or not."""
        async with self._turn:
            directory = self._directory
            if not directory:
                return
            try:
                for _ in range(MOST_TRIES if at_once else 1):
                    if await self._look_into(directory, at_once=at_once):
                        break
            except OSError as error:
                self._note_unreadable(directory, error.strerror or str(error), at_once=at_once)

    async def _look_into(self, directory: str, *, at_once: bool) -> bool:
        """Returns whether there is nothing left to take over at once. Raises OSError."""
        stamps = await asyncio.to_thread(stamps_in, directory)
        self._note_readable(directory)
        taken = self._taken
        if taken is not None and stamps == taken.stamps:
            self._coming = None
            return True
        now = self._clock()
        if self._coming is None or self._coming[0] != stamps:
            self._coming = stamps, now
        if not at_once and now - self._coming[1] < self._settle:
            return False
        before = {} if taken is None else taken.checked.files
        checked, records, after = await asyncio.to_thread(_read_and_check, directory, stamps, before)
        if directory != self._directory:
            return True
        if after != stamps:  # it was changed while it was read
            self._coming = after, self._clock()
            return False
        self._taken, self._coming = _Taken(checked, stamps), None
        self._take(directory, PagesAre(records), None if taken is None else taken.checked, by_reload=at_once)
        return True

    def _take(self, directory: str, pages: PagesAre, before: CheckedPages | None, *, by_reload: bool) -> None:
        """Give what was taken over to the workers, and log it. `before`: what was in use."""
        assert self._taken is not None
        checked = self._taken.checked
        self.state.templates = len(checked.files)
        self.state.faults = len({fault.name for fault in checked.faults})
        files = {} if before is None else before.files
        changed = {name for name, _ in files.items() ^ checked.files.items()}
        if before is None or changed:
            self._publish(pages)
            log.info(
                "error pages taken over",
                code="pages_taken_over",
                directory=directory,
                templates=len(checked.files),
                changed=len(changed),
                by_reload=by_reload and before is not None,
            )
        faults = [] if before is None else before.faults
        if checked.faults and checked.faults != faults:
            self._log_faults(directory, checked.faults)
        elif faults and not checked.faults:
            log.info("all error pages usable", code="pages_usable", directory=directory)

    def _note_readable(self, directory: str) -> None:
        self._unreadable_since = None
        if not self.state.is_readable:
            self.state.is_readable = True
            log.info("directory of error pages readable again", code="pages_directory_usable", directory=directory)

    def _note_unreadable(self, directory: str, why: str, *, at_once: bool) -> None:
        """Log it, unless it is only so for a moment, as while one directory takes the place of another."""
        now = self._clock()
        if self._unreadable_since is None:
            self._unreadable_since = now
        if self.state.is_readable and (at_once or now - self._unreadable_since >= self._settle):
            self.state.is_readable = False
            log.error(
                "directory of error pages not readable",
                code="pages_directory_unreadable",
                directory=directory,
                error=why,
                templates=self.state.templates,
            )
        if self._taken is None:  # workers that start wait for what there is
            self._publish(PagesAre([]))

    def _log_faults(self, directory: str, faults: list[PageFault]) -> None:
        log.error(
            "error pages not used",
            code="pages_not_used",
            directory=directory,
            faults=[fault.text(directory) for fault in faults[:MANY_FAULTS]],
            more=max(0, len(faults) - MANY_FAULTS),
        )


def _read_and_check(
    directory: str, stamps: dict[str, Stamp], before: dict[str, bytes]
) -> tuple[CheckedPages, list[PageRecord], dict[str, Stamp]]:
    """The checked templates, their records, and what is in the directory after they were read. Raises OSError."""
    checked = checked_pages(read_templates(directory, sorted(stamps, key=importance)), before)
    return checked, list(map(record_of, usable_pages(checked.files.items()))), stamps_in(directory)
