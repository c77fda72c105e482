import time
import timeit

import pytest

from edge.admin import request_counters as at
from edge.admin.metric_sources import BOUNDS_MS, LOWEST_STATUS, STATUSES
from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import LAYOUT, TIMES, Scoreboard, cell, observe
from edge.rules.exchange_records import Attempted
from edge.rules.outcomes import Blame, Cause, Phase


def tried(result: Cause) -> Attempted:
    return Attempted(backend="b1", result=result, status=0, connect_ms=0.2, first_byte_ms=0.0)


@pytest.fixture
def row():
    return Scoreboard(2).row(1)


@pytest.fixture
def request_counters(row):
    return RequestCounters(row)


def counted(row, cells):
    return {key: row.cells[cell] for key, cell in cells.items() if row.cells[cell]}


def times(row, start):
    """Number of times in a histogram, and their sum in milliseconds."""
    return sum(row.cells[start + 1 : start + TIMES]), row.cells[start]


def test_a_request_with_a_response(row, request_counters, outcome):
    request_counters.record(outcome(bytes_in=7, bytes_out=11))
    request_counters.record(outcome(bytes_in=1, bytes_out=1))
    assert counted(row, at.OUTCOME_AT[Phase.FINISHED]) == {Cause.OK: 2}
    assert sum(row.cells[LAYOUT.outcomes : LAYOUT.outcomes + len(Phase) * len(Cause)]) == 2
    assert row.cells[at.STATUS_AT + 200] == 2
    assert counted(row, at.ATTEMPT_AT) == {Cause.OK: 2}
    assert counted(row, at.RETRY_AT) == {}
    assert (row.cells[at.BYTES_IN], row.cells[at.BYTES_OUT]) == (8, 12)


def test_a_retry_bears_the_cause_of_the_attempt_that_failed(row, request_counters, outcome):
    request_counters.record(outcome(attempts=[tried(Cause.REFUSED), tried(Cause.CONNECT_FAILED), tried(Cause.OK)]))
    assert counted(row, at.ATTEMPT_AT) == {Cause.REFUSED: 1, Cause.CONNECT_FAILED: 1, Cause.OK: 1}
    assert counted(row, at.RETRY_AT) == {Cause.REFUSED: 1, Cause.CONNECT_FAILED: 1}


def test_the_last_failure_is_no_retry(row, request_counters, outcome):
    request_counters.record(
        outcome(attempts=[tried(Cause.REFUSED)], status=503, blame=Blame.BACKEND, cause=Cause.REFUSED)
    )
    assert counted(row, at.RETRY_AT) == {}


def test_times_that_did_not_happen_are_not_observed(row, request_counters, outcome):
    every = (at.RESOLVE, at.CONNECT, at.FIRST_BYTE, at.OVERHEAD, at.TOTAL)
    request_counters.record(
        outcome(resolve_ms=0.0, connect_ms=0.0, first_byte_ms=0.0, overhead_ms=0.0, total_ms=0.0)
    )
    assert [times(row, start)[0] for start in every] == [0, 0, 0, 0, 1]
    request_counters.record(
        outcome(resolve_ms=3.0, connect_ms=0.2, first_byte_ms=9.0, overhead_ms=0.5, total_ms=12.2)
    )
    assert [times(row, start) for start in every] == [(1, 3.0), (1, 0.2), (1, 9.0), (1, 0.5), (2, 12.2)]


@pytest.mark.parametrize("status", [100, 599, 600, 999])
def test_every_status_of_three_digits_has_a_cell(row, request_counters, outcome, status):
    request_counters.record(outcome(status=status))
    start = cell("styx_responses_total")
    assert row.cells[start + status - LOWEST_STATUS] == 1
    assert sum(row.cells[start : start + STATUSES]) == 1


@pytest.mark.parametrize(("ms", "bucket"), [(0.01, 0), (0.05, 0), (0.06, 1), (0.5, 3), (60_000, 18), (60_001, 19)])
def test_a_bound_belongs_to_its_bucket(row, ms, bucket):
    observe(row.cells, at.TOTAL, ms)
    assert row.cells[at.TOTAL + 1 : at.TOTAL + TIMES].tolist().index(1) == bucket


@pytest.mark.parametrize("bound", BOUNDS_MS)
def test_the_time_of_a_request_is_in_the_bucket_of_its_bound_or_in_the_next(row, request_counters, outcome, bound):
    number = BOUNDS_MS.index(bound)
    for ms, bucket in ((bound, number), (bound * 1.001, number + 1)):
        before = row.cells[at.TOTAL + 1 : at.TOTAL + TIMES].tolist()
        request_counters.record(outcome(total_ms=ms))
        after = row.cells[at.TOTAL + 1 : at.TOTAL + TIMES].tolist()
        assert [later - earlier for earlier, later in zip(before, after, strict=True)].index(1) == bucket


def test_lookups_at_the_core_api(row, request_counters):
    request_counters.record_lookup("route", 0.25)
    request_counters.record_lookup("timeout", 5.0)
    assert {r: times(row, start) for r, start in at.CORE.items() if row.cells[start]} == {
        "route": (1, 250),
        "timeout": (1, 5_000),
    }
    with pytest.raises(KeyError):
        request_counters.record_lookup("maybe", 1.0)


def test_it_is_cheap(request_counters, outcome):
    """1.2 µs on the machine of DESIGN section 7. The bound is loose: it finds a metric object, not noise."""
    one = outcome()
    best = (
        min(timeit.repeat(lambda: request_counters.record(one), number=2_000, repeat=10, timer=time.thread_time))
        / 2_000
    )
    assert best < 6e-6
