"""Message framing: how the end of a body is found, and which heads are rejected because it is ambiguous.

Both directions follow the same rules (RFC 9112, section 6). A request that two parsers could frame differently
is rejected, never guessed: request smuggling depends on such a difference. The C parser checks the syntax of a
head; the *meaning* of its framing fields is decided here and nowhere else.

A body is read by one of three small state machines with the same interface: `feed(data)` returns the payload
pieces and the bytes after the end, `done` tells whether the end was seen.
"""

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from edge.rules.http.messages import Fields, RequestHead
from edge.rules.outcomes import Cause

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

FieldValues = dict[bytes, list[bytes]]
"Values of the fields that styx reads itself, by lower-case name, in the order in which they came."


class RejectedRequest(Exception):
    """A request that the edge rejects with a local reply. `cause` is a row of VERDICTS, the text is for the log."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(why)
        self.cause = cause
        self.head: RequestHead | None = None
        "The head, if it could be parsed."


class BadResponse(Exception):
    """A response that cannot be trusted. Its connection must be closed and never reused. `cause` is a row of
    VERDICTS."""

    def __init__(self, why: str, cause: Cause = Cause.BAD_ANSWER) -> None:
        super().__init__(why)
        self.cause = cause


class ResponseTooLarge(BadResponse):
    """A response whose head exceeds `limit`, the value of the setting `limited_by`. `size`: what was received of
    it so far, in the same unit (bytes or fields)."""

    def __init__(self, limited_by: str, size: int, limit: int) -> None:
        why = f"the response has {size}, more than {limited_by} ({limit})"
        super().__init__(why, Cause.RESPONSE_TOO_LARGE)
        self.limited_by = limited_by
        self.size = size
        self.limit = limit


class BadBody(ValueError):
    """A body that cannot be read to its end. `cause` selects the local reply to its sender."""

    def __init__(self, why: str, cause: Cause = Cause.BAD_REQUEST) -> None:
        super().__init__(why)
        self.cause = cause


class TooManyMembers(ValueError):
    """A list field with more than MAX_MEMBERS members, which would take long to parse."""


MAX_MEMBERS: Final = 100
"Members of a list field that styx parses, empty ones included; the longest in use have about ten."


def check_members(values: list[bytes]) -> None:
    """Count the members of a list before it is split: a list of 16 KiB may have 16,000 of them. Raises
    TooManyMembers."""
    if len(values) + sum(value.count(b",") for value in values) > MAX_MEMBERS:
        raise TooManyMembers(f"more than {MAX_MEMBERS} members")


class Framing(Enum):
    """How the end of a body is marked on the wire."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class TrailerLimits(Protocol):
    """Limits of a trailer section: the same as of a head."""

    @property
    def field(self) -> int: ...

    @property
    def fields(self) -> int: ...

    @property
    def head(self) -> int: ...


_NO_TRAILERS: Final[Fields] = []
"Never modified; a tuple would be another type."


class Body:
    """The decoder of one message body."""

    __slots__ = ("done", "trailers")

    def __init__(self, *, done: bool) -> None:
        self.done = done
        "Whether the end of the body was read."
        self.trailers = _NO_TRAILERS
        "The trailer fields, complete once the body is `done`."

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Decode `data`. Returns the payload pieces and the bytes that were not read: while the body is not `done`,
        they must be fed again in the next turn of the loop; afterwards they belong to the next message. Raises
        BadBody."""
        raise NotImplementedError


class LengthBody(Body):
    """A body with a Content-Length (RFC 9112, section 6.2). Length 0 stands for no body."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        super().__init__(done=length == 0)
        self.left = length

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return [data], b""
        end = self.left
        self.left = 0
        self.done = True
        return ([data[:end]] if end else []), data[end:]


