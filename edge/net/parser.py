"""The only import of the C parser (httptools, that is llhttp): bytes of one whole head in, a head out.

A parser is made for each head and sees nothing but that head, through its blank line. Where a body begins
and ends is not its business but that of `rules/framing.py`: a second reader of bodies would be a second
opinion. Making one costs 0.2 microseconds.

Its callbacks are methods of a dict and of a list, in C, which saves a Python call for every field. A dict
holds one value a name, so the number of fields is held against the number of lines; when they differ
(a repeated name, mostly) the head is parsed once more, into a list.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httptools

from edge.rules.framing import BadAnswer, Refusal
from edge.rules.messages import AnswerHead, Fields, RequestHead
from edge.rules.outcomes import Cause

_MINORS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_LETTERS = bytes(byte if byte < 0x80 else ord("x") for byte in range(256))


class _Callbacks:
    """What the parser calls."""

    __slots__ = ("on_header", "on_status", "on_url")

    def __init__(self, on_header: Callable[[bytes, bytes], object], on_text: Callable[[bytes], object]) -> None:
        self.on_header = on_header
        self.on_url = on_text
        self.on_status = on_text


def request_head(data: bytes) -> RequestHead:
    """Parse the head of a request, from its first byte through its blank line. Raises Refusal."""
    line = data[: data.find(b"\r")]
    if line.isascii():
        return _request_head(data)
    # llhttp refuses a target with bytes beyond ASCII; old links and clients send raw UTF-8, and nginx takes it.
    # So the parser is shown letters in their place, and the target is cut out of what really came.
    shown = line.translate(_LETTERS)
    head = _request_head(shown + data[len(line) :])
    at = shown.find(head.target, len(head.method))
    head.target = line[at : at + len(head.target)]
    return head


def _request_head(data: bytes) -> RequestHead:
    fields: dict[bytes, bytes] = {}
    target: list[bytes] = []
    parser = httptools.HttpRequestParser(_Callbacks(fields.setdefault, target.append))
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # a CONNECT or Upgrade: what follows the head is decided by the rules
    except httptools.HttpParserError as error:
        raise Refusal(Cause.BAD_REQUEST, str(error)) from error
    end = data.find(b"\r")
    minor = _MINORS.get(data[end - 8 : end])
    if minor is None:
        raise Refusal(Cause.BAD_VERSION, f"HTTP version {parser.get_http_version()}")
    listed = list(fields.items())
    if len(listed) != data.count(b"\n") - 2:
        listed = _all_fields(httptools.HttpRequestParser, data)
        if len(listed) != data.count(b"\n") - 2:
            raise Refusal(Cause.BAD_REQUEST, "a line of the head is not a field")
    return RequestHead(parser.get_method(), b"".join(target), minor, listed)


def answer_head(data: bytes) -> AnswerHead:
    """Parse the head of an answer, from its first byte through its blank line. Raises BadAnswer."""
    fields: dict[bytes, bytes] = {}
    reason: list[bytes] = []
    parser = httptools.HttpResponseParser(_Callbacks(fields.setdefault, reason.append))
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadAnswer(str(error)) from error
    minor = _MINORS.get(data[:8])
    if minor is None:
        raise BadAnswer(f"HTTP version {parser.get_http_version()}")
    listed = list(fields.items())
    if len(listed) != data.count(b"\n") - 2:
        listed = _all_fields(httptools.HttpResponseParser, data)
        if len(listed) != data.count(b"\n") - 2:
            raise BadAnswer("a line of the head is not a field")
    return AnswerHead(parser.get_status_code(), b"".join(reason), minor, listed)


def _all_fields(make: Any, data: bytes) -> Fields:
    """The fields again, repeated names included. The head is known to parse."""
    fields: Fields = []
    parser = make(_Callbacks(lambda name, value: fields.append((name, value)), lambda text: None))
    with suppress(httptools.HttpParserUpgrade):
        parser.feed_data(data)
    return fields
