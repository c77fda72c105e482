"""Limits on the size of a head: of its start line, its fields and all of it, complete or not."""

from typing import Final

from edge.rules.http.framing import RejectedRequest
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings


def has_bare_lf(data: bytes, seen: int = 0) -> bool:
    """Whether a line ends without CR: parsers disagree on where such a head ends.

    `seen`: bytes that were checked before. A head may arrive byte by byte; checking all of it each time would cost
    a millisecond per packet.
    """
    start = seen - 1 if seen and data[seen - 1] == _CR else seen
    return data.count(b"\n", start) != data.count(b"\r\n", start)


_CR: Final = ord("\r")


def check_partial_head(data: bytes, limits: LimitSettings, seen: int = 0) -> None:
    """Check an incomplete head for a line that is already too long, or ends without CR. Raises RejectedRequest.

    Only the first and the last line are measured; the others are measured when the head is complete.
    """
    if has_bare_lf(data, seen):
        raise RejectedRequest(Cause.BAD_REQUEST, "a bare line feed in the head")
    whole = len(data) - data.endswith(b"\r")  # half of a CRLF belongs to no line
    start = 2 if data[:2] == b"\r\n" else 0
    first, last = data.find(b"\r\n", start), data.rfind(b"\r\n", start)
    if (first if first >= 0 else whole) - start > limits.request_line:
        raise _line_too_long(limits)
    if whole - start > limits.head:
        raise _head_too_large(limits)
    if last >= 0 and whole - last - 2 > limits.field:
        _check_field(data[last + 2 : whole], limits)


def check_head_size(data: bytes, limits: LimitSettings) -> None:
    """Check a complete head against the limits. Raises RejectedRequest."""
    end = data.find(b"\r\n")
    if end > limits.request_line:
        raise _line_too_long(limits)
    if len(data) > limits.head:
        raise _head_too_large(limits)
    if data.count(b"\r\n") - 2 > limits.fields:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"more than {limits.fields} fields")
    for field in data[end:].split(b"\r\n"):
        if len(field) > limits.field:
            _check_field(field, limits)


def _line_too_long(limits: LimitSettings) -> RejectedRequest:
    return RejectedRequest(Cause.URI_TOO_LONG, f"request line longer than {limits.request_line} bytes")


def _head_too_large(limits: LimitSettings) -> RejectedRequest:
    return RejectedRequest(Cause.HEADERS_TOO_LARGE, f"head larger than {limits.head} bytes")


def _check_field(field: bytes, limits: LimitSettings) -> None:
    """Check a field line longer than `limits.field`. A Cookie may be longer (`limits.cookie`): browsers send in it
    every cookie that a site has set. Raises RejectedRequest."""
    name, _, value = field.partition(b":")
    if name.lower() != b"cookie" or len(value.strip(b" \t")) > limits.cookie:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"a field larger than {limits.field} bytes")
