"""W3C Trace Context: what is believed of a client's, and what backends get."""

import pytest

from edge.rules.http.trace_context import (
    MOST_STATE,
    ParentSpan,
    has_trace_context,
    is_in_sample,
    parent_span,
    trace_lines,
    without_trace_lines,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_parent():
    fields = [(b"Accept", b"*/*"), (b"TraceParent", VALID + b" "), (b"tracestate", b"a=1"), (b"Tracestate", b"b=2")]
    assert parent_span(fields) == ParentSpan(int(TRACE, 16), int(SPAN, 16), True, b"a=1,b=2")


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-02", False),
        (f"fe-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_flags_and_later_versions(value, sampled):
    assert parent_span([(b"traceparent", value.encode())]).sampled is sampled


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"x00-{TRACE}-{SPAN}-01",
        f"fe-{TRACE}-{SPAN}-01x",
    ],
)
def test_what_is_no_parent(value):
    assert parent_span([(b"traceparent", value.encode())]) is None


def test_two_parents_are_none_and_so_is_none():
    assert parent_span([(b"traceparent", VALID), (b"traceparent", VALID)]) is None
    assert parent_span([(b"tracestate", b"a=1")]) is None


def test_a_long_state_is_left_out():
    fields = [(b"traceparent", VALID), (b"tracestate", b"a" * MOST_STATE)]
    assert parent_span(fields).state == b"a" * MOST_STATE
    assert parent_span([*fields, (b"tracestate", b"b")]).state == b""


def test_lines_are_read_again_as_they_were_written():
    lines = trace_lines(int(TRACE, 16), 7, sampled=True, state=b"a=1")
    assert lines == f"traceparent: 00-{TRACE}-{7:016x}-01\r\ntracestate: a=1\r\n".encode()
    assert trace_lines(1, 2, sampled=False, state=b"").endswith(b"-00\r\n")
    fields = [tuple(line.split(b": ")) for line in lines.splitlines()]
    assert parent_span(fields) == ParentSpan(int(TRACE, 16), 7, True, b"a=1")


def test_a_head_without_the_lines():
    head = b"GET /traceparent: HTTP/1.1\r\nH: a\r\nTraceparent: x\r\nX-Tracestate: y\r\ntracestate: z\r\nB: c\r\n"
    assert without_trace_lines(head) == b"GET /traceparent: HTTP/1.1\r\nH: a\r\nX-Tracestate: y\r\nB: c\r\n"


def test_whether_there_are_such_fields():
    assert has_trace_context([(b"Accept", b"*/*"), (b"TraceState", b"")])
    assert has_trace_context([(b"traceparent", b"x")])
    assert not has_trace_context([(b"X-Tracestate", b"y"), (b"tracestates", b"")])


def test_a_sample():
    assert not is_in_sample(1, 0.0)
    assert is_in_sample((1 << 128) - 1, 1.0)
    ids = [number * (1 << 64) // 1000 + (number << 64) for number in range(1000)]
    assert sum(is_in_sample(each, 0.25) for each in ids) == 250
