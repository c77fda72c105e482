"""The formats of the access log: what a client says cannot end a line or forge a field."""

import re
import timeit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.admin.log_lines import appender, shortened
from edge.rules.admission import Request
from edge.rules.outcomes import Attempted, Cause
from tests.admin.conftest import build_outcome

COMBINED = re.compile(
    rb"(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "
    rb'"([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)" (\d{3}) (\d+) '
    rb'"([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)" "([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)"'
)
LOGFMT = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')


def line(form, outcome, request=None):
    buffer = bytearray(b"before\n")
    appender(form)(outcome, request, buffer)
    assert buffer.startswith(b"before\n")
    return bytes(buffer[7:])


def request(*fields):
    return msgspec.structs.replace(Request.refused(), fields=list(fields))


def test_combined(outcome):
    asked = request((b"Referer", b"https://a.test/"), (b"USER-AGENT", b"curl/8"), (b"X", b"y"))
    assert line("combined", outcome(), asked) == (
        b'203.0.113.9 - - [09/Oct/2025:08:53:20 +0000] "GET /node/12?x=1 HTTP/1.1" 200 5120 '
        b'"https://a.test/" "curl/8"'
    )
    assert line("combined", outcome(client=""), None).startswith(b"- - - [")
    assert line("combined", outcome(), request()).endswith(b' "-" "-"')


def test_logfmt(outcome):
    tries = [
        Attempted(backend="b1", result=Cause.REFUSED, status=503, connect_ms=0.2, first_byte_ms=1.0),
        Attempted(backend="b2", result=Cause.FINE, status=200, connect_ms=0.2, first_byte_ms=1.0),
    ]
    text = line("logfmt", outcome(target='/a b"c\\d=é\n', attempts=tries, backend="")).decode("ascii")
    told = dict(LOGFMT.findall(text))
    assert told["target"] == r'"/a b\"c\\d=\u00e9\u000a"'
    assert (told["attempts"], told["backend"], told["status"]) == ("b1:refused,b2:fine", '""', "200")
    assert (told["time"], told["total_ms"]) == ("1760000000.250", "15.000")


TEXT = st.text(st.characters(codec=None), max_size=60)


@given(TEXT, TEXT, TEXT, st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_that_a_client_says_breaks_a_line(host, target, method, referer, agent):
    one = build_outcome(host=host, target=target, method=method)
    asked = request((b"referer", referer), (b"user-agent", agent))
    told = [line(form, one, asked) for form in ("json", "logfmt", "combined")]
    assert all(b"\n" not in text and b"\r" not in text for text in told)
    assert tuple(msgspec.json.decode(told[0])) == one.__struct_fields__
    fields = LOGFMT.findall(told[1].decode("ascii"))
    assert tuple(name for name, _ in fields) == one.__struct_fields__
    assert "".join(f"{name}={value} " for name, value in fields).rstrip() == told[1].decode().rstrip()
    assert COMBINED.fullmatch(told[2]), told[2]


@pytest.mark.parametrize("form", ["json", "logfmt", "combined"])
@pytest.mark.parametrize("char", ["x", '"', "\udcff", "é"])
def test_a_line_that_is_too_long_is_cut_where_it_hurts_least(outcome, form, char):
    tries = [
        Attempted(backend="b" * 36, result=Cause.COLD_START_TIMEOUT, status=0, connect_ms=1.0, first_byte_ms=2.0)
    ]
    one = outcome(target="/" + char * 8000, attempts=tries * 30)
    short = shortened(appender(form), one, request((b"referer", b"r" * 9000)), 4095)
    assert len(short) <= 4095
    assert b"..." in short
    if form == "json":
        told = msgspec.json.decode(short)
        assert tuple(told) == one.__struct_fields__
        assert told["status"] == 200


@pytest.mark.parametrize(("form", "most"), [("json", 5e-6), ("logfmt", 100e-6), ("combined", 40e-6)])
def test_it_is_cheap(outcome, form, most):
    """0.6, 12 and 4 µs on the machine of DESIGN section 7; the bounds are loose."""
    append, one, buffer = appender(form), outcome(), bytearray()

    def write():
        append(one, None, buffer)
        buffer.clear()

    assert min(timeit.repeat(write, number=1_000, repeat=5)) / 1_000 < most
