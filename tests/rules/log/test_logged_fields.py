"""What the access log takes from the header fields of a request."""

import pytest

from edge.rules.http.head_validation import Request
from edge.rules.http.messages import RequestHead
from edge.rules.log.logged_fields import CUT, LONGEST, logged_fields, text_of, trace_id

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


def request(*fields: tuple[bytes, bytes]) -> Request:
    return Request.refused(RequestHead(b"GET", b"/", 1, list(fields)))


def test_fields_are_found_however_they_are_spelled() -> None:
    asked = request(
        (b"USER-agent", b"curl/8 "),
        (b"Referer", b"https://a.test/"),
        (b"X-Unknown0", b"of the same length as user-agent"),
        (b"TraceParent", b"00-" + TRACE + b"-" + SPAN + b"-01"),
    )
    assert logged_fields(asked) == ("curl/8", "https://a.test/", TRACE.decode())
    assert logged_fields(asked) is logged_fields(asked), "found once for each request"
    assert logged_fields(request()) == ("", "", "")


@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        (b"00-" + TRACE + b"-" + SPAN + b"-00", True),
        (b"cc-" + TRACE + b"-" + SPAN + b"-01-more", True),
        (b"00-" + TRACE + b"-" + SPAN + b"-01-more", False),
        (b"ff-" + TRACE + b"-" + SPAN + b"-01", False),
        (b"00-" + b"0" * 32 + b"-" + SPAN + b"-01", False),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", False),
        (b"00-" + TRACE.upper() + b"-" + SPAN + b"-01", False),
        (b"00-" + TRACE[:-1] + b"-" + SPAN + b"-01", False),
        (b"", False),
    ],
)
def test_only_valid_trace_ids_are_logged(traceparent: bytes, valid: bool) -> None:
    assert trace_id(traceparent) == (TRACE.decode() if valid else "")


def test_values_are_text_and_bounded() -> None:
    assert text_of("Münchner/1".encode()) == "Münchner/1"
    assert text_of(b"M\xfcnchner/1") == "Münchner/1"
    assert text_of(b"a" * 60_000) == "a" * LONGEST + CUT
