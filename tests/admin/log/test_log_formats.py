"""The formats of the access log: no byte from a client can end a line or forge a field."""

import re
import time
import timeit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.admin.log.line_writers import line_writer
from edge.admin.log.log_formats import shortened
from edge.rules.exchange_records import LOG_CONSTANTS, Attempted, DetailedOutcome
from edge.rules.http.head_validation import Request
from edge.rules.http.messages import RequestHead
from edge.rules.log.logged_fields import logged_fields
from edge.rules.outcomes import Cause
from edge.rules.settings import AccessLogSettings
from tests.admin.conftest import build_outcome

COMBINED = re.compile(
    rb"(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "
    rb'"([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)" (\d{3}) (\d+) '
    rb'"([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)" "([^"\\]*(?:\\x[0-9A-F]{2}[^"\\]*)*)"'
)
LOGFMT = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')


def appender(form, **settings):
    if form != "combined":
        settings = {"fields": ("*",), **settings}
    return line_writer(AccessLogSettings(format=form, **settings), edge="edge-1", worker=3)


def with_fields(outcome, request):
    """What an exchange takes over from the header fields of its request."""
    agent, referer, trace = ("", "", "") if request is None else logged_fields(request)
    members = msgspec.structs.asdict(outcome) | {"attempts": outcome.attempts}
    return DetailedOutcome(**members | {"user_agent": agent, "referer": referer, "trace_id": trace})


def line(form, outcome, request=None):
    buffer = bytearray(b"before\n")
    appender(form)(with_fields(outcome, request), request, None, buffer)
    assert buffer.startswith(b"before\n")
    return bytes(buffer[7:])


def request(*fields):
    return Request.refused(RequestHead(b"GET", b"/", 1, list(fields)))


def test_combined(outcome):
    asked = request((b"Referer", b"https://a.test/"), (b"USER-AGENT", b"curl/8"), (b"X", b"y"))
    assert line("combined", outcome(), asked) == (
        b'203.0.113.9 - - [09/Oct/2025:08:53:20 +0000] "GET /node/12?x=1 HTTP/1.1" 200 5120 '
        b'"https://a.test/" "curl/8"'
    )
    assert b'/node/12?x=1 HTTP/2.0" 200' in line("combined", outcome(protocol="h2"))
    assert line("combined", outcome(client=""), None).startswith(b"- - - [")
    assert line("combined", outcome(), request()).endswith(b' "-" "-"')


def test_logfmt(outcome):
    tries = [
        Attempted(backend="b1", result=Cause.REFUSED, status=503, connect_ms=0.2, first_byte_ms=1.0),
        Attempted(backend="b2", result=Cause.OK, status=200, connect_ms=0.2, first_byte_ms=1.0),
    ]
    text = line("logfmt", outcome(target='/a b"c\\d=é\n', attempts=tries, backend="")).decode("ascii")
    parsed = dict(LOGFMT.findall(text))
    assert parsed["target"] == r'"/a b\"c\\d=\u00e9\u000a"'
    assert (parsed["attempts"], parsed["backend"], parsed["status"]) == ("b1:refused,b2:ok", '""', "200")
    assert (parsed["time"], parsed["total_ms"]) == ("1760000000.250", "15.000")
    assert (parsed["tls"], parsed["resumed"]) == ('""', "false")
    assert (parsed["edge"], parsed["worker"], parsed["ended"]) == ("edge-1", "3", "true")


def as_held(text):
    """The latin-1 text in which an exchange holds UTF-8 from a client."""
    return text.encode().decode("latin-1")


def escaped(char):
    return f"\\u{ord(char):04x}"


@pytest.mark.parametrize("name", ["target", "id"])
def test_utf8_is_encoded_once(outcome, name):
    one = outcome(**{name: as_held("/münchen/東京/😀")})
    assert msgspec.json.decode(line("json", one))[name] == "/münchen/東京/😀"
    assert "/münchen/東京/😀".encode() in line("json", one)
    assert rf'{name}="/m\u00fcnchen/\u6771\u4eac/\U0001f600"'.encode() in line("logfmt", one)


