"""Validation of heads: exact limits, rejected requests, and the cause that follows from a response."""

import pytest

from edge.rules.http.framing import MAX_MEMBERS, BadResponse, Framing, RejectedRequest, ResponseTooLarge
from edge.rules.http.head_validation import (
    HeadValidator,
    Request,
    Response,
    refusal_pause,
)
from edge.rules.http.messages import Fields, RequestHead, ResponseHead
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, LimitSettings

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
    return HeadValidator(limits, ForwardingSettings()).request(RequestHead(method, target, minor, fields))


def validated(status: int, *fields: tuple[bytes, bytes], to_head: bool = False, minor: int = 1) -> Response:
    return HeadValidator(DEFAULTS, ForwardingSettings()).response(
        ResponseHead(status, b"", minor, list(fields)), to_head=to_head
    )


def refused_for(fields: Fields, **head: object) -> Cause:
    with pytest.raises(RejectedRequest) as refusal:
        admitted(fields, **head)  # type: ignore[arg-type]
    return refusal.value.cause


# Requests


def test_a_valid_request() -> None:
    fields = [HOST, (b"Accept", b"*/*"), (b"Content-Length", b"3"), (b"Connection", b"close")]
    request = admitted(fields, method=b"POST", target=b"/a?b")
    assert (request.method, request.target, request.minor) == (b"POST", b"/a?b", 1)
    assert (request.host, request.host_field) == ("shop.test", b"Shop.test:8080")
    assert request.lines == b"Accept: */*\r\nContent-Length: 3\r\n"
    assert (request.framing, request.length) == (Framing.LENGTH, 3)
    assert request.keep_alive is False
    assert request.safe is False
    assert request.fields == fields


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_safe_methods(method: bytes) -> None:
    assert admitted([HOST], method=method).safe


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"PROPFIND", b"get"])
def test_all_others_are_not_safe(method: bytes) -> None:
    assert not admitted([HOST], method=method).safe


def test_an_http_1_0_connection_is_closed_by_default() -> None:
    assert admitted([HOST], minor=0).keep_alive is False
    assert admitted([HOST, (b"Connection", b"keep-alive")], minor=0).keep_alive is True


@pytest.mark.parametrize(
    ("fields", "parts", "cause"),
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
def test_invalid_requests(fields: Fields, parts: dict[str, object], cause: Cause) -> None:
    assert refused_for(fields, **parts) is cause


def test_an_invalid_host_is_not_cached() -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings())
    for _ in range(2):
        with pytest.raises(RejectedRequest):
            validator.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"a b")]))


def test_expect_is_forwarded_to_the_backend() -> None:
    request = admitted([HOST, (b"Expect", b"100-Continue"), (b"Connection", b"expect")])
    assert request.lines == b"Expect: 100-continue\r\n"


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ([b"100-continue", b"100-Continue"], True),
        ([b"100-continue, 100-continue"], True),
        ([b"100-continue,"], True),
        ([b", 100-continue", b""], True),
        ([b""], False),
        ([b"  "], False),
        ([b"", b","], False),
    ],
)
def test_a_repeated_expectation_and_an_empty_one(values: list[bytes], passed: bool) -> None:
    request = admitted([HOST, *((b"Expect", value) for value in values)])
    assert request.lines == (b"Expect: 100-continue\r\n" if passed else b"")
    assert (b"expect" in request.found) is passed


@pytest.mark.parametrize(
    "values", [[b"x"], [b"100-continue, x"], [b"", b"x"], [b"100-continue x"], [b"100-continue;q"]]
)
def test_other_expectations_are_refused(values: list[bytes]) -> None:
    assert refused_for([HOST, *((b"Expect", value) for value in values)]) is Cause.EXPECTATION_FAILED


@pytest.mark.parametrize("name", [b"Via", b"TE", b"Connection", b"Transfer-Encoding"])
def test_lists_with_too_many_members(name: bytes) -> None:
    assert refused_for([HOST, (name, b"a, " * MAX_MEMBERS)]) is Cause.HEADERS_TOO_LARGE
    assert refused_for([HOST, *[(name, b"a")] * (MAX_MEMBERS + 1)]) is Cause.HEADERS_TOO_LARGE


def test_lists_with_many_members() -> None:
    many = b", ".join([b"1.1 a"] * MAX_MEMBERS)
    assert admitted([HOST, (b"Via", many)]).found[b"via"] == [many]
    assert admitted([HOST, (b"TE", b"a, " * (MAX_MEMBERS - 2) + b"trailers")]).lines.startswith(b"TE: trailers\r\n")
    assert admitted([HOST, (b"Connection", b"a, " * (MAX_MEMBERS - 2) + b"x-b"), (b"X-B", b"c")]).lines == b""


