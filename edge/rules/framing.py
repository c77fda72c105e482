"""How a body ends, and which heads are refused because nobody can be sure.

One source of truth for both directions (RFC 9112, section 6). A request on which two readers could disagree
is refused, not guessed: that disagreement is what request smuggling lives on. The C parser checks the
syntax of a head; the *meaning* of its fields is decided here and nowhere else.

A body is read by one of three small machines with the same two words: `feed(data)` returns the payload
pieces and the bytes after the end, `done` tells whether the end was seen.
"""

import re
from enum import Enum
from typing import Protocol

from edge.rules.outcomes import Cause

Found = dict[bytes, list[bytes]]
"Values of the fields that styx reads itself, by lower-case name, in the order of the wire."


class Refusal(Exception):
    """A request that is answered by the edge itself: `cause` is a row of VERDICTS, the text is for the log."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(why)
        self.cause = cause


class BadAnswer(Exception):
    """An answer that cannot be trusted; its connection must be closed and never used again."""


class Framing(Enum):
    """How the end of a body is marked on the wire."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Body(Protocol):
    """What reads a body off the wire."""

    done: bool

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Payload pieces in `data`, and what follows the end of the body."""


class LengthBody:
    """A body of announced length (RFC 9112, section 6.2). Length 0 is the absent body."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return [data], b""
        end = self.left
        self.left = 0
        self.done = True
        return ([data[:end]] if end else []), data[end:]


class CloseBody:
    """A body that lasts until the connection ends (RFC 9112, section 6.3, rule 8). Answers only."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        return [data], b""


# Sixteen digits hold any 64-bit size. RFC 9112 allows blanks before an extension; readers differ on them.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
MAX_CHUNK_LINE = 256
"Bytes of a chunk-size line with its extensions. Nobody uses extensions; attackers do (CVE-2023-39326)."
MAX_TRAILERS = 16 * 1024


class ChunkedBody:
    """The chunked transfer coding (RFC 9112, section 7.1), read strictly. Extensions and trailers are dropped."""

    __slots__ = ("_held", "_left", "_reads", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._reads = self._size
        self._held = b""
        self._left = 0
        self._trailers = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Raises ValueError when the coding is broken."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            after = self._reads(data, at, pieces)
            if after < 0:
                self._held = data[at:]
                return pieces, b""
            at = after
            if at == len(data) and not self.done:
                return pieces, b""
        return pieces, data[at:]

    # Each state takes what it can from `at` on; it returns where it stopped, or -1 when it needs more bytes.

    def _size(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        end = _line_end(data, at, MAX_CHUNK_LINE)
        if end < 0:
            return -1
        match = _CHUNK_LINE.fullmatch(data, at, end)
        if match is None:
            raise ValueError("chunk size is not a hexadecimal number")
        self._left = int(match[1], 16)
        self._reads = self._data if self._left else self._trailer
        return end + 2

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._reads = self._data_end
        return at + len(piece)

    def _data_end(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        ending = data[at : at + 2]
        if not b"\r\n".startswith(ending):
            raise ValueError("chunk is longer than its size")
        if len(ending) < 2:
            return -1
        self._reads = self._size
        return at + 2

    def _trailer(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        end = _line_end(data, at, MAX_TRAILERS - self._trailers)
        if end < 0:
            return -1
        if end == at:
            self.done = True
        elif _TRAILER_LINE.fullmatch(data, at, end) is None:
            raise ValueError("bad trailer field")
        self._trailers += end + 2 - at
        return end + 2


def _line_end(data: bytes, at: int, most: int) -> int:
    """Where the CRLF of the line at `at` stands; -1 = not here yet."""
    end = data.find(b"\r\n", at, at + most + 2)
    if end < 0 and len(data) - at > most + 1:  # one more: it may be the CR
        raise ValueError("line too long in chunked body")
    return end


NO_BODY = LengthBody(0)
"Shared: a finished body keeps no state."

_AUTHORITY = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]*)(?:[/?].*)?", re.IGNORECASE | re.DOTALL)


def _length(values: list[bytes]) -> int | None:
    value = values[0]
    # bytes.isdigit knows ASCII digits only. Sixteen of them hold any size that there is.
    return int(value) if len(values) == 1 and len(value) <= 16 and value.isdigit() else None


_ABSENT = (Framing.NONE, 0)
# Looking up a member of an Enum takes CPython 3.11 75 ns.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


def request_framing(found: Found, minor: int) -> tuple[Framing, int]:
    """How the body of a request ends, and its length (RFC 9112, section 6.3). Raises Refusal."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise Refusal(Cause.BAD_REQUEST, "both Content-Length and Transfer-Encoding")
        if minor == 0:
            raise Refusal(Cause.BAD_REQUEST, "Transfer-Encoding in an HTTP/1.0 request")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Refusal(Cause.NOT_IMPLEMENTED, "a transfer coding other than one final chunked")
        return _CHUNKED, 0
    if lengths is None:
        return _ABSENT
    length = _length(lengths)
    if length is None:
        raise Refusal(Cause.BAD_REQUEST, "Content-Length is not one decimal number")
    return _LENGTH, length


def answer_framing(found: Found, *, status: int, minor: int, to_head: bool) -> tuple[Framing, int]:
    """How the body of an answer ends, and its length (RFC 9112, section 6.3). Raises BadAnswer."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if lengths is not None and codings is not None:
        raise BadAnswer("both Content-Length and Transfer-Encoding")
    length = 0
    if lengths is not None:
        announced = _length(lengths)
        if announced is None:
            raise BadAnswer("Content-Length is not one decimal number")
        length = announced
    if to_head or status < 200 or status in (204, 304):
        return _NONE, length
    if codings is not None:
        if minor == 0 or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadAnswer("a transfer coding other than one final chunked")
        return _CHUNKED, 0
    if lengths is not None:
        return _LENGTH, length
    return _CLOSE, 0


def body_of(framing: Framing, length: int) -> Body:
    """The machine that reads a body framed like this."""
    if framing is _CHUNKED:
        return ChunkedBody()
    if framing is _CLOSE:
        return CloseBody()
    return LengthBody(length) if length and framing is _LENGTH else NO_BODY


def check_target(method: bytes, target: bytes, host: bytes) -> None:
    """Refuse a request target that is not what its method allows (RFC 9112, section 3.2). Raises Refusal."""
    if target[:1] == b"/" and method != b"CONNECT":
        return
    if method == b"CONNECT":
        raise Refusal(Cause.NOT_IMPLEMENTED, "CONNECT is for forward proxies")
    if target == b"*":
        if method != b"OPTIONS":
            raise Refusal(Cause.BAD_REQUEST, "* is a target of OPTIONS only")
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Refusal(Cause.BAD_REQUEST, "the request target is neither a path nor an absolute URL")
    if absolute[1].lower() != host.lower():
        raise Refusal(Cause.BAD_REQUEST, "the request target names another host than Host")


def hostname_of(hosts: list[bytes] | None) -> str:
    """The hostname that a request is for: lower case, no port, no trailing dot. Raises Refusal."""
    if not hosts or not hosts[0]:
        raise Refusal(Cause.EMPTY_HOST, "no Host")
    if len(hosts) > 1:
        raise Refusal(Cause.BAD_REQUEST, "more than one Host")
    match = _AUTHORITY.fullmatch(hosts[0])
    if match is None:
        raise Refusal(Cause.BAD_REQUEST, "Host is not a hostname with an optional port")
    return match[1].decode("ascii").lower().removesuffix(".")
