"""Judgements of responses to lookups; the faults of whole servers are in tests/run/core_api_check."""

import msgspec
import pytest

from edge.rules.core_api.contract_findings import ContractFinding, CoreApiReply
from edge.rules.core_api.route_judgement import (
    JudgedRoute,
    judged_burst,
    judged_not_modified,
    judged_odd_name,
    judged_repeat,
    judged_route,
    judged_siblings,
    judged_times,
    judged_unknown,
    judged_without_token,
)
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_validation import BackendPolicy

HOST = "www.example.org"
ROUTE = RouteResponse(HOST, "acme", "live", 7, (Backend("a", "10.0.0.1", 80),))
HEADERS = {
    "content-type": "application/json",
    "cache-control": "max-age=60, stale-while-revalidate=600, stale-if-error=86400",
    "etag": '"a"',
}


def told(found: list[ContractFinding]) -> list[str]:
    return [f"{finding.severity.value} {finding.check}" for finding in found]


def judged(route: RouteResponse = ROUTE, status: int = 200, **headers: str | None) -> JudgedRoute:
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {name: value for name, value in {**HEADERS, **changed}.items() if value is not None}
    reply = CoreApiReply(status, fields, msgspec.json.encode(route), 0.01)
    return judged_route(HOST, reply, BackendPolicy())


def test_a_good_route() -> None:
    assert told(judged().findings) == ["ok route"]
    assert judged().etag == '"a"'
    redirect = msgspec.structs.replace(ROUTE, backends=(), redirect="https://example.org")
    assert "redirects to https://example.org" in judged(redirect).findings[0].words


@pytest.mark.parametrize(
    ("headers", "check"),
    [
        ({"cache_control": None}, "warning cache_control"),
        ({"cache_control": "max-age: 60"}, "warning cache_control"),
        ({"cache_control": "no-store, stale-if-error=60"}, "warning cache_control"),
        ({"cache_control": "max-age=60"}, "note stale_if_error"),
        ({"cache_control": "max-age=60, stale-if-error=0"}, "warning stale_if_error"),
        ({"cache_control": "max-age=60, stale-if-error=99999999"}, "note cache_control"),
        ({"etag": None}, "warning etag"),
        ({"etag": "bare"}, "warning etag"),
        ({"etag": '"' + "x" * 1023 + '"'}, "fault etag"),
        ({"content_type": "text/html"}, "warning content_type"),
        ({"content_type": None}, "warning content_type"),
        ({"connection": "close"}, "warning keep_alive"),
    ],
)
def test_headers(headers: dict[str, str | None], check: str) -> None:
    assert told(judged(**headers).findings) == ["ok route", check]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500])
def test_other_statuses_are_no_route(status: int) -> None:
    found = judged(status=status)
    assert found.route is None
    assert [each.severity.value for each in found.findings] == ["fault"]


def test_routes_without_anybody_who_serves() -> None:
    assert told(judged(msgspec.structs.replace(ROUTE, backends=())).findings) == ["ok route", "warning no_backends"]
    draining = msgspec.structs.replace(ROUTE, backends=(Backend("a", "10.0.0.1", 80, state="draining"),))
    assert told(judged(draining).findings) == ["ok route", "warning no_backends"]


def test_not_modified() -> None:
    body = msgspec.json.encode(ROUTE)
    assert told(judged_not_modified(judged(), CoreApiReply(304, HEADERS), body)) == ["ok not_modified"]
    assert told(judged_not_modified(judged(), CoreApiReply(304), body)) == ["warning cache_control_304"]
    assert told(judged_not_modified(judged(), CoreApiReply(200, HEADERS, body), body)) == ["fault not_modified"]
    assert told(judged_not_modified(judged(), CoreApiReply(200, {"etag": '"b"'}, body), body)) == [
        "fault etag_unstable"
    ]
    assert told(judged_not_modified(judged(), CoreApiReply(200, HEADERS, b"{}"), body)) == ["note not_modified"]
    assert told(judged_not_modified(judged(), CoreApiReply(500), body)) == ["fault not_modified"]


def test_generations() -> None:
    def of(generation: int, backends: tuple[Backend, ...] = ROUTE.backends) -> JudgedRoute:
        return judged(msgspec.structs.replace(ROUTE, generation=generation, backends=backends))

    assert judged_repeat(of(7), of(7)) == []
    assert told(judged_repeat(of(7), of(6))) == ["fault generation"]
    assert told(judged_repeat(of(7), of(8))) == ["warning generation"]
    assert judged_repeat(of(7), of(8, ())) == []


def test_hostnames_of_one_environment_have_the_same_backends() -> None:
    one = JudgedRoute("a", [], ROUTE, None)
    other = JudgedRoute("b", [], msgspec.structs.replace(ROUTE, backends=(Backend("b", "10.0.0.2", 80),)), None)
    elsewhere = JudgedRoute("c", [], msgspec.structs.replace(ROUTE, environment="dev", backends=()), None)
    assert told(judged_siblings([one, other, elsewhere])) == ["fault siblings"]
    assert judged_siblings([one, one, elsewhere]) == []


def test_unknown_hostnames() -> None:
    ten = {"cache-control": "max-age=10"}
    assert told(judged_unknown("x", CoreApiReply(404, ten))) == ["ok unknown_host"]
    assert told(judged_unknown("x", CoreApiReply(404)))[1:] == ["warning unknown_host_max_age"]
    assert told(judged_unknown("x", CoreApiReply(404, {"cache-control": "max-age=86400"})))[1:] == [
        "warning unknown_host_max_age"
    ]
    for status in (200, 204, 302, 500):
        assert told(judged_unknown("x", CoreApiReply(status))) == ["fault unknown_host"]


def test_odd_names() -> None:
    assert judged_odd_name("x", "why", CoreApiReply(400)) == judged_odd_name("x", "why", CoreApiReply(404)) == []
    assert told(judged_odd_name("x", "why", CoreApiReply(500))) == ["fault odd_hostname"]
    assert told(judged_odd_name("x", "why", CoreApiReply(429))) == ["fault odd_hostname"]
    assert told(judged_odd_name("x", "why", CoreApiReply(200))) == ["warning odd_hostname"]


def test_times() -> None:
    assert told(judged_times([0.1, 0.2], 5.0)) == ["ok latency"]
    assert told(judged_times([0.1, 0.6], 5.0)) == ["warning latency"]
    assert told(judged_burst([CoreApiReply(200, seconds=0.1)], 5.0)) == ["ok burst"]
    assert told(judged_burst([CoreApiReply(200, seconds=3.0)], 5.0)) == ["warning burst"]
    assert told(judged_burst([CoreApiReply(200), CoreApiReply(429)], 5.0)) == ["fault burst"]


def test_the_token_is_required() -> None:
    assert told(judged_without_token(CoreApiReply(401))) == ["ok token"]
    assert told(judged_without_token(CoreApiReply(200))) == ["warning token"]
