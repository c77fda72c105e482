"""Which fields of a head are forwarded, read or dropped; and that a block of them is read in one strict pass."""

import pytest

from edge.rules.http.field_filter import MEMO_LONGEST, MEMO_SIZE, PASS, Sifted, request_filter, response_filter
from edge.rules.http.framing import MAX_MEMBERS, BadResponse, RejectedRequest, TooManyMembers
from edge.rules.http.hop_by_hop import tokens
from edge.rules.http.messages import fields_of
from edge.rules.outcomes import Cause
from tests.support.forwarded_fields import passed, passed_back

MANY = 1000


# The filter


def test_fields_pass_as_they_came_in_their_order() -> None:
    fields = [(b"Accept", b"*/*"), (b"x-ODD", b""), (b"Cookie", b"a=b"), (b"Cookie", b"c=d")]
    assert passed(fields) == fields


@pytest.mark.parametrize(
    "name",
    [
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"HTTP2-Settings",
        b"Proxy",
        b"pRoXy",
        b"X-Styx-Backend",
        b"x-styx-anything",
        b"X-Styx-Refused",
        b"X-Forwarded-Prefix",
        b"x-forwarded-ssl",
    ],
)
def test_fields_of_a_request_that_are_dropped(name: bytes) -> None:
    lines, found, _ = request_filter().sift([(name, b"x")])
    assert (lines, found) == ([], {})


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"X-Forwarded_For",
        b"x_forwarded_proto",
        b"X_Forwarded_Host",
        b"X_Forwarded_Port",
        b"X_Forwarded_Prefix",
        b"X_Request_Id",
        b"X.Forwarded.For",
        b"x-forwarded.ssl",
        b"X.Styx.Backend",
        b"Content~Length",
        b"X_Styx_Backend",
        b"X-Styx_Attempt",
        b"Content_Length",
        b"Transfer_Encoding",
        b"Proxy_Authorization",
        b"Keep_Alive",
        b"X_Real_IP",
        b"True_Client_IP",
        b"CLIENT_IP",
        b"Client.Ip",
        b"Front-End_Https",
        b"X_Original_URL",
        b"X_Rewrite_URL",
        b"X_Url_Scheme",
    ],
)
def test_spellings_with_underscores_of_what_styx_sets_are_dropped(name: bytes) -> None:
    lines, found, _ = request_filter().sift([(name, b"x")])
    assert (lines, found) == ([], {})


@pytest.mark.parametrize("name", [b"X_Custom", b"ho_st", b"_", b"Accept_Language", b"X-Stygian", b"Proxy-Hint"])
def test_other_names_pass(name: bytes) -> None:
    assert passed([(name, b"x")]) == [(name, b"x")]


@pytest.mark.parametrize(
    "name",
    [
        b"Host",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"Expect",
        b"Via",
        b"Forwarded",
        b"X-Request-Id",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
        b"X-Forwarded-Port",
        b"X-Real-IP",
        b"True-Client-IP",
        b"Client-IP",
        b"Front-End-Https",
        b"X-Original-URL",
        b"X-Rewrite-URL",
        b"X-Url-Scheme",
    ],
)
def test_fields_of_a_request_that_styx_reads_and_encodes_again(name: bytes) -> None:
    lines, found, _ = request_filter().sift([(name, b"close")])
    assert (lines, found) == ([], {name.lower(): [b"close"]})


def test_values_that_styx_reads_stay_separate_and_in_order() -> None:
    fields = [(b"Via", b"1.0 a"), (b"Accept", b"x"), (b"VIA", b"1.1 b")]
    assert request_filter().sift(fields)[1] == {b"via": [b"1.0 a", b"1.1 b"]}


def test_a_response_is_forwarded_without_hop_by_hop_fields() -> None:
    passing = [(b"Server", b"nginx"), (b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"c=d"), (b"Via", b"1.1 varnish")]
    dropped = [
        (b"Connection", b"keep-alive"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"x"),
        (b"Upgrade", b"h2c"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"3"),
        (b"X-Request-Id", b"theirs"),
        (b"X-Styx-Error", b"forged"),
        (b"X_Styx_Refused", b"forged"),
    ]
    assert passed_back([*dropped[:4], *passing, *dropped[4:]]) == passing


