"""The arithmetic of demerits."""

from math import exp, log

import pytest

from edge.rules.balancing import scoring
from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.settings import DemeritSettings

SETTINGS = DemeritSettings(half_life=10.0, latency_power=2.0, error_points=5.0)


def timed(seconds: float, *, samples: int = 19, at: float = 100.0) -> BackendState:
    state = BackendState()
    state.mean, state.samples, state.last_response_at = log(seconds), samples, at
    return state


def failing(error: float, *, at: float = 100.0) -> BackendState:
    state = BackendState()
    state.error, state.error_at = error, at
    return state


def test_a_value_halves_with_each_half_life() -> None:
    assert [scoring.decayed(8.0, 100.0, 100.0 + 10.0 * n, 10.0) for n in range(4)] == [8.0, 4.0, 2.0, 1.0]


@pytest.mark.parametrize(("means", "base"), [([3.0], 3.0), ([4.0, 3.0], 3.0), ([5.0, 1.0, 4.0, 2.0, 3.0], 2.0)])
def test_the_base_line_is_that_of_the_quicker_backends(means: list[float], base: float) -> None:
    assert scoring.base_line(means) == base


def test_the_common_error_ratio_is_the_median_of_what_is_left() -> None:
    states = [failing(0.9), failing(0.8, at=90.0), failing(0.1)]
    assert scoring.common_error_ratio(states, 100.0, 10.0) == pytest.approx(0.4)


def test_the_knee_is_a_factor_of_two_and_wider_while_little_is_known() -> None:
    assert scoring.knee(19, 0.1) == pytest.approx(log(2.0))
    assert scoring.knee(0, 1.0) == scoring.knee(1, 1.0) == pytest.approx(3.0)
    assert scoring.knee(9, 1.0) == pytest.approx(1.0)
    assert scoring.knee(19, 5.0) == scoring.knee(1000, 5.0), "a mean has no more than 19 samples in it"


def test_latency_points_are_what_is_beyond_the_knee() -> None:
    base = log(0.05)
    assert scoring.latency_points(timed(0.5), base, 0.1, 100.0, SETTINGS) == pytest.approx(2.0 * log(5.0))
    assert scoring.latency_points(timed(0.099), base, 0.1, 100.0, SETTINGS) == 0.0
    assert scoring.latency_points(timed(0.01), base, 0.1, 100.0, SETTINGS) == 0.0


def test_a_backend_without_responses_or_base_line_is_not_slow() -> None:
    assert scoring.latency_points(timed(9.0, samples=0), log(0.05), 0.1, 100.0, SETTINGS) == 0.0
    assert scoring.latency_points(timed(9.0), None, 0.1, 100.0, SETTINGS) == 0.0


def test_time_takes_points_away_but_on_probation() -> None:
    base, slow = log(0.05), timed(0.5)
    later = scoring.latency_points(slow, base, 0.1, 110.0, SETTINGS)
    assert later == pytest.approx(2.0 * (log(10.0) / 2.0 - log(2.0)))
    slow.probation = Probation(Why.SLOW, 100.0, 0.5)
    assert scoring.latency_points(slow, base, 0.1, 110.0, SETTINGS) == pytest.approx(2.0 * log(5.0))


def test_error_points_are_what_is_beyond_the_common_ratio_and_a_margin() -> None:
    assert scoring.error_points(failing(0.5), 0.25, 100.0, SETTINGS) == pytest.approx(5.0 * 0.2)
    assert scoring.error_points(failing(0.5), 0.45, 100.0, SETTINGS) == pytest.approx(0.0)
    assert scoring.error_points(failing(0.5), 0.0, 110.0, SETTINGS) == pytest.approx(5.0 * 0.2)


def test_a_failure_weighs_less_the_more_is_known_and_most_on_probation() -> None:
    steps = [scoring.error_step(timed(1.0, samples=samples)) for samples in (0, 4, 100)]
    assert steps == [1.0 / 4, 1.0 / 8, scoring.SLOWEST_STEP]
    state = timed(1.0, samples=100)
    state.probation = Probation(Why.SLOW, 100.0, 0.5)
    assert scoring.error_step(state) == scoring.PROBATION_STEP


@pytest.mark.parametrize(("sigma", "factor"), [(0.1, 4.0), (1.0, exp(1.6))])
def test_a_response_to_a_probe_may_take_four_times_the_usual_or_more_where_all_vary(sigma, factor) -> None:
    assert scoring.probe_timeout(log(0.05), sigma) == pytest.approx(0.05 * factor)


def test_before_anything_is_known_defaults_hold() -> None:
    assert (scoring.usual_latency(None), scoring.probe_timeout(None, 0.5)) == (0.1, 10.0)
    assert scoring.usual_latency(log(0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize(("since", "factor"), [(0.0, 0.1), (2.5, 0.55), (5.0, 1.0), (99.0, 1.0)])
def test_the_share_grows_after_a_recovery(since: float, factor: float) -> None:
    assert scoring.slow_start_factor(since) == pytest.approx(factor)


def test_a_backend_is_silent_when_it_takes_longer_than_any_response() -> None:
    state = BackendState()
    state.last_event_at, state.waiting_since = 90.0, 100.0
    assert not scoring.is_silent(state, log(1.0), 0.5, 100.0 + exp(1.5))
    assert scoring.is_silent(state, log(1.0), 0.5, 100.1 + exp(1.5))
    assert not scoring.is_silent(state, log(0.001), 0.5, 100.5), "half a second is granted to everybody"
    assert scoring.is_silent(state, log(0.001), 0.5, 100.6)
