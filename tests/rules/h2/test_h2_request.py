"""Header lists of HTTP/2 as heads of HTTP/1.1."""

import sys

import pytest

from edge.rules.h2.h2_request import (
    LONGEST,
    LONGEST_PATH,
    MEMO_SIZE,
    REMEMBERED,
    CountedBody,
    RequestHeads,
    trailer_fields,
)
from edge.rules.http.framing import BadBody, RejectedRequest
from edge.rules.http.head_validation import Request
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"shop.test")]
CONNECT = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


def head(headers, *, has_body=False, scheme=b"http", key=b"", heads=None):
    heads = RequestHeads() if heads is None else heads
    return heads.request_head(headers, scheme=scheme, has_body=has_body, websocket_key=key)


def with_path(path, headers=GET):
    return [(name, path if name == b":path" else value) for name, value in headers]


def cached(headers, **options):
    """Heads of which that of this list is cached."""
    heads = RequestHeads()
    for _ in range(2):
        head(headers, heads=heads, **options)
    assert len(heads) == 1
    return heads


def test_a_request():
    assert head([*GET, (b"x-a", b"b")]) == b"GET /a?b HTTP/1.1\r\nhost: shop.test\r\nx-a: b\r\n\r\n"


def test_cookies_are_joined():
    assert b"cookie: a=1; b=2\r\n" in head([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")])


def test_host_stands_for_a_missing_authority():
    assert b"host: other.test\r\n" in head([*GET[:3], (b"host", b"other.test")])


def test_without_any_host_there_is_none():
    assert b"host" not in head(GET[:3])


def test_host_may_repeat_the_authority():
    assert head([*GET, (b"host", b"SHOP.test")]).count(b"host: ") == 1


@pytest.mark.parametrize(
    ("fields", "has_body", "line"),
    [
        ([], True, b"transfer-encoding: chunked\r\n"),
        ([], False, b""),
        ([(b"content-length", b"5")], True, b"content-length: 5\r\n"),
        ([(b"content-length", b"0")], False, b"content-length: 0\r\n"),
    ],
)
def test_framing(fields, has_body, line):
    made = head([*GET, *fields], has_body=has_body)
    assert line in made
    assert made.count(b"transfer-encoding") == line.count(b"transfer-encoding")


@pytest.mark.parametrize("fields", [[(b"content-length", b"5")], [(b"content-length", b"05")]])
def test_a_length_without_a_body(fields):
    with pytest.raises(RejectedRequest):
        head([*GET, *fields])


def test_the_scheme_is_that_of_the_connection():
    with pytest.raises(RejectedRequest):
        head(GET, scheme=b"https")
    assert head(GET, scheme=b"")


@pytest.mark.parametrize(
    "headers",
    [
        [*GET, (b":x", b"y")],
        [*GET, (b":path", b"/")],
        [*GET[1:], (b"a", b"b"), GET[0]],
        [*GET[1:]],
        [*GET[:2], GET[3]],
        [GET[0], *GET[2:]],
        [*GET[:2], (b":path", b"a"), GET[3]],
        [*GET[:2], (b":path", b"/a b"), GET[3]],
        [*GET[:2], (b":path", b"/ HTTP/1.1\r\nx: y"), GET[3]],
        [*GET[:2], (b":path", b"*"), GET[3]],
        [(b":method", b"GET /x HTTP/1.1\r\nA:"), *GET[1:]],
        [*GET[:3], (b":authority", b"shop.test\r\nx: y")],
        [*GET, (b":protocol", b"websocket")],
        [*GET, (b"X-A", b"b")],
        [*GET, (b"x a", b"b")],
        [*GET, (b"x:a", b"b")],
        [*GET, (b"", b"b")],
        [*GET, (b"a\r\nb", b"c")],
        [*GET, (b"a", b"b\r\nc: d")],
        [*GET, (b"a", b"b\nc")],
        [*GET, (b"a", b"b\rc")],
        [*GET, (b"a", b"b\0c")],
        [*GET, (b"a", b"b\r"), (b"c", b"\nd")],
        [*GET, (b"cookie", b"a\r\nb: c")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"keep-alive", b"1")],
        [*GET, (b"proxy-connection", b"close")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"te", b"trailers"), (b"te", b"gzip")],
        [*GET, (b"host", b"other.test")],
        [*GET, (b"host", b"shop.test"), (b"host", b"other.test")],
    ],
)
def test_malformed(headers):
    with pytest.raises(RejectedRequest) as raised:
        head(headers)
    assert raised.value.cause is Cause.BAD_REQUEST


