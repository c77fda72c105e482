"""The routes on disk: what an edge knew outlives its workers, and itself.

    DIRECTORY/routes       what was known at the last merge, written whole and renamed into place
    DIRECTORY/routes.new   what came since, appended

Workers read both before they accept. Only the admin process writes, in a thread; a lock keeps two of them apart
while one edge takes over from another. Nothing here is on the way of a request, and nothing here ends an edge: a
file that cannot be read or written is told in the log.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from edge.rules.routing.route_records import HEADER, Damaged, Record, check, newest, records, still_useful
from edge.run.files.careful_files import (
    LOCK_PATIENCE,
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
"Bytes of new records before they are merged; beyond that, as many as there are merged ones."

log = structlog.get_logger("styx.routes")


class RouteStore:
    """The files of one directory."""

    def __init__(
        self,
        directory: Path,
        capacity: int,
        *,
        least_merged: int = LEAST_MERGED,
        lock_patience: float = LOCK_PATIENCE,
    ) -> None:
        self._path = directory
        self._capacity = capacity
        self._least_merged = least_merged
        self._lock_patience = lock_patience

    def read(self) -> dict[str, Record]:
        """The newest record of each hostname. What cannot be read is told in the log."""
        try:
            with opened(self._path) as directory:
                return self._read(directory)
        except OSError as error:
            log.error("saved routes not read", code="routes_not_read", file=str(self._path), error=error.strerror)
            return {}

    def mend(self) -> None:
        """Put a damaged or foreign file aside, so that what is appended can be read. Raises OSError."""
        with opened(self._path) as directory, locked(directory, self._lock_patience):
            if not all(self._is_whole(directory, name) for name in (MERGED, NEW)):
                self._merge(directory, self._read(directory))

    def append(self, new: Iterable[bytes]) -> None:
        """Write these records, and merge when there are many. Raises OSError."""
        data = b"".join(new)
        with opened(self._path) as directory, locked(directory, self._lock_patience):
            size = _append(directory, data)
            if size is None or size > max(self._least_merged, _size(directory, MERGED)):
                kept = self._read(directory)
                if size is None:  # there is something that we do not write on
                    newest(records(data), kept)
                self._merge(directory, kept)

    def _read(self, directory: int) -> dict[str, Record]:
        kept: dict[str, Record] = {}
        for name in (MERGED, NEW):
            data = self._content(directory, name)
            try:
                if data:
                    newest(records(data, _after_header(data)), kept)
            except Damaged as error:
                log.error(
                    "damaged saved routes", code="routes_damaged", file=str(self._path / name), error=str(error)
                )
        return kept

    def _is_whole(self, directory: int, name: str) -> bool:
        try:
            data = content_of(directory, name)
            if data:
                check(data, _after_header(data))
        except (OSError, Damaged):
            return False
        return True

    def _content(self, directory: int, name: str) -> bytes:
        """Empty when there is nothing to be believed."""
        try:
            return content_of(directory, name)
        except OSError as error:
            file, why = str(self._path / name), error.strerror or str(error)
            log.error("saved routes not read", code="routes_not_read", file=file, error=why)
            return b""

    def _merge(self, directory: int, kept: dict[str, Record]) -> None:
        useful = still_useful(kept, time.time(), self._capacity)
        replace_file(directory, MERGED, (HEADER, *(record.data for record in useful)))
        remove_file(directory, NEW)


def _append(directory: int, data: bytes) -> int | None:
    """The size of the file then. None = there is something that is not ours to write on. Raises OSError, and leaves
    the file as it was."""
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
            # Half a record would hide all that is written behind it.
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
