"""Keeps the last lines of a process's event log for the status page, bounded in number and in size, and sends those
of the master to the admin process."""

import logging
from collections import deque
from typing import Final

from edge.rules.environment_status_records import RecentEvent

MOST_EVENTS: Final = 50
LONGEST_TEXT: Final = 200
LONGEST_FIELDS: Final = 400
_NOT_FIELDS: Final = frozenset(
    {"event", "level", "logger", "timestamp", "by", "code", "exception", "exc_info", "_record", "_from_structlog"}
)
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "code"}
"Attributes that every record of the standard library has."


class RecentEvents(logging.Handler):
    """A handler of the root logger that keeps the last events. `by`: the name of this process."""

    def __init__(self, by: str, most: int = MOST_EVENTS) -> None:
        super().__init__(logging.INFO)
        self.by = by
        self._events: deque[RecentEvent] = deque(maxlen=most)
        self._count = 0
        "Events since the process was started."

    def install(self) -> None:
        """Keep the events from now on."""
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, dict):  # of structlog
            data = record.msg
            text, code = str(data.get("event", "")), str(data.get("code", ""))
            fields = {name: value for name, value in data.items() if name not in _NOT_FIELDS}
        else:
            text, code = record.getMessage(), str(getattr(record, "code", ""))
            fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        self._count += 1
        self._events.append(
            RecentEvent(
                record.created,
                record.levelname.lower(),
                self.by,
                text[:LONGEST_TEXT],
                code,
                words[:LONGEST_FIELDS],
            )
        )

    @property
    def events(self) -> list[RecentEvent]:
        """The events that are kept, the oldest first."""
        return list(self._events)

    def since(self, count: int) -> tuple[list[RecentEvent], int]:
        """The events that are kept and came after the first `count`, and how many there have been in all."""
        new = min(self._count - count, len(self._events))
        return (list(self._events)[-new:] if new else []), self._count


class EventRelay:
    """Decides which events of the master are still to be sent to the admin process: each once; to one that has just
    been started, all that are kept."""

    def __init__(self, events: RecentEvents) -> None:
        self._events = events
        self._receiver = 0
        "Process id of the admin process that has been sent events."
        self._sent = 0

    def take_new(self, receiver: int) -> list[RecentEvent]:
        """The events to send now to this process; they count as sent."""
        if receiver != self._receiver:
            self._receiver, self._sent = receiver, 0
        events, self._sent = self._events.since(self._sent)
        return events
