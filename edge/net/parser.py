"""The only import of the C parser (httptools, that is llhttp): bytes of one whole head in, a head out.

A parser is made for each head and sees nothing but that head, through its blank line. Where a body begins
and ends is not its business but that of `rules/framing.py`: a second reader of bodies would be a second
opinion. Making one costs 0.2 microseconds.
"""

import httptools

from edge.rules.framing import BadAnswer, Refusal
from edge.rules.messages import AnswerHead, Fields, RequestHead
from edge.rules.outcomes import Cause


class _Collector:
    """Receives the parser's callbacks."""

    __slots__ = ("complete", "fields", "text")

    def __init__(self) -> None:
        self.fields: Fields = []
        self.text = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class _RequestCollector(_Collector):
    __slots__ = ()

    def on_url(self, target: bytes) -> None:
        self.text += target


class _AnswerCollector(_Collector):
    __slots__ = ()

    def on_status(self, reason: bytes) -> None:
        self.text += reason


def request_head(data: bytes) -> RequestHead:
    """Parse the head of a request, from its first byte through its blank line. Raises Refusal."""
    seen = _RequestCollector()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # a CONNECT or Upgrade: what follows the head is decided by the rules
    except httptools.HttpParserError as error:
        raise Refusal(Cause.BAD_REQUEST, str(error)) from error
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise Refusal(Cause.BAD_VERSION, f"HTTP version {version}")
    if not seen.complete:
        raise Refusal(Cause.BAD_REQUEST, "the head is not complete")
    return RequestHead(parser.get_method(), seen.text, 1 if version == "1.1" else 0, seen.fields)


def answer_head(data: bytes) -> AnswerHead:
    """Parse the head of an answer, from its first byte through its blank line. Raises BadAnswer."""
    seen = _AnswerCollector()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadAnswer(str(error)) from error
    version = parser.get_http_version()
    if version not in ("1.1", "1.0") or not seen.complete:
        raise BadAnswer(f"not a whole head of HTTP/1 (version {version})")
    return AnswerHead(parser.get_status_code(), seen.text, 1 if version == "1.1" else 0, seen.fields)
