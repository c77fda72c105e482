"""Safe access to the files in the directory of routes.

Other users may be able to write in the directory. So no link is followed, and no FIFO blocks; only a file of our
user or of root is read; only a file of our user, with no other name, is written to; any other is replaced.
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

MERGED, NEW, TABLE, LOCK, COMING = FILES = ("routes", "routes.new", "routes.table", "routes.lock", "routes.coming")
"The names of all files in the directory."
LOCK_TIMEOUT: Final = 5.0
"Seconds to wait for another writer."
SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open this directory, and return its descriptor: file operations use it, whatever the path leads to later."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def locked(directory: int, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the writers' lock of this directory. Raises OSError when another process holds it for `timeout`
    seconds."""
    lock = _open_lock(directory)
    try:
        deadline = time.monotonic() + timeout
        while not _is_locked(lock):
            if time.monotonic() >= deadline:
                why = f"another process has held it for {timeout:g} s"
                raise TimeoutError(errno.ETIMEDOUT, why, LOCK)
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def replace_file(directory: int, name: str, pieces: Iterable[bytes]) -> None:
    """Write a new file completely, and rename it to `name`. The caller holds the lock. Raises OSError."""
    remove_file(directory, COMING)
    coming = os.open(COMING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=directory)
    with open(coming, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    os.replace(COMING, name, src_dir_fd=directory, dst_dir_fd=directory)


def content_of(directory: int, name: str) -> bytes:
    """The content of this file; empty when it is missing. Raises OSError, also when it is no regular file, or
    belongs to another user."""
    try:
        descriptor = os.open(name, os.O_RDONLY | SAFELY, dir_fd=directory)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file", name)
        if found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EACCES, f"belongs to user {found.st_uid}", name)
        return file.read()


def is_ours_alone(found: os.stat_result) -> bool:
    """Whether this is a regular file of our user that has no other name."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def status_of(directory: int, name: str) -> os.stat_result | None:
    """The status of this file, of a link itself; None when it is missing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None


def remove_file(directory: int, name: str) -> None:
    """Remove this file, if it exists. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _open_lock(directory: int) -> int:
    for _ in range(2):
        with suppress(OSError):
            descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | SAFELY, 0o600, dir_fd=directory)
            found = os.fstat(descriptor)
            if is_ours_alone(found):
                os.fchmod(descriptor, 0o600)  # a process that may open it could hold the lock
                return descriptor
            os.close(descriptor)
        remove_file(directory, LOCK)
    return os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=directory)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
