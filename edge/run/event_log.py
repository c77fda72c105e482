"""The event log: what styx itself has to tell, through structlog, on standard error. Never per request.

Every line says which process it comes from (`by`). Standard error may be a pipe that nobody reads, and nothing may
wait for it: in the children a thread writes, and the master, which has none, looks first whether there is room.
What waits is bounded; the rest is dropped, and counted in the next line.
"""

import logging
import queue
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

import structlog

from edge.rules.settings import LogSettings

OURS = ("styx", "edge")
"Loggers that speak from `log.level` on; those of libraries from warning on."
WAITING = 1000
"Events that may wait for a reader of standard error."


class _Careful(logging.StreamHandler[Any]):
    """Writes when that does not block: to a pipe, when it takes PIPE_BUF bytes (poll(2))."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._room = select.poll()
        self._room.register(sys.stderr, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._room.poll(0):
            self._dropped += 1
            return
        if self._dropped and isinstance(record.msg, dict):
            record.msg["dropped_before"] = self._dropped
        self._dropped = 0
        super().emit(record)


class _Patient(logging.Handler):
    """Hands events to a thread, which waits for the reader."""

    def __init__(self, writer: logging.Handler) -> None:
        super().__init__()
        self.writer = writer
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="styx-event-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._dropped and isinstance(record.msg, dict):
            record.msg["dropped_before"] = self._dropped
        try:
            self._waiting.put_nowait(record)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def finish(self, timeout: float) -> None:
        """Write what waits, if somebody reads it in time."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
            self._thread.join(timeout)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while (record := self._waiting.get()) is not None:
            self.writer.handle(record)


class _Process:
    """Who writes."""

    by = "styx"
    patient: _Patient | None = None


def configure(settings: LogSettings) -> None:
    """Send the events of styx and of its libraries to standard error, as JSON lines or for people."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _by,
    ]
    renderer: structlog.typing.Processor
    if settings.format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    threaded = _Process.patient is not None
    handler = logging.StreamHandler(sys.stderr) if threaded else _Careful()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    if _Process.patient is None:
        root.handlers[:] = [handler]
    else:
        _Process.patient.writer = handler
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    # Others tell what they do all the time, and one that tells of each line of this log would do so for ever.
    root.setLevel(max(level, logging.WARNING))


def this_is(by: str) -> None:
    """What this process is called in its lines."""
    _Process.by = by


def write_in_a_thread() -> None:
    """From now on a thread waits for the reader. Once, behind the fork."""
    root = logging.getLogger()
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(root.handlers[0].formatter)
    _Process.patient = _Patient(plain)
    root.handlers[:] = [_Process.patient]


def finish(timeout: float = 1.0) -> None:
    """Before the end of a process: write what waits."""
    if _Process.patient is not None:
        _Process.patient.finish(timeout)


def _by(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["by"] = _Process.by
    return event
