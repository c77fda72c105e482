"""How a backend comes to be on probation or down, and how it becomes healthy again."""

from math import inf

import pytest

from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.health_events import DOWN, HEALTHY, PROBATION, UP
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.probation import adopt, is_like_the_others
from edge.rules.outcomes import Cause
from edge.rules.settings import DemeritSettings
from tests.support.demerit_fleet import ERRORS, Fleet, rest

# Probation


def test_five_failures_in_a_row_lead_to_probation_however_good_it_was() -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=100)
    fleet.fail(0, times=4)
    assert fleet.all[0].is_healthy
    fleet.answer([0.05] * 4, times=20)
    fleet.fail(0, times=4)
    assert fleet.all[0].is_healthy, "not in a row"
    fleet.fail(0, times=1)
    assert not fleet.all[0].is_healthy
    assert fleet.all[0].weight == 0.0


def test_failures_lead_to_no_probation_when_the_neighbours_fail_as_well() -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=3)
    for _ in range(8):
        fleet.fail(0, 1, 2, 3)
    assert all(state.is_healthy for state in fleet.all)


def on_probation(size: int = 4) -> tuple[Fleet, BackendState]:
    """The first of them responds ten times slower than the others, until it is on probation."""
    fleet = Fleet(size)
    fleet.answer([0.05] * size, times=20)
    while fleet.all[0].probation is None:
        fleet.answer([0.5, *[0.05] * (size - 1)])
    return fleet, fleet.all[0]


def test_time_alone_does_not_end_a_probation() -> None:
    fleet, slow = on_probation()
    fleet.weigh(3600.0)
    assert slow.probation is not None
    assert slow.weight == 0.0
    assert fleet.demerits.probe_due < fleet.now


def test_two_good_responses_in_a_row_end_it() -> None:
    fleet, slow = on_probation()
    for latency in (0.05, 0.5, 0.05):
        fleet.demerits.record_response(slow, latency, fleet.now)
        fleet.weigh(0.1)
        assert slow.probation is not None
    for _ in range(3):  # its mean has to come down as well
        fleet.demerits.record_response(slow, 0.05, fleet.now)
    fleet.weigh(0.1)
    assert slow.probation is None
    assert slow.points == 0.0
    assert 0.1 <= slow.weight < 0.2


def test_they_lower_its_error_ratio_as_well() -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=10)
    fleet.fail(0, times=30)
    bad = fleet.all[0]
    for _ in range(2):
        fleet.demerits.record_response(bad, 0.05, fleet.now)
    fleet.weigh(0.1)
    assert (bad.probation, bad.error, bad.points) == (None, 0.0, 0.0)