def test_utf8_is_cut_between_two_characters(outcome):
    short = shortened(appender("json"), outcome(target=as_held("/a" + "東" * 3000)), 4095)
    assert msgspec.json.decode(short)["target"] == "/a" + "東" * 510 + "..."


def test_bytes_that_are_not_utf8_are_latin_1(outcome):
    assert msgspec.json.decode(line("json", outcome(target="/m\xfcnchen")))["target"] == "/münchen"
    assert msgspec.json.decode(line("json", outcome(target="/m\xfcn\xc3\xa9")))["target"] == "/münÃ©"


HAZARDS = [*map(chr, range(0x7F, 0xA0)), *"\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069"]


@pytest.mark.parametrize("char", HAZARDS, ids=lambda char: f"{ord(char):04x}")
@pytest.mark.parametrize("name", ["target", "id", "site", "backend"])
def test_characters_that_a_terminal_interprets_are_escaped(outcome, name, char):
    """Control characters reach the log raw, as UTF-8, or from the core API."""
    held = as_held(char) if name in ("target", "id") else char
    for value in {held, char}:
        written = line("json", outcome(**{name: f"a{value}b"}))
        assert f'"a{escaped(char)}b"'.encode() in written
        assert msgspec.json.decode(written)[name] == f"a{char}b"


def test_other_characters_are_written_as_they_are(outcome):
    assert "€ \xa0 \u2010 \u2065 Â".encode() in line("json", outcome(site="€ \xa0 \u2010 \u2065 Â"))


CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TEXT = st.text(st.characters(codec=None), max_size=60)


@given(TEXT, TEXT, TEXT, st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_from_a_client_breaks_a_line(host, target, method, referer, agent):
    one = build_outcome(host=host, target=target, method=method, user_agent="")
    asked = request((b"referer", referer), (b"user-agent", agent))
    lines = [line(form, one, asked) for form in ("json", "logfmt", "combined")]
    assert all(b"\n" not in text and b"\r" not in text for text in lines)
    names = (*one.__struct_fields__, *LOG_CONSTANTS)
    assert tuple(msgspec.json.decode(lines[0])) == names
    assert not CONTROLS.search(lines[0].decode())
    fields = LOGFMT.findall(lines[1].decode("ascii"))
    assert tuple(name for name, _ in fields) == names
    assert "".join(f"{name}={value} " for name, value in fields).rstrip() == lines[1].decode().rstrip()
    assert COMBINED.fullmatch(lines[2]), lines[2]


@pytest.mark.parametrize("form", ["json", "logfmt", "combined"])
@pytest.mark.parametrize("char", ["x", '"', "\udcff", "é"])
def test_a_line_that_is_too_long_loses_its_least_useful_parts(outcome, form, char):
    tries = [
        Attempted(backend="b" * 36, result=Cause.COLD_START_TIMEOUT, status=0, connect_ms=1.0, first_byte_ms=2.0)
    ]
    asked = request((b"referer", b"r" * 9000), (b"user-agent", b"a" * 9000))
    one = with_fields(outcome(target="/" + char * 8000, attempts=tries * 30), asked)
    short = shortened(appender(form), one, 4095)
    assert len(short) <= 4095
    assert b"..." in short
    if form == "json":
        parsed = msgspec.json.decode(short)
        assert tuple(parsed) == (*one.__struct_fields__, *LOG_CONSTANTS)
        assert parsed["status"] == 200


@pytest.mark.parametrize(("form", "most"), [("json", 5e-6), ("logfmt", 100e-6), ("combined", 40e-6)])
def test_it_is_cheap(outcome, form, most):
    """0.6, 12 and 4 µs on the machine of DESIGN section 7; the bounds are loose."""
    append, one, buffer = appender(form), outcome(retries=0), bytearray()

    def write():
        append(one, None, None, buffer)
        buffer.clear()

    assert min(timeit.repeat(write, number=1_000, repeat=5, timer=time.thread_time)) / 1_000 < most
