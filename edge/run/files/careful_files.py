"""The files in the directory of routes, each opened with care.

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

MERGED, NEW, TABLE, LOCK, COMING = FILES = ("routes", "routes.new", "routes.table", "routes.lock", "routes.coming")
"What there may be in the directory."
LOCK_PATIENCE: Final = 5.0
"Seconds that another writer may take."
SAFELY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Whatever its path leads to meanwhile, this is the directory that is worked in."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def locked(directory: int, timeout: float = LOCK_PATIENCE) -> Iterator[None]:
    """Raises OSError when another writer takes too long, or somebody holds the lock for the sake of it."""
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
    """Written whole, and renamed into place. The caller holds the lock. Raises OSError."""
    remove_file(directory, COMING)
    coming = os.open(COMING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=directory)
    with open(coming, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    os.replace(COMING, name, src_dir_fd=directory, dst_dir_fd=directory)


def content_of(directory: int, name: str) -> bytes:
    """Empty when there is none. Raises OSError, also when it is not to be believed."""
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
    """A regular file of ours that has no other name."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def status_of(directory: int, name: str) -> os.stat_result | None:
    """None when there is none."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None


def remove_file(directory: int, name: str) -> None:
    """If it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _open_lock(directory: int) -> int:
    for _ in range(2):
        with suppress(OSError):
            descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | SAFELY, 0o600, dir_fd=directory)
            found = os.fstat(descriptor)
            if is_ours_alone(found):
                os.fchmod(descriptor, 0o600)  # whoever may open it could hold it
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
