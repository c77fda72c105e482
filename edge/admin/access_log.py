"""The access log: one line for every exchange; in JSON its keys are the field names of `Outcome`.

    write ─► batch ──(full, or each second)──► queue ─► thread ─► file, pipe, terminal or syslog
     loop     loop                            bounded

A log must never hold up a request. Standard output is often a pipe, whose reader may be slow or stopped, and
a disk may hang: both block the writer. Two ways out were rejected. O_NONBLOCK belongs to the open file
description, which stdout shares with the shell and with every other process of the container: setting it
breaks *their* writes. And for a regular file it means nothing: those always block. So a small thread writes,
and `os.write` lets go of the interpreter lock while it waits. What waits for the thread is bounded; beyond
that, lines are dropped and counted.
"""

import asyncio
import signal
from enum import Enum
from queue import SimpleQueue
from threading import Thread

import structlog

from edge.admin.log_formats import appender, shortened
from edge.admin.log_sinks import NEWLINE, NO_LIMIT, LogSink, target_for
from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import Request
from edge.rules.settings import AccessLogSettings

BATCH = 128 * 1024
"Bytes that wait on the loop's side before they are handed over: some 250 lines, for two changes of thread."

log = structlog.get_logger("styx.access_log")


class _Order(Enum):
    REOPEN = "reopen"
    STOP = "stop"


class LogThread:
    """The thread that writes to the target.

    `handed` is counted by the loop and the rest by the thread. No number has two writers, so none has a lock.
    """

    def __init__(self, name: str, target: LogSink) -> None:
        self._name = name
        self.target = target
        self._orders: SimpleQueue[tuple[bytearray, int] | _Order] = SimpleQueue()
        self._thread = Thread(target=self._run, name="styx-access-log", daemon=True)
        self._handed = 0
        self._gone = 0
        self._lost_since = 0
        "Lines lost since it last worked."
        self.written = 0
        "Lines."
        self.lost = 0
        "Lines that the system did not take: disk full, reader gone."

    @property
    def waiting(self) -> int:
        """Bytes that the thread has not yet got rid of."""
        return self._handed - self._gone

    def open(self) -> None:
        """Open the target and start to write. Raises OSError, with the name in its text: it is not usable."""
        try:
            self.target.open()
        except OSError as error:
            raise OSError(error.errno, f"access_log.path: {error.strerror}: {self._name}") from error
        self._thread.start()

    def hand_over(self, batch: bytearray, lines: int) -> None:
        self._handed += len(batch)
        self._orders.put((batch, lines))

    def reopen(self) -> None:
        self._orders.put(_Order.REOPEN)

    def close(self, patience: float) -> None:
        """Write what waits and close, but give up after `patience` seconds: the reader may never read."""
        self._orders.put(_Order.STOP)
        if self._thread.is_alive():
            self._thread.join(patience)

    # -- everything below runs in the thread ------------------------------------------------------

    def _run(self) -> None:
        # Signals are for the main thread. The master ends a process that was stopped by SIGABRT and SIGCONT: were
        # that taken here, the loop would run on meanwhile, and accept what dies with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (order := self._orders.get()) is not _Order.STOP:
            if order is _Order.REOPEN:
                self._reopen()
            elif isinstance(order, tuple):
                batch, lines = order
                lost, why = self._written(batch, lines)
                self._tell(lost, why)
                self.lost += lost
                self.written += lines - lost
                self._gone += len(batch)
        self.target.close()

    def _written(self, batch: bytearray, lines: int) -> tuple[int, str]:
        """How many lines were lost, and why. A fault of ours costs a batch, and does not end the thread."""
        try:
            return self.target.write(batch), self.target.error
        except Exception as error:
            return lines, f"{type(error).__name__}: {error}"

    def _reopen(self) -> None:
        try:
            self.target.reopen()
        except Exception as error:
            log.error(
                "access log not reopened", code="access_log_not_reopened", target=self._name, error=str(error)
            )

    def _tell(self, lost: int, why: str) -> None:
        """Once when it begins to fail, and once when it works again."""
        if lost and not self._lost_since:
            log.error("access log lines lost", code="access_log_lines_lost", target=self._name, error=why)
        elif not lost and self._lost_since:
            log.warning(
                "access log working again", code="access_log_restored", target=self._name, lost=self._lost_since
            )
            self._lost_since = 0
        self._lost_since += lost


class AccessLog:
    """Where outcomes are written.

    At most `buffer` bytes wait in memory (256 KiB, two batches, at the least).
    """

    def __init__(self, settings: AccessLogSettings) -> None:
        target = target_for(settings)
        self._thread = LogThread(settings.path, target) if target is not None else None
        self._append = appender(settings.format)
        self._longest = NO_LIMIT
        self._batch = bytearray()
        self._lines = 0
        "In the batch. To count them in the thread would keep the loop waiting for the interpreter's lock."
        self._room = max(settings.buffer - BATCH, BATCH)
        self._interval = settings.flush_interval
        self._timer: asyncio.TimerHandle | None = None
        self._dropped = 0

    @property
    def written(self) -> int:
        """Lines that reached the target."""
        return self._thread.written if self._thread else 0

    @property
    def dropped(self) -> int:
        """Lines that did not: no room, or refused by the system."""
        return self._dropped + (self._thread.lost if self._thread else 0)

    def start(self) -> None:
        """Open the target (OSError: not usable) and flush every `interval` seconds of the running loop.

        The thread begins here: call it after the last fork.
        """
        if self._thread is None:
            return
        self._thread.open()
        self._longest = self._thread.target.longest
        self._arm()

    def write(self, outcome: Outcome, request: Request | None = None) -> None:
        """Add one line."""
        if self._thread is None:
            return
        batch = self._batch
        self._lines += 1
        if self._longest != NO_LIMIT:
            self._append_short(outcome, request, batch)
            return
        # Encoded behind the lines that wait, into the same memory: 0.2 µs cheaper than a bytes object each.
        self._append(outcome, request, batch)
        batch.append(NEWLINE)
        if len(batch) >= BATCH:
            self._full()

    def _append_short(self, outcome: Outcome, request: Request | None, batch: bytearray) -> None:
        """The target takes no line that is longer than so much."""
        start = len(batch)
        self._append(outcome, request, batch)
        if len(batch) - start >= self._longest:
            batch[start:] = shortened(self._append, outcome, request, self._longest - 1)
        batch.append(NEWLINE)
        if len(batch) >= BATCH:
            self._full()

    def flush(self) -> None:
        """Hand over what waits, if there is room for it."""
        if self._thread is not None and self._batch and self._thread.waiting + len(self._batch) <= self._room:
            self._hand_over(self._thread)

    def _hand_over(self, thread: LogThread) -> None:
        thread.hand_over(self._batch, self._lines)
        self._batch = bytearray()
        self._lines = 0

    def reopen(self) -> None:
        """For log rotation: what was written goes to the old file, the rest to a new one."""
        if self._thread is not None:
            self.flush()
            self._thread.reopen()

    def close(self, patience: float = 1.0) -> None:
        """Write what waits; the last deed of a worker. Blocks for up to `patience` seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            if self._batch:  # nothing comes behind it, so there is room
                self._hand_over(self._thread)
            self._thread.close(patience)

    def _full(self) -> None:
        self.flush()
        if len(self._batch) >= BATCH:
            self._dropped += self._lines
            self._batch.clear()
            self._lines = 0

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._arm()  # first: a flush that fails must not be the last
        self.flush()