def test_a_refusal_is_read_and_not_forwarded() -> None:
    lines, found, _ = response_filter().sift([(b"X-Styx-Refused", b"queue full")])
    assert (lines, found) == ([], {b"x-styx-refused": [b"queue full"]})


# Connection


def test_fields_named_by_connection_are_dropped() -> None:
    fields = [(b"X-Hop", b"1"), (b"Accept", b"x"), (b"Connection", b"close, X-HOP"), (b"x-hop", b"2")]
    assert passed(fields) == [(b"Accept", b"x")]
    assert passed_back(fields) == [(b"Accept", b"x")]


def test_other_fields_stay_dropped_when_connection_names_one() -> None:
    fields = [(b"Connection", b"x-hop"), (b"Proxy", b"evil"), (b"X-Styx-Backend", b"b"), (b"Accept", b"x")]
    assert passed(fields) == [(b"Accept", b"x")]


# The cache of names


def test_the_cache_of_names_is_bounded() -> None:
    field_filter = request_filter()
    for n in range(MEMO_SIZE + 100):
        field_filter.sift([(b"X-%d" % n, b""), (b"x" * (MEMO_LONGEST + 1) + b"%d" % n, b"")])
        assert len(field_filter._actions) <= MEMO_SIZE
    for _ in range(2):
        assert field_filter.sift([(b"PROXY", b"x"), (b"hOsT", b"a")]) == ([], {b"host": [b"a"]}, 2)
    assert b"hOsT" in field_filter._actions  # made-up names do not keep real ones out
    assert max(map(len, field_filter._actions)) <= MEMO_LONGEST


@pytest.mark.parametrize(
    "values",
    [[b"a, " * MAX_MEMBERS], [b"," * 16_000], [b"a"] * (MAX_MEMBERS + 1), [b"a," * 60, b"," * 60]],
    ids=["members", "empty ones", "lines", "together"],
)
def test_a_list_with_too_many_members_is_not_read(values: list[bytes]) -> None:
    with pytest.raises(TooManyMembers):
        tokens(values)
    fields = [(b"Connection", value) for value in values]
    with pytest.raises(RejectedRequest) as refusal:
        request_filter().sift(fields)
    assert refusal.value.cause is Cause.HEADERS_TOO_LARGE
    with pytest.raises(BadResponse):
        response_filter().sift(fields)


def test_requests_and_responses_have_separate_caches() -> None:
    assert request_filter().action_for(b"Host") == b"host"
    assert response_filter().action_for(b"Host") == PASS


# A block of fields


def sifted(block: bytes, most: int = MANY) -> Sifted:
    return request_filter().sift_block(block, most)


