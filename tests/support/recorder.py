"""What a raw backend makes of the bytes that it gets: whole requests, or a fault; and how it responds.

It keeps every byte, reads them with `tests/support/strict_reader.py`, and so notices requests that were split,
merged or altered on their way. It knows no transport: bytes go in by `feed`, words go out by `say`.
"""

from collections.abc import Callable

from tests.support.strict_reader import Message, Unfinished, Unreadable, read_request

USUAL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
USUAL_TO_HEAD = USUAL[:-2]
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def usual(message: Message) -> bytes:
    """The usual response to a request."""
    return USUAL_TO_HEAD if message.first[0] == b"HEAD" else USUAL


class Recorder:
    """One connection of a backend. `response` tells what is said to a request that has come whole."""

    def __init__(self, say: Callable[[bytes], None], response: Callable[[Message], bytes]) -> None:
        self.got: list[Message] = []
        "The whole requests."
        self.raw: list[bytes] = []
        "Their bytes."
        self.fault = ""
        "Why what came is no request."
        self.tunnelled = False
        "Behind a 101 there are raw bytes."
        self._say = say
        self._response = response
        self._data = b""
        self._at = 0
        self._told_to_go_on = 0

    @property
    def rest(self) -> bytes:
        """What came behind the last whole request."""
        return self._data[self._at :]

    def feed(self, data: bytes) -> None:
        """More came."""
        self._data += data
        while self._at < len(self._data) and not self.fault and not self.tunnelled:
            begin = self._at
            try:
                message, self._at = read_request(self._data, begin)
            except Unreadable as fault:
                self.fault = f"{fault}: {self.rest!r}"
            except Unfinished as unfinished:
                self._go_on(unfinished.message)
                return
            else:
                self.got.append(message)
                self.raw.append(self._data[begin : self._at])
                words = self._response(message)
                self.tunnelled = words.startswith(b"HTTP/1.1 101 ")
                self._say(words)

    def _go_on(self, head: Message | None) -> None:
        """Once for every request that asks."""
        if head is not None and head.values(b"expect") and self._told_to_go_on <= len(self.got):
            self._told_to_go_on = len(self.got) + 1
            self._say(GO_ON)
