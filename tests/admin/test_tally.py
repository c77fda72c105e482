import timeit

import pytest

from edge.admin.tally import BOUNDS_MS, CORE_RESULTS, Histogram, Tally
from edge.rules.outcomes import Attempted, Blame, Cause, Phase


def tried(result: Cause) -> Attempted:
    return Attempted(backend="b1", result=result, status=0, connect_ms=0.2, first_byte_ms=0.0)


def test_an_answered_request(outcome):
    tally = Tally()
    tally.record(outcome(bytes_in=7, bytes_out=11))
    tally.record(outcome(bytes_in=1, bytes_out=1))
    assert tally.ends == {(Blame.NOBODY, Phase.FINISHED, Cause.FINE, 200): [2]}
    assert tally.attempts[Cause.FINE] == 2
    assert sum(tally.retries.values()) == 0
    assert (tally.bytes_in, tally.bytes_out) == (8, 12)


def test_a_retry_bears_the_cause_of_the_attempt_that_failed(outcome):
    tally = Tally()
    tally.record(outcome(attempts=[tried(Cause.REFUSED), tried(Cause.CONNECT_FAILED), tried(Cause.FINE)]))
    assert {c: n for c, n in tally.attempts.items() if n} == {
        Cause.REFUSED: 1,
        Cause.CONNECT_FAILED: 1,
        Cause.FINE: 1,
    }
    assert {c: n for c, n in tally.retries.items() if n} == {Cause.REFUSED: 1, Cause.CONNECT_FAILED: 1}


def test_the_last_failure_is_no_retry(outcome):
    tally = Tally()
    tally.record(outcome(attempts=[tried(Cause.REFUSED)], status=503, blame=Blame.BACKEND, cause=Cause.REFUSED))
    assert sum(tally.retries.values()) == 0


def test_times_that_did_not_happen_are_not_observed(outcome):
    tally = Tally()
    tally.record(outcome(resolve_ms=0.0, connect_ms=0.0, first_byte_ms=0.0, total_ms=0.0))
    assert [sum(h.counts) for h in (tally.resolve, tally.connect, tally.first_byte, tally.total)] == [0, 0, 0, 1]
    tally.record(outcome(resolve_ms=3.0, connect_ms=0.2, first_byte_ms=9.0, total_ms=12.2))
    assert [sum(h.counts) for h in (tally.resolve, tally.connect, tally.first_byte, tally.total)] == [1, 1, 1, 2]
    assert tally.resolve.sum_ms == 3.0


@pytest.mark.parametrize(("ms", "bucket"), [(0.1, 0), (0.5, 0), (0.6, 1), (60_000, 15), (60_001, 16)])
def test_a_bound_belongs_to_its_bucket(ms, bucket):
    times = Histogram()
    times.observe(ms)
    assert times.counts.index(1) == bucket
    assert len(times.counts) == len(BOUNDS_MS) + 1


def test_answers_of_the_core_api():
    tally = Tally()
    tally.core_answered("route", 0.004)
    tally.core_answered("timeout", 5.0)
    assert {r: sum(h.counts) for r, h in tally.core.items() if h.sum_ms} == {"route": 1, "timeout": 1}
    assert tally.core["timeout"].sum_ms == 5_000
    assert tuple(tally.core) == CORE_RESULTS
    with pytest.raises(KeyError):
        tally.core_answered("maybe", 1.0)


def test_it_is_cheap(outcome):
    """0.75 µs on the machine of DESIGN section 7. The bound is loose: it finds a metric object, not noise."""
    tally, one = Tally(), outcome()
    best = min(timeit.repeat(lambda: tally.record(one), number=2_000, repeat=10)) / 2_000
    assert best < 5e-6
