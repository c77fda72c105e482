"""Strict parser of request lines and status lines (RFC 9112, sections 3 and 4).

There is one space between the parts and none elsewhere. RFC 9112 lets a recipient split at any white space; parsers
that do and parsers that do not see different targets in the same bytes, so other white space is rejected.
"""

import re
from typing import TYPE_CHECKING, Final

from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.outcomes import Cause

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

LONGEST_METHOD: Final = 64

# A target has no fragment (RFC 9112, section 3.2): servers disagree on its meaning. Bytes beyond ASCII are not
# valid either, but old links and clients send raw UTF-8, which is not ambiguous.
_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/([0-9]\.[0-9])"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_USUAL_STATUS_LINES: Final = {
    b"HTTP/1.1 %d %b" % (status, reason): (status, reason, 1)
    for status, reason in (
        (200, b"OK"),
        (301, b"Moved Permanently"),
        (302, b"Found"),
        (304, b"Not Modified"),
        (404, b"Not Found"),
    )
}
"A lookup takes a tenth of a match."
_MINORS: Final = {b"1.1": 1, b"1.0": 0}


def read_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target, and the y of HTTP/1.y. Raises RejectedRequest."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RejectedRequest(Cause.BAD_REQUEST, "the request line is not: method, target, HTTP/1.1")
    method, target, version = match.groups()
    minor = _MINORS.get(version)
    if minor is None:
        raise RejectedRequest(Cause.BAD_VERSION, f"HTTP version {version.decode()}")
    return method, target, minor


# (OPTIONS is missing because some fields have another meaning for it.)
_PLAIN_LINE: Final = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|PATCH) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
_PLAIN_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"})
_NOT_PLAIN: Final = (b"", b"")


def plain_request_line(line: bytes) -> tuple[bytes, bytes]:
    """Method and target of a request line of HTTP/1.1 that is valid as it stands, as most are; (b"", b"") = it is
    another one, for `read_request_line`."""
    found = _PLAIN_LINE.fullmatch(line)
    if found is None:
        return _NOT_PLAIN
    method, target = found.groups()
    return method, target


def scan_request_line(line: bytes) -> tuple[bytes, bytes]:
    """The same, byte by byte: half of the time when it is compiled, and ten times as long when it is not."""
    end: i64 = len(line) - 9
    if end < 5 or not line.endswith(b" HTTP/1.1"):
        return _NOT_PLAIN
    space: i64 = 3
    while space < 6 and line[space] != _SPACE:
        space += 1
    at: i64 = space + 1
    if line[space] != _SPACE or line[at] != _SLASH or line[:space] not in _PLAIN_METHODS:
        return _NOT_PLAIN
    while at < end and _SPACE < line[at] < _DEL and line[at] != _HASH:
        at += 1
    return (line[:space], line[space + 1 : end]) if at == end else _NOT_PLAIN


_SPACE: Final = 32
_HASH: Final = 35
_SLASH: Final = 47
_DEL: Final = 127


def read_status_line(line: bytes) -> tuple[int, bytes, int]:
    """Status, reason, and the y of HTTP/1.y. Raises BadResponse.

    The space before an absent reason is often left out; that is not ambiguous, and every client accepts it.
    """
    usual = _USUAL_STATUS_LINES.get(line)
    if usual is not None:
        return usual
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("the status line is not: HTTP/1.1, three digits, reason")
    minor, status, reason = match.groups()
    return int(status), reason or b"", minor == b"1"


def likely_request_line(data: bytes) -> tuple[bytes, bytes]:
    """The likely method and target of a head that could not be parsed, for the log only; empty if unlikely."""
    method, _, rest = data[:256].split(b"\r", 1)[0].partition(b" ")
    return (method, rest.split(b" ", 1)[0]) if _LOOKS_LIKE_A_METHOD.fullmatch(method) else (b"", b"")


_LOOKS_LIKE_A_METHOD: Final = re.compile(rb"[A-Za-z]{1,20}")
