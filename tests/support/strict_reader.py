"""A second opinion: reads HTTP/1.1 messages off raw bytes, as strictly as RFC 9112 lets a reader be.

It shares no code and no method with the edge: lines are split, characters are struck out by tables, numbers
are read by hand. Whatever the edge sends to a backend or to a client must be readable here, and must come to
what this reader finds in the bytes that the edge was given.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

Lines = tuple[tuple[bytes, bytes], ...]

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
DIGITS = b"0123456789"
TCHAR = LETTERS + LETTERS.upper() + DIGITS + b"!#$%&'*+-.^_`|~"
"RFC 9110, section 5.6.2."
VCHAR = bytes(range(0x21, 0x7F))
IN_VALUES = VCHAR + b" \t" + bytes(range(0x80, 0x100))
IN_TARGETS = VCHAR.replace(b"#", b"") + bytes(range(0x80, 0x100))
HEX = DIGITS + b"abcdefABCDEF"


class Unreadable(Exception):
    """These bytes are no message."""


class Unfinished(Exception):
    """So far they may be the beginning of one. `message` is its head, when that is complete."""

    def __init__(self, message: "Message | None" = None) -> None:
        super().__init__("the bytes end within a message")
        self.message = message


@dataclass(frozen=True)
class Message:
    """One message. Of a request `first` is method, target and version, of a response version, status and reason."""

    first: tuple[bytes, bytes, bytes]
    fields: Lines
    body: bytes = b""
    trailers: Lines = ()
    chunked: bool = field(default=False, compare=False)
    interim: tuple["Message", ...] = field(default=(), compare=False)
    "Of a response: the 1xx ones before it."

    @cached_property
    def _by_name(self) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for name, value in self.fields:
            found.setdefault(name.lower(), []).append(value)
        return found

    def values(self, name: bytes) -> list[bytes]:
        """Of the fields of this lower-case name."""
        return self._by_name.get(name, [])

    @property
    def status(self) -> int:
        return int(self.first[1])


def read_request(data: bytes, at: int = 0) -> tuple[Message, int]:
    """The request that begins at `at`, and where it ends."""
    line, fields, at = _head(data, at)
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Unreadable("a request line has three parts")
    method, target, version = parts
    if not method or strange(method, TCHAR):
        raise Unreadable("a method is a token")
    if not target or strange(target, IN_TARGETS):
        raise Unreadable("a target is visible characters")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Unreadable("a version is 1.0 or 1.1")
    message = Message((method, target, version), fields)
    hosts = message.values(b"host")
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise Unreadable("a request has one Host")
    length, chunked = framing(message, version)
    if not chunked and length is None:
        return message, at
    return _with_body(message, data, at, None if chunked else length)


def read_requests(data: bytes) -> tuple[list[Message], bytes]:
    """As many whole requests as there are at the beginning of what a client sends, and what follows them.

    An empty line before each of them is passed over (RFC 9112, section 2.2).
    """
    found: list[Message] = []
    at = 0
    while at < len(data):
        start = at + 2 if data[at : at + 2] == b"\r\n" else at
        try:
            message, at = read_request(data, start)
        except (Unreadable, Unfinished):
            break
        found.append(message)
    return found, data[at:]


def read_response(data: bytes, at: int = 0, *, method: bytes = b"GET", ended: bool = False) -> tuple[Message, int]:
    """The final response that begins at `at`, with the interim ones before it, and where it ends.

    `ended`: nothing follows `data`, which ends a body that has no other end.
    """
    interim: list[Message] = []
    while True:
        line, fields, at = _head(data, at)
        version, _, rest = line.partition(b" ")
        status, blank, reason = rest.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or strange(status, DIGITS):
            raise Unreadable("a status line is a version and three digits")
        if status[:1] == b"0" or strange(reason, IN_VALUES) or (blank and reason[:1] == b" "):
            raise Unreadable("a status is 100 to 999, a reason is text")
        message = Message((version, status, reason), fields, interim=tuple(interim))
        if not 100 <= message.status < 200 or message.status == 101:
            break
        interim.append(message)
    length, chunked = framing(message, version)
    if method == b"HEAD" or message.status in (101, 204, 304):
        return message, at
    if not chunked and length is None:
        if not ended:
            raise Unfinished(message)
        return Message(message.first, fields, data[at:], interim=message.interim), len(data)
    return _with_body(message, data, at, None if chunked else length)


def _head(data: bytes, at: int) -> tuple[bytes, Lines, int]:
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        raise Unfinished
    lines = data[at:end].split(b"\r\n")
    return lines[0], tuple(map(_field, lines[1:])), end + 4


@lru_cache(10_000)
def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or strange(name, TCHAR):
        raise Unreadable("a field is a token, a colon and a value")
    if strange(value, IN_VALUES):
        raise Unreadable("a value is text")
    return name, value.strip(b" \t")


def framing(message: Message, version: bytes) -> tuple[int | None, bool]:
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if codings:
        if lengths or version == b"HTTP/1.0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Unreadable("a body is chunked, once, and nothing else")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not 0 < len(lengths[0]) <= 16 or strange(lengths[0], DIGITS):
        raise Unreadable("a length is one number")
    return int(lengths[0]), False


def _with_body(message: Message, data: bytes, at: int, length: int | None) -> tuple[Message, int]:
    """`length` None: it is chunked."""
    trailers: Lines = ()
    try:
        if length is None:
            message = Message(message.first, message.fields, chunked=True, interim=message.interim)
            body, trailers, at = chunks(data, at)
        else:
            body, at = _exactly(data, at, length), at + length
    except Unfinished:
        raise Unfinished(message) from None
    return Message(message.first, message.fields, body, trailers, length is None, message.interim), at


def chunks(data: bytes, at: int) -> tuple[bytes, Lines, int]:
    body = []
    while True:
        line, at = _line(data, at)
        digits, semicolon, extensions = line.partition(b";")
        if not 0 < len(digits) <= 16 or strange(digits, HEX):
            raise Unreadable("a chunk begins with its size")
        if semicolon and (not extensions.strip(b" \t") or strange(extensions, IN_VALUES)):
            raise Unreadable("an extension is text")
        size = int(digits, 16)
        if not size:
            break
        body.append(_exactly(data, at, size))
        if _exactly(data, at + size, 2) != b"\r\n":
            raise Unreadable("a chunk ends with CRLF")
        at += size + 2
    trailers = []
    while True:
        line, at = _line(data, at)
        if not line:
            return b"".join(body), tuple(trailers), at
        trailers.append(_field(line))


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\n", at)
    if end < 0:
        raise Unfinished
    if end == at or data[end - 1 : end] != b"\r" or data.find(b"\r", at, end) != end - 1:
        raise Unreadable("a line ends with CRLF")
    return data[at : end - 1], end + 1


def _exactly(data: bytes, at: int, size: int) -> bytes:
    if len(data) - at < size:
        raise Unfinished
    return data[at : at + size]


def strange(text: bytes, allowed: bytes) -> bytes:
    """What of it is not allowed."""
    return text.translate(None, allowed)
