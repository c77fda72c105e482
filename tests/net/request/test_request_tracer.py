"""Which requests are traced, and whose traces are continued."""

import itertools

import pytest

from edge.net.request.request_tracer import RequestTracer
from edge.rules.settings import TraceSettings

PARENT = [(b"traceparent", b"00-000000000000000000000000000000aa-00000000000000bb-01")]
UNSAMPLED = [(b"traceparent", b"00-000000000000000000000000000000aa-00000000000000bb-00")]


def tracer(**settings):
    numbers = itertools.count(1)
    return RequestTracer(TraceSettings(**settings), None, lambda bits: next(numbers) << 32)


@pytest.mark.parametrize(
    ("parent", "trusted", "continued"),
    [
        ("trusted", True, True),
        ("trusted", False, False),
        ("any", False, True),
        ("none", True, False),
    ],
)
def test_whose_traces_are_continued(parent, trusted, continued):
    span = tracer(parent=parent, sample=0.0).begin(PARENT, trusted=trusted)
    assert (span.trace_id == 0xAA) is continued
    assert span.sampled is continued  # a trace that begins here is not: sample is 0
    assert (span.parent is not None) is continued


def test_who_began_a_trace_decides_whether_it_is_recorded():
    assert not tracer(sample=1.0).begin(UNSAMPLED, trusted=True).sampled
    assert tracer(sample=1.0).begin(UNSAMPLED, trusted=False).sampled


def test_ids_are_never_zero():
    zeros = RequestTracer(TraceSettings(), None, lambda bits: 0)
    span = zeros.begin([], trusted=False)
    assert span.trace_id
    assert span.span_id
