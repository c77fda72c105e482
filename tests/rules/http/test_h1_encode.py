"""Encoding of heads for backends and clients."""

import pytest

from edge.rules.http.framing import Framing
from edge.rules.http.h1_encode import connection_line, forwarded_head, own_head, passed_head
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReplies
from edge.rules.http.messages import Fields, RequestHead, ResponseHead
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings

CLIENT = ClientInfo("203.0.113.9", port=443, trusted=False, via=b"styx")
HOST = (b"Host", b"Shop.test:8080")


def request(*fields: tuple[bytes, bytes], method: bytes = b"GET", minor: int = 1) -> Request:
    return HeadValidator(LimitSettings(), ForwardingSettings()).request(
        RequestHead(method, b"/a%2Fb", minor, [HOST, *fields])
    )


def response(*fields: tuple[bytes, bytes], status: int = 200, to_head: bool = False) -> Response:
    head = ResponseHead(status, b"Fine", 1, list(fields))
    return HeadValidator(LimitSettings(), ForwardingSettings()).response(head, to_head=to_head)


def fields_of(head: bytes) -> Fields:
    return [(n, v) for n, _, v in (line.partition(b": ") for line in head.split(b"\r\n")[1:] if line)]


def test_a_forwarded_head_has_the_fields_of_the_request_and_the_forwarding_fields() -> None:
    head = forwarded_head(request((b"Accept", b"*/*"), (b"X-Forwarded-For", b"10.0.0.1")), CLIENT, b"id-1")
    assert head.startswith(b"GET /a%2Fb HTTP/1.1\r\nHost: Shop.test:8080\r\nAccept: */*\r\n")
    assert fields_of(head)[2:] == [
        (b"Via", b"1.1 styx"),
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Real-IP", b"203.0.113.9"),
        (b"X-Forwarded-Host", b"Shop.test:8080"),
        (b"X-Request-Id", b"id-1"),
    ]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ([], None),
        ([(b"Content-Length", b"5")], (b"Content-Length", b"5")),
        ([(b"Content-Length", b"0")], (b"Content-Length", b"0")),
        ([(b"Transfer-Encoding", b"Chunked")], (b"Transfer-Encoding", b"chunked")),
    ],
    ids=["no body", "length", "empty", "chunked"],
)
def test_a_request_has_one_framing_field(fields: Fields, line: tuple[bytes, bytes] | None) -> None:
    head = forwarded_head(request(*fields, method=b"POST"), CLIENT, b"id-1")
    framing_fields = [field for field in fields_of(head) if field[0] in (b"Content-Length", b"Transfer-Encoding")]
    assert framing_fields == ([line] if line else [])


def test_an_http_1_0_request_is_forwarded_as_1_1() -> None:
    assert forwarded_head(request(minor=0), CLIENT, b"id-1").split(b"\r\n")[0] == b"GET /a%2Fb HTTP/1.1"


@pytest.mark.parametrize(
    ("given", "framing", "last"),
    [
        (response((b"Content-Length", b"7")), Framing.LENGTH, b"Content-Length: 7\r\n"),
        (response((b"Content-Length", b"7"), to_head=True), Framing.NONE, b"Content-Length: 7\r\n"),
        (response((b"Content-Length", b"7"), status=304), Framing.NONE, b"Content-Length: 7\r\n"),
        (response((b"Content-Length", b"7"), status=204), Framing.NONE, b""),
        (response(status=304), Framing.NONE, b""),
        (response(), Framing.CHUNKED, b"Transfer-Encoding: chunked\r\n"),
        (response(), Framing.CLOSE, b""),
    ],
    ids=["length", "HEAD", "304", "204", "304 without", "chunked", "close"],
)
def test_the_framing_of_a_response(given: Response, framing: Framing, last: bytes) -> None:
    assert passed_head(given, framing) == b"HTTP/1.1 %d Fine\r\n" % given.status + last


def test_a_local_reply_has_its_length_and_reason() -> None:
    page = LocalReplies().error(Cause.NO_BACKENDS, accept=b"", host="shop.test", request_id="id-1")
    head = own_head(request(), page, (b"X-Request-Id: id-1\r\n", b"\r\n"))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert head.endswith(b"Content-Length: %d\r\nX-Request-Id: id-1\r\n\r\n" % len(page.body))


@pytest.mark.parametrize(
    ("minor", "keep_alive", "line"),
    [
        (1, True, b"\r\n"),
        (0, True, b"Connection: keep-alive\r\n\r\n"),
        (1, False, b"Connection: close\r\n\r\n"),
        (0, False, b"Connection: close\r\n\r\n"),
    ],
)
def test_the_connection_line(minor: int, keep_alive: bool, line: bytes) -> None:
    assert connection_line(request(minor=minor), keep_alive=keep_alive) == line
