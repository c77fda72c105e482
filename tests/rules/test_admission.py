"""Heads held against the limits, to the byte, and what an answer means for its attempt."""

import pytest

from edge.rules.admission import (
    Admission,
    Answer,
    Request,
    check_head_size,
    check_partial_head,
    refusal_pause,
)
from edge.rules.framing import BadAnswer, Framing, Refusal
from edge.rules.messages import AnswerHead, Fields, RequestHead
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

DEFAULTS = LimitSettings()
LIMITS = LimitSettings(request_line=64, field=100, head=300, fields=5, body=1000)
HOST = (b"Host", b"Shop.test:8080")


def admitted(
    fields: Fields,
    *,
    method: bytes = b"GET",
    target: bytes = b"/",
    minor: int = 1,
    limits: LimitSettings = DEFAULTS,
) -> Request:
    return Admission(limits).request(RequestHead(method, target, minor, fields))


def answered(status: int, *fields: tuple[bytes, bytes], to_head: bool = False, minor: int = 1) -> Answer:
    return Admission(DEFAULTS).answer(AnswerHead(status, b"", minor, list(fields)), to_head=to_head)


def refused_for(fields: Fields, **head: object) -> Cause:
    with pytest.raises(Refusal) as refusal:
        admitted(fields, **head)  # type: ignore[arg-type]
    return refusal.value.cause


def head(*, line: int = 20, fields: tuple[int, ...] = ()) -> bytes:
    """A whole head with lines of these lengths, each without its CRLF."""
    return b"".join(b"x" * size + b"\r\n" for size in (line, *fields)) + b"\r\n"


def whole_verdict(data: bytes, limits: LimitSettings) -> Cause | None:
    try:
        check_head_size(data, limits)
    except Refusal as refusal:
        return refusal.cause
    return None


def early_verdict(data: bytes, limits: LimitSettings) -> Cause | None:
    """What is said of a head that comes byte by byte, before its last one."""
    try:
        for at in range(1, len(data)):
            check_partial_head(data[:at], limits)
    except Refusal as refusal:
        return refusal.cause
    return None


# Requests


def test_a_request_that_may_be_passed_on() -> None:
    fields = [HOST, (b"Accept", b"*/*"), (b"Content-Length", b"3"), (b"Connection", b"close")]
    request = admitted(fields, method=b"POST", target=b"/a?b")
    assert (request.method, request.target, request.minor) == (b"POST", b"/a?b", 1)
    assert (request.host, request.host_field) == ("shop.test", b"Shop.test:8080")
    assert request.lines == b"Accept: */*\r\nContent-Length: 3\r\n"
    assert (request.framing, request.length) == (Framing.LENGTH, 3)
    assert request.keep_alive is False
    assert request.safe is False
    assert request.fields == fields


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE"])
def test_safe_methods(method: bytes) -> None:
    assert admitted([HOST], method=method).safe


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"PROPFIND", b"get"])
def test_all_others_are_not_safe(method: bytes) -> None:
    assert not admitted([HOST], method=method).safe


def test_an_old_client_is_served_and_not_kept() -> None:
    assert admitted([HOST], minor=0).keep_alive is False
    assert admitted([HOST, (b"Connection", b"keep-alive")], minor=0).keep_alive is True


@pytest.mark.parametrize(
    ("fields", "told", "cause"),
    [
        pytest.param([], {}, Cause.EMPTY_HOST, id="no Host"),
        pytest.param([], {"minor": 0}, Cause.EMPTY_HOST, id="no Host in 1.0"),
        pytest.param([HOST, HOST], {}, Cause.BAD_REQUEST, id="Host twice"),
        pytest.param([HOST], {"target": b"*"}, Cause.BAD_REQUEST, id="target"),
        pytest.param([HOST], {"target": b"http://other.test/"}, Cause.BAD_REQUEST, id="absolute target elsewhere"),
        pytest.param([HOST], {"method": b"CONNECT"}, Cause.NOT_IMPLEMENTED, id="CONNECT"),
        pytest.param([HOST, (b"Content-Length", b"x")], {}, Cause.BAD_REQUEST, id="framing"),
        pytest.param([HOST, (b"Expect", b"200-ok")], {}, Cause.EXPECTATION_FAILED, id="expectation"),
        pytest.param(
            [HOST, (b"Expect", b"100-continue"), (b"Expect", b"x")], {}, Cause.EXPECTATION_FAILED, id="second one"
        ),
    ],
)
def test_requests_that_are_refused(fields: Fields, told: dict[str, object], cause: Cause) -> None:
    assert refused_for(fields, **told) is cause


