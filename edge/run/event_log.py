"""The event log: events of styx itself, through structlog, on standard error. Never one for each request.

Every line names the process that it comes from (`by`). Standard error may be a pipe that nobody reads, and no
process may block on it: in the children a thread writes, and the master, which has no threads, polls for room
first. The queue is bounded; further events are dropped, and the next line has their number (`dropped_before`).
"""

import logging
import queue
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from edge.rules.settings import LogSettings
from edge.run.recent_events import RecentEvents

log = logging.getLogger("styx.log")

OURS = ("styx", "edge")
"Loggers that write from `log.level` on; those of libraries write from warning on."
WAITING = 1000
"Events that may wait for a reader of standard error."


class LogLevelOverride(NamedTuple):
    """A level that an operator has ordered for some time."""

    level: str
    until: float
    "On the monotonic clock."


class _NonBlockingHandler(logging.StreamHandler[Any]):
    """Writes only when that does not block: to a pipe, when it has room for PIPE_BUF bytes (poll(2))."""

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


class _ThreadHandler(logging.Handler):
    """Passes events to a thread, which may block until standard error is read."""

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
        """Write the queued events, if standard error is read within `timeout` seconds."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
            self._thread.join(timeout)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread handles signals
        while (record := self._waiting.get()) is not None:
            self.writer.handle(record)


class _Process:
    """State of this process: its name in the log, its writing thread if it has one, and its level."""

    by = "styx"
    handler: _ThreadHandler | None = None
    configured = "info"
    "The level of the settings."
    override: LogLevelOverride | None = None


def configure(settings: LogSettings) -> None:
    """Write the events of styx and of its libraries to standard error, as JSON lines or as text for people. Ends an
    override of the level."""
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
    threaded = _Process.handler is not None
    handler = logging.StreamHandler(sys.stderr) if threaded else _NonBlockingHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    if _Process.handler is None:
        root.handlers[:] = [handler, *(other for other in root.handlers if isinstance(other, RecentEvents))]
    else:
        _Process.handler.writer = handler
    _Process.configured = settings.level
    _set_level(settings.level)
    end_override()


def override_level(level: str, until: float) -> None:
    """Write from this level on, instead of from `log.level` on, until this time of the monotonic clock: see
    `end_override`. Libraries write from warning on as before."""
    log.warning("log level overridden", extra={"code": "log_level_overridden", "log_level": level})
    _Process.override = LogLevelOverride(level, until)
    _set_level(level)


def follow_order(level: str, seconds: float, now: float) -> None:
    """Override the level for so many seconds; 0 = end the override."""
    if seconds:
        override_level(level, now + seconds)
    else:
        end_override()


def end_override() -> None:
    """Write from `log.level` on again. Does nothing when there is no override."""
    if _Process.override is not None:
        _Process.override = None
        _set_level(_Process.configured)
        log.warning("log level restored", extra={"code": "log_level_restored", "log_level": _Process.configured})


def expire_override(now: float) -> None:
    """End an override whose time is over. Called a few times a second in each process."""
    if _Process.override is not None and now >= _Process.override.until:
        end_override()


def level_now(now: float) -> tuple[str, str, float]:
    """The level from which on this process writes, that of its settings, and for how many seconds they differ."""
    if _Process.override is None:
        return _Process.configured, _Process.configured, 0.0
    return _Process.override.level, _Process.configured, max(0.0, _Process.override.until - now)


def _set_level(name: str) -> None:
    level = logging.getLevelNamesMapping()[name.upper()]
    for ours in OURS:
        logging.getLogger(ours).setLevel(level)
    # Libraries log each step below warning; one that logged each line of this log would do so for ever.
    logging.getLogger().setLevel(max(level, logging.WARNING))


def name_process(by: str) -> None:
    """Set the name of this process in its lines (`by`)."""
    _Process.by = by


def write_in_a_thread() -> None:
    """Write in a thread from now on. Called once, after the fork."""
    root = logging.getLogger()
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(root.handlers[0].formatter)
    _Process.handler = _ThreadHandler(plain)
    root.handlers[:] = [_Process.handler]


def finish(timeout: float = 1.0) -> None:
    """Write the queued events before the process ends, for at most `timeout` seconds."""
    if _Process.handler is not None:
        _Process.handler.finish(timeout)


def _by(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["by"] = _Process.by
    return event