def test_a_websocket():
    made = head([*CONNECT, (b"sec-websocket-key", b"theirs")], has_body=True, key=b"ours")
    assert made.startswith(b"GET /a?b HTTP/1.1\r\n")
    assert b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-key: ours\r\n" in made
    assert b"theirs" not in made
    assert b"transfer-encoding" not in made


@pytest.mark.parametrize(
    "headers", [CONNECT, [(b":method", b"CONNECT"), GET[3]], [CONNECT[0], (b":protocol", b"connect-udp"), *GET[1:]]]
)
def test_other_tunnels(headers):
    with pytest.raises(RejectedRequest) as raised:
        head(headers, key=b"" if headers is CONNECT else b"ours")
    assert raised.value.cause is Cause.NOT_IMPLEMENTED


def test_a_tunnel_has_no_length():
    with pytest.raises(RejectedRequest):
        head([*CONNECT, (b"content-length", b"3")], key=b"ours")


LISTS = [
    GET,
    [*GET, (b"x-a", b"b")],
    [*GET, (b"cookie", b"a=1"), (b"x-a", b"/a?b"), (b"cookie", b"b=2")],
    [*GET[:3], (b"host", b"other.test")],
    [*GET, (b"content-length", b"0"), (b"te", b"trailers")],
    [(b":method", b"PURGE"), GET[3], GET[2], GET[1]],
]


@pytest.mark.parametrize("headers", LISTS, ids=len)
@pytest.mark.parametrize("path", [b"/a?b", b"/", b"/other/\xff;c=%20#d"])
def test_a_list_that_is_cached_makes_the_same_head(headers, path):
    heads, other = cached(headers), with_path(path, headers)
    assert head(other, heads=heads) == head(other)
    assert len(heads) == 1


@pytest.mark.parametrize(
    "path", [b"", b"a", b"*", b"/a b", b"/ HTTP/1.1\r\nx: y", b"/\r", b"/\n", b"/\0", b"/\r\n\r\nGET /b"]
)
def test_no_cached_list_makes_a_path_valid(path):
    heads = cached(GET)
    with pytest.raises(RejectedRequest):
        head(with_path(path), heads=heads)


@pytest.mark.parametrize(
    "headers",
    [
        [*GET[:2], GET[3], (b"x-a", b"b"), GET[2]],
        [GET[0], (b"x-a", b"b"), *GET[1:]],
        [*GET, (b"x-a", b"b"), GET[2]],
        [*GET, GET[2], (b"x-a", b"b")],
    ],
)
def test_a_path_elsewhere_is_not_that_of_a_cached_list(headers):
    heads = cached([*GET, (b"x-a", b"b")])
    with pytest.raises(RejectedRequest):
        head(headers, heads=heads)


@pytest.mark.parametrize(("size", "kept"), [(LONGEST_PATH, 1), (LONGEST_PATH + 1, 0)])
def test_no_long_path_is_kept(size, kept):
    heads, path = cached(GET), b"/" * size
    request = with_path(path)
    before = sys.getrefcount(path)
    for _ in range(2):
        assert head(request, heads=heads) == b"GET " + path + b" HTTP/1.1\r\nhost: shop.test\r\n\r\n"
    assert sys.getrefcount(path) == before + kept


def test_lists_in_turns_make_their_own_heads():
    lists = [GET, with_path(b"/b"), [*GET, (b"x-a", b"b")], with_path(b"/c", [*GET, (b"x-a", b"b")])]
    heads = RequestHeads()
    for _ in range(3):
        for headers in lists:
            assert head(headers, heads=heads) == head(headers)


def test_the_last_request_stands_for_the_same_list_only():
    heads, request = RequestHeads(), Request.refused()
    assert heads.repeated((), b"") is None
    heads.remember(tuple(GET), b"http", request)
    assert heads.repeated(tuple(GET), b"http") is request
    assert heads.repeated(tuple(GET), b"") is None
    for other in (with_path(b"/b"), [*GET, (b"x-a", b"b")], GET[:3], [GET[0], GET[2], GET[1], GET[3]]):
        assert heads.repeated(tuple(other), b"http") is None
    heads.remember(tuple(with_path(b"/b")), b"http", Request.refused())
    assert heads.repeated(tuple(GET), b"http") is None


