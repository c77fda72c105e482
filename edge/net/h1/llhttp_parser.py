"""Parses one complete head with the C parser llhttp (package httptools). No other module imports that parser.

Plain Python reads heads this way. The compiled build has a faster one, `edge/rules/http/field_filter.py`; tests
compare the two.

The start line is parsed by `rules/http/start_lines.py`. The parser gets a plain start line in its place and the
fields as they are, through the blank line. So its own rules for methods, versions and targets do not matter, and
where a body begins and ends is decided by `rules/http/framing.py` alone: two parsers of one message could disagree.
A parser object is made for each head, which takes 0.2 microseconds.

Lines are counted before they are parsed: sixteen thousand of four bytes each would take milliseconds.

The callback is a method of a dict, in C, which saves a Python call for every field. A dict holds one value for each
name, so the number of fields is compared with the number of lines; when they differ (mostly because of a repeated
name) the head is parsed again, into a list.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httptools

from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.http.messages import Fields, RequestHead, ResponseHead
from edge.rules.http.start_lines import read_request_line, read_status_line
from edge.rules.outcomes import Cause

ANY_NUMBER: Final = 1 << 30
"No limit for the number of fields."
_PLAIN_LINE: Final = b"GET / HTTP/1.1\r\n"


class _Callbacks:
    """The callbacks of the parser."""

    __slots__ = ("on_header",)

    def __init__(self, on_header: Callable[[bytes, bytes], object]) -> None:
        self.on_header = on_header


def request_head(data: bytes, most: int = ANY_NUMBER) -> RequestHead:
    """Parse the head of a request, of at most `most` fields, from its first byte through its blank line. Raises
    RejectedRequest."""
    end = data.find(b"\r\n")
    method, target, minor = read_request_line(data[:end])
    return RequestHead(method, target, minor, request_fields(data[end + 2 :], most))


def request_fields(block: bytes, most: int = ANY_NUMBER) -> Fields:
    """Parse the fields of a request, at most `most` of them, from behind the request line through the blank line.
    Raises RejectedRequest."""
    count = block.count(b"\n") - 1
    if count > most:
        raise RejectedRequest(Cause.HEADERS_TOO_LARGE, f"more than {most} fields")
    try:
        return _fields(block, count)
    except ValueError as error:
        raise RejectedRequest(Cause.BAD_REQUEST, str(error)) from error


def response_head(data: bytes, most: int = ANY_NUMBER) -> ResponseHead:
    """Parse the head of a response, of at most `most` fields, from its first byte through its blank line. Raises
    BadResponse."""
    end = data.find(b"\r\n")
    status, reason, minor = read_status_line(data[:end])
    count = data.count(b"\n") - 2
    if count > most:
        raise BadResponse(f"more than {most} fields")
    try:
        return ResponseHead(status, reason, minor, _fields(data[end + 2 :], count))
    except ValueError as error:
        raise BadResponse(str(error)) from error


def _fields(block: bytes, count: int) -> Fields:
    """Parse a block of `count` fields, which begins behind the start line. Raises ValueError."""
    fields: dict[bytes, bytes] = {}
    data = _PLAIN_LINE + block
    try:
        httptools.HttpRequestParser(_Callbacks(fields.setdefault)).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # upgrades are decided by the rules
    except httptools.HttpParserError as error:
        raise ValueError(str(error)) from error
    listed = list(fields.items())
    if len(listed) != count:
        listed = _all_fields(data)
        if len(listed) != count:
            raise ValueError("a line of the head is not a field")
    return listed


def _all_fields(data: bytes) -> Fields:
    """Parse the fields again, into a list that holds repeated names. The head is known to be valid."""
    fields: Fields = []
    with suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(_Callbacks(lambda name, value: fields.append((name, value)))).feed_data(data)
    return fields