def test_content_length_up_to_the_limit() -> None:
    assert admitted([HOST, (b"Content-Length", b"1000")], limits=LIMITS).length == 1000
    assert refused_for([HOST, (b"Content-Length", b"1001")], limits=LIMITS) is Cause.BODY_TOO_LARGE
    assert admitted([HOST, (b"Content-Length", b"9" * 16)]).length == 10**16 - 1


def test_the_cache_of_hosts_is_bounded() -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings())
    for n in range(HeadValidator.HOSTS + 50):
        request = validator.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"Site-%d.test" % n)]))
        assert request.host == f"site-{n}.test"
        assert len(validator._hosts) <= HeadValidator.HOSTS
    assert (
        b"Site-%d.test" % (HeadValidator.HOSTS + 49) in validator._hosts
    )  # rubbish does not keep the real ones out
    assert validator.request(RequestHead(b"GET", b"/", 1, [(b"Host", b"SITE-0.test")])).host == "site-0.test"


def test_an_http_1_0_client_may_send_its_host_in_the_target_only() -> None:
    request = admitted([], minor=0, target=b"http://Shop.test:81/a")
    assert (request.host, request.host_field, request.target) == ("shop.test", b"Shop.test:81", b"/a")
    assert refused_for([], minor=1, target=b"http://shop.test/") is Cause.EMPTY_HOST


def test_expect_of_an_http_1_0_client_is_ignored() -> None:
    request = admitted([HOST, (b"Expect", b"100-continue")], minor=0)
    assert request.lines == b""
    assert b"expect" not in request.found
    assert refused_for([HOST, (b"Expect", b"x")], minor=0) is Cause.EXPECTATION_FAILED


# Where a request may go no further


def test_trace_is_off_unless_it_is_wanted() -> None:
    assert refused_for([HOST], method=b"TRACE") is Cause.METHOD_NOT_ALLOWED
    wanted = HeadValidator(DEFAULTS, ForwardingSettings(trace=True))
    assert wanted.request(RequestHead(b"TRACE", b"/", 1, [HOST])).safe


@pytest.mark.parametrize(("method", "trace"), [(b"OPTIONS", False), (b"TRACE", True)])
def test_max_forwards_is_decremented(method: bytes, trace: bool) -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings(trace=trace))
    head = RequestHead(method, b"/", 1, [HOST, (b"max-FORWARDS", b"10 "), (b"A", b"b")])
    assert validator.request(head).lines == b"A: b\r\nMax-Forwards: 9\r\n"


@pytest.mark.parametrize(
    ("method", "cause"), [(b"OPTIONS", Cause.LOCAL_REPLY), (b"TRACE", Cause.METHOD_NOT_ALLOWED)]
)
def test_max_forwards_0_is_not_forwarded(method: bytes, cause: Cause) -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings(trace=True))
    with pytest.raises(RejectedRequest) as refusal:
        validator.request(RequestHead(method, b"/", 1, [HOST, (b"Max-Forwards", b"0")]))
    assert refusal.value.cause is cause


@pytest.mark.parametrize("values", [[b"-1"], [b"x"], [b""], [b"1, 2"], [b"1", b"2"], [b"1" * 10]])
def test_a_max_forwards_that_is_no_number(values: list[bytes]) -> None:
    fields = [HOST, *((b"Max-Forwards", value) for value in values)]
    assert refused_for(fields, method=b"OPTIONS") is Cause.BAD_REQUEST
    assert b"Max-Forwards" in admitted(fields, method=b"GET").lines


@pytest.mark.parametrize(
    ("via", "passes"),
    [
        ([b"1.1 styx"], True),
        ([b"1.1 styx, 1.0 other (Styx), HTTP/1.1 STYX"], True),
        ([b"1.1 styx", b"1.1 Styx , 1.1 styx"], False),
        ([b"1.1 styx,1.1 styx,1.1 styx,1.1 styx"], False),
        ([b"styx, styx, styx, , x"], True),
    ],
)
def test_a_loop_is_detected_by_via(via: list[bytes], passes: bool) -> None:
    fields = [HOST, *((b"Via", value) for value in via)]
    if passes:
        assert admitted(fields)
    else:
        assert refused_for(fields) is Cause.LOOP_DETECTED


# From hop to hop


