"""Responses as header lists of HTTP/2."""

from edge.rules.h2.h2_encode import (
    LONGEST,
    REMEMBERED,
    ResponseFields,
    fields_of,
    interim_fields,
    local_reply_fields,
    tunnel_fields,
)
from edge.rules.http.head_validation import HeadValidator
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead
from edge.rules.settings import ForwardingSettings, LimitSettings

VALIDATOR = HeadValidator(LimitSettings(), ForwardingSettings())


def response(*fields: tuple[bytes, bytes], status: int = 200):
    return VALIDATOR.response(ResponseHead(status, b"OK", 1, list(fields)), to_head=False)


def test_a_response():
    answer = response((b"Content-Length", b"5"), (b"X-A", b"b "), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"))
    assert ResponseFields().of_response(answer) == [
        (b":status", b"200"),
        (b"x-a", b"b"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"content-length", b"5"),
    ]


def test_fields_of_the_connection_are_left_out():
    answer = response((b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"), (b"TE", b"trailers"))
    assert ResponseFields().of_response(answer) == [(b":status", b"200")]
    answer = response(
        (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Content-Length", b"0"), status=426
    )
    assert [name for name, _ in ResponseFields().of_response(answer)] == [b":status", b"content-length"]


def test_a_head_is_cached_at_its_second_occurrence():
    cache, answer = ResponseFields(), response((b"X-A", b"b"))
    first = cache.of_response(answer)
    assert len(cache) == 0
    assert cache.of_response(answer) == first
    assert len(cache) == 1
    assert cache.of_response(answer) is cache.of_response(answer)


def test_the_cache_is_bounded():
    cache = ResponseFields()
    for number in range(2 * REMEMBERED):
        for _ in range(2):
            cache.of_response(response((b"X-A", b"%d" % number)))
    for _ in range(3):
        cache.of_response(response((b"X-A", b"x" * LONGEST)))
    assert len(cache) <= REMEMBERED
    assert max(map(len, cache._known)) <= LONGEST
    assert len(cache._seen) <= REMEMBERED


def test_values_with_colons():
    assert fields_of(b"Location: http://a:1/b\r\nX: \r\n\r\n") == [(b"location", b"http://a:1/b"), (b"x", b"")]


def test_a_local_reply():
    page = LocalReply(503, "site_limit", b"X-Styx-Error: site_limit\r\nRetry-After: 2\r\n", b"full")
    assert local_reply_fields(page, b"Date: now\r\n") == [
        (b":status", b"503"),
        (b"x-styx-error", b"site_limit"),
        (b"retry-after", b"2"),
        (b"content-length", b"4"),
        (b"date", b"now"),
    ]


def test_an_interim_response():
    assert interim_fields(ResponseHead(103, b"", 1, []), b"Link: </a>\r\n") == [
        (b":status", b"103"),
        (b"link", b"</a>"),
    ]


def test_a_tunnel():
    lines = b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\nUpgrade: websocket\r\n"
    assert tunnel_fields(lines) == [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]
