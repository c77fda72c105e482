"""Reads lines of a log file, to its end or as it grows, also across rotations."""

import os
import time
from collections.abc import Callable, Iterator
from typing import IO, Final, Self

LONGEST: Final = 1 << 20
"Bytes of a line; of a longer one the rest is dropped."
TAIL: Final = 4 << 20
"Bytes before the end in which the last lines are looked for."
PAUSE: Final = 0.25
"Seconds between two looks at a file that does not grow."


def lines_of(file: IO[bytes], longest: int = LONGEST) -> Iterator[bytes]:
    """The lines up to the end, without their newlines."""
    while line := file.readline(longest):
        if not line.endswith(b"\n"):
            while (more := file.readline(longest)) and not more.endswith(b"\n"):
                pass
        yield line.rstrip(b"\n")


class LogFollower:
    """One file, found by its path again and again, as `tail -F` does. A context manager; raises OSError."""

    def __init__(
        self, path: str, *, pause: Callable[[], None] = lambda: time.sleep(PAUSE), tail: int = TAIL
    ) -> None:
        """`pause`: waits until the file is looked at again; an exception that it raises ends following."""
        self._path = path
        self._pause = pause
        self._tail = tail
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        self._file = open(self._path, "rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def all(self) -> Iterator[bytes]:
        """The lines that are there. What is not a whole line yet is left to `follow`."""
        while line := self._file.readline(LONGEST):
            if not line.endswith(b"\n") and len(line) < LONGEST:
                self._file.seek(-len(line), os.SEEK_CUR)
                return
            yield line.rstrip(b"\n")

    def last(self) -> Iterator[bytes]:
        """The lines in the last bytes of the file, but for the first one, which may be cut off."""
        start = os.fstat(self._file.fileno()).st_size - self._tail
        if start > 0:
            self._file.seek(start)
            self._file.readline()
        return self.all()

    def follow(self) -> Iterator[bytes]:
        """The lines from here on, for ever."""
        while True:
            yield from self.all()
            self._pause()
            if self._is_replaced():
                yield from lines_of(self._file)
                self._file.close()
                self._file = open(self._path, "rb")  # noqa: SIM115 - closed by __exit__

    def _is_replaced(self) -> bool:
        """Whether there is another file at the path now, or this one was cut."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False  # between two files of a rotation
        ours = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino) or now.st_size < self._file.tell()