BLOCKS = {
    "all pass": b"Accept: */*\r\nCookie: a=b; c=d\r\nX-A: \r\n\r\n",
    "none": b"\r\n",
    "one is read": b"Accept: */*\r\nHost: a.test\r\nCookie: a=b\r\n\r\n",
    "the last is dropped": b"Accept: */*\r\nX-Styx-A: b\r\n\r\n",
    "other blanks": b"A:1\r\nB:  2\r\nC:\t3\r\nD: \t4 \t\r\nE:\r\nF: 5 \r\n\r\n",
    "Connection names one": b"X-A: 1\r\nConnection: x-a, close\r\nX-B: 2\r\n\r\n",
    "repeated names": b"Via: 1.0 a\r\nCookie: a\r\nvia: 1.1 b \r\nCookie: a\r\n\r\n",
    "all bytes of text": b"X: \t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F) + b"\r\n\r\n",
    "all bytes of a name": b"!#$%&'*+-.^_`|~09AZaz: 1\r\n\r\n",
    "long name": b"n" * 1000 + b": 1\r\n\r\n",
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_comes_to_what_its_fields_come_to(block: bytes) -> None:
    lines, found, count = sifted(block)
    expected_lines, expected_found, expected_count = request_filter().sift(fields_of(block))
    assert (b"".join(lines), found, count) == (b"".join(expected_lines), expected_found, expected_count)


def test_lines_that_pass_side_by_side_are_one_slice() -> None:
    assert sifted(b"Host: a\r\nA: 1\r\nB: 2\r\nVia: 1.1 b\r\nC: 3\r\n\r\n")[0] == [b"A: 1\r\nB: 2\r\n", b"C: 3\r\n"]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"A: 1\r\n",
        b"A: 1\n\r\n",
        b"A: 1\r\n\n",
        b"A: 1\r\n\r",
        b"A: 1\r\r\n",
        b"A: 1\rB: 2\r\n\r\n",
        b"A: 1\r\n\r\nB: 2\r\n\r\n",
        b"A: 1\r\n 2\r\n\r\n",
        b"A: 1\r\n\t2\r\n\r\n",
        b" A: 1\r\n\r\n",
        b"A : 1\r\n\r\n",
        b"A\t: 1\r\n\r\n",
        b": 1\r\n\r\n",
        b"A\r\n\r\n",
        b"A;B: 1\r\n\r\n",
        b"(A): 1\r\n\r\n",
        b"\x7fA: 1\r\n\r\n",
        b"\xc3\xa4: 1\r\n\r\n",
        b"n" * 1000 + b"\x80: 1\r\n\r\n",
        b"A: \x00\r\n\r\n",
        b"A: \x0b\r\n\r\n",
        b"A: 1\x7f2\r\n\r\n",
        b"A:\x0c1\r\n\r\n",
        b"Transfer-Encoding: chunked\t\r\n\r\n",
        b"transfer-encoding: chunked \t \r\n\r\n",
    ],
)
def test_what_is_no_block_is_rejected(block: bytes) -> None:
    with pytest.raises(RejectedRequest) as rejection:
        sifted(block)
    assert rejection.value.cause is Cause.BAD_REQUEST
    with pytest.raises(BadResponse):
        response_filter().sift_block(block, MANY)


def test_each_byte_of_a_name_and_of_a_value_is_judged() -> None:
    """A name that is cached does not let another one pass, nor does a value."""
    field_filter = request_filter()
    token = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    text = frozenset({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
    field_filter.sift_block(b"XaX: 1\r\n\r\n", MANY)
    for byte in range(256):
        for block, valid in (
            (b"X%cX: 1\r\n\r\n" % byte, byte in token or byte == ord(":")),
            (b"XaX: 1%c2\r\n\r\n" % byte, byte in text),
        ):
            if valid:
                assert field_filter.sift_block(block, MANY)[2] == 1
            else:
                with pytest.raises(RejectedRequest):
                    field_filter.sift_block(block, MANY)


@pytest.mark.parametrize("line", [b"A: 1\r\n", b"A\r\n", b"Host: a\r\n"], ids=["a field", "no field", "read"])
def test_as_many_fields_as_allowed_and_no_more(line: bytes) -> None:
    with pytest.raises(RejectedRequest) as rejection:
        sifted(line * 4 + b"\r\n", 3)
    assert rejection.value.cause is Cause.HEADERS_TOO_LARGE
    with pytest.raises(BadResponse, match="more than 3 fields"):
        response_filter().sift_block(line * 4 + b"\r\n", 3)
    assert sifted(b"A: 1\r\n" * 3 + b"\r\n", 3)[2] == 3


def test_names_in_blocks_share_the_bounded_cache() -> None:
    field_filter = request_filter()
    for n in range(MEMO_SIZE + 100):
        field_filter.sift_block(b"X-%d: \r\n%b%d: \r\n\r\n" % (n, b"x" * (MEMO_LONGEST + 1), n), MANY)
    assert len(field_filter._actions) <= MEMO_SIZE
    assert max(map(len, field_filter._actions)) <= MEMO_LONGEST
