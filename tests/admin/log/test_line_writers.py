"""Lines of the access log as the settings ask for them: chosen fields, header fields, redaction."""

import json
import re

import pytest
from pydantic import ValidationError

from edge.admin.log.line_writers import line_writer
from edge.rules.exchange_records import LOG_CONSTANTS, LOG_SCHEMA, DetailedAttempt, DetailedOutcome, Outcome
from edge.rules.http.head_validation import HeadValidator, Request
from edge.rules.http.messages import RequestHead, ResponseHead
from edge.rules.log.logged_fields import CUT, LONGEST
from edge.rules.log.redaction import REDACTED
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import AccessLogSettings, ForwardingSettings, LimitSettings

LOGFMT = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)')


def written(outcome, request=None, response=None, **settings):
    buffer = bytearray(b"before\n")
    line_writer(AccessLogSettings(**settings), edge='edge "1"', worker=3)(outcome, request, response, buffer)
    assert buffer.startswith(b"before\n")
    return bytes(buffer[7:]).decode()


def request(*fields):
    return Request.refused(RequestHead(b"GET", b"/", 1, list(fields)))


def response(*fields):
    validator = HeadValidator(LimitSettings(), ForwardingSettings())
    return validator.response(ResponseHead(200, b"OK", 1, [*fields, (b"Content-Length", b"0")]), to_head=False)


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


def test_header_fields_of_the_response_are_written_by_an_allow_list(outcome):
    got = response(
        (b"X-Cache", b"HIT"),
        (b"x-cache", b"edge\xe2\x80\xae"),
        (b"Server", b"nginx"),
        (b"Set-Cookie", b"session=s3cret"),
        (b"Location", b"/in?next=/&Token=s3cret"),
    )
    settings = {"response_headers": ("x-cache", "Set-Cookie", "location", "x-absent"), "redact_query": ("token",)}
    line = written(outcome(), request(), got, **settings)
    location = f"/in?next=/&Token={REDACTED}"
    found = {"x-cache": "HIT, edge\u202e", "set-cookie": REDACTED, "location": location}
    assert json.loads(line)["response_headers"] == found
    assert "request_headers" not in json.loads(line)
    assert "\u202e" not in line
    line = written(outcome(), None, got, format="logfmt", fields=("status",), **settings)
    assert line == (
        rf'status=200 response_header_x_cache="HIT, edge\u202e" response_header_set_cookie={REDACTED} '
        rf'response_header_location="{location}"'
    )
    for nothing in (None, response()):
        assert "response_headers" not in json.loads(written(outcome(), request(), nothing, **settings))


def test_request_and_response_have_groups_of_their_own(outcome):
    settings = {"request_headers": ("x-id",), "response_headers": ("x-id", "age")}
    told = json.loads(
        written(outcome(), request((b"X-Id", b"1")), response((b"X-Id", b"2"), (b"Age", b"3")), **settings)
    )
    assert (told["request_headers"], told["response_headers"]) == ({"x-id": "1"}, {"x-id": "2", "age": "3"})


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_a_header_field_is_cut_however_often_it_comes(outcome, form):
    many = [(b"Vary", b"v" * 300)] * 60
    text = written(outcome(), request(*many), response(*many), format=form, fields=("status",),
                   request_headers=("vary",), response_headers=("vary",))  # fmt: skip
    assert text.count("v" * 300) == 2 * 3
    assert text.count(CUT) == 2
    assert len(text) < 2 * (LONGEST + 100)


def test_a_secret_is_redacted_before_the_value_is_cut(outcome):
    """What comes behind the cut cannot make a parameter that is cut harmless."""
    long = b"/?a=" + b"x" * (LONGEST - 11) + b"&token=" + b"s3cret" * 100
    for name, settings in ((b"Location", "response_headers"), (b"Referer", "request_headers")):
        text = written(outcome(), request((name, long)), response((name, long)), redact_query=("token",),
                       **{settings: (name.decode(),)})  # fmt: skip
        assert "s3cret" not in text


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
        ({"response_headers": ("x", "a:b")}, "response_headers.1 a:b is no name of a header field"),
        ({"format": "combined", "response_headers": ("age",)}, "combined has its own fields"),
        ({"format": "combined", "fields": ("host",)}, "combined has its own fields"),
        ({"long_after": 0.5}, "at least 1s"),
        ({"sample_2xx": 1.5}, "less than or equal to 1"),
    ],
)
def test_wrong_settings_are_explained(settings, words):
    with pytest.raises(ValidationError, match=re.escape(words)):
        AccessLogSettings(**settings)
