"""Counts finished requests: one `record` for every request, on the hot path.

The numbers are in a row of `scoreboard.py`, which the admin process reads; writing one costs 0.1 µs. A prometheus
`Counter.inc` costs 0.5 µs and 1.3 µs with its labels, a `Histogram.observe` up to 1.7 µs. The collector reads the
numbers at each scrape, every fifteen seconds or so.

Every index is a member of an enum or an HTTP status of three digits, so nothing that a client sends makes the
tables grow.
"""

from bisect import bisect_left
from typing import Final

from edge.admin.metric_sources import BOUNDS_MS, LOWEST_STATUS
from edge.admin.scoreboard import LAYOUT, Row, cell, observe
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
CORE: Final = LAYOUT.cells["styx_core_api_seconds"]
TOTAL_BUCKETS: Final = TOTAL + 1
FIRST_BYTE_BUCKETS: Final = FIRST_BYTE + 1
OVERHEAD_BUCKETS: Final = OVERHEAD + 1


class RequestCounters:
    """Counts in one row. Only one event loop may write to it."""

    __slots__ = ("_cells",)

    def __init__(self, row: Row) -> None:
        self._cells = row.cells

    def record(self, outcome: Outcome) -> None:
        """Count one finished exchange. About 1.5 µs; see the benchmark in tests/admin/test_request_counters.py."""
        cells = self._cells
        cells[OUTCOME_AT[outcome.phase][outcome.cause]] += 1
        cells[STATUS_AT + outcome.status] += 1
        if outcome.bytes_in:
            cells[BYTES_IN] += outcome.bytes_in
        cells[BYTES_OUT] += outcome.bytes_out
        attempts = outcome.attempts
        if attempts:
            cells[ATTEMPT_AT[attempts[-1].result]] += 1
            if len(attempts) > 1:
                for attempt in attempts[:-1]:
                    cells[ATTEMPT_AT[attempt.result]] += 1
                    cells[RETRY_AT[attempt.result]] += 1
        # `observe`, inlined: these three are on the hot path.
        ms = outcome.total_ms
        cells[TOTAL] += ms
        cells[TOTAL_BUCKETS + bisect_left(BOUNDS_MS, ms)] += 1
        # 0 = it did not happen: the route was cached, the connection was reused, there was no response.
        ms = outcome.first_byte_ms
        if ms:
            cells[FIRST_BYTE] += ms
            cells[FIRST_BYTE_BUCKETS + bisect_left(BOUNDS_MS, ms)] += 1
        ms = outcome.overhead_ms
        if ms:
            cells[OVERHEAD] += ms
            cells[OVERHEAD_BUCKETS + bisect_left(BOUNDS_MS, ms)] += 1
        if outcome.connect_ms:
            observe(cells, CONNECT, outcome.connect_ms)
        if outcome.resolve_ms:
            observe(cells, RESOLVE, outcome.resolve_ms)

    def record_handshake(self, seconds: float) -> None:
        """Count one completed TLS handshake."""
        observe(self._cells, HANDSHAKE, seconds * 1_000)

    def record_lookup(self, result: str, seconds: float) -> None:
        """Count one look-up at the core API, which took `seconds`. `result` is a label value of the metric."""
        observe(self._cells, CORE[result], seconds * 1_000)
