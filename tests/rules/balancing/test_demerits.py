"""What earns demerits: relative to the neighbours, robust to noise, decaying with time."""

from math import exp, inf, log
from random import Random

import pytest

from edge.rules.balancing.backend_state import MANY
from edge.rules.balancing.demerits import CLEARLY_BAD, Demerits
from edge.rules.outcomes import VERDICTS, Cause, Charge
from edge.rules.settings import DemeritSettings
from tests.support.demerit_fleet import ERRORS, Fleet, rest

# Slow


@pytest.mark.parametrize("latency", [0.002, 0.05, 3.0, 40.0])
def test_when_all_are_equally_slow_none_earns_points(latency: float) -> None:
    fleet = Fleet(4)
    fleet.answer([latency] * 4, times=30)
    assert fleet.weigh(1.0) == [0.0] * 4
    assert [state.weight for state in fleet.all] == [1.0] * 4


def test_a_new_backend_has_nothing_against_it() -> None:
    fleet = Fleet(3)
    assert fleet.weigh() == [0.0] * 3
    fleet.answer([0.05] * 3, times=10)
    new = fleet.demerits.state_of("new")
    fleet.all.append(new)
    fleet.weigh(1.0)
    assert (new.points, new.weight) == (0.0, 1.0)


@pytest.mark.parametrize(("size", "slow"), [(2, 1), (3, 2), (10, 1), (10, 7)])
def test_one_that_becomes_ten_times_slower_is_noticed_after_four_responses(size: int, slow: int) -> None:
    fleet = Fleet(size)
    fleet.answer([0.05] * size, times=30)
    late = [0.5] * slow + [0.05] * (size - slow)
    fleet.answer(late, times=4)
    points = fleet.weigh(0.1)
    assert all(earned > CLEARLY_BAD / 2 for earned in points[:slow])
    assert points[slow:] == [0.0] * (size - slow)
    fleet.answer(late, times=8)
    assert all(earned > CLEARLY_BAD for earned in fleet.weigh(0.1)[:slow])


def test_one_that_was_always_slow_is_noticed_after_four_responses() -> None:
    fleet = Fleet(3)
    fleet.answer([0.5, 0.05, 0.05], times=4)
    slow, *others = fleet.weigh(0.1)
    assert slow > CLEARLY_BAD
    assert others == [0.0, 0.0]


def test_points_grow_with_the_factor_beyond_the_knee() -> None:
    """Twice as slow is noise; beyond that the weight falls with the third power of the slowness."""
    fleet = Fleet(4, half_life=86400.0)
    fleet.answer([0.1, 0.1, 0.1, 0.1 * exp(0.6)], times=200)
    assert fleet.weigh(0.1) == [0.0] * 4
    fleet = Fleet(4, half_life=86400.0)
    fleet.answer([0.1, 0.1, 0.1, 0.4], times=200)
    assert fleet.weigh(0.1)[3] == pytest.approx(3.0 * log(2.0), rel=0.01)
    assert fleet.all[3].weight == pytest.approx(1 / 8, rel=0.02)


def test_one_fast_response_among_slow_ones_does_not_make_the_others_bad() -> None:
    """An empty page, a 304: fewer than three responses are no base line."""
    fleet = Fleet(3)
    fleet.answer([1.0] * 3, times=20)
    quick = fleet.demerits.state_of("quick")
    fleet.all.append(quick)
    fleet.demerits.record_response(quick, 0.001, fleet.now)
    assert fleet.weigh(0.1) == [0.0] * 4


def test_latencies_below_a_millisecond_are_all_alike() -> None:
    fleet = Fleet(3)
    fleet.answer([0.001, 0.00001, 0.0], times=20)
    assert fleet.weigh(0.1) == [0.0] * 3
    assert fleet.all[2].typical == pytest.approx(0.001)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_earns_hardly_anything(seed: int) -> None:
    """Latencies of one distribution, as uneven as PHP pages are (log-normal, as wide as its mean)."""
    dice, sigma = Random(seed), log(2.0) ** 0.5
    fleet = Fleet(10)
    earned: list[float] = []
    for _ in range(300):
        fleet.answer([dice.lognormvariate(log(0.1), sigma) for _ in fleet.all])
        earned += fleet.weigh()
    assert sum(points > 0 for points in earned) < 0.08 * len(earned)
    assert sum(points > CLEARLY_BAD for points in earned) < 0.001 * len(earned)
    lost = sum(1.0 - exp(-points) for points in earned) / len(earned)
    assert lost < 0.03  # of everybody's share


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slow_backend_is_found_in_noise(seed: int) -> None:
    dice, sigma = Random(seed), log(2.0) ** 0.5
    fleet = Fleet(10)
    for _ in range(60):
        fleet.answer(dice.lognormvariate(log(1.0 if state is fleet.all[0] else 0.1), sigma) for state in fleet.all)
    bad, *good = fleet.weigh(0.1)
    assert bad > CLEARLY_BAD
    assert max(good) < 0.5


