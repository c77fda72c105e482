"""Server-sent events, read as they come (WHATWG HTML, section 9.2.6: "Interpreting an event stream").

One piece of bytes after the other goes in, whole events come out. Nothing here waits or keeps time: that a stream
is silent for too long is for who reads it to notice; a comment is a sign of life and nothing else.
"""

import re
from typing import NamedTuple

MOST = 64 * 1024
"Bytes of one event."
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """One event. `name` is "message" where none was given."""

    name: str
    data: bytes


class TooLong(ValueError):
    """An event of more than `MOST` bytes."""


class EventStream:
    """Where one stream is."""

    __slots__ = ("_begun", "_data", "_left", "_name", "_size", "last_id")

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        'Id of the last event, to go on from there; "" = there was none.'
        self._left = b""
        "A line that is not whole."
        self._begun = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are whole now. Raises TooLong."""
        text = self._left + piece
        if not self._begun:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._left = text
                return []
            text, self._begun = text.removeprefix(b"\xef\xbb\xbf"), True
        if text.endswith(b"\r"):  # perhaps half of a line's end
            text, kept = text[:-1], b"\r"
        else:
            kept = b""
        *lines, rest = _LINE_END.split(text)
        self._left = rest + kept
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
            self.last_id = value.decode("utf-8", "replace")
        return None

    def _event(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, b"\n".join(data)) if data else None
