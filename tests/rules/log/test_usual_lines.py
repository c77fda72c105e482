"""A line that is put together is the one that msgspec makes of the record."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.rules.balancing.backend_state import BackendState, Candidate
from edge.rules.exchange_records import Attempted, Outcome
from edge.rules.http.head_validation import Request
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.messages import RequestHead
from edge.rules.log.usual_lines import UsualLines, milliseconds_text, number_text
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.routing.route_response import Backend, RouteResponse

END = ',"edge":"edge-1"}'
NOW = 1_785_000_000.123456
PLAIN: dict[str, Any] = {
    "time": NOW,
    "id": "0123456789ab-1a2",
    "client": "192.0.2.7",
    "method": "GET",
    "host": "shop.test",
    "target": "/cart?x=1",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 3,
    "site": "shop",
    "environment": "live",
    "backend": "b1",
    "times": (0.0, 0.0, 0.123, 1.22, 0.05),
    "protocol": "http/1.1",
    "stream": 0,
    "tls": "",
    "resumed": False,
    "sni": "",
    "client_cert": "",
}


def put_together(lines: UsualLines, fields: dict[str, Any], *, trusted: bool = False) -> str:
    request = Request.refused(RequestHead(fields["method"].encode(), fields["target"].encode("latin-1"), 1, []))
    request.host = fields["host"]
    info = ClientInfo("192.0.2.7", port=443, trusted=trusted, via=b"styx")
    info.tls, info.resumed, info.sni = fields["tls"], fields["resumed"], fields["sni"]
    info.certificate_subject = fields["client_cert"]
    backend = Backend(fields["backend"], "10.0.0.1", 80)
    return lines.line(
        request,
        info,
        RouteResponse(fields["host"], fields["site"], fields["environment"], 1, (backend,)),
        Candidate(backend, BackendState()),
        at=fields["time"],
        request_id=fields["id"],
        **{
            name: fields[name]
            for name in ("client", "protocol", "stream", "status", "bytes_in", "bytes_out", "times")
        },
    )


def encoded(fields: dict[str, Any]) -> str:
    known = {name: value for name, value in fields.items() if name != "times"}
    resolve, connect, first_byte, total, overhead = fields["times"]
    record = Outcome(
        **known,
        phase=Phase.FINISHED,
        blame=Blame.NOBODY,
        cause=Cause.OK,
        resolve_ms=resolve,
        connect_ms=connect,
        first_byte_ms=first_byte,
        total_ms=total,
        overhead_ms=overhead,
        attempts=[Attempted(fields["backend"], Cause.OK, fields["status"], connect, first_byte)],
    )
    return msgspec.json.encode(record)[:-1].decode() + END


milliseconds = st.one_of(st.just(0), st.integers(-5, 2_000_000), st.integers(0, 10**12)).map(lambda n: n / 1000.0)
wall_clock = st.integers(10**15, 3 * 10**15).map(lambda micros: micros / 1e6)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=20)
sizes = st.integers(0, 2**62) | st.integers(0, 2000)


@given(
    st.fixed_dictionaries(
        {
            "time": wall_clock,
            "times": st.tuples(*[milliseconds] * 5),
            "status": st.integers(100, 999),
            "bytes_in": sizes,
            "bytes_out": sizes,
            "stream": sizes,
            "resumed": st.booleans(),
            **dict.fromkeys(
                ("id", "client", "host", "target", "site", "environment", "backend", "tls", "sni", "client_cert"),
                texts,
            ),
        }
    )
)
@example({"time": 1_785_000_000.0})
@example({"time": 1_785_000_000.5})
@example({"time": 1_785_000_000.00012})
@example({"time": 1_785_000_000.999999})
def test_it_is_the_line_of_the_record(changes: dict[str, Any]) -> None:
    lines, fields = UsualLines(END), PLAIN | changes
    assert put_together(lines, fields) == encoded(fields)
    assert put_together(lines, PLAIN) == encoded(PLAIN), "another second, before or after the other one"


CHARACTERS = ('"', "\\", "\n", "\x00", "\x1b", "\x7f", "\x9b", "é")


@pytest.mark.parametrize("char", CHARACTERS)
@pytest.mark.parametrize("name", ["host", "target", "site", "environment", "backend", "sni", "client_cert"])
def test_none_is_put_together_with_a_text_that_needs_an_escape(name: str, char: str) -> None:
    fields = PLAIN | {name: f"/a{char}b"}
    assert put_together(UsualLines(END), fields) == ""


@pytest.mark.parametrize("char", CHARACTERS)
@pytest.mark.parametrize("name", ["id", "client"])
def test_what_a_trusted_proxy_says_is_checked_for_each_request(name: str, char: str) -> None:
    assert put_together(UsualLines(END), PLAIN | {name: f"a{char}b"}, trusted=True) == ""
    assert put_together(UsualLines(END), PLAIN, trusted=True) == encoded(PLAIN)


def test_texts_are_prepared_once_for_each_request_connection_and_backend() -> None:
    request = Request.refused(RequestHead(b"GET", b"/a", 1, []))
    info = ClientInfo("192.0.2.7", port=443, trusted=False, via=b"styx")
    backend = Backend("b1", "10.0.0.1", 80)
    candidate, route = Candidate(backend, BackendState()), RouteResponse("a.test", "a", "live", 1, (backend,))
    arguments = {name: PLAIN[name] for name in ("client", "protocol", "stream", "status", "bytes_in", "bytes_out")}
    arguments |= {"at": NOW, "request_id": "1", "times": (0.0,) * 5}
    first = UsualLines(END).line(request, info, route, candidate, **arguments)
    prepared = (request.logged_members, info.logged_members, candidate.logged_members)
    assert UsualLines(END).line(request, info, route, candidate, **arguments) == first
    after = (request.logged_members, info.logged_members, candidate.logged_members)
    assert all(one is other for one, other in zip(prepared, after, strict=True))


def test_a_connection_may_change_between_versions() -> None:
    """The members of a connection are prepared for one of them."""
    lines, request = UsualLines(END), Request.refused(RequestHead(b"GET", b"/", 1, []))
    info = ClientInfo("192.0.2.7", port=443, trusted=False, via=b"styx")
    backend = Backend("b1", "10.0.0.1", 80)
    candidate, route = Candidate(backend, BackendState()), RouteResponse("a.test", "a", "live", 1, (backend,))
    arguments = {name: PLAIN[name] for name in ("client", "stream", "status", "bytes_in", "bytes_out")}
    arguments |= {"at": NOW, "request_id": "1", "times": (0.0,) * 5}
    assert lines.line(request, info, route, candidate, protocol="http/1.0", **arguments) == ""
    line = lines.line(request, info, route, candidate, protocol="http/1.1", **arguments)
    assert msgspec.json.decode(line)["protocol"] == "http/1.1"
    assert lines.line(request, info, route, candidate, protocol="http/1.0", **arguments) == ""


@given(milliseconds)
@example(-0.001)
@example(0.001)
@example(999.999)
@example(1000.0)
@example(86_400_000.001)
def test_milliseconds_are_written_as_by_msgspec(ms: float) -> None:
    assert milliseconds_text(ms) == msgspec.json.encode(ms).decode()


@given(sizes)
@example(999)
@example(1000)
def test_numbers_are_written_as_by_msgspec(number: int) -> None:
    assert number_text(number) == str(number)


def test_few_texts_of_connections_are_kept() -> None:
    lines = UsualLines(END)
    for number in range(2_500):
        assert put_together(lines, PLAIN | {"sni": f"s{number}.test"})
    assert lines.kept <= 1_000
