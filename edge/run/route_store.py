"""The routes on disk: what an edge knew outlives its workers, and itself.

    DIRECTORY/routes       what was known at the last merge, written whole and renamed into place
    DIRECTORY/routes.new   what came since, appended

Workers read both before they accept. Only the admin process writes, in a thread; a lock keeps two of them apart
while one edge takes over from another. Nothing here is on the way of a request, and nothing here ends an edge: a
file that cannot be read or written is told in the log.

Others may write in the directory, if its owner wills: no link is followed, no FIFO waited for, only what belongs to
us or to root is believed, and only what is ours alone is written on; anything else is replaced.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from edge.rules.route_records import HEADER, Damaged, Record, check, newest, records, still_useful

MERGED, NEW, LOCK, COMING = FILES = ("routes", "routes.new", "routes.lock", "routes.coming")
"What there may be in the directory."
LEAST_MERGED: Final = 1 << 20
"Bytes of new records before they are merged; beyond that, as many as there are merged ones."
LOCK_PATIENCE: Final = 5.0
"Seconds that another writer may take."
_SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

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
            with self._opened() as directory:
                return self._read(directory)
        except OSError as error:
            log.error("cannot read routes", code="routes_not_read", file=str(self._path), error=error.strerror)
            return {}

    def mend(self) -> None:
        """Put a damaged or foreign file aside, so that what is appended can be read. Raises OSError."""
        with self._opened() as directory, self._alone(directory):
            if not all(self._is_whole(directory, name) for name in (MERGED, NEW)):
                self._merge(directory, self._read(directory))

    def append(self, new: Iterable[bytes]) -> None:
        """Write these records, and merge when there are many. Raises OSError."""
        data = b"".join(new)
        with self._opened() as directory, self._alone(directory):
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
                self._tell("routes that cannot be understood are not used", "routes_damaged", name, error)
        return kept

    def _is_whole(self, directory: int, name: str) -> bool:
        try:
            data = _content(directory, name)
            if data:
                check(data, _after_header(data))
        except (OSError, Damaged):
            return False
        return True

    def _content(self, directory: int, name: str) -> bytes:
        """Empty when there is nothing to be believed."""
        try:
            return _content(directory, name)
        except OSError as error:
            self._tell("cannot read routes", "routes_not_read", name, error)
            return b""

    def _merge(self, directory: int, kept: dict[str, Record]) -> None:
        _remove(directory, COMING)
        coming = os.open(COMING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=directory)
        with open(coming, "wb") as file:
            file.write(HEADER)
            file.writelines(record.data for record in still_useful(kept, time.time(), self._capacity))
            file.flush()
            os.fsync(file.fileno())
        os.replace(COMING, MERGED, src_dir_fd=directory, dst_dir_fd=directory)
        _remove(directory, NEW)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Whatever its path leads to meanwhile, this is the directory that is worked in."""
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)

    @contextmanager
    def _alone(self, directory: int) -> Iterator[None]:
        """Raises OSError when another writer takes too long, or somebody holds the lock for the sake of it."""
        lock = _open_lock(directory)
        try:
            deadline = time.monotonic() + self._lock_patience
            while not _is_locked(lock):
                if time.monotonic() >= deadline:
                    why = f"another process has held it for {self._lock_patience:g} s"
                    raise TimeoutError(errno.ETIMEDOUT, why, LOCK)
                time.sleep(0.01)
            yield
        finally:
            os.close(lock)

    def _tell(self, event: str, code: str, name: str, error: Exception) -> None:
        log.error(event, code=code, file=str(self._path / name), error=getattr(error, "strerror", "") or str(error))


def _content(directory: int, name: str) -> bytes:
    """Raises OSError."""
    try:
        descriptor = os.open(name, os.O_RDONLY | _SAFELY, dir_fd=directory)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file", name)
        if found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EACCES, f"belongs to user {found.st_uid}", name)
        return file.read()


def _append(directory: int, data: bytes) -> int | None:
    """The size of the file then. None = there is something that is not ours to write on. Raises OSError, and leaves
    the file as it was."""
    try:
        descriptor = os.open(NEW, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFELY, 0o600, dir_fd=directory)
    except OSError as error:
        found = _stat(directory, NEW)
        if found is None or _is_ours_alone(found):
            raise  # a full disk, too many files
        log.warning(
            "file in the directory of routes replaced", code="routes_file_replaced", file=NEW, why=error.strerror
        )
        return None
    with open(descriptor, "ab", buffering=0) as file:
        found = os.fstat(descriptor)
        if not _is_ours_alone(found):
            log.warning(
                "file in the directory of routes replaced", code="routes_file_replaced", file=NEW, why="not ours"
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


def _open_lock(directory: int) -> int:
    for _ in range(2):
        with suppress(OSError):
            descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600, dir_fd=directory)
            found = os.fstat(descriptor)
            if _is_ours_alone(found):
                os.fchmod(descriptor, 0o600)  # whoever may open it could hold it
                return descriptor
            os.close(descriptor)
        _remove(directory, LOCK)
    return os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=directory)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ours_alone(found: os.stat_result) -> bool:
    """A regular file of ours that has no other name."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None


def _remove(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _after_header(data: bytes) -> int:
    if not data.startswith(HEADER):
        raise Damaged(0, "it is no file of routes of this version")
    return len(HEADER)


def _size(directory: int, name: str) -> int:
    found = _stat(directory, name)
    return 0 if found is None else found.st_size
