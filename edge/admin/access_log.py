"""The access log: one JSON line for every exchange, its keys the field names of `Outcome`.

    write ─► batch ──(full, or each second)──► queue ─► thread ─► file, pipe or terminal
     loop     loop                            bounded

A log must never hold up a request. Standard output is often a pipe, whose reader may be slow or stopped, and
a disk may hang: both block the writer. Two ways out were rejected. O_NONBLOCK belongs to the open file
description, which stdout shares with the shell and with every other process of the container: setting it
breaks *their* writes. And for a regular file it means nothing: those always block. So a small thread writes,
and `os.write` lets go of the interpreter lock while it waits. What waits for the thread is bounded; beyond
that, lines are dropped and counted.
"""

import asyncio
import os
import select
import stat
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from queue import SimpleQueue
from threading import Thread

import msgspec
import structlog

from edge.rules.outcomes import Outcome

BATCH = 128 * 1024
"Bytes that wait on the loop's side before they are handed over: some 250 lines, for two changes of thread."
PIPE_BUF = select.PIPE_BUF
"Up to here a write to a pipe is atomic (pipe(7)), so that lines of several workers do not mix."
NEWLINE = ord("\n")


class _Order(Enum):
    REOPEN = "reopen"
    STOP = "stop"


class LogFile:
    """The thread and what it writes to.

    `handed` is counted by the loop and the rest by the thread. No number has two writers, so none has a lock.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._fd = -1
        self._whole = True
        self._torn = False
        self._orders: SimpleQueue[bytearray | _Order] = SimpleQueue()
        self._thread = Thread(target=self._run, name="styx-access-log", daemon=True)
        self._handed = 0
        self._gone = 0
        self.written = 0
        "Lines."
        self.lost = 0
        "Lines that the system did not take: disk full, reader gone."

    @property
    def waiting(self) -> int:
        """Bytes that the thread has not yet got rid of."""
        return self._handed - self._gone

    def open(self) -> None:
        """Open the target and start to write. An OSError means that the target is not usable."""
        self._set_fd(self._opened())
        self._thread.start()

    def hand_over(self, batch: bytearray) -> None:
        self._handed += len(batch)
        self._orders.put(batch)

    def reopen(self) -> None:
        self._orders.put(_Order.REOPEN)

    def close(self, patience: float) -> None:
        """Write what waits and close, but give up after `patience` seconds: the reader may never read."""
        self._orders.put(_Order.STOP)
        if self._thread.is_alive():
            self._thread.join(patience)

    def _opened(self) -> int:
        if self._target == "-":
            return os.dup(1)
        # A FIFO that nobody reads yet would block a write-only open; opened both ways it just fills up.
        fifo = os.path.exists(self._target) and stat.S_ISFIFO(os.stat(self._target).st_mode)
        access = os.O_RDWR if fifo else os.O_WRONLY
        return os.open(self._target, access | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _set_fd(self, fd: int) -> None:
        self._fd = fd
        # Appending to a regular file is atomic at any length, to anything else only in small pieces.
        self._whole = stat.S_ISREG(os.fstat(fd).st_mode)

    # -- everything below runs in the thread ------------------------------------------------------

    def _run(self) -> None:
        while (order := self._orders.get()) is not _Order.STOP:
            if order is _Order.REOPEN:
                self._replace()
            elif isinstance(order, bytearray):
                for piece in self._pieces(order):
                    self._write(piece)
                self._gone += len(order)
        os.close(self._fd)

    def _replace(self) -> None:
        try:
            fresh = self._opened()
        except OSError as error:
            structlog.get_logger().error("access log not reopened", target=self._target, error=str(error))
            return
        os.close(self._fd)
        self._torn = False
        self._set_fd(fresh)

    def _pieces(self, batch: bytearray) -> Iterator[bytearray]:
        if self._whole:
            yield batch
            return
        start = 0
        while start < len(batch):
            end = batch.rfind(NEWLINE, start, start + PIPE_BUF) + 1 or batch.find(NEWLINE, start) + 1
            yield batch[start:end]
            start = end

    def _write(self, piece: bytearray) -> None:
        data = b"\n" + piece if self._torn else bytes(piece)
        sent = 0
        # Disk full, reader gone: the lines are lost, and the next ones may have better luck.
        with suppress(OSError):
            while sent < len(data):
                sent += self._write_some(data[sent:])
        if sent:
            self._torn = data[sent - 1] != NEWLINE
        lines = piece.count(NEWLINE)
        missing = min(lines, data[sent:].count(NEWLINE))
        self.lost += missing
        self.written += lines - missing

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # Somebody who shares the description has made it non-blocking: wait all the same.
            room = select.poll()
            room.register(self._fd, select.POLLOUT)
            room.poll()
            return 0


class AccessLog:
    """Where outcomes are written. `target`: "-" = standard output, "" = off, else a path.

    At most `buffer` bytes wait in memory (256 KiB, two batches, at the least).
    """

    def __init__(self, target: str, *, buffer: int = 1024 * 1024, interval: float = 1.0) -> None:
        self._file = LogFile(target) if target else None
        self._encode_into = msgspec.json.Encoder().encode_into
        self._batch = bytearray()
        self._room = max(buffer - BATCH, BATCH)
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._dropped = 0

    @property
    def written(self) -> int:
        """Lines that reached the target."""
        return self._file.written if self._file else 0

    @property
    def dropped(self) -> int:
        """Lines that did not: no room, or refused by the system."""
        return self._dropped + (self._file.lost if self._file else 0)

    def start(self) -> None:
        """Open the target (OSError: not usable) and flush every `interval` seconds of the running loop.

        The thread begins here: call it after the last fork.
        """
        if self._file is None:
            return
        self._file.open()
        self._arm()

    def write(self, outcome: Outcome) -> None:
        """Add one line."""
        if self._file is None:
            return
        batch = self._batch
        start = len(batch)
        # Encoded behind the lines that wait, into the same memory: 0.2 µs cheaper than a bytes object each.
        try:
            self._encode_into(outcome, batch, -1)
        except UnicodeEncodeError:
            del batch[start:]
            self._encode_into(_printable(outcome), batch, -1)
        batch.append(NEWLINE)
        if len(batch) >= BATCH:
            self._full()

    def flush(self) -> None:
        """Hand over what waits, if there is room for it."""
        if self._file is not None and self._batch and self._file.waiting + len(self._batch) <= self._room:
            self._file.hand_over(self._batch)
            self._batch = bytearray()

    def reopen(self) -> None:
        """For log rotation: what was written goes to the old file, the rest to a new one."""
        if self._file is not None:
            self.flush()
            self._file.reopen()

    def close(self, patience: float = 1.0) -> None:
        """Write what waits; the last deed of a worker. Blocks for up to `patience` seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            self.flush()
            self._file.close(patience)

    def _full(self) -> None:
        self.flush()
        if len(self._batch) >= BATCH:
            self._dropped += self._batch.count(NEWLINE)
            self._batch.clear()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self.flush()
        self._arm()


def _printable(outcome: Outcome) -> Outcome:
    """JSON cannot hold lone surrogates (bytes that were no UTF-8): they become the text `\\udcff`."""
    texts = {name: getattr(outcome, name) for name in ("id", "client", "method", "host", "target")}
    clean = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(outcome, **clean)
