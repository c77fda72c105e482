"""Which hostnames are looked up after a change, and when: on a virtual clock."""

from collections import Counter
from random import Random

import pytest

from edge.rules.routing.refresh_schedule import RefreshSchedule

TICK = 0.001


def play(schedule: RefreshSchedule, start: float, seconds: float) -> list[tuple[float, str]]:
    """The lookups and their times, if the schedule is read every millisecond."""
    lookups = []
    for n in range(round(seconds / TICK)):
        now = start + n * TICK
        while (hostname := schedule.take(now)) is not None:
            schedule.record_lookup(hostname, now)
            lookups.append((now, hostname))
    return lookups


def test_few_are_spread_over_a_short_time() -> None:
    schedule, rand = RefreshSchedule(), Random(1)
    for n in range(20):
        assert 0.0 <= schedule.add(f"{n}.test", 0.0, rand.random()) <= 0.2
    lookups = play(schedule, 0.0, 1.0)
    assert sorted(name for _, name in lookups) == sorted(f"{n}.test" for n in range(20))
    times = [at for at, _ in lookups]
    assert times[-1] <= 0.21
    assert times[-1] - times[0] > 0.1


def test_the_more_there_are_the_longer_it_takes() -> None:
    schedule, rand = RefreshSchedule(rate=100.0), Random(1)
    for n in range(500):
        schedule.add(f"{n}.test", 0.0, rand.random())
    lookups = play(schedule, 0.0, 10.0)
    assert len({name for _, name in lookups}) == len(lookups) == 500
    assert 4.9 < lookups[-1][0] < 5.1
    order = [int(name.partition(".")[0]) for _, name in lookups]
    assert order != sorted(order), "another edge has another order"


def test_the_rate_is_bounded_whatever_happens() -> None:
    schedule, rand, lookups = RefreshSchedule(rate=200.0, burst=10), Random(1), []
    for n in range(10_000):  # a millisecond each: five change, and two of them are used
        now = n * TICK
        for _ in range(5):
            schedule.add(f"{rand.randrange(3000)}.test", now, rand.random())
        for _ in range(2):
            schedule.add_first(f"{rand.randrange(3000)}.test", now)
        lookups += play(schedule, now, TICK)
    assert len(lookups) <= 10 * 200 + 10
    assert len(lookups) > 10 * 190
    per_second = Counter(int(at) for at, _ in lookups)
    assert max(per_second.values()) <= 210
    assert len(schedule._heap) <= 2 * len(schedule) + 1000
    assert len(schedule._looked_up) <= 250


def test_what_is_left_over_of_those_that_moved_forward_is_bounded() -> None:
    """Those in use always go first, so the positions of the others are not reached."""
    schedule = RefreshSchedule(rate=100.0, interval=0.0)
    lookups = 0
    for n in range(60_000):
        now, hostname = n * TICK, f"{n % 100}.test"
        schedule.add(hostname, now, 1.0)
        schedule.add_first(hostname, now)
        taken = schedule.take(now)
        if taken is not None:
            schedule.record_lookup(taken, now)
            lookups += 1
        assert len(schedule._heap) <= 2 * 100 + 1001
    assert lookups > 5900


def test_a_hostname_that_changes_all_the_time_is_looked_up_once_a_second() -> None:
    schedule, lookups = RefreshSchedule(), []
    for n in range(3500):
        schedule.add("a.test", n * TICK, 0.0)
        schedule.add_first("a.test", n * TICK)
        lookups += play(schedule, n * TICK, TICK)
    assert [at for at, _ in lookups] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_the_last_change_is_not_lost() -> None:
    schedule = RefreshSchedule()
    schedule.add("a.test", 0.0, 0.0)
    assert len(play(schedule, 0.0, 0.1)) == 1
    schedule.add("a.test", 0.1, 0.0)
    assert schedule.next_at() == 1.0
    assert [name for _, name in play(schedule, 0.1, 1.0)] == ["a.test"]
    assert (schedule.next_at(), len(schedule)) == (None, 0)


def test_a_route_in_use_goes_before_those_that_only_changed() -> None:
    schedule = RefreshSchedule(rate=10.0, burst=1)
    for n in range(100):
        schedule.add(f"{n}.test", 0.0, 0.0)
    schedule.add_first("77.test", 1.0)
    schedule.add_first("new.test", 1.0)
    assert [name for _, name in play(schedule, 1.0, 0.3)] == ["77.test", "new.test", "0.test"]
    schedule.add_first("77.test", 1.5)
    assert [name for _, name in play(schedule, 1.5, 0.2)] == ["1.test", "10.test"], "it has just been looked up"
    schedule.add_first("77.test", 2.0)
    assert [name for _, name in play(schedule, 2.0, 0.1)] == ["77.test"]
    assert len(schedule) == 96


def test_a_repeated_change_keeps_its_position() -> None:
    schedule = RefreshSchedule()
    first = schedule.add("a.test", 0.0, 0.5)
    assert schedule.add("a.test", 0.05, 0.9) == first
    assert schedule.add("a.test", 0.05, 0.1) < first
    assert schedule.add_first("a.test", 0.05) == schedule.add_first("a.test", 0.06)
    assert len(schedule) == 1


def test_a_hostname_whose_lookup_is_under_way_is_scheduled_for_later() -> None:
    schedule = RefreshSchedule()
    schedule.add("a.test", 0.0, 0.0)
    assert schedule.take(0.0) == "a.test"
    assert schedule.add_later("a.test", 0.0) == 1.0
    assert schedule.take(0.9) is None
    assert schedule.take(1.0) == "a.test"


def test_a_hostname_without_a_lookup_does_not_count_for_the_rate() -> None:
    """They were taken, but not looked up."""
    schedule = RefreshSchedule(rate=1.0, burst=1)
    for n in range(50):
        schedule.add(f"{n}.test", 0.0, 0.0)
    assert sum(schedule.take(0.0) is not None for _ in range(60)) == 50