def test_the_same_host_refused_once_is_refused_again() -> None:
    admission = Admission(DEFAULTS)
    for _ in range(2):
        with pytest.raises(Refusal):
            admission.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"a b")]))


def test_expect_is_passed_on_for_the_backend_to_answer() -> None:
    request = admitted([HOST, (b"Expect", b"100-Continue"), (b"Connection", b"expect")])
    assert request.lines == b"Expect: 100-continue\r\n"


def test_as_many_fields_as_the_limit_and_no_more() -> None:
    fields = [HOST] + [(b"A", b"b")] * 4
    assert admitted(fields, limits=LIMITS)
    assert refused_for([*fields, (b"A", b"b")], limits=LIMITS) is Cause.HEADERS_TOO_LARGE


def test_an_announced_body_as_large_as_the_limit_and_no_larger() -> None:
    assert admitted([HOST, (b"Content-Length", b"1000")], limits=LIMITS).length == 1000
    assert refused_for([HOST, (b"Content-Length", b"1001")], limits=LIMITS) is Cause.BODY_TOO_LARGE
    assert admitted([HOST, (b"Content-Length", b"9" * 16)]).length == 10**16 - 1


def test_spellings_of_host_are_remembered_up_to_a_bound() -> None:
    admission = Admission(DEFAULTS)
    for n in range(Admission.HOSTS + 50):
        request = admission.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"Site-%d.test" % n)]))
        assert request.host == f"site-{n}.test"
    assert len(admission._hosts) == Admission.HOSTS
    assert admission.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"SITE-0.test")])).host == "site-0.test"


# The size of a head


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(head(line=64), None, id="request line at its limit"),
        pytest.param(head(line=65), Cause.URI_TOO_LONG, id="request line over it"),
        pytest.param(head(line=65, fields=(101,)), Cause.URI_TOO_LONG, id="the line is named first"),
        pytest.param(head(fields=(100,)), None, id="field at its limit"),
        pytest.param(head(fields=(101,)), Cause.HEADERS_TOO_LARGE, id="field over it"),
        pytest.param(head(fields=(10, 100, 10)), None, id="field in the middle"),
        pytest.param(head(line=60, fields=(100, 100, 28)), None, id="head at its limit of 300"),
        pytest.param(head(line=60, fields=(100, 100, 31)), Cause.HEADERS_TOO_LARGE, id="head over it"),
    ],
)
def test_limits_are_exact_however_the_head_arrives(data: bytes, cause: Cause | None) -> None:
    assert whole_verdict(data, LIMITS) is cause
    assert early_verdict(data, LIMITS) in (None, cause)


def test_what_is_too_long_is_refused_before_its_end() -> None:
    assert early_verdict(b"x" * 66, LIMITS) is Cause.URI_TOO_LONG
    assert early_verdict(head(fields=(150,))[:-4], LIMITS) is Cause.HEADERS_TOO_LARGE
    assert early_verdict(head(fields=(99, 99, 99))[:-4], LIMITS) is Cause.HEADERS_TOO_LARGE


def test_a_cookie_of_32_kib_passes_by_default() -> None:
    check_head_size(head(fields=(len(b"Cookie: ") + 32 * 1024,)), DEFAULTS)
    with pytest.raises(Refusal):
        check_head_size(head(fields=(33 * 1024 + 1,)), DEFAULTS)


