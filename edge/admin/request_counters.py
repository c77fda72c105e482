"""Counts finished requests: one `count` for every request, on the hot path.

The numbers are in a row of `scoreboard.py`, which the admin process reads; writing one costs 0.1 µs. A prometheus
`Counter.inc` costs 0.5 µs and 1.3 µs with its labels, a `Histogram.observe` up to 1.7 µs. The collector reads the
numbers at each scrape, every fifteen seconds or so.

Every index is a member of an enum or an HTTP status of three digits, so nothing that a client sends makes the
tables grow.
"""

from bisect import bisect_left
from typing import Any, Final

from edge.admin.metric_sources import BOUNDS_MS, LOWEST_STATUS
from edge.admin.scoreboard import LAYOUT, TIMES, Row, cell
from edge.rules.exchange_observers import ExchangeCounters, Times
from edge.rules.exchange_records import Outcome
from edge.rules.outcomes import Cause, Phase

# Indexes of the cells, looked up once.
OUTCOME_AT: Final = {
    phase: {cause: LAYOUT.outcomes + p * len(Cause) + c for c, cause in enumerate(Cause)}
    for p, phase in enumerate(Phase)
}
STATUS_AT: Final = cell("styx_responses_total") - LOWEST_STATUS
ATTEMPT_AT: Final = {cause: cell("styx_attempts_total", cause.value) for cause in Cause}
RETRY_AT: Final = {cause: cell("styx_retries_total", cause.value) for cause in Cause}
BYTES_IN: Final = cell("styx_request_body_bytes_total")
BYTES_OUT: Final = cell("styx_response_body_bytes_total")
TOTAL: Final = cell("styx_request_seconds")
FIRST_BYTE: Final = cell("styx_first_byte_seconds")
CONNECT: Final = cell("styx_connect_seconds")
RESOLVE: Final = cell("styx_resolve_seconds")
OVERHEAD: Final = cell("styx_overhead_seconds")
HANDSHAKE: Final = cell("styx_tls_handshake_seconds")
SITE_RESPONSES: Final = list(LAYOUT.cells["styx_site_responses_total"].values())
SITE_SECONDS: Final = cell("styx_site_request_seconds")
CORE: Final = LAYOUT.cells["styx_core_api_seconds"]


_OK: Final = Cause.OK
_FINISHED: Final = Phase.FINISHED
# Those of nearly all requests. The hash of a member of an Enum is computed by a Python function.
OUTCOME_OK_AT: Final = OUTCOME_AT[_FINISHED][_OK]
ATTEMPT_OK_AT: Final = ATTEMPT_AT[_OK]
_OK_STATUS: Final = 200
# Cells of nearly all requests, as objects: a compiled styx makes one of a number for each access to a memoryview.
_OUTCOME_OK_CELL: Final[Any] = OUTCOME_OK_AT
_STATUS_OK_CELL: Final[Any] = STATUS_AT + _OK_STATUS
_BYTES_OUT_CELL: Final[Any] = BYTES_OUT
_BOUNDS: Final = [float(bound) for bound in BOUNDS_MS]
_TOTAL_BUCKETS: Final = TOTAL + 1
_FIRST_BYTE_BUCKETS: Final = FIRST_BYTE + 1