def offer(*values: bytes, connection: bytes = b"Upgrade", rest: Fields = []) -> Fields:  # noqa: B006
    return [HOST, (b"Connection", connection), *((b"Upgrade", value) for value in values), *rest]


def test_an_upgrade_is_forwarded() -> None:
    request = admitted(offer(b"WebSocket", connection=b"keep-alive, Upgrade"))
    assert request.offers == {b"websocket"}
    assert request.lines == b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
    assert not request.keep_alive


def test_an_upgrade_with_an_empty_body_is_forwarded() -> None:
    assert admitted(offer(b"websocket", rest=[(b"Content-Length", b"0")])).offers == {b"websocket"}


@pytest.mark.parametrize(
    ("fields", "minor"),
    [
        pytest.param(offer(b"websocket" + b"," * 300), 1, id="too long"),
        pytest.param(offer(b"websocket", connection=b"close"), 1, id="not named in Connection"),
        pytest.param([HOST, (b"Upgrade", b"websocket")], 1, id="no Connection"),
        pytest.param(offer(b"websocket"), 0, id="HTTP/1.0"),
        pytest.param(offer(b"h2c"), 1, id="h2c"),
        pytest.param(offer(b"HTTP/2.0, TLS/1.0, H2C"), 1, id="what could tell requests"),
        pytest.param(offer(b"websocket", rest=[(b"Content-Length", b"5")]), 1, id="with a body"),
        pytest.param(offer(b"websocket", rest=[(b"Transfer-Encoding", b"chunked")]), 1, id="with chunks"),
        pytest.param(offer(b""), 1, id="nothing offered"),
    ],
)
def test_an_upgrade_that_is_not_forwarded(fields: Fields, minor: int) -> None:
    request = admitted(fields, minor=minor)
    assert not request.offers
    assert b"pgrade" not in request.lines
    assert request.keep_alive is (minor > 0 and (b"Connection", b"close") not in fields)


def test_the_allowed_upgrades_can_be_set() -> None:
    head = RequestHead(b"GET", b"/", 1, offer(b"h2c, websocket", b"chat/2"))
    for upgrades, offers in (
        ("any", {b"chat/2", b"websocket"}),
        ("websocket", {b"websocket"}),
        ("none", frozenset()),
    ):
        forwarding = ForwardingSettings.model_validate({"upgrades": upgrades})
        assert HeadValidator(DEFAULTS, forwarding).request(head).offers == offers


def test_te_trailers_is_forwarded() -> None:
    assert admitted([HOST, (b"TE", b"gzip;q=0.5, Trailers")]).lines == b"TE: trailers\r\nConnection: TE\r\n"
    assert admitted([HOST, (b"TE", b"gzip")]).lines == b""
    assert admitted([HOST, (b"TE", b"trailers")], minor=0).lines == b""
    both = admitted(offer(b"websocket", rest=[(b"TE", b"trailers")]))
    assert both.lines == b"Upgrade: websocket\r\nTE: trailers\r\nConnection: Upgrade, TE\r\n"


@pytest.mark.parametrize("of_request", [True, False])
def test_trailers_that_pass(of_request: bool) -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings())
    fields = [(b"X-Sum", b"1 "), (b"Server-Timing", b""), (b"x-sum", b"2")]
    dropped = b"Cookie Set-Cookie Authorization Content-Type X-Styx-Refused Connection Upgrade TE Trailer Age"
    lines = validator.trailer_lines([*fields, *((name, b"x") for name in dropped.split())], of_request=of_request)
    assert lines == b"X-Sum: 1\r\nServer-Timing: \r\nx-sum: 2\r\n"


def test_client_addresses_do_not_come_in_trailers() -> None:
    validator = HeadValidator(DEFAULTS, ForwardingSettings())
    spoofed = [(b"X-Forwarded-For", b"192.0.2.1"), (b"X_Forwarded_For", b"192.0.2.1"), (b"Via", b"x")]
    assert validator.trailer_lines(spoofed, of_request=True) == b""


# The size of a head


def test_a_valid_response() -> None:
    response = validated(200, (b"Server", b"nginx"), (b"Content-Length", b"5"), (b"X-Styx-Error", b"forged"))
    assert (response.status, response.keep_alive) == (200, True)
    assert (response.framing, response.length) == (Framing.LENGTH, 5)
    assert response.lines.endswith(b"\r\nServer: nginx\r\n")
    assert response.head == response.lines + b"Content-Length: 5\r\n"


