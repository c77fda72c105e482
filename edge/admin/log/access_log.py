"""The access log: one line for every exchange; in JSON its keys are the field names of `Outcome`, and constants.

    write ─► batch ──(full, or each second)──► queue ─► thread ─► file, pipe, terminal or syslog
     loop     loop                            bounded

The log must not block requests. Standard output is often a pipe whose reader is slow or stopped, and a disk may
hang: both block the writer. O_NONBLOCK does not help. It belongs to the open file description, which stdout shares
with the shell and with every other process of the container, so setting it breaks *their* writes; and it has no
effect on a regular file, which always blocks. So a thread writes: `os.write` releases the interpreter lock (GIL)
while it waits. The queue in front of the thread is bounded; lines that do not fit are dropped and counted.
"""

import asyncio
import signal
from collections.abc import Callable
from enum import Enum
from queue import SimpleQueue
from random import random
from threading import Thread
from typing import Final

import msgspec
import structlog

from edge import BUILD
from edge.admin.log import log_sinks
from edge.admin.log.line_writers import line_writer, plain_json_end
from edge.admin.log.log_formats import DEL, escaped_json, shortened
from edge.admin.log.log_sinks import LogSink, target_for
from edge.rules.exchange_observers import LineLog
from edge.rules.exchange_records import DetailedOutcome, Outcome
from edge.rules.http.head_validation import Request, Response
from edge.rules.log.usual_lines import UsualLines
from edge.rules.outcomes import Cause
from edge.rules.settings import AccessLogSettings

BATCH: Final = 128 * 1024
"Bytes of one batch, collected by the loop before they are queued: some 250 lines for two thread switches."

_OK: Final = Cause.OK
_encode_into: Final = msgspec.json.Encoder().encode_into
NEWLINE: Final = log_sinks.NEWLINE
NO_LIMIT: Final = log_sinks.NO_LIMIT

log = structlog.get_logger("styx.access_log")


class _Command(Enum):
    REOPEN = "reopen"
    STOP = "stop"


class LogThread:
    """The thread that writes to the target.

    The loop counts `_queued`, the thread all other numbers. No number has two writers, so none needs a lock.
    """

    def __init__(self, name: str, target: LogSink) -> None:
        self._name = name
        self.target = target
        self._queue: SimpleQueue[tuple[bytearray, int] | _Command] = SimpleQueue()
        self._writer_thread = Thread(target=self._run, name="styx-access-log", daemon=True)
        self._queued = 0
        "Bytes queued since the start."
        self._processed = 0
        "Bytes written or lost since the start."
        self._lost_since = 0
        "Lines lost since the last successful write."
        self.written = 0
        "Lines written."
        self.lost = 0
        "Lines that the system did not accept: disk full, reader gone."

    @property
    def waiting(self) -> int:
        """Bytes queued that the thread has not processed yet."""
        return self._queued - self._processed

    def open(self) -> None:
        """Open the target and start the thread. Raises OSError, with the target's name in its text."""
        try:
            self.target.open()
        except OSError as error:
            raise OSError(error.errno, f"access_log.path: {error.strerror}: {self._name}") from error
        self._writer_thread.start()

    def enqueue(self, batch: bytearray, lines: int) -> None:
        """Queue a batch of this many lines. The thread owns `batch` from now on."""
        self._queued += len(batch)
        self._queue.put((batch, lines))

    def reopen(self) -> None:
        """Reopen the target after the batches that are queued."""
        self._queue.put(_Command.REOPEN)

    def close(self, timeout: float) -> None:
        """Write what is queued and close. Give up after `timeout` seconds: the reader may never read."""
        self._queue.put(_Command.STOP)
        if self._writer_thread.is_alive():
            self._writer_thread.join(timeout)

    # -- everything below runs in the thread ------------------------------------------------------

    def _run(self) -> None:
        # The main thread handles signals. The master ends a stopped process with SIGABRT and SIGCONT. If this
        # thread took the SIGABRT, the loop would run on and accept connections that are lost with the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (item := self._queue.get()) is not _Command.STOP:
            if item is _Command.REOPEN:
                self._reopen()
            elif isinstance(item, tuple):
                batch, lines = item
                lost, why = self._write(batch, lines)
                self._log_transition(lost, why)
                self.lost += lost
                self.written += lines - lost
                self._processed += len(batch)
        self.target.close()

    def _write(self, batch: bytearray, lines: int) -> tuple[int, str]:
        """Write a batch; return how many lines were lost, and why.

        An unexpected exception loses the batch and does not end the thread.
        """
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

    def _log_transition(self, lost: int, why: str) -> None:
        """Log once when writing begins to fail, and once when it works again."""
        if lost and not self._lost_since:
            log.error("access log lines lost", code="access_log_lines_lost", target=self._name, error=why)
        elif not lost and self._lost_since:
            log.warning(
                "access log working again", code="access_log_restored", target=self._name, lost=self._lost_since
            )
            self._lost_since = 0
        self._lost_since += lost


