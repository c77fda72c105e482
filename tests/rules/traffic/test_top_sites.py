"""The busiest, most failing and slowest environments, in bounded memory."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge.rules.traffic.top_sites import CAPACITY, MOST_REPORTED, SAMPLES, WINDOW, Sampling, SpaceSaving, TopSites


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


def play(top: TopSites, requests: list[tuple[str, int, float]], now: float) -> None:
    """What the end of a request does."""
    for site, status, ms in requests:
        if status < 500 and top.skip > 0:
            top.skip -= 1
        else:
            top.record(site, "live", status, ms, now)


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
    """Ten thousand requests in a second for a minute: counts are right on average, and few are looked at."""
    rand, top, looked_at = Random(2), TopSites(0.0), 0
    true: Counter[str] = Counter()
    for number in range(60_000):
        site = "a" if rand.random() < 0.7 else "b"
        true[site] += 1
        if top.skip > 0:
            top.skip -= 1
        else:
            looked_at += 1
            top.record(site, "live", 200, 10.0, number / 10_000)
    loads = {load.site: load for load in top.report(6.0).requests}
    assert looked_at < 30 * SAMPLES
    for site, count in true.items():
        assert 0.75 * count < loads[site].requests < 1.25 * count
        assert 0.75 * count / 100 < loads[site].seconds < 1.25 * count / 100


def test_a_flood_of_failures_is_sampled_too() -> None:
    top = TopSites(0.0)
    for number in range(20_000):
        top.record("broken", "live", 503, 1.0, number / 20_000)
    [load] = top.report(1.0).failures
    assert 0.75 * 20_000 < load.failures < 1.25 * 20_000


def test_sampling_returns_to_everything() -> None:
    sampling = Sampling()
    for _ in range(10 * SAMPLES):
        sampling.take(0.5)
    assert sampling.weight > 100
    for second in range(1, 20):
        sampling.take(float(second))
    assert sampling.weight == 1


def test_memory_is_bounded() -> None:
    top = TopSites(0.0)
    for number in range(30 * CAPACITY):
        top.record(f"site{number}", "live", 503, 1.0, number * 0.01)
    report = top.report(30 * CAPACITY * 0.01)
    assert all(len(sketch) <= CAPACITY for sketch in top._now)
    assert max(map(len, (report.requests, report.failures, report.time))) <= MOST_REPORTED
