"""Draws docs/drawings/balancing-*.svg: what the choice of a container does, from the fleets on a virtual clock.

    python -m tests.support.site.balancing_plots

Everything is seeded, so the command writes the same bytes again; `tests/docs/test_balancing_plots.py` checks it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.drawings import DOCS
from tests.support.fleets import SCENARIOS, Result, Scenario, least_connections, oracle, simulate

SEED = 11
WIDTH, ROW, LABEL, LEGEND = 720, 20, 300, 34
COLOURS = ("#00796b", "#b0611a", "#757575")
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


class Plot(NamedTuple):
    """A bar for each scenario and policy."""

    title: str
    unit: str
    scenarios: Sequence[str]
    value: Callable[[Result], float]
    written: Callable[[float], str]


PLOTS: Mapping[str, Plot] = {
    "errors": Plot(
        "Requests that fail",
        "percent of all requests; shorter is better",
        ("a90", "c", "e8fail", "f1"),
        lambda result: 100.0 * result.errors,
        lambda value: f"{value:.2f} %",
    ),
    "latency": Plot(
        "Slowest requests (p99)",
        "milliseconds from arrival to response; shorter is better",
        ("a70", "b", "e8slow", "f3"),
        lambda result: 1000.0 * result.p99,
        lambda value: f"{value:.0f} ms",
    ),
}
POLICIES: Mapping[str, Callable[[Scenario], Result]] = {
    "styx": lambda scenario: simulate(scenario, SEED),
    "least connections": lambda scenario: simulate(scenario, SEED, least_connections),
    "one common queue before all containers": lambda scenario: oracle(scenario, SEED),
}


def render(plot: Plot) -> str:
    """The plot as SVG."""
    bars = [
        (scenario, number, plot.value(play(SCENARIOS[scenario])))
        for scenario in plot.scenarios
        for number, play in enumerate(POLICIES.values())
    ]
    longest = max(value for _, _, value in bars) or 1.0
    height = LEGEND + 28 + len(POLICIES) * ROW + len(plot.scenarios) * (len(POLICIES) * ROW + 14)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" {FONT} fill="#212121">',
        f"<title>{plot.title}: {plot.unit}</title>",
        f'<text x="0" y="16" font-weight="bold">{plot.title}</text>',
        f'<text x="0" y="34" fill="#616161">{plot.unit}</text>',
        *_legend(),
    ]
    y = LEGEND + 28 + len(POLICIES) * ROW
    for place, (scenario, number, value) in enumerate(bars):
        if number == 0:
            y += 14 if place else 0
            lines.append(f'<text x="0" y="{y + 14}">{SCENARIOS[scenario].what}</text>')
        length = (WIDTH - LABEL - 80) * value / longest
        bar = f'x="{LABEL}" y="{y + 2}" width="{max(length, 1.0):.1f}" height="{ROW - 5}"'
        lines.append(f'<rect {bar} fill="{COLOURS[number]}"/>')
        lines.append(f'<text x="{LABEL + length + 6:.1f}" y="{y + 14}">{plot.written(value)}</text>')
        y += ROW
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    for number, name in enumerate(POLICIES):
        y = LEGEND + 12 + number * ROW
        yield f'<rect x="0" y="{y}" width="14" height="14" fill="{COLOURS[number]}"/>'
        yield f'<text x="22" y="{y + 12}">{name}</text>'


def path_of(name: str) -> Path:
    """The file of this plot."""
    return DOCS / "drawings" / f"balancing-{name}.svg"


if __name__ == "__main__":
    for name in sys.argv[1:] or PLOTS:
        path_of(name).write_text(render(PLOTS[name]))
