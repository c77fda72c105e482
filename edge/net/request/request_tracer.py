"""Decides for each request whether it is traced, and gives its spans their ids."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from edge.rules.http.messages import Fields
from edge.rules.http.trace_context import ParentSpan, is_in_sample, parent_span
from edge.rules.settings.traces import TraceSettings
from edge.rules.trace_records import ExchangeTrace

TRACE_BITS: Final = 128
SPAN_BITS: Final = 64


class TraceLog(Protocol):
    """Receives the traces of ended exchanges."""

    def write(self, trace: ExchangeTrace) -> None:
        """Take over one trace, without waiting."""


class RequestSpan(NamedTuple):
    """The span of one exchange."""

    trace_id: int
    span_id: int
    parent: ParentSpan | None
    "The span that it continues; None = the trace begins here."
    sampled: bool
    "Whether it is recorded."

    @property
    def state(self) -> bytes:
        return b"" if self.parent is None else self.parent.state


class RequestTracer:
    """`bits`: returns a random number of so many bits, such as `random.getrandbits`."""

    def __init__(self, settings: TraceSettings, log: TraceLog, bits: Callable[[int], int]) -> None:
        self.log = log
        self._ratio = settings.sample
        self._parent = settings.parent
        self._bits = bits

    def begin(self, fields: Fields, *, trusted: bool) -> RequestSpan:
        """The span of a request with these fields. `trusted`: it comes from a trusted proxy."""
        continues = self._parent == "any" or (trusted and self._parent == "trusted")
        parent = parent_span(fields) if continues else None
        if parent is not None:
            return RequestSpan(parent.trace_id, self.new_span_id(), parent, parent.sampled)
        trace_id = self._bits(TRACE_BITS) or 1  # an id of zeros is invalid
        return RequestSpan(trace_id, self.new_span_id(), None, is_in_sample(trace_id, self._ratio))

    def new_span_id(self) -> int:
        return self._bits(SPAN_BITS) or 1
