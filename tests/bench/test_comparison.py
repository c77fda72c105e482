"""The report: its page has every figure, and each proxy that is installed is measured in a brief run."""

import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.comparison import charts, comparison, figure, page
from bench.comparison.cases import CASES
from bench.comparison.charts import Scale, Value, number
from bench.comparison.contestants import COMPILED, PLAIN, RIVAL
from bench.comparison.results import ComparisonReport, LatencyPoint, Machine, MemoryPoint, Sample, Streams
from bench.lab.programs import BenchFailed, need

MACHINE = Machine(processor="a", cores=2, memory_gib=4.0, system="b", kernel="6.1", python="3.11")

try:
    need("haproxy", "nginx", "taskset", "wrk")
    MISSING = ""
except BenchFailed as failure:
    MISSING = str(failure)


def sample(cpu_us: float) -> Sample:
    return Sample(cpu_us=cpu_us, busy=0.5, rate=1000.0, p50_ms=1.0, p99_ms=2.0)


def report_of(costs: dict[str, list[float]], **members: object) -> ComparisonReport:
    """With the same costs in every case."""
    cases = {key: {name: [sample(cost) for cost in found] for name, found in costs.items()} for key in CASES}
    versions = dict.fromkeys(costs, "1.2.3")
    return ComparisonReport(machine=MACHINE, versions=versions, rounds=3, seconds=1.0, cases=cases, **members)


@pytest.fixture
def report() -> ComparisonReport:
    costs = {PLAIN: [40.0, 44.0, 42.0], COMPILED: [24.0, 22.0, 23.0], RIVAL: [20.0, 22.0, 21.0]}
    points = [LatencyPoint(rate=1000.0, p50_ms=0.5, p99_ms=None, late_p99_ms=0.1)]
    memory = [MemoryPoint(connections=0, resident=1 << 20), MemoryPoint(connections=100, resident=2 << 20)]
    return report_of(
        costs,
        latency=dict.fromkeys(costs, points),
        memory=dict.fromkeys(costs, memory),
        streams={PLAIN: Streams(count=9, bytes_each=2048.0, cpu_us=3.0)},
        notes=["<Envoy> is not measured"],
    )


def test_the_page_is_one_file_with_every_section(report: ComparisonReport) -> None:
    text = page.render(report, {"0.1.0": report})
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert len(titles) == 7, titles
    assert "&lt;Envoy&gt; is not measured" in text
    assert not re.search(r"(?:src|href)=|url\(|@import|<script", text), "nothing is loaded"
    for drawing in re.findall(r"<svg.*?</svg>", text):
        ElementTree.fromstring(drawing)
        assert "nan" not in drawing
        assert "inf" not in drawing


def test_sections_without_figures_are_left_out() -> None:
    text = page.render(report_of({PLAIN: [1.0], RIVAL: [1.0]}), {})
    assert "Latency by rate" not in text
    assert "Memory by connections" not in text
    assert "Over versions" not in text


def test_goals_are_of_compiled_styx_only(report: ComparisonReport) -> None:
    missed = comparison._missed(report)
    assert any(goal.startswith("Tiny response: 1.10 x") for goal in missed), missed
    assert not any(goal.startswith("Heads that never repeat") for goal in missed), missed
    assert not comparison._missed(report_of({PLAIN: [99.0], RIVAL: [1.0]}))


def test_ratios_are_of_the_same_round(report: ComparisonReport) -> None:
    assert report.ratios("tiny", COMPILED, RIVAL) == [24 / 20, 1.0, 23 / 21]
    assert report.ratios("tiny", "nginx", RIVAL) == []
    assert report.per_connection(PLAIN) == (1 << 20) / 100


def test_releases_are_read_in_order_and_other_formats_are_left_out(
    tmp_path: Path, report: ComparisonReport
) -> None:
    for version in ("0.10.0", "0.9.1", "0.9.0-rc1", "0.9.0"):
        (tmp_path / f"{version}.json").write_bytes(msgspec.json.encode(report))
    (tmp_path / "0.8.0.json").write_text('{"other": 1}')
    assert list(comparison.past_reports(tmp_path)) == ["0.9.0", "0.9.0-rc1", "0.9.1", "0.10.0"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.1234, "0.123"), (1.5, "1.5"), (20.04, "20"), (123.6, "124"), (6904.2, "6,904")]
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_scales_stay_within_their_ends() -> None:
    linear, log = Scale(0.0, 10.0, 100.0, 200.0), Scale(0.5, 8.0, 0.0, 100.0, log=True)
    assert [linear.at(value) for value in (-1.0, 0.0, 5.0, 11.0)] == [100.0, 100.0, 150.0, 200.0]
    assert linear.ticks == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert math.isclose(log.at(2.0), 50.0)
    assert log.ticks == [0.5, 1.0, 2.0, 5.0]


def test_labels_at_the_ends_of_lines_are_apart() -> None:
    placed = charts._apart([(10.0, 0.0, "a"), (11.0, 0.0, "b"), (50.0, 0.0, "c")], 0.0, 52.0)
    ys = [y for y, *_ in placed]
    assert [name for *_, name in placed] == ["a", "b", "c"]
    assert all(later - earlier >= charts.LABEL_GAP for earlier, later in pairwise(ys))
    assert ys[-1] <= 52.0


def test_a_bar_of_nothing_is_drawn() -> None:
    ElementTree.fromstring(charts.bars([Value("nginx", 0.0, 0.0, 0.0)], page.COLOURS, "µs", "x"))


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")
async def test_a_brief_run_measures_every_proxy(tmp_path: Path) -> None:
    plan = comparison.ComparisonPlan(
        rounds=1,
        seconds=1.0,
        warm_up=0.0,
        cases=("tiny",),
        proxies=(PLAIN, RIVAL),
        rates=(0.02,),
        paced_rounds=1,
        idle=(20, 40),
        streams=10,
        build=False,
        folder=tmp_path,
    )
    report = await comparison.run(plan)
    assert list(report.versions) == [PLAIN, RIVAL]
    for name in report.versions:
        assert all(report.costs(case, name)[0] > 0 for case in plan.cases)
        assert len(report.latency[name]) == 1
        assert [point.connections for point in report.memory[name]] == [0, 20, 40]
        assert report.streams[name].cpu_us > 0
    assert "<svg" in (tmp_path / "index.html").read_text()
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=ComparisonReport) == report


def test_the_figure_of_the_documentation_is_that_of_the_newest_release() -> None:
    drawn = figure.figure(figure.newest())
    ElementTree.fromstring(drawn)
    assert figure.FIGURE.read_text() == drawn, "python -m bench.comparison.figure"
