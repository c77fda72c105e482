"""Who is asked for again after a change, and when: on a virtual clock."""

from collections import Counter
from random import Random

import pytest

from edge.rules.routing.refresh_schedule import RefreshSchedule

TICK = 0.001


def play(schedule: RefreshSchedule, start: float, seconds: float) -> list[tuple[float, str]]:
    """Who is asked for when, if somebody looks every millisecond."""
    asked = []
    for n in range(round(seconds / TICK)):
        now = start + n * TICK
        while (hostname := schedule.take(now)) is not None:
            schedule.asked(hostname, now)
            asked.append((now, hostname))
    return asked


def test_few_are_spread_over_a_moment() -> None:
    schedule, rand = RefreshSchedule(), Random(1)
    for n in range(20):
        assert 0.0 <= schedule.add(f"{n}.test", 0.0, rand.random()) <= 0.2
    asked = play(schedule, 0.0, 1.0)
    assert sorted(name for _, name in asked) == sorted(f"{n}.test" for n in range(20))
    times = [at for at, _ in asked]
    assert times[-1] <= 0.21
    assert times[-1] - times[0] > 0.1


def test_the_more_there_are_the_longer_it_takes() -> None:
    schedule, rand = RefreshSchedule(rate=100.0), Random(1)
    for n in range(500):
        schedule.add(f"{n}.test", 0.0, rand.random())
    asked = play(schedule, 0.0, 10.0)
    assert len({name for _, name in asked}) == len(asked) == 500
    assert 4.9 < asked[-1][0] < 5.1
    order = [int(name.partition(".")[0]) for _, name in asked]
    assert order != sorted(order), "another edge has another order"


def test_the_rate_is_bounded_whatever_happens() -> None:
    schedule, rand, asked = RefreshSchedule(rate=200.0, burst=10), Random(1), []
    for n in range(10_000):  # a millisecond each: five change, and two of them are used
        now = n * TICK
        for _ in range(5):
            schedule.add(f"{rand.randrange(3000)}.test", now, rand.random())
        for _ in range(2):
            schedule.add_first(f"{rand.randrange(3000)}.test", now)
        asked += play(schedule, now, TICK)
    assert len(asked) <= 10 * 200 + 10
    assert len(asked) > 10 * 190
    per_second = Counter(int(at) for at, _ in asked)
    assert max(per_second.values()) <= 210
    assert len(schedule._heap) <= 2 * len(schedule) + 1000
    assert len(schedule._asked) <= 250


def test_what_is_left_over_of_those_that_moved_forward_is_bounded() -> None:
    """Those that are used go first all the time, so nobody comes to where the others were."""
    schedule = RefreshSchedule(rate=100.0, interval=0.0)
    asked = 0
    for n in range(60_000):
        now, hostname = n * TICK, f"{n % 100}.test"
        schedule.add(hostname, now, 1.0)
        schedule.add_first(hostname, now)
        taken = schedule.take(now)
        if taken is not None:
            schedule.asked(taken, now)
            asked += 1
        assert len(schedule._heap) <= 2 * 100 + 1001
    assert asked > 5900


def test_one_that_changes_all_the_time_is_asked_for_once_a_second() -> None:
    schedule, asked = RefreshSchedule(), []
    for n in range(3500):
        schedule.add("a.test", n * TICK, 0.0)
        schedule.add_first("a.test", n * TICK)
        asked += play(schedule, n * TICK, TICK)
    assert [at for at, _ in asked] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_the_last_change_is_not_lost() -> None:
    schedule = RefreshSchedule()
    schedule.add("a.test", 0.0, 0.0)
    assert len(play(schedule, 0.0, 0.1)) == 1
    schedule.add("a.test", 0.1, 0.0)
    assert schedule.next_at() == 1.0
    assert [name for _, name in play(schedule, 0.1, 1.0)] == ["a.test"]
    assert (schedule.next_at(), len(schedule)) == (None, 0)


def test_the_one_that_is_used_goes_before_those_that_only_changed() -> None:
    schedule = RefreshSchedule(rate=10.0, burst=1)
    for n in range(100):
        schedule.add(f"{n}.test", 0.0, 0.0)
    schedule.add_first("77.test", 1.0)
    schedule.add_first("new.test", 1.0)
    assert [name for _, name in play(schedule, 1.0, 0.3)] == ["77.test", "new.test", "0.test"]
    schedule.add_first("77.test", 1.5)
    assert [name for _, name in play(schedule, 1.5, 0.2)] == ["1.test", "10.test"], "it has just been asked for"
    schedule.add_first("77.test", 2.0)
    assert [name for _, name in play(schedule, 2.0, 0.1)] == ["77.test"]
    assert len(schedule) == 96


def test_told_again_it_stays_where_it_was() -> None:
    schedule = RefreshSchedule()
    first = schedule.add("a.test", 0.0, 0.5)
    assert schedule.add("a.test", 0.05, 0.9) == first
    assert schedule.add("a.test", 0.05, 0.1) < first
    assert schedule.add_first("a.test", 0.05) == schedule.add_first("a.test", 0.06)
    assert len(schedule) == 1


def test_one_that_is_being_asked_for_is_looked_at_again_later() -> None:
    schedule = RefreshSchedule()
    schedule.add("a.test", 0.0, 0.0)
    assert schedule.take(0.0) == "a.test"
    assert schedule.add_later("a.test", 0.0) == 1.0
    assert schedule.take(0.9) is None
    assert schedule.take(1.0) == "a.test"


def test_what_needed_no_question_costs_none() -> None:
    """They were taken, but not asked for."""
    schedule = RefreshSchedule(rate=1.0, burst=1)
    for n in range(50):
        schedule.add(f"{n}.test", 0.0, 0.0)
    assert sum(schedule.take(0.0) is not None for _ in range(60)) == 50