class CloseBody(Body):
    """A body that ends with its connection (RFC 9112, section 6.3, rule 8). Responses only."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(done=False)

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        return [data], b""


_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
# Sixteen digits hold any 64-bit size. RFC 9112 tells recipients to accept blanks between the size and an extension;
# they are rejected here, because parsers differ on what a blank is, and request smuggling depends on that.
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"((?:;[ \t]*"
    + _TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + _TOKEN
    + rb'|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\'
    + _TEXT
    + rb')*"))?)*)'
)
# Possessive, because blanks are also text: backtracking over all ways to split them takes seconds.
_TRAILER_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[ \t]*+(" + _TEXT + rb"*+)")
_CODING: Final = re.compile(_TOKEN)
_ZERO: Final = ord("0")
_FRAMING_NAMES: Final = frozenset({b"content-length", b"transfer-encoding", b"host"})
MAX_CHUNK_LINE: Final = 256
"Bytes of a chunk-size line with its extensions. Nobody uses extensions; attackers do (CVE-2023-39326)."
MAX_PIECES: Final = 256
"Chunks decoded one by one in a single call of `feed`; a microsecond each."
MAX_SMALL: Final = 16 * 1024
"Bytes of small chunks decoded together. One read, a quarter of a mebibyte, may hold 40,000 of them."
MAX_EXTENSIONS: Final = 16 * 1024
"Bytes of all chunk extensions in one body: many small ones do as much harm as a large one."


def _digit(value: int) -> bytes:
    """A hexadecimal digit, in either case."""
    return b"%d" % value if value < 10 else b"[%x%X]" % (value, value)


def _chunk_of_two_digits(high: int, data: bytes) -> bytes:
    """A pattern for what follows the first digit of a size, up to and with the CRLF after the chunk data."""
    sizes = [(b"", high), *((_digit(low), 16 * high + low) for low in range(16))]
    return b"(?:" + b"|".join(rb"%b\r\n%b{%d}" % (digit, data, size) for digit, size in sizes) + b")"


# A sequence of complete chunks of up to 255 bytes without extensions. A regular expression cannot count, so it
# lists all sizes; trying them costs a few nanoseconds. The data has no CR, so every CRLF belongs to the framing.
# Not `++`: CPython before 3.11.5 matches it wrongly (python/cpython#106052). Nothing follows that would retry.
_PLAIN_CHUNKS: Final = re.compile(
    b"(?:(?:" + b"|".join(_digit(n) + _chunk_of_two_digits(n, rb"[^\r]") for n in range(1, 16)) + rb")\r\n)+"
)
_TINY_CHUNK: Final = b"(?:" + b"|".join(rb"%b\r\n.{%d}" % (_digit(n), n) for n in range(1, 16)) + rb")\r\n"
_TINY_CHUNKS: Final = re.compile(b"(?:" + _TINY_CHUNK + b")+", re.DOTALL)
"A sequence of complete chunks of up to 15 bytes without extensions, with any data."
_ONE_TINY_CHUNK: Final = re.compile(_TINY_CHUNK, re.DOTALL)


def _small_chunks(data: bytes, at: int) -> tuple[bytes, int]:
    """Decode the complete small chunks that begin at `at`: their joined data, and where they end; b"" = none.
    It takes some 50 nanoseconds per chunk; decoding one by itself takes a microsecond."""
    most = at + MAX_SMALL
    if match := _PLAIN_CHUNKS.match(data, at, most):
        end = match.end()
        return b"".join(data[at:end].split(b"\r\n")[1::2]), end
    if match := _TINY_CHUNKS.match(data, at, most):
        end = match.end()
        return b"".join([chunk[3:-2] for chunk in _ONE_TINY_CHUNK.findall(data, at, end)]), end
    return b"", at


class ChunkedBody(Body):
    """Strict decoder of the chunked transfer coding (RFC 9112, section 7.1). Extensions are dropped."""

    __slots__ = (
        "_extensions",
        "_held",
        "_left",
        "_limits",
        "_reads",
        "_small",
        "_trailer_size",
        "_trailers",
    )

    def __init__(self, limits: TrailerLimits) -> None:
        super().__init__(done=False)
        self._trailers: Fields = []
        self._limits = limits
        self._reads = ChunkedBody._size  # no bound method: that would leave a cycle behind, for each body
        self._held = b""
        self._left = 0
        self._extensions = 0
        self._trailer_size = 0
        self._small = 0
        "Bytes of small chunks decoded in this call of `feed`."

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = self._small = 0
        while not self.done and len(pieces) < MAX_PIECES and self._small < MAX_SMALL // 2:
            after = self._reads(self, data, at, pieces)
            if after < 0:
                self._held = data[at:]
                return pieces, b""
            at = after
            if at == len(data) and not self.done:
                return pieces, b""
        return pieces, data[at:]

    # Each state consumes bytes from `at` on and returns where it stopped, or -1 when it needs more bytes.

    def _size(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        end = _line_end(data, at, MAX_CHUNK_LINE)
        if end < 0:
            return -1
        # Not for the first chunk, because most bodies have only one; nor for the last chunk, which has no data.
        if pieces and end - at < 3 and data[at] != _ZERO:
            joined, after = _small_chunks(data, at)
            if joined:
                pieces.append(joined)
                self._small += after - at
                return after
        self._left = _plain_size(data, at, end)
        if self._left < 0:
            match = _CHUNK_LINE.fullmatch(data, at, end)
            if match is None:
                raise BadBody("chunk size is not a hexadecimal number")
            self._left = int(match[1], 16)
            self._extensions += len(match[2])
            if self._extensions > MAX_EXTENSIONS:
                raise BadBody("too many chunk extensions")
        if not self._left:
            if data[end : end + 4] == b"\r\n\r\n":  # no trailers, as nearly always
                self.done = True
                return end + 4
            self._reads = ChunkedBody._trailer
            return end + 2
        after = end + 2 + self._left
        if data[after : after + 2] == b"\r\n":  # the chunk is complete, as most are
            pieces.append(data[end + 2 : after])
            return after + 2
        self._reads = ChunkedBody._data
        return end + 2

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._reads = ChunkedBody._data_end
        return at + len(piece)

    def _data_end(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        ending = data[at : at + 2]
        if not b"\r\n".startswith(ending):
            raise BadBody("chunk is longer than its size")
        if len(ending) < 2:
            return -1
        self._reads = ChunkedBody._size
        return at + 2

    def _trailer(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        limits = self._limits
        most = min(limits.field, limits.head - self._trailer_size)
        end = _line_end(data, at, most, Cause.HEADERS_TOO_LARGE)
        if end < 0:
            return -1
        if end == at:
            self.done = True
            self.trailers = self._trailers
            return end + 2
        match = _TRAILER_LINE.fullmatch(data, at, end)
        if match is None:
            raise BadBody("bad trailer field")
        if match[1].lower() in _FRAMING_NAMES:
            raise BadBody("a framing or routing field in the trailers")
        self._trailers.append((match[1], match[2]))
        self._trailer_size += end + 2 - at
        if len(self._trailers) > limits.fields:
            raise BadBody("too many trailers", Cause.HEADERS_TOO_LARGE)
        return end + 2


def _plain_size(data: bytes, at: "i64", end: "i64") -> "i64":
    """The size in a chunk-size line of at most 15 hexadecimal digits, as nearly all are; -1 = in another line."""
    if at == end or end - at > 15:
        return -1
    size: i64 = 0
    while at < end:
        digit: i64 = data[at]
        if 48 <= digit <= 57:  # 0 to 9
            digit -= 48
        elif 97 <= digit | 32 <= 102:  # a to f, in either case
            digit = (digit | 32) - 87
        else:
            return -1
        size = size * 16 + digit
        at += 1
    return size


def _line_end(data: bytes, at: int, most: int, cause: Cause = Cause.BAD_REQUEST) -> int:
    """Position of the CRLF that ends the line at `at`; -1 = not received yet. Raises BadBody after `most` bytes."""
    end = data.find(b"\r\n", at, at + most + 2)
    if end < 0 and len(data) - at > most + 1:  # one byte more, which may be the CR
        raise BadBody("line too long in chunked body", cause)
    return end


NO_BODY: Final = LengthBody(0)
"Shared by all messages without a body: a finished body has no state."


def _length(values: list[bytes]) -> int | None:
    value = values[0]
    # bytes.isdigit accepts ASCII digits only. Sixteen digits hold any real size.
    return int(value) if len(values) == 1 and len(value) <= 16 and value.isdigit() else None


_ABSENT: Final = (Framing.NONE, 0)
# Looking up a member of an Enum takes CPython 3.11 75 ns.
_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE


def request_framing(found: FieldValues, minor: int) -> tuple[Framing, int]:
    """The framing of a request body, and its length in bytes (RFC 9112, section 6.3). Raises RejectedRequest."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise RejectedRequest(Cause.BAD_REQUEST, "both Content-Length and Transfer-Encoding")
        if minor == 0:
            raise RejectedRequest(Cause.BAD_REQUEST, "Transfer-Encoding in an HTTP/1.0 request")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise _other_coding(codings)
        return _CHUNKED, 0
    if lengths is None:
        return _ABSENT
    length = _length(lengths)
    if length is None:
        raise RejectedRequest(Cause.BAD_REQUEST, "Content-Length is not one decimal number")
    return _LENGTH, length


