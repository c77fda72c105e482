"""The busiest, most failing and slowest environments, in bounded memory."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.traffic.top_sites import (
    BUSY,
    BUSY_SECONDS,
    CAPACITY,
    EVERY,
    LEAST_FAILURE,
    MOST_REPORTED,
    WINDOW,
    SpaceSaving,
    TopSites,
)


def test_heavy_keys_are_found_among_very_many() -> None:
    rand, sketch, true = Random(1), SpaceSaving(50), Counter[str]()
    for number in range(20_000):
        site = f"heavy{rand.randrange(10)}" if rand.random() < 0.5 else f"light{number}"
        true[site] += 1
        sketch.add((site, "live"), 1.0, 1.0, 0.0, 0.0)
    loads = sketch.loads()
    assert len(loads) == len(sketch) == 50
    assert {f"heavy{n}" for n in range(10)} <= {site for site, _ in loads}
    for (site, _), (weight, inherited, *_) in loads.items():
        assert weight - inherited <= true[site] <= weight
        assert inherited <= 20_000 / 50


@given(st.lists(st.integers(0, 30), max_size=300), st.integers(1, 8))
def test_the_bounds_of_the_sketch_hold_for_any_stream(stream: list[int], capacity: int) -> None:
    sketch, true = SpaceSaving(capacity), Counter(stream)
    for key in stream:
        sketch.add((str(key), ""), 1.0, 1.0, 0.0, 0.0)
    loads = sketch.loads()
    assert len(loads) <= capacity
    assert sum(entry[0] for entry in loads.values()) == len(stream)
    for key, count in true.items():
        if count > len(stream) / capacity:
            assert (str(key), "") in loads
    for (key_text, _), entry in loads.items():
        assert entry[0] - entry[1] <= true[int(key_text)] <= entry[0]


def finish(top: TopSites, site: str, status: int, ms: float, now: float) -> None:
    """What the end of a request does."""
    if top.skip and status < LEAST_FAILURE:
        top.skip -= 1
    else:
        top.record((site, "live"), status, ms, now)


def play(top: TopSites, requests: list[tuple[str, int, float]], now: float) -> None:
    for site, status, ms in requests:
        finish(top, site, status, ms, now)


def test_three_lists() -> None:
    top = TopSites(0.0)
    busy = [("busy", 200, 10.0)] * 12
    slow = [("slow", 200, 5000.0)] * 3
    broken = [("broken", 503, 1.0)] * 5 + [("broken", 404, 1.0)]
    play(top, busy + slow + broken, 10.0)
    report = top.report(20.0)
    assert report.seconds == 20.0
    assert [load.site for load in report.requests] == ["busy", "broken", "slow"]
    assert [(load.site, load.failures, load.requests) for load in report.failures] == [("broken", 5.0, 6.0)]
    assert (report.time[0].site, report.time[0].seconds) == ("slow", 15.0)


def test_old_requests_are_forgotten() -> None:
    top = TopSites(0.0)
    play(top, [("old", 200, 1.0)], 1.0)
    play(top, [("recent", 200, 1.0)], WINDOW + 1)
    assert {load.site for load in top.report(WINDOW + 2).requests} == {"old", "recent"}
    play(top, [("new", 200, 1.0)], 2 * WINDOW + 2)
    report = top.report(2 * WINDOW + 3)
    assert {load.site for load in report.requests} == {"recent", "new"}
    assert WINDOW <= report.seconds <= 2 * WINDOW + 3
    assert top.report(10 * WINDOW).requests == []


def test_a_sample_stands_for_those_that_are_left_out() -> None:
    """Sixty thousand requests in six seconds: counts are right on average."""
    rand, top = Random(2), TopSites(0.0)
    true: Counter[str] = Counter()
    for number in range(60_000):
        site = "a" if rand.random() < 0.7 else "b"
        true[site] += 1
        finish(top, site, 200, 10.0, number / 10_000)
    loads = {load.site: load for load in top.report(6.0).requests}
    for site, count in true.items():
        assert 0.85 * count < loads[site].requests < 1.15 * count
        assert 0.85 * count / 100 < loads[site].seconds < 1.15 * count / 100


@pytest.mark.parametrize("period", [2, 3, 4, 8, 16, 31, 32, 43, 62, 64, 93, 101])
def test_requests_in_a_rhythm_are_counted_truly(period: int) -> None:
    top = TopSites(0.0)
    for number in range(80_000):
        finish(top, "page" if number % period == 0 else "image", 200, 10.0, 1.0)
    loads = {load.site: load for load in top.report(2.0).requests}
    assert 0.9 < loads["page"].requests / (80_000 / period) < 1.1


def test_of_few_requests_each_is_counted() -> None:
    """A hundred in a second, for a minute."""
    top = TopSites(0.0)
    for number in range(6000):
        finish(top, f"site{number % 100}", 200, 10.0, number / 100)
    assert {load.requests for load in top.report(60.0).requests} == {60.0}


def test_after_many_requests_each_of_few_is_counted() -> None:
    """Three thousand in three seconds, then five in a minute."""
    top = TopSites(0.0)
    for number in range(3000):
        finish(top, "busy", 200, 1.0, number / 1000)
    assert top.skip > 0
    top.report(4.0 + BUSY_SECONDS)
    play(top, [("few", 200, 1.0)] * 5, 30.0)
    assert {load.site: load.requests for load in top.report(31.0).requests}["few"] == 5.0


def test_nobody_has_to_ask_before_each_of_few_requests_is_counted() -> None:
    top = TopSites(0.0)
    for number in range(3000):
        finish(top, "busy", 200, 1.0, number / 1000)
    for number in range(2 * BUSY):  # the last one to be skipped, and those that show how few they are
        finish(top, "few", 200, 1.0, 3.0 + number)
    assert top.skip == 0


def test_a_pause_between_two_that_are_counted_is_bounded() -> None:
    top, most = TopSites(0.0), 0
    for _ in range(100 * EVERY):
        finish(top, "busy", 200, 1.0, 1.0)
        most = max(most, top.skip)
    assert 0 < most < 2 * EVERY


def test_each_rare_failure_is_counted() -> None:
    top = TopSites(0.0)
    for number in range(10 * BUSY):
        finish(top, "rare" if number % 50 == 0 else "busy", 503 if number % 50 == 0 else 200, 1.0, 1.0)
    [load] = top.report(2.0).failures
    assert (load.site, load.failures) == ("rare", len(range(0, 10 * BUSY, 50)))


def test_each_failure_of_a_flood_is_counted() -> None:
    top = TopSites(0.0)
    for number in range(20_000):
        finish(top, "broken", 503, 1.0, number / 20_000)
    [load] = top.report(1.0).failures
    assert (load.failures, load.requests) == (20_000, 20_000)


def test_a_request_and_minutes_later_another_one() -> None:
    """The first is no request of the last two windows."""
    top = TopSites(0.0)
    finish(top, "old", 200, 1.0, 10.0)
    finish(top, "new", 200, 1.0, 10 * WINDOW)
    assert [load.site for load in top.report(10 * WINDOW + 1).requests] == ["new"]


def test_memory_is_bounded() -> None:
    top = TopSites(0.0)
    for number in range(30 * CAPACITY):
        finish(top, f"site{number}", 503, 1.0, number * 0.01)
    report = top.report(30 * CAPACITY * 0.01)
    assert all(len(sketch) <= CAPACITY for sketch in top._now)
    assert max(map(len, (report.requests, report.failures, report.time))) <= MOST_REPORTED
