"""HeadReader: cached heads give the same result as parsed ones, and the cache is bounded."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.net.h1 import head_reader as head_reader_module
from edge.net.h1.head_reader import LONGEST, REMEMBERED, HeadReader
from edge.net.h1.llhttp_parser import request_head
from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings

NOT_COMPARED = ("received", "refused", "line")
MEMBERS = [name for name in vars(Request) if name[0] != "_" and name not in NOT_COMPARED]
NO_REQUEST = Request.refused()
FIELDS = b"\r\nHost: Shop.test:8080\r\nAccept: */*\r\nX-Styx-Evil: 1\r\nConnection: close\r\n\r\n"


scans = False
"Whether fields are read by our own pass, as in the compiled build, or by llhttp."


@pytest.fixture(autouse=True, scope="module", params=[False, True], ids=["llhttp", "own pass"])
def both_ways(request: pytest.FixtureRequest) -> None:
    """Run each test of this file twice."""
    global scans
    scans = request.param


def new_head_reader(limits: LimitSettings | None = None) -> HeadReader:
    return HeadReader(HeadValidator(limits or LimitSettings(), ForwardingSettings()), scans=scans)


def verdict(read: Callable[[bytes], Request], data: bytes) -> Request | Cause:
    try:
        return read(data)
    except RejectedRequest as rejection:
        return rejection.cause


def members(read: Request | Cause) -> object:
    """The attributes by which two requests are compared."""
    return {name: getattr(read, name) for name in MEMBERS} if isinstance(read, Request) else read


targets = st.binary(min_size=1, max_size=30).map(lambda tail: b"/" + tail) | st.sampled_from(
    [b"/", b"*", b"http://shop.test:8080/", b"/%2F?a=b#c", b"//x;y'z", b"/\xff", b"/a b", b""]
)
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"get", b"PURGE", b"G T"])
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 "])


@settings(max_examples=300, deadline=None)
@given(methods, targets, versions)
def test_a_cached_block_of_fields_gives_the_same_result(method: bytes, target: bytes, version: bytes) -> None:
    head_reader, validator = new_head_reader(), HeadValidator(LimitSettings(), ForwardingSettings())
    for _ in range(2):
        head_reader.request(b"GET / HTTP/1.1" + FIELDS)
    assert len(head_reader) == 1
    data = b"%b %b %b" % (method, target, version) + FIELDS
    if b"\r\n\r\n" in data[:-4]:
        return  # two heads: H1Connection passes one at a time
    expected = verdict(lambda data: validator.request(request_head(data)), data)
    assert members(verdict(head_reader.request, data)) == members(expected)


@pytest.mark.parametrize("times", [0, 1, 2])
@settings(max_examples=150, deadline=None)
@given(methods, targets, versions)
def test_data_that_is_one_head_gives_the_same_result(
    times: int, method: bytes, target: bytes, version: bytes
) -> None:
    head_reader, validator = new_head_reader(), HeadValidator(LimitSettings(), ForwardingSettings())
    previous = NO_REQUEST
    for _ in range(times):
        previous = head_reader.only_request(b"GET / HTTP/1.1" + FIELDS, NO_REQUEST) or NO_REQUEST
    data = b"%b %b %b" % (method, target, version) + FIELDS
    if b"\r\n\r\n" in data[:-4]:
        return
    expected = verdict(lambda data: validator.request(request_head(data)), data)
    for before in (NO_REQUEST, previous):
        read = partial(head_reader.only_request, previous=before)
        found = verdict(lambda data, read=read: read(data) or head_reader.request(data), data)
        assert members(found) == members(expected)
        compared = head_reader.with_same_fields(data, before)
        assert compared is None or members(compared) == members(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1" + FIELDS + b"GET / HTTP/1.1" + FIELDS,
        b"GET / HTTP/1.1" + FIELDS + b"\r\n\r\n",
        b"\r\nGET / HTTP/1.1" + FIELDS,
        FIELDS,
        b"\r\n" + FIELDS,
    ],
    ids=["two", "empty lines behind it", "an empty line before it", "only fields", "an empty line and fields"],
)
@pytest.mark.parametrize("cached", [False, True])
def test_what_is_not_one_head_is_left_to_others(data: bytes, cached: bool) -> None:
    head_reader, previous = new_head_reader(), NO_REQUEST
    for _ in range(2 * cached):
        previous = head_reader.request(b"GET / HTTP/1.1" + FIELDS)
    assert head_reader.only_request(data, previous) is None
    assert head_reader.with_same_fields(data, previous) is None


def test_what_a_client_repeats_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    head_reader = new_head_reader()
    first = head_reader.only_request(b"GET /a HTTP/1.1" + FIELDS, NO_REQUEST)
    assert first is not None
    monkeypatch.setattr(head_reader_module.RepeatCache, "offer", None)
    assert head_reader.with_same_fields(b"GET /a HTTP/1.1" + FIELDS, first) is first
    second = head_reader.with_same_fields(b"POST /b HTTP/1.1" + FIELDS, first)
    assert second is not None
    assert (second.method, second.target, second.safe, second.lines) == (b"POST", b"/b", False, first.lines)
    assert head_reader.with_same_fields(b"POST /b HTTP/1.1" + FIELDS, second) is second
    assert head_reader.with_same_fields(b"GET /a HTTP/1.1\r\nX-A: b" + FIELDS, first) is None
    assert head_reader.closed().with_same_fields(b"GET /a HTTP/1.1" + FIELDS, first) is None


def test_what_other_limits_allowed_is_parsed_again() -> None:
    head_reader = new_head_reader()
    first = head_reader.only_request(b"GET / HTTP/1.1" + FIELDS, NO_REQUEST)
    assert first is not None
    head_reader.reconfigure(HeadValidator(LimitSettings(fields=2), ForwardingSettings()))
    assert head_reader.with_same_fields(b"GET / HTTP/1.1" + FIELDS, first) is None
    with pytest.raises(RejectedRequest):
        head_reader.only_request(b"GET / HTTP/1.1" + FIELDS, first)


def test_a_repeated_block_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    head_reader = new_head_reader()
    for _ in range(2):
        first = head_reader.request(b"GET /a HTTP/1.1" + FIELDS)
    monkeypatch.setattr(head_reader_module, "request_fields", None)
    assert head_reader.request(b"GET /a HTTP/1.1" + FIELDS) is first, "nobody changes it"
    second = head_reader.request(b"POST /b HTTP/1.1" + FIELDS)
    assert (second.method, second.target, second.safe) == (b"POST", b"/b", False)
    assert second.received is first.received
    assert (second.host, second.lines, second.keep_alive) == (first.host, first.lines, False)


def test_a_rejected_head_is_not_cached() -> None:
    head_reader = new_head_reader()
    for _ in range(3):
        with pytest.raises(RejectedRequest):
            head_reader.request(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert len(head_reader) == 0


def test_a_cached_head_keeps_the_length_of_its_body() -> None:
    head_reader = new_head_reader()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert [head_reader.request(head).length for _ in range(4)] == [5] * 4


def test_a_response_to_head_is_not_taken_from_the_cache() -> None:
    """The same bytes announce a body after GET and none after HEAD."""
    head_reader = new_head_reader()
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    framings = [head_reader.response(data, to_head=to_head) for to_head in (False, True) * 3]
    assert [response.framing.value for response in framings if isinstance(response, Response)] == [
        "length",
        "none",
    ] * 3


def test_memory_is_bounded_in_number_and_size() -> None:
    head_reader = new_head_reader()
    for n in range(6 * REMEMBERED):
        head_reader.request(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (n // 2))
        head_reader.response(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (n // 2), to_head=False)
    for _ in range(3):
        head_reader.request(b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * LONGEST))
    assert len(head_reader) == 2 * REMEMBERED
    assert head_reader.longest <= LONGEST


def test_heads_that_come_once_evict_nothing() -> None:
    head_reader = new_head_reader()
    for _ in range(2):
        head_reader.request(b"GET / HTTP/1.1" + FIELDS)
    for n in range(3 * REMEMBERED):
        head_reader.request(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % n)
    assert len(head_reader) == 1


@pytest.mark.parametrize("line", [b"A: b", b"A", b"A: b\r\nA: c"], ids=["named alike", "no field", "two"])
def test_as_many_fields_as_the_limit_and_no_more(line: bytes) -> None:
    """Lines are counted before they are parsed, so a line that is not a field counts as well."""
    limits = LimitSettings(fields=20)
    head_reader = new_head_reader(limits)
    for start in (b"GET / HTTP/1.1\r\n", b"get /%zz HTTP/1.1\r\n"):
        head = start + b"Host: a\r\n" + (line + b"\r\n") * 20 + b"\r\n"
        assert verdict(head_reader.request, head) is Cause.HEADERS_TOO_LARGE
        assert isinstance(
            verdict(head_reader.request, start + b"Host: a\r\n" + b"A: b\r\n" * 19 + b"\r\n"), Request
        )
    for start in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n"):
        with pytest.raises(BadResponse, match="more than 20 fields"):
            head_reader.response(start + (line + b"\r\n") * 21 + b"\r\n", to_head=False)
        assert head_reader.response(start + b"A: b\r\n" * 20 + b"\r\n", to_head=False)


def test_too_many_fields_are_rejected_before_their_sizes_are_checked() -> None:
    limits = LimitSettings(fields=20, field=100, cookie=100, head=10_000, request_line=100)
    head_reader = new_head_reader(limits)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 20 + b"\r\n"
    assert verdict(head_reader.request, head) is Cause.HEADERS_TOO_LARGE


def test_only_lines_that_differ_are_read_again() -> None:
    head_reader = HeadReader(HeadValidator(LimitSettings(), ForwardingSettings()), scans=True)
    previous = NO_REQUEST
    for number in range(3):
        fields = b"\r\nHost: shop.test\r\nX_Real_IP: a\r\nAccept: */*\r\nX-A:b\r\nCookie: n=%d\r\n\r\n" % number
        request = head_reader.only_request(b"GET / HTTP/1.1" + fields, previous)
        assert request is not None
        assert request.lines == b"Accept: */*\r\nX-A: b\r\nCookie: n=%d\r\n" % number
        previous = request
    assert previous.received.plain_lines == [b"", b"", b"Accept: */*\r\n", b"", b"Cookie: n=2\r\n"]


def test_lines_of_the_first_request_are_not_kept() -> None:
    """Most first requests have no other behind them that would be compared line by line."""
    head_reader = HeadReader(HeadValidator(LimitSettings(), ForwardingSettings()), scans=True)
    request = head_reader.only_request(b"GET / HTTP/1.1" + FIELDS, NO_REQUEST)
    assert request is not None
    assert request.received.plain_lines == []


def test_the_number_of_fields_is_limited_among_known_lines() -> None:
    head_reader = HeadReader(HeadValidator(LimitSettings(fields=3), ForwardingSettings()), scans=True)
    previous = NO_REQUEST
    for number in range(2):
        fields = b"\r\nHost: shop.test\r\nAccept: */*\r\nCookie: n=%d\r\n\r\n" % number
        previous = head_reader.only_request(b"GET / HTTP/1.1" + fields, previous) or NO_REQUEST
    with pytest.raises(RejectedRequest, match="more than 3 fields"):
        head_reader.only_request(
            b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nCookie: n=1\r\nX-A: b\r\n\r\n", previous
        )


def test_a_response_is_kept_whole_for_another_request_unless_it_was_one_to_a_head_request() -> None:
    head_reader, head = new_head_reader(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    response, to_head = (head_reader.response(head, to_head=to_head) for to_head in (False, True))
    assert isinstance(response, Response)
    assert isinstance(to_head, Response)
    assert (response.whole, response.received.validator) == (head, head_reader.validator)
    assert (to_head.whole, to_head.received.validator) == (b"", None)
    head_reader.reconfigure(HeadValidator(LimitSettings(), ForwardingSettings()))
    assert response.received.validator is not head_reader.validator, "other limits may hold"


def test_a_request_is_current_for_the_limits_that_it_was_read_by() -> None:
    reader = new_head_reader()
    request = reader.request(b"GET / HTTP/1.1" + FIELDS)
    assert reader.is_current(request)
    assert not reader.closed().is_current(request)
    assert not reader.is_current(NO_REQUEST)
    reader.reconfigure(HeadValidator(LimitSettings(), ForwardingSettings()))
    assert not reader.is_current(request)
