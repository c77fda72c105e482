"""Targets of the access log: a file, standard output, or syslog. They run in the thread of the log.

Several workers write to the same target without mixing their lines: appending to a regular file is atomic at any
length, writing to a pipe or a terminal up to PIPE_BUF bytes (pipe(7)), and a line of syslog is one datagram.
"""

import os
import select
import socket
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from edge.rules.settings import AccessLogSettings
from edge.rules.settings.values import Address

PIPE_BUF = select.PIPE_BUF
NEWLINE = ord("\n")
NO_LIMIT = 1 << 30
FACILITIES: Final = {f"local{number}": 16 + number for number in range(8)} | {"user": 1, "daemon": 3}
INFO = 6
PAUSE = 1.0
"Seconds between two attempts to reach a syslog daemon that does not run."
DATAGRAM = 4096
"Most bytes of a datagram for syslog: many receivers cut longer ones (RFC 5424, section 6.1, asks for 2048)."


class LogSink(Protocol):
    """A target of the log: writes batches of whole lines."""

    @property
    def longest(self) -> int:
        """Most bytes of one line."""

    def open(self) -> None:
        """Open the target. Raises OSError when it is not usable."""

    def reopen(self) -> None:
        """Reopen the target after a rotation. Raises OSError, and then keeps the old one."""

    def write(self, batch: bytearray) -> int:
        """Write a batch and return how many lines were lost. Waits for a slow reader."""

    def close(self) -> None:
        """Close the target after the last batch."""

    @property
    def error(self) -> str:
        """Why lines were lost the last time; "" = none was lost yet."""


def target_for(settings: AccessLogSettings) -> LogSink | None:
    """The target that the settings ask for; None when there is no access log."""
    if settings.syslog is not None:
        return SyslogTarget(settings.syslog, settings.facility)
    return FileTarget(settings.path) if settings.path else None


class FileTarget:
    """A file, a named pipe, or standard output (`-`)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._is_regular = True
        self._torn = False
        "The last write ended in the middle of a line."
        self.error = ""

    @property
    def longest(self) -> int:
        return NO_LIMIT if self._is_regular else PIPE_BUF

    def open(self) -> None:
        self._set_fd(self._opened())

    def reopen(self) -> None:
        fresh = self._opened()
        os.close(self._fd)
        self._torn = False
        self._set_fd(fresh)

    def close(self) -> None:
        os.close(self._fd)

    def write(self, batch: bytearray) -> int:
        return sum(self._write(piece) for piece in self._pieces(batch))

    def _opened(self) -> int:
        if self._path == "-":
            return os.dup(1)
        # Opening a FIFO without a reader for writing blocks; opened for reading and writing it only fills up.
        fifo = os.path.exists(self._path) and stat.S_ISFIFO(os.stat(self._path).st_mode)
        access = os.O_RDWR if fifo else os.O_WRONLY
        return os.open(self._path, access | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _set_fd(self, fd: int) -> None:
        self._fd = fd
        self._is_regular = stat.S_ISREG(os.fstat(fd).st_mode)

    def _pieces(self, batch: bytearray) -> Iterator[bytearray]:
        if self._is_regular:
            yield batch
            return
        start = 0
        while start < len(batch):
            end = batch.rfind(NEWLINE, start, start + PIPE_BUF) + 1 or batch.find(NEWLINE, start) + 1
            yield batch[start:end]
            start = end

    def _write(self, piece: bytearray) -> int:
        data = b"\n" + piece if self._torn else bytes(piece)
        sent = 0
        # Disk full, reader gone: these lines are lost; the next batch is tried again.
        try:
            while sent < len(data):
                sent += self._write_some(data[sent:])
        except OSError as error:
            self.error = error.strerror or str(error)
        if sent:
            self._torn = data[sent - 1] != NEWLINE
        return min(piece.count(NEWLINE), data[sent:].count(NEWLINE))

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # A process that shares the open file description has made it non-blocking: wait here instead.
            room = select.poll()
            room.register(self._fd, select.POLLOUT)
            room.poll()
            return 0


class SyslogTarget:
    """A syslog daemon, over its Unix socket or UDP, in the old format (RFC 3164), which all daemons read.

    `logging.handlers.SysLogHandler` takes one record of the logging module at a time, costs ten times as much, and
    prints a traceback for each lost record.
    """

    longest = DATAGRAM - 128

    def __init__(self, where: Address, facility: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where = where
        self._priority = FACILITIES[facility] * 8 + INFO
        self._clock = clock
        self._sock: socket.socket | None = None
        self._no_connect_before = 0.0
        # A local daemon adds the name of the machine itself.
        self._host = "" if where.path else f"{socket.gethostname()} "
        self.error = ""

    def open(self) -> None:
        """Do nothing: `write` connects, and tries again while the daemon does not run."""

    def reopen(self) -> None:
        """Do nothing: the daemon rotates its own files."""

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()

    def write(self, batch: bytearray) -> int:
        lines = bytes(batch).splitlines()
        head = f"<{self._priority}>{time.strftime('%b %e %H:%M:%S')} {self._host}styx[{os.getpid()}]: ".encode()
        for number, line in enumerate(lines):
            if not self._send(head + line):
                return len(lines) - number
        return 0

    def _send(self, datagram: bytes) -> bool:
        try:
            sock = self._connect()
            if sock is None:
                return False
            sock.send(datagram)
        except OSError as error:
            self.error = f"{error.strerror or error}: {self._where}"
            self._no_connect_before = self._clock() + PAUSE
            self.close()
            self._sock = None
            return False
        return True

    def _connect(self) -> socket.socket | None:
        if self._sock is None and self._clock() >= self._no_connect_before:
            where = self._where
            family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.connect(where.path or (where.host or "localhost", where.port))
            except OSError:
                sock.close()
                raise
            self._sock = sock
        return self._sock
