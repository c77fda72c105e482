"""Lines of the access log, read again, chosen and shown."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.admin.log.line_writers import line_writer
from edge.admin.log.log_reader import BadFilter, LogFilter, parse_line, rendered, statuses
from edge.rules.exchange_records import DetailedAttempt, DetailedOutcome
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import AccessLogSettings
from tests.admin.conftest import build_outcome


def read(form, outcome):
    line = bytearray()
    fields = ("*",) if isinstance(outcome, DetailedOutcome) else ()
    line_writer(AccessLogSettings(format=form, fields=fields), edge="edge-1")(outcome, None, None, line)
    record = parse_line(bytes(line))
    assert record is not None
    return record


def shown(record):
    return "".join(text for text, _ in rendered(record, time.gmtime))


FAILED = {
    "status": 502,
    "cause": Cause.CONNECT_FAILED,
    "blame": Blame.BACKEND,
    "phase": Phase.CONNECT,
    "blame_name": "backend",
    "phase_name": "connect",
    "backend": "",
    "total_ms": 1500.0,
    "queue_ms": 20.0,
    "resolve_ms": 3.25,
    "freshness": "stale",
    "retries": 1,
    "attempts": [
        DetailedAttempt("b1", Cause.REFUSED, 503, 0.0, 1.0, "10.0.0.1:80"),
        DetailedAttempt("b2", Cause.CONNECT_FAILED, 0, 0.0, 0.0, "10.0.0.2:80"),
    ],
}


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_lines_for_people(form):
    plain = build_outcome(backend_address="10.4.7.12:26607")
    assert shown(read(form, plain)) == (
        "08:53:20.250 200   15 ms GET live-acme.example.org/node/12?x=1 to b7c1@10.4.7.12:26607 from 203.0.113.9"
    )
    assert shown(read(form, build_outcome(**FAILED))) == (
        "08:53:20.250 502   1.5 s GET live-acme.example.org/node/12?x=1 to no backend from 203.0.113.9 | "
        "connect_failed (backend, in connect), tried b1 refused, b2 connect_failed, queued 20 ms, stale route, "
        "waited 3.2 ms for the route"
    )
    lasting = build_outcome(ended=False, status=0, phase_name="response", total_ms=65_000.0)
    assert shown(read(form, lasting)).endswith(" | lasts still, in response")
    assert " ...    65 s " in shown(read(form, lasting))


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_what_is_read_is_what_was_written(form):
    record = read(form, build_outcome(target='/a b"c\\d=é\n\u2028\U0001f600', host="x=1"))
    assert (record["target"], record["host"]) == ('/a b"c\\d=é\n\u2028\U0001f600', "x=1")


@given(st.text(max_size=200), st.sampled_from(["json", "logfmt"]))
def test_nothing_reaches_the_terminal_that_it_interprets(text, form):
    clean = text.encode("utf-8", "replace").decode()
    line = shown(read(form, build_outcome(target=clean, host=clean, client=clean, id=clean, method=clean)))
    assert all(char.isprintable() for char in line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[1]",
        b'{"a":1',
        b'203.0.113.9 - - [09/Oct/2025:08:53:20 +0000] "GET / HTTP/1.1" 200 5 "-" "-"',
        b"styx: worker 1 has status=5 and more",
        b"\xff\xfe=1",
    ],
)
def test_other_lines_are_not_taken_for_lines_of_the_log(line):
    assert parse_line(line) is None


FILTERS = [
    (LogFilter(), True),
    (LogFilter(hosts=("live-acme.example.org",)), True),
    (LogFilter(hosts=("*.example.org", "a.test")), True),
    (LogFilter(hosts=("example.org",)), False),
    (LogFilter(causes=frozenset({"connect_failed"})), True),
    (LogFilter(causes=frozenset({"ok"})), False),
    (LogFilter(statuses=(statuses("404"), statuses("5xx"))), True),
    (LogFilter(statuses=(statuses("500-501"),)), False),
    (LogFilter(statuses=(statuses("500-502"),)), True),
    (LogFilter(sites=frozenset({"acme"})), True),
    (LogFilter(sites=frozenset({"other"})), False),
    (LogFilter(least_ms=1500.0), True),
    (LogFilter(least_ms=1501.0), False),
    (LogFilter(hosts=("live-acme.example.org",), statuses=(statuses("2xx"),)), False),
]


@pytest.mark.parametrize("form", ["json", "logfmt"])
@pytest.mark.parametrize(("wanted", "taken"), FILTERS)
def test_filters(form, wanted, taken):
    assert wanted.takes(read(form, build_outcome(**FAILED))) is taken


def test_a_filter_of_a_field_that_was_not_chosen_takes_nothing():
    assert not LogFilter(causes=frozenset({"ok"})).takes({"status": 200})
    assert not LogFilter(statuses=(statuses("2xx"),)).takes({"status": "x"})


@pytest.mark.parametrize("text", ["", "5x", "50", "5000", "xxx", "500-", "a-b"])
def test_wrong_statuses(text):
    with pytest.raises(BadFilter, match="5xx"):
        statuses(text)