def _other_coding(codings: list[bytes]) -> RejectedRequest:
    """The error for a transfer coding other than `chunked` (RFC 9112, sections 6.1 and 6.3): 501 when chunked is
    the last of several valid codings, else 400."""
    try:
        check_members(codings)
    except TooManyMembers as error:
        return RejectedRequest(Cause.HEADERS_TOO_LARGE, f"Transfer-Encoding has {error}")
    *others, last = [coding.strip(b" \t").lower() for coding in b",".join(codings).split(b",")]
    if others and last == b"chunked" and all(_CODING.fullmatch(other) and other != b"chunked" for other in others):
        return RejectedRequest(Cause.NOT_IMPLEMENTED, "a transfer coding besides chunked")
    return RejectedRequest(Cause.BAD_REQUEST, "a transfer coding other than one final chunked")


def response_framing(found: FieldValues, *, status: int, minor: int, to_head: bool) -> tuple[Framing, int]:
    """The framing of a response body, and its length in bytes (RFC 9112, section 6.3). Raises BadResponse."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if lengths is not None and codings is not None:
        raise BadResponse("both Content-Length and Transfer-Encoding")
    length = 0
    if lengths is not None:
        announced = _length(lengths)
        if announced is None:
            raise BadResponse("Content-Length is not one decimal number")
        length = announced
    if codings is not None and (len(codings) != 1 or codings[0].lower() != b"chunked"):
        raise BadResponse("a transfer coding other than one final chunked")
    if to_head or status < 200 or status in (204, 304):
        return _NONE, length
    if codings is not None:
        if minor == 0:
            raise BadResponse("Transfer-Encoding in an HTTP/1.0 response")
        return _CHUNKED, 0
    if lengths is not None:
        return _LENGTH, length
    return _CLOSE, 0


def check_interim(fields: Fields, *, status: int, minor: int) -> None:
    """Check the framing fields of a 1xx response, which has no body, but may say so. Raises BadResponse."""
    found: FieldValues = {}
    for name, value in fields:
        if (lower := name.lower()) in _FRAMING_NAMES:
            found.setdefault(lower, []).append(value.strip(b" \t"))
    response_framing(found, status=status, minor=minor, to_head=False)


def body_of(framing: Framing, length: int, limits: TrailerLimits) -> Body:
    """The decoder for a body with this framing."""
    if framing is _CHUNKED:
        return ChunkedBody(limits)
    if framing is _CLOSE:
        return CloseBody()
    return LengthBody(length) if length and framing is _LENGTH else NO_BODY
