"""Twenty seconds of the soak: what must be served is served, whatever comes and goes. Longer runs show growth."""

import pytest

from bench.__main__ import BENCHES
from bench.lab.procfs import Footprint
from bench.lab.programs import BenchFailed
from bench.soak import soak
from bench.soak.soak_report import curve
from bench.soak.soak_samples import Sample, trends

SHORT = soak.SoakPlan(
    minutes=1 / 3, rate=60.0, restless_rate=15.0, every=0.5, settle=8.0, window=4.0, reload_every=5.0, tolerance=0.5
)
"A fresh process still grows: its caches fill, and allocators take what they need."


@pytest.mark.long
async def test_a_short_soak_loses_nothing_and_leaves_nothing():
    report = await soak.run(SHORT)
    assert report.good, report.text()
    assert report.load.offered > 800, report.text()
    assert {"master", "admin", "worker 0", "worker 1"} == {t.process.partition(" (")[0] for t in report.trends}
    assert report.acts["reloads"] >= 3, report.text()
    assert len(report.acts) >= 8, report.text()
    assert len(report.load.restless) >= 10, report.text()
    assert len(report.load.steady) >= 10, report.text()


async def test_too_short_to_judge_is_said_before_anything_runs():
    with pytest.raises(BenchFailed, match="6 minutes"):
        await soak.run(soak.SoakPlan(minutes=5))
    with pytest.raises(BenchFailed, match="16 minutes"):
        await soak.run(soak.SoakPlan(minutes=15, cold_reload=True))


def test_workers_live_for_all_of_a_soak_unless_it_says_otherwise():
    plain, cold = BENCHES["soak"].planned({}), BENCHES["soak"].planned({"cold_reload": True})
    assert (plain.cold_reload, cold.cold_reload) == (False, True)
    peaks = [part * plain.settle for part in soak.WARM_UPS]
    assert plain.warm_ups == peaks
    assert cold.warm_ups == [*peaks, *(cold.cold_at + peak for peak in peaks)]


def sample(at: float, **heaps: int) -> Sample:
    processes = {name: Footprint(2 * heap, 2 * heap, heap, heap, 10) for name, heap in heaps.items()}
    return Sample(at=at, processes=processes, metrics={})


def test_each_process_is_judged_by_its_own_life():
    first = [sample(at, old=100 if at < 40 else 110, master=50) for at in range(60)]
    second = [sample(at, new=100, master=50) for at in range(60, 120)]
    found = {trend.process: trend for trend in trends([*first, *second], settle=20.0, window=10.0)}
    assert {name: round(trend.growth, 3) for name, trend in found.items()} == {
        "old": 0.1,
        "master": 0.0,
        "new": 0.0,
    }


def test_who_lived_too_shortly_is_not_judged():
    samples = [sample(at, old=100, **({"new": at} if at > 100 else {})) for at in range(1, 120)]
    assert [trend.process for trend in trends(samples, settle=20.0, window=10.0)] == ["old"]


def test_one_spike_is_no_growth():
    samples = [sample(at, worker=900 if at == 55 else 100) for at in range(60)]
    [trend] = trends(samples, settle=20.0, window=10.0)
    assert trend.growth == 0.0


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([1.0, 1.0, 1.0], "▁▁▁"), ([1.0, 1.5, 2.0], "▁▅█"), ([100.0, 101.0], "▁▁"), (list(range(1, 401)), None)],
)
def test_a_curve(values, drawn):
    assert curve(values) == drawn if drawn else len(curve(values)) == 40