@pytest.mark.parametrize(
    ("fields", "minor", "keep_alive"),
    [
        ([(b"Content-Length", b"5")], 1, True),
        ([(b"Content-Length", b"5"), (b"Connection", b"close")], 1, False),
        ([(b"Content-Length", b"5")], 0, False),
        ([(b"Content-Length", b"5"), (b"Connection", b"keep-alive")], 0, True),
        ([(b"Connection", b"keep-alive")], 1, False),
    ],
    ids=["1.1", "close", "1.0", "1.0 kept", "body until close"],
)
def test_whether_a_connection_may_be_reused(fields: Fields, minor: int, keep_alive: bool) -> None:
    assert validated(200, *fields, minor=minor).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("fields", "has_date"),
    [
        ([(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")], True),
        ([(b"Server", b"x"), (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")], True),
        ([(b"DATE", b"")], True),
        ([], False),
        ([(b"X-Date", b"x"), (b"Expires", b"Date: 0"), (b"Date-Of-Birth", b"x")], False),
        ([(b"Date", b"x"), (b"Connection", b"date")], False),
    ],
)
def test_whether_a_response_has_a_date(fields: Fields, has_date: bool) -> None:
    assert validated(200, *fields).has_date is has_date


def test_invalid_responses() -> None:
    with pytest.raises(BadResponse):
        validated(200, (b"Content-Length", b"5"), (b"Content-Length", b"6"))
    with pytest.raises(ResponseTooLarge):
        validated(200, *[(b"A", b"b")] * (DEFAULTS.response_fields + 1))
    assert validated(200, *[(b"A", b"b")] * DEFAULTS.response_fields)
    with pytest.raises(BadResponse):
        validated(200, (b"Connection", b"a, " * MAX_MEMBERS))


def test_a_response_to_head_keeps_its_content_length() -> None:
    response = validated(200, (b"Content-Length", b"5"), to_head=True)
    assert (response.framing, response.length) == (Framing.NONE, 5)


def test_lines_of_an_interim_response() -> None:
    hints = ResponseHead(103, b"Early Hints", 1, [(b"Link", b"</a.css>"), (b"Connection", b"x"), (b"X", b"y")])
    assert b"".join(HeadValidator(DEFAULTS, ForwardingSettings()).interim_lines(hints)) == b"Link: </a.css>\r\n"


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (200, Cause.OK),
        (302, Cause.OK),
        (404, Cause.OK),
        (429, Cause.OK),
        (420, Cause.OK),
        (421, Cause.MISDIRECTED),
        (422, Cause.OK),
        (499, Cause.OK),
        (500, Cause.SERVER_ERROR),
        (501, Cause.SERVER_ERROR),
        (502, Cause.GATEWAY_ERROR),
        (503, Cause.SERVER_ERROR),
        (504, Cause.GATEWAY_ERROR),
        (560, Cause.RETRY_REQUESTED),
        (599, Cause.SERVER_ERROR),
    ],
)
def test_the_cause_of_a_status(status: int, cause: Cause) -> None:
    assert validated(status).cause is cause


@pytest.mark.parametrize("status", [200, 421, 429, 500, 502, 503, 560])
def test_a_refusal_overrides_the_status(status: int) -> None:
    assert validated(status, (b"x-STYX-refused", b"full")).cause is Cause.REFUSED


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
def test_the_pause_after_a_refusal(values: list[bytes], pause: float) -> None:
    assert refusal_pause(validated(503, *[(b"RETRY-After", value) for value in values])) == pause


def test_the_placeholder_of_an_unreadable_request() -> None:
    request = Request.refused()
    assert (request.host, request.keep_alive, request.safe) == ("", False, False)
    assert request.framing is Framing.NONE
    assert request.fields == []


def test_the_placeholder_of_a_rejected_request_has_its_head() -> None:
    head = RequestHead(b"HEAD", b"/a", 1, [HOST])
    read = Request.refused(head)
    assert (read.method, read.target, read.fields) == (b"HEAD", b"/a", [HOST])
    unread = Request.refused(None, b"GET /b c HTTP/1.1\r\n\r\n")
    assert (unread.method, unread.target, unread.keep_alive) == (b"GET", b"/b", False)


def test_426_keeps_its_upgrade() -> None:
    response = validated(426, (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Content-Length", b"0"))
    assert b"Upgrade: websocket\r\nConnection: Upgrade\r\n" in response.lines
    assert b"pgrade" not in validated(200, (b"Upgrade", b"h2,h2c"), (b"Connection", b"Upgrade")).lines
