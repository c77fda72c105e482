"""Lines of the access log as the settings ask for them: chosen fields, header fields, redaction."""

import json
import re

import pytest
from pydantic import ValidationError

from edge.admin.log.line_writers import line_writer
from edge.rules.exchange_records import LOG_CONSTANTS, LOG_SCHEMA, DetailedAttempt, DetailedOutcome, Outcome
from edge.rules.http.head_validation import Request
from edge.rules.http.messages import RequestHead
from edge.rules.log.redaction import REDACTED
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import AccessLogSettings

LOGFMT = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')


def written(outcome, request=None, **settings):
    buffer = bytearray(b"before\n")
    line_writer(AccessLogSettings(**settings), edge='edge "1"', worker=3)(outcome, request, buffer)
    assert buffer.startswith(b"before\n")
    return bytes(buffer[7:]).decode()


def request(*fields):
    return Request.refused(RequestHead(b"GET", b"/", 1, list(fields)))


def test_all_fields_and_the_constants(outcome):
    told = json.loads(written(outcome()))
    assert tuple(told) == (*Outcome.__struct_fields__, *LOG_CONSTANTS)
    detailed = json.loads(written(outcome(retries=0), fields=("*",)))
    assert tuple(detailed) == (*DetailedOutcome.__struct_fields__, *LOG_CONSTANTS)
    assert (told["schema"], told["edge"], told["worker"]) == (LOG_SCHEMA, 'edge "1"', 3)


@pytest.mark.parametrize("form", ["json", "logfmt"])
@pytest.mark.parametrize(
    "fields", [("status",), ("host", "status"), ("worker",), ("edge", "cause", "schema", "attempts")]
)
def test_chosen_fields(outcome, form, fields):
    text = written(outcome(), format=form, fields=fields)
    names = json.loads(text) if form == "json" else dict(LOGFMT.findall(text))
    assert sorted(names) == sorted(fields)


def test_chosen_fields_have_the_values_of_the_whole_line(outcome):
    tries = [DetailedAttempt("b1", Cause.REFUSED, 503, 0.2, 1.0, "10.0.0.1:80")]
    one = outcome(
        attempts=tries, phase=Phase.CONNECT, blame=Blame.BACKEND, target="/\x7f\u2028ü", status=503, retries=0
    )
    whole = json.loads(written(one, fields=("*",)))
    for name in whole:
        assert json.loads(written(one, fields=(name, "time" if name != "time" else "id")))[name] == whole[name]


def test_chosen_fields_with_bytes_that_are_not_text(outcome):
    one = outcome(host=b"\xff\n".decode("utf-8", "surrogateescape"))
    assert json.loads(written(one, fields=("host", "status"))) == {"host": "\\udcff\n", "status": 200}


def test_header_fields_are_written_by_an_allow_list(outcome):
    asked = request(
        (b"X-Device", b"phone"),
        (b"x-device", b"old\x7f"),
        (b"Accept", b"*/*"),
        (b"Cookie", b"session=s3cret"),
        (b"AUTHORIZATION", b"Basic s3cret"),
    )
    settings = {"request_headers": ("X-Device", "cookie", "authorization", "x-absent")}
    line = written(outcome(), asked, **settings)
    found = {"x-device": "phone, old\x7f", "cookie": REDACTED, "authorization": REDACTED}
    assert json.loads(line)["request_headers"] == found
    assert "\x7f" not in line
    line = written(outcome(), asked, format="logfmt", fields=("status",), **settings)
    assert line == (
        rf'status=200 request_header_x_device="phone, old\u007f" request_header_cookie={REDACTED} '
        rf"request_header_authorization={REDACTED}"
    )
    assert "request_headers" not in json.loads(written(outcome(), request(), **settings))
    assert "request_headers" not in json.loads(written(outcome(), None, **settings))


@pytest.mark.parametrize("form", ["json", "logfmt", "combined"])
def test_redaction(outcome, form):
    one = outcome(
        target="/reset?token=s3cret&x=1",
        referer="https://a.test/?TOKEN=s3cret",
        client="203.0.113.99",
        peer="10.1.2.99",
        client_port=50123,
        peer_port=50124,
    )
    fields = () if form == "combined" else ("*",)
    text = written(one, format=form, fields=fields, redact_query=("Token",), truncate_addresses=True)
    assert "s3cret" not in text
    assert text.count(REDACTED) == 2
    assert ".99" not in text
    assert "203.0.113.0" in text
    assert "5012" not in text


def test_lines_say_what_sampling_has_left_out(outcome):
    assert json.loads(written(outcome(), sample_2xx=0.1))["sample_2xx"] == 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fields": ("hots",)}, "hots is no field: did you mean host?"),
        ({"fields": ("host", "host")}, "host is given twice"),
        ({"fields": ("*", "host")}, "* is no field"),
        ({"request_headers": ("a b",)}, "no name of a header field"),
        ({"format": "combined", "fields": ("host",)}, "combined has its own fields"),
        ({"long_after": 0.5}, "at least 1s"),
        ({"sample_2xx": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_settings_are_explained(settings, words):
    with pytest.raises(ValidationError, match=re.escape(words)):
        AccessLogSettings(**settings)