# Failing


def test_when_all_fail_none_earns_points() -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=10)
    fleet.fail(0, 1, 2, 3, times=50)
    assert fleet.weigh(0.1) == [0.0] * 4


def test_an_environment_of_one_has_no_bad_backend() -> None:
    fleet = Fleet(1)
    fleet.answer([5.0], times=10)
    fleet.fail(0, times=50)
    assert fleet.weigh(0.1) == [0.0]


def test_one_that_always_fails_among_good_ones_is_clearly_bad() -> None:
    fleet = Fleet(4)
    fleet.answer([0.05] * 4, times=10)
    fleet.fail(0, times=30)
    bad, *good = fleet.weigh(0.1)
    assert 2 * CLEARLY_BAD < bad < 6.0 * (1.0 - 0.05)
    assert fleet.all[0].weight == 0.0
    assert fleet.all[0].probation is not None
    assert good == [0.0] * 3
    assert fleet.all[0].last_error is ERRORS


# Silent, and cold


def test_a_silent_backend_gets_fewer_requests() -> None:
    fleet = Fleet(3)
    fleet.answer([0.05] * 3, times=10)
    mute = fleet.all[0]
    mute.waiting, mute.waiting_since = 1, fleet.now
    fleet.weigh(0.4)
    assert mute.weight == 1.0
    fleet.weigh(0.2)
    assert (mute.silent, mute.weight, mute.probation) == (True, 0.1, None)
    fleet.demerits.record_refusal(mute, 0.0, fleet.now)
    fleet.weigh(0.1)
    assert (mute.silent, mute.weight) == (False, 1.0), "after any response"


def test_a_backend_without_requests_is_not_silent() -> None:
    fleet = Fleet(2)
    fleet.answer([0.05] * 2, times=10)
    fleet.weigh(60.0)
    assert [state.silent for state in fleet.all] == [False, False]


def test_a_sleeping_backend_is_woken_only_when_those_awake_are_busy() -> None:
    fleet = Fleet(2)
    asleep, awake = fleet.all
    asleep.asleep = True
    fleet.weigh()
    assert (asleep.cold, asleep.weight, awake.weight) == (True, 1e-5, 1.0)
    fleet.demerits.record_wake(asleep, fleet.now)
    fleet.weigh(0.1)
    assert (asleep.cold, asleep.weight, asleep.samples) == (False, 1.0, 0)


def test_a_backend_that_was_idle_for_long_counts_as_cold() -> None:
    fleet = Fleet(2, idle_after=60.0)
    fleet.answer([0.05] * 2)
    fleet.weigh(59.0)
    assert [state.cold for state in fleet.all] == [False, False]
    fleet.weigh(2.0)
    assert [state.cold for state in fleet.all] == [True, True]
    fleet.demerits.record_response(fleet.all[0], 0.05, fleet.now)
    fleet.weigh(0.1)
    assert [state.cold for state in fleet.all] == [False, True]


def test_what_all_suffer_is_not_charged_to_one() -> None:
    fleet = Fleet(3)
    fleet.answer([0.05] * 3, times=20)
    fleet.fail(0, 1, 2, times=3)
    fleet.fail(0, times=10)
    alone = Fleet(3)
    alone.answer([0.05] * 3, times=20)
    alone.fail(0, times=13)
    assert 0.0 < fleet.weigh(0.1)[0] < alone.weigh(0.1)[0]


def test_a_rare_error_is_forgiven() -> None:
    fleet = Fleet(3)
    fleet.answer([0.05] * 3, times=20)
    fleet.fail(0)
    assert fleet.weigh(0.1)[0] == pytest.approx(6.0 * (0.1 - 0.05), rel=0.05)
    fleet.answer([0.05] * 3, times=8)
    assert fleet.weigh(0.1)[0] == 0.0