class RequestCounters(ExchangeCounters):
    """Counts in one row, into which no other object may count meanwhile: reading a cell takes as long as writing
    one, so the counts are kept here as well."""

    __slots__ = ("_bytes_out", "_cells", "_counts", "_ok_outcomes", "_ok_statuses")

    def __init__(self, row: Row) -> None:
        self._cells = row.cells
        self._counts: list[float] = list(row.cells)
        # Of nearly all requests: an attribute is a machine number when compiled, and saves 150 of 400 instructions.
        # They are not in the list.
        self._ok_outcomes: float = row.cells[OUTCOME_OK_AT]
        self._ok_statuses: float = row.cells[STATUS_AT + _OK_STATUS]
        self._bytes_out: float = row.cells[BYTES_OUT]

    def record(self, outcome: Outcome) -> None:
        """Count one finished exchange, of which there is a record."""
        attempts = outcome.attempts
        for attempt in attempts[:-1]:
            self.count_retry(attempt.result)
        self.count(
            outcome.phase,
            outcome.cause,
            outcome.status,
            outcome.bytes_in,
            outcome.bytes_out,
            attempts[-1].result if attempts else None,
            (
                outcome.resolve_ms,
                outcome.connect_ms,
                outcome.first_byte_ms,
                outcome.total_ms,
                outcome.overhead_ms,
            ),
        )

    def count_retry(self, result: Cause) -> None:
        """Count an attempt that ended with `result` and was followed by another."""
        cells, counts = self._cells, self._counts
        for at in (ATTEMPT_AT[result], RETRY_AT[result]):
            counts[at] = cells[at] = counts[at] + 1.0

    def count_site(self, slot: int, status: int, total_ms: float) -> None:
        """Count one finished exchange of the site with this slot (`metrics/named_slots.py`)."""
        cells, counts = self._cells, self._counts
        at = SITE_RESPONSES[min(max(status // 100, 1), 5) - 1] + slot
        counts[at] = cells[at] = counts[at] + 1.0
        self._add_time(SITE_SECONDS + slot * TIMES, total_ms)

    def count(
        self,
        phase: Phase,
        cause: Cause,
        status: int,
        bytes_in: int,
        bytes_out: int,
        last_result: Cause | None,
        times: Times,
    ) -> None:
        """Count one finished exchange; see the benchmark in tests/admin/test_request_counters.py."""
        cells, counts = self._cells, self._counts
        resolve_ms, connect_ms, first_byte_ms, total_ms, overhead_ms = times
        if cause is _OK and phase is _FINISHED:
            self._ok_outcomes += 1.0
            cells[_OUTCOME_OK_CELL] = self._ok_outcomes
        else:
            at = OUTCOME_AT[phase][cause]
            counts[at] = cells[at] = counts[at] + 1.0
        if status == _OK_STATUS:
            self._ok_statuses += 1.0
            cells[_STATUS_OK_CELL] = self._ok_statuses
        else:
            at = STATUS_AT + status
            counts[at] = cells[at] = counts[at] + 1.0
        if bytes_in:
            counts[BYTES_IN] = cells[BYTES_IN] = counts[BYTES_IN] + bytes_in
        if bytes_out:
            self._bytes_out += bytes_out
            cells[_BYTES_OUT_CELL] = self._bytes_out
        if last_result is not None:
            at = ATTEMPT_OK_AT if last_result is _OK else ATTEMPT_AT[last_result]
            counts[at] = cells[at] = counts[at] + 1.0
        # As `_add_time` twice, without a call: nearly all requests have both.
        counts[TOTAL] = cells[TOTAL] = counts[TOTAL] + total_ms
        at = _TOTAL_BUCKETS + bisect_left(_BOUNDS, total_ms)
        counts[at] = cells[at] = counts[at] + 1.0
        if first_byte_ms:
            counts[FIRST_BYTE] = cells[FIRST_BYTE] = counts[FIRST_BYTE] + first_byte_ms
            at = _FIRST_BYTE_BUCKETS + bisect_left(_BOUNDS, first_byte_ms)
            counts[at] = cells[at] = counts[at] + 1.0
        if overhead_ms:
            self._add_time(OVERHEAD, overhead_ms)
        if connect_ms:
            self._add_time(CONNECT, connect_ms)
        if resolve_ms:
            self._add_time(RESOLVE, resolve_ms)

    def _add_time(self, times: int, ms: float) -> None:
        """Count a time in the histogram whose first cell is `times`."""
        cells, counts = self._cells, self._counts
        counts[times] = cells[times] = counts[times] + ms
        # A time that equals a bound belongs to its bucket, as the label `le` (less or equal) says.
        bucket = times + 1 + bisect_left(_BOUNDS, ms)
        counts[bucket] = cells[bucket] = counts[bucket] + 1.0

    def record_handshake(self, seconds: float) -> None:
        """Count one completed TLS handshake."""
        self._add_time(HANDSHAKE, seconds * 1_000)

    def record_lookup(self, result: str, seconds: float) -> None:
        """Count one lookup at the core API, which took `seconds`. `result` is a label value of the metric."""
        self._add_time(CORE[result], seconds * 1_000)
