"""Saves learned routes on disk, so that they outlive the workers and the edge.

    DIRECTORY/routes       all routes at the last merge, written completely and renamed into place
    DIRECTORY/routes.new   routes learned since, appended

Workers read both before they accept. Only the admin process writes, in a thread; a lock separates two of them while
one edge takes over from another. No request waits for these files, and no error in them ends an edge: a file that
cannot be read or written is logged.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from edge.rules.routing.route_records import HEADER, Damaged, Record, check, newest, records, still_useful
from edge.run.files.careful_files import (
    LOCK_TIMEOUT,
    MERGED,
    NEW,
    SAFELY,
    content_of,
    is_ours_alone,
    locked,
    opened,
    remove_file,
    replace_file,
    status_of,
)

LEAST_MERGED: Final = 1 << 20
"Minimum bytes of new records for a merge; they are merged when they have also more bytes than the merged ones."

log = structlog.get_logger("styx.routes")


class RouteStore:
    """The saved routes in one directory. `capacity`: maximum of routes after a merge."""

    def __init__(
        self,
        directory: Path,
        capacity: int,
        *,
        least_merged: int = LEAST_MERGED,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        self._path = directory
        self._capacity = capacity
        self._least_merged = least_merged
        self._lock_timeout = lock_timeout

    def read(self) -> dict[str, Record]:
        """The newest record of each hostname. A file that cannot be read is logged."""
        try:
            with opened(self._path) as directory:
                return self._read(directory)
        except OSError as error:
            log.error("saved routes not read", code="routes_not_read", file=str(self._path), error=error.strerror)
            return {}

    def mend(self) -> None:
        """Replace a damaged or foreign file, so that appended records can be read. Raises OSError."""
        with opened(self._path) as directory, locked(directory, self._lock_timeout):
            if not all(self._is_whole(directory, name) for name in (MERGED, NEW)):
                self._merge(directory, self._read(directory))

    def append(self, new: Iterable[bytes]) -> None:
        """Write these records, and merge when there are many. Raises OSError."""
        data = b"".join(new)
        with opened(self._path) as directory, locked(directory, self._lock_timeout):
            size = _append(directory, data)
            if size is None or size > max(self._least_merged, _size(directory, MERGED)):
                saved = self._read(directory)
                if size is None:  # the present file is not ours, and nothing was appended
                    newest(records(data), saved)
                self._merge(directory, saved)

    def _read(self, directory: int) -> dict[str, Record]:
        saved: dict[str, Record] = {}
        for name in (MERGED, NEW):
            data = self._content(directory, name)
            try:
                if data:
                    newest(records(data, _after_header(data)), saved)
            except Damaged as error:
                log.error(
                    "saved routes damaged", code="routes_damaged", file=str(self._path / name), error=str(error)
                )
        return saved

    def _is_whole(self, directory: int, name: str) -> bool:
        try:
            data = content_of(directory, name)
            if data:
                check(data, _after_header(data))
        except (OSError, Damaged):
            return False
        return True

    def _content(self, directory: int, name: str) -> bytes:
        """The content of this file; empty when it is missing or cannot be used, which is logged."""
        try:
            return content_of(directory, name)
        except OSError as error:
            file, why = str(self._path / name), error.strerror or str(error)
            log.error("saved routes not read", code="routes_not_read", file=file, error=why)
            return b""

    def _merge(self, directory: int, saved: dict[str, Record]) -> None:
        useful = still_useful(saved, time.time(), self._capacity)
        replace_file(directory, MERGED, (HEADER, *(record.data for record in useful)))
        remove_file(directory, NEW)


def _append(directory: int, data: bytes) -> int | None:
    """Append to `routes.new`. Returns its new size; None = the present file is not ours alone, and nothing was
    written. Raises OSError, and leaves the file as it was."""
    try:
        descriptor = os.open(NEW, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFELY, 0o600, dir_fd=directory)
    except OSError as error:
        found = status_of(directory, NEW)
        if found is None or is_ours_alone(found):
            raise  # a full disk, too many files
        log.warning(
            "file in the directory of routes replaced", code="saved_routes_replaced", file=NEW, error=error.strerror
        )
        return None
    with open(descriptor, "ab", buffering=0) as file:
        found = os.fstat(descriptor)
        if not is_ours_alone(found):
            log.warning(
                "file in the directory of routes replaced", code="saved_routes_replaced", file=NEW, error="not ours"
            )
            return None
        size = found.st_size
        left = memoryview(data if size else HEADER + data)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            # Half a record would make all that is written behind it unreadable.
            os.ftruncate(descriptor, size)
            raise
        return os.fstat(descriptor).st_size


def _after_header(data: bytes) -> int:
    if not data.startswith(HEADER):
        raise Damaged(0, "it is no file of routes of this version")
    return len(HEADER)


def _size(directory: int, name: str) -> int:
    found = status_of(directory, name)
    return 0 if found is None else found.st_size