# Time


@pytest.mark.parametrize("half_life", [1.0, 10.0])
def test_points_for_latency_decay_with_the_half_life(half_life: float) -> None:
    fleet = Fleet(3, half_life=half_life, latency_power=0.1)
    fleet.answer([0.05, 0.05, 5.0], times=100)
    fleet.all[2].last_response_at = fleet.all[0].last_response_at = fleet.all[1].last_response_at = fleet.now
    knee = log(2.0)
    at_once, later, much_later = (fleet.weigh(after)[2] / 0.1 for after in (0.05, half_life, half_life))
    assert later + knee == pytest.approx((at_once + knee) / 2, rel=1e-6)
    assert much_later + knee == pytest.approx((later + knee) / 2, rel=1e-6)
    assert fleet.weigh(half_life * 10)[2] == 0.0


@pytest.mark.parametrize("half_life", [1.0, 10.0])
def test_points_for_errors_decay_with_the_half_life(half_life: float) -> None:
    fleet = Fleet(3, half_life=half_life)
    fleet.fail(0)
    margin = 0.05
    at_once, later = (fleet.weigh(after)[0] / 6.0 for after in (0.05, half_life))
    assert later + margin == pytest.approx((at_once + margin) / 2, rel=1e-6)
    assert fleet.weigh(half_life * 10)[0] == 0.0


def test_an_error_long_ago_adds_little_to_a_new_one() -> None:
    fleet = Fleet(1)
    fleet.answer([0.05], times=20)
    fleet.fail(0, times=4)
    fleet.now += 1000.0
    fleet.fail(0)
    assert fleet.all[0].error == pytest.approx(0.1, rel=0.01)


def test_weights_are_worked_out_at_most_every_refresh() -> None:
    fleet = Fleet(2, refresh=0.02)
    fleet.weigh()
    fleet.demerits.record_failure(fleet.all[0], ERRORS, fleet.now)
    assert fleet.weigh(0.0)[0] == 0.0
    assert fleet.weigh(0.019)[0] == 0.0
    assert fleet.weigh(0.002)[0] > 0.0


@pytest.mark.parametrize(
    ("happens", "busy", "at_rest"),
    [
        (lambda demerits, one, now: None, 0.1, 5.0),
        (lambda demerits, one, now: demerits.record_response(one, 0.09, now), 0.1, 5.0),
        (lambda demerits, one, now: demerits.record_response(one, 0.5, now), 0.02, 0.02),
        (lambda demerits, one, now: demerits.record_failure(one, ERRORS, now), 0.02, 0.02),
        (lambda demerits, one, now: demerits.goes_down(one, now), 0.0, 0.0),
        (lambda demerits, one, now: demerits.state_of("b0", asleep=True), 0.0, 0.0),
    ],
    ids=["nothing", "a usual response", "a slow one", "a failure", "it goes down", "it was put to sleep"],
)
def test_while_all_are_healthy_and_nothing_happens_weights_hold_longer(happens, busy, at_rest) -> None:
    for is_busy, seconds in ((True, busy), (False, at_rest)):
        fleet = Fleet(2, refresh=0.02)
        fleet.answer([0.05, 0.05], times=20)
        demerits, at = fleet.demerits, fleet.now
        assert demerits.weighed_at == at
        happens(demerits, fleet.all[0], at)
        if seconds:
            demerits.weigh(fleet.all, at + seconds - 0.001, busy=is_busy)
            assert demerits.weighed_at == at
        demerits.weigh(fleet.all, at + seconds + 0.001, busy=is_busy)
        assert demerits.weighed_at == at + seconds + 0.001


def test_in_a_large_environment_they_do_not() -> None:
    """The picker draws one by the requests in flight as of the last weighing."""
    fleet = Fleet(MANY + 1, refresh=0.02)
    fleet.answer([0.05] * (MANY + 1), times=20)
    at = fleet.now
    fleet.demerits.weigh(fleet.all, at + 0.021, busy=False)
    assert fleet.demerits.weighed_at == at + 0.021


def test_a_clock_that_went_back_does_not_stop_the_weighing() -> None:
    fleet = Fleet(2)
    fleet.weigh()
    fleet.demerits.record_failure(fleet.all[0], ERRORS, fleet.now)
    assert fleet.weigh(-500.0)[0] > 0.0