class AccessLog(LineLog):
    """Formats outcomes and queues them for the thread.

    At most `buffer` bytes are kept in memory (at least 256 KiB, which is two batches).
    """

    def __init__(
        self,
        settings: AccessLogSettings,
        *,
        edge: str = "",
        worker: int = 0,
        rand: Callable[[], float] = random,
        has_usual_lines: bool = BUILD == "compiled",
    ) -> None:
        """`edge`, `worker`: of each line. `rand`: uniform in [0, 1), for sampling. `has_usual_lines`: put lines of
        usual exchanges together without a record if the settings allow it. When compiled that saves 6,700 of
        12,000 instructions; in plain Python it costs 2,000 more, because msgspec encodes records in C."""
        target = target_for(settings)
        self._log_thread = LogThread(settings.path, target) if target is not None else None
        self._append = line_writer(settings, edge=edge, worker=worker)
        end = plain_json_end(settings, edge=edge, worker=worker)
        self._json_end = end + b"\n" if end and target is not None else b""
        "What follows the record in each line, if each is a whole record as JSON; else empty."
        self._usual_lines: UsualLines | None = None
        if has_usual_lines and self._json_end and not settings.needs_details:
            self._usual_lines = UsualLines(self._json_end.decode("ascii"))
        self._sampled: float = settings.sample_2xx
        self._rand = rand
        self._longest = NO_LIMIT
        self._batch = bytearray()
        self._record = bytearray()
        "The latest record as JSON."
        self._lines = 0
        "Lines in the batch. Counting them in the thread would make the loop wait for the interpreter lock."
        self._room = max(settings.buffer - BATCH, BATCH)
        self._interval = settings.flush_interval
        self._timer: asyncio.TimerHandle | None = None
        self._dropped = 0

    @property
    def is_on(self) -> bool:
        """Whether lines are written anywhere."""
        return self._log_thread is not None

    @property
    def usual_lines(self) -> UsualLines | None:
        """What makes the lines for `write_line`; None = every exchange is written from its record."""
        return self._usual_lines

    @property
    def written(self) -> int:
        """Lines written to the target."""
        return self._log_thread.written if self._log_thread else 0

    @property
    def dropped(self) -> int:
        """Lines lost: the buffer was full, or the system did not accept them."""
        return self._dropped + (self._log_thread.lost if self._log_thread else 0)

    def start(self) -> None:
        """Open the target and flush it every `flush_interval` seconds of the running loop.

        Starts the thread: call it after the last fork. Raises OSError when the target cannot be opened.
        """
        if self._log_thread is None:
            return
        self._log_thread.open()
        self._longest = self._log_thread.target.longest
        self._arm()

    def write_line(self, line: str) -> bool:
        """Add the line of one exchange; False = it is too long for the target, so it must be written from its
        record."""
        if len(line) > self._longest:
            return False
        batch = self._batch
        batch += line.encode("ascii")
        self._lines += 1
        if len(batch) >= BATCH:
            self._full()
        return True

    def write(self, outcome: Outcome, request: Request | None = None, response: Response | None = None) -> None:
        """Add the line of one exchange."""
        end, record = self._json_end, self._record
        if not end:
            self._write_otherwise(outcome, request, response)
            return
        # Always into the same bytearray, which is seldom too small, where the batch would grow with each line.
        try:
            _encode_into(outcome, record)
            if not record.isascii() or DEL in record:  # rare: the check is made for every request, not the escaping
                record[:] = escaped_json(outcome)
        except UnicodeEncodeError:
            record[:] = escaped_json(outcome)
        record.pop()  # the brace; assigning `end` to a slice takes three times as long
        batch = self._batch
        batch += record
        batch += end
        self._lines += 1
        if len(batch) >= BATCH or len(record) + len(end) > self._longest:
            self._fit(outcome, len(batch) - len(record) - len(end))

    def _write_otherwise(self, outcome: Outcome, request: Request | None, response: Response | None) -> None:
        """Add its line in another format, unless it is one of those with 2xx that sampling leaves out."""
        if self._log_thread is None or (self._sampled < 1.0 and self._is_left_out(outcome)):
            return
        start = len(self._batch)
        self._append(outcome, request, response, self._batch)
        self._batch.append(NEWLINE)
        self._lines += 1
        self._fit(outcome, start)

    def _fit(self, outcome: Outcome, start: int) -> None:
        """Shorten the line that begins at `start` if the target limits their length; queue the batch if it is
        full."""
        batch = self._batch
        if len(batch) - start > self._longest:
            batch[start:] = shortened(self._append, outcome, self._longest - 1)
            batch.append(NEWLINE)
        if len(batch) >= BATCH:
            self._full()

    def _is_left_out(self, outcome: Outcome) -> bool:
        """Whether this is a plain success that sampling leaves out."""
        if not (200 <= outcome.status < 300 and outcome.cause is _OK) or len(outcome.attempts) > 1:
            return False
        if isinstance(outcome, DetailedOutcome) and not outcome.ended:
            return False
        return self._rand() >= self._sampled

    def flush(self) -> None:
        """Queue the batch for the thread, if the buffer has room for it. It has if nothing waits: a batch ends with
        the line that fills it, so it is a little larger than half of the smallest buffer."""
        thread = self._log_thread
        if thread is None or not self._batch:
            return
        waiting = thread.waiting
        if not waiting or waiting + len(self._batch) <= self._room:
            self._enqueue(thread)

    def _enqueue(self, thread: LogThread) -> None:
        thread.enqueue(self._batch, self._lines)
        self._batch = bytearray()
        self._lines = 0

    def reopen(self) -> None:
        """Reopen the target after a log rotation. Earlier lines go to the old file, later ones to a new one."""
        if self._log_thread is not None:
            self.flush()
            self._log_thread.reopen()

    def close(self, timeout: float = 1.0) -> None:
        """Write the buffer and close the target, at the end of a worker. Blocks for up to `timeout` seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if self._log_thread is not None:
            if self._batch:  # the last batch, so the limit of the buffer does not apply
                self._enqueue(self._log_thread)
            self._log_thread.close(timeout)

    def _full(self) -> None:
        self.flush()
        if len(self._batch) >= BATCH:
            self._dropped += self._lines
            self._batch.clear()
            self._lines = 0

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._arm()  # before the flush: the timer must go on after one that fails
        self.flush()
