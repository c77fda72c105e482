"""Trace context of a request: the fields `traceparent` and `tracestate` (W3C Trace Context, level 1). Pure."""

import re
from typing import Final, NamedTuple

from edge.rules.http.messages import Fields

MOST_STATE: Final = 512
"Bytes of `tracestate` that are passed on (section 3.3.1.5); a longer one is left out."
SAMPLED: Final = 1
"The only flag of level 1: the sender records this trace (section 3.2.2.5.1)."
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NAMES: Final = frozenset({b"traceparent", b"tracestate"})
_LENGTHS: Final = frozenset(map(len, _NAMES))
_TRACE_LINES: Final = re.compile(rb"^trace(?:parent|state):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class ParentSpan(NamedTuple):
    """The span of the sender of a request."""

    trace_id: int
    span_id: int
    sampled: bool
    state: bytes
    "`tracestate`, to be passed on; empty = there is none."


def parent_span(fields: Fields) -> ParentSpan | None:
    """The span of the sender, from the fields of its request; None = it names none that is valid."""
    parents = [value.strip(b" \t") for name, value in fields if name.lower() == b"traceparent"]
    if len(parents) != 1 or (match := _TRACEPARENT.fullmatch(parents[0])) is None:
        return None
    version, trace_id, span_id = match[1], int(match[2], 16), int(match[3], 16)
    # Section 3.2.2: version ff is invalid, and only later versions may go on after the flags.
    if version == b"ff" or (version == b"00" and match[5] is not None) or not (trace_id and span_id):
        return None
    state = b",".join(value.strip(b" \t") for name, value in fields if name.lower() == b"tracestate")
    return ParentSpan(
        trace_id, span_id, bool(int(match[4], 16) & SAMPLED), state if len(state) <= MOST_STATE else b""
    )


def trace_lines(trace_id: int, span_id: int, *, sampled: bool, state: bytes) -> bytes:
    """The field lines that a backend gets: its parent is this span."""
    line = b"traceparent: 00-%032x-%016x-%02x\r\n" % (trace_id, span_id, SAMPLED if sampled else 0)
    return b"%btracestate: %b\r\n" % (line, state) if state else line


def has_trace_context(fields: Fields) -> bool:
    """Whether there is a field of a trace context, valid or not."""
    return any(len(name) in _LENGTHS and name.lower() in _NAMES for name, _ in fields)


def without_trace_lines(head: bytes) -> bytes:
    """An encoded head of a request without the trace context of its sender."""
    return _TRACE_LINES.sub(b"", head)


def is_in_sample(trace_id: int, ratio: float) -> bool:
    """Whether a trace belongs to this part of all traces: by the end of its id, which is random, so that all edges
    decide alike (OpenTelemetry, TraceIdRatioBased)."""
    return (trace_id & 0xFFFF_FFFF_FFFF_FFFF) < ratio * (1 << 64)