# Unreachable


def test_the_rest_doubles_to_a_second() -> None:
    fleet = Fleet(1)
    rests = [rest(fleet.demerits, fleet.all[0], Cause.CONNECT_FAILED) for _ in range(12)]
    assert rests[:6] == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
    assert rests[6:] == pytest.approx([1.0] * 6)


@pytest.mark.parametrize(("rand", "factor"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_the_rest_is_spread(rand: float, factor: float) -> None:
    fleet = Fleet(1)
    assert rest(fleet.demerits, fleet.all[0], Cause.CONNECT_FAILED, rand=rand) == pytest.approx(0.02 * factor)


def test_a_response_ends_the_rest() -> None:
    fleet = Fleet(1)
    for _ in range(2):
        rest(fleet.demerits, fleet.all[0], Cause.CONNECT_FAILED)
    assert fleet.all[0].until > 100.0
    fleet.demerits.record_response(fleet.all[0], 0.05, 100.0)
    assert (fleet.all[0].until, fleet.all[0].unreachable) == (0.0, 0)
    assert rest(fleet.demerits, fleet.all[0], Cause.CONNECT_FAILED) == pytest.approx(0.02)


def test_being_unreachable_earns_no_points() -> None:
    fleet = Fleet(3)
    for _ in range(20):
        rest(fleet.demerits, fleet.all[0], Cause.CONNECT_FAILED)
    assert fleet.weigh() == [0.0] * 3


def test_a_refusal_rests_for_as_long_as_it_asked_and_earns_no_points() -> None:
    fleet = Fleet(2)
    state = fleet.all[0]
    fleet.demerits.record_refusal(state, 3.0, fleet.now)
    fleet.demerits.record_refusal(state, 1.0, fleet.now)
    assert state.until == fleet.now + 3.0
    assert fleet.weigh() == [0.0] * 2


# Charging by the table


@pytest.mark.parametrize("cause", list(Cause))
def test_a_failure_costs_what_its_verdict_says(cause: Cause) -> None:
    fleet = Fleet(1)
    state = fleet.all[0]
    fleet.demerits.charge(state, cause, 100.0, rand=0.5, pause=3.0)
    charge = VERDICTS[cause].charge
    assert (state.error > 0.0) == (charge is Charge.ERROR)
    assert (state.unreachable == 1) == (charge is Charge.UNREACHABLE)
    assert (state.until > 100.0) == (charge in (Charge.UNREACHABLE, Charge.REST))
    if charge is Charge.REST:
        assert state.until == 103.0


def test_a_refusal_that_asks_for_no_pause_costs_nothing() -> None:
    fleet = Fleet(1)
    fleet.demerits.charge(fleet.all[0], Cause.REFUSED, 100.0, rand=0.5)
    assert fleet.all[0].until == 0.0


# The book


def test_states_are_by_id() -> None:
    demerits = Demerits(DemeritSettings())
    assert demerits.state_of("b1") is demerits.state_of("b1")
    assert demerits.state_of("b1") is not demerits.state_of("b2")


def test_backends_that_left_are_forgotten_unless_they_are_busy() -> None:
    demerits = Demerits(DemeritSettings())
    kept, busy, left = demerits.state_of("kept"), demerits.state_of("busy"), demerits.state_of("left")
    busy.in_flight = 1
    demerits.keep_only(["kept"])
    assert demerits.state_of("kept") is kept
    assert demerits.state_of("busy") is busy
    assert demerits.state_of("left") is not left


def test_a_changed_set_of_backends_is_weighed_at_once() -> None:
    fleet = Fleet(2)
    fleet.weigh()
    fleet.demerits.record_failure(fleet.all[0], ERRORS, fleet.now)
    fleet.demerits.keep_only(["b0", "b1"])
    assert fleet.weigh()[0] > 0.0


def test_points_and_weights_stay_finite_whatever_happened() -> None:
    fleet = Fleet(2, latency_power=20.0, error_points=100.0)
    fleet.answer([0.0, 0.0], times=10)
    fleet.fail(1, times=100)
    fleet.answer([0.0, 86400.0], times=100)
    bad = fleet.all[1]
    assert bad.weight == 0.0
    assert bad.points < inf