def test_default_limits_are_8_kib_for_the_line_and_64_kib_in_all() -> None:
    check_head_size(head(line=8192), DEFAULTS)
    with pytest.raises(Refusal) as too_long:
        check_head_size(head(line=8193), DEFAULTS)
    assert too_long.value.cause is Cause.URI_TOO_LONG
    whole = head(line=1000, fields=(30_000, 30_000))
    check_head_size(whole + b"x" * (65536 - len(whole)), DEFAULTS)
    with pytest.raises(Refusal) as too_large:
        check_head_size(whole + b"x" * (65537 - len(whole)), DEFAULTS)
    assert too_large.value.cause is Cause.HEADERS_TOO_LARGE


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n", b"\n", b"GET / HTTP/1.1\r\nHost: a\nB: c", b"a\r\n\n"])
def test_a_bare_line_feed_is_refused_before_the_head_is_whole(data: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        check_partial_head(data, DEFAULTS)
    assert refusal.value.cause is Cause.BAD_REQUEST


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_partial_head_that_may_become_a_good_one(data: bytes) -> None:
    check_partial_head(data, DEFAULTS)


# Answers


def test_an_answer_that_may_be_passed_on() -> None:
    answer = answered(200, (b"Server", b"nginx"), (b"Content-Length", b"5"), (b"X-Styx-Error", b"forged"))
    assert (answer.status, answer.framing, answer.length, answer.keep_alive) == (200, Framing.LENGTH, 5, True)
    assert answer.lines.endswith(b"\r\nServer: nginx\r\n")
    assert answer.head == answer.lines + b"Content-Length: 5\r\n"


@pytest.mark.parametrize(
    ("fields", "minor", "kept"),
    [
        ([(b"Content-Length", b"5")], 1, True),
        ([(b"Content-Length", b"5"), (b"Connection", b"close")], 1, False),
        ([(b"Content-Length", b"5")], 0, False),
        ([(b"Content-Length", b"5"), (b"Connection", b"keep-alive")], 0, True),
        ([(b"Connection", b"keep-alive")], 1, False),
    ],
    ids=["1.1", "close", "1.0", "1.0 kept", "body until close"],
)
def test_whether_a_connection_may_be_used_again(fields: Fields, minor: int, kept: bool) -> None:
    assert answered(200, *fields, minor=minor).keep_alive is kept


def test_answers_that_cannot_be_trusted() -> None:
    with pytest.raises(BadAnswer):
        answered(200, (b"Content-Length", b"5"), (b"Content-Length", b"6"))
    with pytest.raises(BadAnswer):
        answered(200, *[(b"A", b"b")] * (DEFAULTS.fields + 1))
    assert answered(200, *[(b"A", b"b")] * DEFAULTS.fields)


def test_an_answer_to_head_keeps_the_length_it_tells_of() -> None:
    answer = answered(200, (b"Content-Length", b"5"), to_head=True)
    assert (answer.framing, answer.length) == (Framing.NONE, 5)


def test_lines_of_an_interim_answer() -> None:
    hints = AnswerHead(103, b"Early Hints", 1, [(b"Link", b"</a.css>"), (b"Connection", b"x"), (b"X", b"y")])
    assert b"".join(Admission(DEFAULTS).interim_lines(hints)) == b"Link: </a.css>\r\n"


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (200, Cause.FINE),
        (302, Cause.FINE),
        (404, Cause.FINE),
        (429, Cause.FINE),
        (420, Cause.FINE),
        (421, Cause.MISDIRECTED),
        (422, Cause.FINE),
        (499, Cause.FINE),
        (500, Cause.SERVER_ERROR),
        (501, Cause.SERVER_ERROR),
        (502, Cause.GATEWAY_ERROR),
        (503, Cause.SERVER_ERROR),
        (504, Cause.GATEWAY_ERROR),
        (560, Cause.ANOTHER_PLEASE),
        (599, Cause.SERVER_ERROR),
    ],
)
def test_what_a_status_means(status: int, cause: Cause) -> None:
    assert answered(status).cause is cause


@pytest.mark.parametrize("status", [200, 421, 429, 500, 502, 503, 560])
def test_the_mark_goes_before_any_status(status: int) -> None:
    assert answered(status, (b"x-STYX-refused", b"full")).cause is Cause.REFUSED


@pytest.mark.parametrize(
    ("values", "pause"),
    [
        pytest.param([], 0, id="absent"),
        pytest.param([b"3"], 3, id="seconds"),
        pytest.param([b"0"], 0, id="zero"),
        pytest.param([b"10"], 10, id="the most"),
        pytest.param([b"11"], 10, id="more than the most"),
        pytest.param([b"99999999"], 10, id="eight digits"),
        pytest.param([b"9" * 400], 0, id="nonsense"),
        pytest.param([b"-1"], 0, id="negative"),
        pytest.param([b"1.5"], 0, id="fraction"),
        pytest.param([b""], 0, id="empty"),
        pytest.param([b"Wed, 21 Oct 2015 07:28:00 GMT"], 0, id="a date is not for containers"),
        pytest.param([b"soon", b"2"], 2, id="the first that is a number"),
    ],
)
def test_how_long_a_refusal_asks_for(values: list[bytes], pause: float) -> None:
    assert refusal_pause(answered(503, *[(b"RETRY-After", value) for value in values])) == pause


def test_what_stands_for_a_request_that_could_not_be_read() -> None:
    request = Request.refused()
    assert (request.host, request.keep_alive, request.safe) == ("", False, False)
    assert request.framing is Framing.NONE
