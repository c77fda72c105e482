"""Incremental parser of server-sent events (WHATWG HTML, section 9.2.6: "Interpreting an event stream").

Pieces of bytes go in, complete events come out. There is no timeout here: the reader of the stream must notice that
it is silent for too long. Comments serve as keep-alives and are ignored.
"""

import re
from typing import Final, NamedTuple

MOST: Final = 64 * 1024
"Bytes of one event."
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_SENDABLE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]{,1024}")
"An id that can be sent in Last-Event-ID (RFC 9110, section 5.5), and that is not too long for it."


class Event(NamedTuple):
    """One event. `name` is "message" if the stream gives none."""

    name: str
    data: bytes


class TooLong(ValueError):
    """An event of more than `MOST` bytes."""


class EventStream:
    """The parser state of one stream."""

    __slots__ = ("_begun", "_data", "_left", "_name", "_size", "last_id")

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        'Id of the last event, to resume after it; "" = there was none, or none that can be sent.'
        self._left = b""
        "The beginning of a line that is not complete."
        self._begun = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """Parse a piece of the stream. Returns the events that it completes. Raises TooLong."""
        text = self._left + piece
        if not self._begun:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._left = text
                return []
            text, self._begun = text.removeprefix(b"\xef\xbb\xbf"), True
        if text.endswith(b"\r"):  # perhaps half of a CRLF
            text, half = text[:-1], b"\r"
        else:
            half = b""
        *lines, rest = _LINE_END.split(text)
        self._left = rest + half
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._left) + self._size > MOST:
            raise TooLong(f"an event of more than {MOST} bytes")
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._event()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self.last_id = value.decode("utf-8", "replace") if _SENDABLE.fullmatch(value) else ""
        return None

    def _event(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, b"\n".join(data)) if data else None
