"""The state of one backend, and the intervals of its probes and connects."""

import pytest

from edge.rules.balancing.backend_state import (
    GOOD_IN_A_ROW,
    UNPROBED_TIMEOUT,
    BackendState,
    Probation,
    Why,
    connect_wait,
)
from edge.rules.outcomes import Cause


def test_a_probe_without_a_result_is_repeated_a_second_later() -> None:
    probation = Probation(Why.BACK, 100.0, 0.5)
    assert probation.due == 100.0
    probation.record_probe(100.0)
    assert (probation.due, probation.strikes) == (101.0, 0)


def test_connects_in_the_background_come_at_most_five_seconds_apart() -> None:
    assert [connect_wait(tries, 0.5) for tries in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert (connect_wait(0, 0.0), connect_wait(10**6, 1.0)) == pytest.approx((0.075, 6.25))


@pytest.mark.parametrize(
    ("why", "due"), [(Why.NEW, 100.0), (Why.BACK, 100.0), (Why.SLOW, 101.0), (Why.FAILING, 101.0)]
)
def test_a_backend_that_is_new_or_back_is_probed_at_once(why: Why, due: float) -> None:
    probation = Probation(why, 100.0, 0.5)
    assert probation.due == due
    assert probation.overdue_at == (due if due == 100.0 else due + UNPROBED_TIMEOUT)


def test_a_bad_response_takes_back_the_good_ones_before_it() -> None:
    probation = Probation(Why.SLOW, 100.0, 0.5)
    passed = [probation.record_good_response(101.0 + n) for n in range(GOOD_IN_A_ROW - 1)]
    probation.record_bad_response(110.0)
    passed += [probation.record_good_response(111.0 + n) for n in range(GOOD_IN_A_ROW)]
    assert passed == [False] * (2 * GOOD_IN_A_ROW - 2) + [True]


def test_each_worker_probes_at_its_own_pace() -> None:
    dues = [Probation(Why.SLOW, 100.0, rand).due for rand in (0.0, 0.5, 1.0)]
    assert dues == pytest.approx([100.75, 101.0, 101.25])


def test_forget_drops_measurements_and_keeps_the_condition() -> None:
    state = BackendState()
    state.endpoint, state.in_flight, state.down_since, state.cold = "a@here", 2, 100.0, True
    state.mean, state.samples, state.error, state.slow, state.failures = 1.0, 9, 0.5, 3, 2
    state.last_error, state.probation = Cause.SERVER_ERROR, Probation(Why.SLOW, 100.0, 0.5)
    state.points_latency = state.points_errors = 1.0
    state.forget()
    assert (state.endpoint, state.in_flight, state.down_since, state.cold) == ("a@here", 2, 100.0, True)
    assert (state.mean, state.samples, state.error, state.points) == (0.0, 0, 0.0, 0.0)
    assert (state.last_error, state.probation, state.weight) == (None, None, 0.0)


def test_healthy_is_neither_down_nor_on_probation() -> None:
    state = BackendState()
    assert state.is_healthy
    state.down_since = 100.0
    assert not state.is_healthy
    state.down_since, state.probation = 0.0, Probation(Why.NEW, 100.0, 0.5)
    assert not state.is_healthy