def test_each_bad_response_to_a_probe_doubles_the_wait_for_the_next_up_to_thirty_seconds() -> None:
    fleet, slow = on_probation()
    probation = slow.probation
    assert probation is not None
    probation.pace = 1.0
    waits = []
    for turn in range(7):
        if turn % 3 == 0:
            fleet.demerits.record_failure(slow, ERRORS, fleet.now)
        elif turn % 3 == 1:
            fleet.demerits.record_response(slow, 0.5, fleet.now)
        else:
            fleet.demerits.record_refusal(slow, 0.0, fleet.now)
        waits.append(probation.due - fleet.now)
    assert waits == pytest.approx([2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
    fleet.demerits.record_response(slow, 0.05, fleet.now)
    assert probation.due == fleet.now, "a good one asks for another at once"


def test_a_probe_is_given_up_when_its_response_would_be_too_slow() -> None:
    fleet, _ = on_probation()
    assert fleet.demerits.probe_timeout == pytest.approx(0.05 * 4.0, rel=0.1)


@pytest.mark.parametrize(("slow", "weights"), [(2, [0.0, 0.0, 1.0, 1.0]), (3, [0.1, 0.1, 0.1, 1.0])])
def test_when_fewer_than_half_are_healthy_probation_is_ignored(slow: int, weights: list[float]) -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=10)
    for state in fleet.all[:slow]:
        state.probation, state.mean = Probation(Why.SLOW, fleet.now, 0.5), state.mean + 5.0
    fleet.weigh(0.1)
    assert [state.weight for state in fleet.all] == weights
    assert fleet.demerits.panicking == (slow == 3)
    assert (fleet.demerits.probe_due < inf) == (slow == 2), "in a panic they get real requests"


def test_a_backend_that_joins_or_moves_begins_on_probation() -> None:
    demerits = Demerits(DemeritSettings())
    first = [demerits.state_of(name, f"{name}@here") for name in ("a", "b")]
    assert [state.probation for state in first] == [None, None], "nothing is known of anybody"
    for state in first * 3:
        demerits.record_response(state, 0.05, 100.0)
    demerits.weigh(first, 100.0)
    new, asleep = demerits.state_of("c", "c@here"), demerits.state_of("d", "d@here", asleep=True)
    assert new.probation is not None
    assert (new.probation.why, new.probation.due) == (Why.NEW, 0.0)
    assert asleep.probation is None, "a probe would wake it"
    assert demerits.state_of("a", "a@here").probation is None
    demerits.goes_down(first[0], 100.0)
    assert demerits.state_of("a", "a@there").probation is not None
    assert first[0].down_since == 0.0, "it was down where it is no more"


@pytest.mark.parametrize(
    ("why", "reported", "error", "points", "alike"),
    [
        (Why.FAILING, False, 0.25, 0.0, True),
        (Why.FAILING, False, 0.26, 0.0, False),
        (Why.SLOW, False, 1.0, 0.0, True),
        (Why.SLOW, False, 0.0, 0.1, False),
        (Why.NEW, False, 0.0, 0.0, False),
        (Why.BACK, False, 0.0, 0.0, False),
        (Why.SLOW, True, 0.0, 0.0, False),
    ],
)
def test_neighbours_that_became_as_bad_end_a_relative_probation(why, reported, error, points, alike) -> None:
    """Where a fifth of all responses fail. A probation that another worker reported is not taken back."""
    state = BackendState()
    state.error, state.points_latency = error, points
    assert is_like_the_others(state, Probation(why, 100.0, 0.5, reported=reported), 0.2) == alike


# Down


def test_three_failed_connects_in_a_row_or_one_that_timed_out_make_it_down() -> None:
    fleet = Fleet(3)
    rest(fleet.demerits, fleet.all[0], Cause.CONNECT_TIMEOUT)
    assert fleet.all[0].down_since == 100.0
    for times in (1, 2, 3):
        rest(fleet.demerits, fleet.all[1], Cause.CONNECT_FAILED)
        assert bool(fleet.all[1].down_since) == (times == 3)
    fleet.weigh(0.1)
    assert [state.weight for state in fleet.all] == [0.0, 0.0, 1.0]


def test_one_that_was_down_comes_back_by_probation_and_grows() -> None:
    fleet = Fleet(3)
    fleet.answer([0.05] * 3, times=10)
    lost = fleet.all[0]
    fleet.demerits.record_unreachable(lost, Cause.CONNECT_TIMEOUT, fleet.now, 0.5)
    fleet.demerits.record_connected(lost, fleet.now + 1.0, 0.5)
    fleet.weigh(1.0)
    assert (lost.down_since, lost.weight, fleet.demerits.probe_due) == (0.0, 0.0, fleet.now)
    fleet.demerits.record_response(lost, 0.05, fleet.now)
    assert lost.probation is not None
    fleet.demerits.record_response(lost, 0.05, fleet.now)
    assert lost.probation is None
    weights = []
    for _ in range(3):
        fleet.weigh(2.4)
        weights.append(lost.weight)
    assert weights == pytest.approx([0.1 + 0.9 * 2.4 / 5, 0.1 + 0.9 * 4.8 / 5, 1.0])


@pytest.mark.parametrize("cold", [False, True])
def test_a_response_over_an_old_connection_does_not_bring_a_backend_back(cold) -> None:
    """It says nothing about new connections: a client would wait for the next connect in vain."""
    fleet = Fleet(2)
    lost = fleet.all[0]
    fleet.demerits.record_unreachable(lost, Cause.CONNECT_TIMEOUT, 1000.0, 0.5)
    resting = lost.until
    for n in range(10):
        if cold:
            fleet.demerits.record_wake(lost, 1001.0 + n)
        else:
            fleet.demerits.record_response(lost, 0.05, 1001.0 + n)
    assert (lost.down_since, lost.unreachable, lost.until) == (1000.0, 1, resting)
    fleet.demerits.record_connected(lost, 1020.0, 0.5)
    assert (lost.down_since, lost.is_healthy) == (0.0, False), "on probation first"
    for _ in range(2):
        fleet.demerits.record_response(lost, 0.05, 1021.0)
    assert lost.is_healthy


def test_a_backend_without_a_connect_check_gets_one_at_the_next_request() -> None:
    fleet = Fleet(3)
    lost, _, gone = fleet.all
    fleet.demerits.goes_down(lost, 1000.0)
    fleet.demerits.goes_down(gone, 1000.0)
    fleet.weigh()
    for state in fleet.all:
        fleet.demerits.connect_at_next_request(state)
    assert fleet.demerits.to_connect == {lost, gone}, "one that is not down needs no connect"
    assert fleet.demerits.weighed_at == -1.0, "the next request looks at once"
    fleet.demerits.keep_only(["b0", "b1"])
    assert fleet.demerits.to_connect == {lost}
    fleet.demerits.connect_at_next_request(gone)
    assert fleet.demerits.to_connect == {lost}, "it is no backend of this site any more"


# What other workers found


def adopted(state: BackendState, what: str, why: str = "") -> BackendState:
    adopt(state, HealthEvent(what, "acme", "live", "a@here", why), 100.0, 0.5, base=-3.0, common=0.1)
    return state


def test_reports_of_other_workers_have_the_same_effect_as_own_findings() -> None:
    state = adopted(BackendState(), DOWN)
    assert (state.down_since, state.unreachable) == (100.0, 1)
    adopted(state, UP)
    assert state.down_since == 0.0
    assert state.probation is not None
    assert state.probation.why is Why.BACK
    state.mean, state.error, state.slow = 2.0, 0.9, 4
    adopted(state, HEALTHY)
    assert (state.probation, state.mean, state.error, state.slow) == (None, -3.0, 0.1, 0)
    adopted(state, PROBATION, "failing")
    assert state.probation is not None
    assert (state.probation.why, state.probation.reported) == (Why.FAILING, True)


@pytest.mark.parametrize("what", [UP, HEALTHY])
def test_a_report_of_the_known_condition_changes_nothing(what: str) -> None:
    state = adopted(BackendState(), what)
    assert (state.is_healthy, state.recovered_at) == (True, 0.0)


def test_a_backend_that_is_down_is_not_on_probation_as_well() -> None:
    state = adopted(BackendState(), DOWN)
    assert adopted(state, PROBATION, "slow").probation is None