def test_a_list_is_cached_for_one_scheme():
    heads = cached(GET, scheme=b"http")
    with pytest.raises(RejectedRequest):
        head(GET, scheme=b"https", heads=heads)
    assert head(GET, scheme=b"", heads=heads) == head(GET)
    with pytest.raises(RejectedRequest):
        head(GET, scheme=b"https", heads=cached(GET, scheme=b""))


def test_a_body_makes_another_head():
    heads = cached(GET)
    assert b"transfer-encoding: chunked\r\n" in head(GET, has_body=True, heads=heads)
    assert b"transfer-encoding" not in head(GET, heads=heads)


def test_a_list_that_comes_once_is_not_cached():
    heads = RequestHeads()
    for number in range(100):
        head([*GET, (b"x-a", b"%d" % number)], heads=heads)
    assert len(heads) == 0


def test_the_cache_of_heads_is_bounded():
    heads = RequestHeads()
    for number in range(2 * REMEMBERED):
        for _ in range(2):
            head([*GET, (b"x-a", b"%d" % number)], heads=heads)
    assert len(heads) == REMEMBERED
    for number in range(10 * REMEMBERED):
        head([*GET, (b"x-b", b"%d" % number)], heads=heads)
    assert len(heads._seen) <= 4 * REMEMBERED


@pytest.mark.parametrize("more", [[(b"x-a", b"b" * LONGEST)], [(b"x-a", b"b")] * 40], ids=["bytes", "fields"])
def test_large_heads_are_not_cached(more):
    heads = RequestHeads()
    made = [head([*GET, *more], heads=heads) for _ in range(3)]
    assert len(set(made)) == 1
    assert len(heads) == 0


def test_the_memory_of_names_is_bounded():
    heads = RequestHeads()
    for number in range(2 * MEMO_SIZE):
        heads.request_head([*GET, (b"x-%d" % number, b"")], scheme=b"http", has_body=False)
    heads.request_head([*GET, (b"x" * 10_000, b"")], scheme=b"http", has_body=False)
    assert len(heads._plain) <= MEMO_SIZE
    assert max(map(len, heads._plain)) < 100


def test_trailers():
    assert trailer_fields([(b"x-a", b"b"), (b"x-c", b"d")], LimitSettings()) == [(b"x-a", b"b"), (b"x-c", b"d")]
    assert trailer_fields([], LimitSettings()) == []


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ([(b"content-length", b"3")], Cause.BAD_REQUEST),
        ([(b"host", b"a")], Cause.BAD_REQUEST),
        ([(b"connection", b"a")], Cause.BAD_REQUEST),
        ([(b":path", b"a")], Cause.BAD_REQUEST),
        ([(b"X", b"a")], Cause.BAD_REQUEST),
        ([(b"x", b"a\r\nb: c")], Cause.BAD_REQUEST),
        ([(b"x", b"a" * 17_000)], Cause.HEADERS_TOO_LARGE),
        ([(b"x", b"a")] * 201, Cause.HEADERS_TOO_LARGE),
        ([(b"x", b"a" * 15_000)] * 5, Cause.HEADERS_TOO_LARGE),
    ],
)
def test_bad_trailers(fields, cause):
    with pytest.raises(BadBody) as raised:
        trailer_fields(fields, LimitSettings())
    assert raised.value.cause is cause


@pytest.mark.parametrize(
    ("came", "passed_on"),
    [
        ([([b"abc"], True)], [[b"abc"]]),
        ([([b"abc"], False), ([], True)], [[b"ab"], [b"c"]]),
        ([([b"ab"], False), ([b"c"], False), ([], False), ([], True)], [[b"ab"], [], [], [b"c"]]),
        ([([b"ab", b"c"], False), ([], True)], [[b"ab"], [b"c"]]),
        ([([b"a"], False), ([b"bc"], True)], [[b"a"], [b"bc"]]),
    ],
)
def test_the_last_byte_of_a_body_is_passed_on_with_its_end(came, passed_on):
    body = CountedBody(3)
    assert [body.take(pieces, ended=ended) for pieces, ended in came] == passed_on
