"""The first line of a message, read strictly (RFC 9112, sections 3 and 4).

One space between the parts and none elsewhere. RFC 9112 lets a recipient split at any white space; readers
who do and readers who do not see different targets in the same bytes, so here it is refused.
"""

import re

from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.outcomes import Cause

LONGEST_METHOD = 64

# A target has no fragment (RFC 9112, section 3.2), and nobody agrees on what one would mean. Bytes beyond ASCII
# are not legal either, but old links and clients send raw UTF-8, and nothing is ambiguous about them.
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/([0-9]\.[0-9])"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_MINORS = {b"1.1": 1, b"1.0": 0}


def read_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target, and the y of HTTP/1.y. Raises Refusal."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RejectedRequest(Cause.BAD_REQUEST, "the request line is not: method, target, HTTP/1.1")
    method, target, version = match.groups()
    minor = _MINORS.get(version)
    if minor is None:
        raise RejectedRequest(Cause.BAD_VERSION, f"HTTP version {version.decode()}")
    return method, target, minor


def read_status_line(line: bytes) -> tuple[int, bytes, int]:
    """Status, reason, and the y of HTTP/1.y. Raises BadAnswer.

    The space before an absent reason is often left out; that cannot be misread, and every peer takes it.
    """
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadResponse("the status line is not: HTTP/1.1, three digits, reason")
    minor, status, reason = match.groups()
    return int(status), reason or b"", minor == b"1"


def glimpse_of(data: bytes) -> tuple[bytes, bytes]:
    """What may be the method and the target of a head that could not be read, for the log only."""
    method, _, rest = data[:256].split(b"\r", 1)[0].partition(b" ")
    return (method, rest.split(b" ", 1)[0]) if _LOOKS_LIKE_A_METHOD.fullmatch(method) else (b"", b"")


_LOOKS_LIKE_A_METHOD = re.compile(rb"[A-Za-z]{1,20}")
