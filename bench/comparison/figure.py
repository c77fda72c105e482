"""The figure of README and docs/benchmarks.md: CPU per request beside HAProxy, of the newest release.

python -m bench.comparison.figure       writes docs/drawings/cost.svg anew
"""

import re
from html import escape
from pathlib import Path

from bench.comparison import charts
from bench.comparison.comparison import HISTORY, past_reports
from bench.comparison.page import COLOURS, STYLE, relative_rows
from bench.comparison.results import ComparisonReport

FIGURE = Path(__file__).parents[2] / "docs/drawings/cost.svg"
HEAD = 46
"Height of the legend."


def figure(report: ComparisonReport) -> str:
    """An SVG file that needs nothing else, for light and dark screens."""
    plot = charts.dot_plot(relative_rows(report), COLOURS)
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', plot)
    assert size is not None
    width, height = int(size[1]), int(size[2])
    drawing = plot.replace("<svg ", f'<svg y="{HEAD}" width="{width}" height="{height}" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + HEAD}" '
        f'font-family="system-ui, sans-serif"><style>{_style()}</style>'
        f'<rect class="sheet" width="{width}" height="{height + HEAD}" rx="12"/>{_legend(report)}{drawing}</svg>\n'
    )


def _legend(report: ComparisonReport) -> str:
    parts, x = [], 12
    for name, version in report.versions.items():
        label = escape(f"{name} {version.partition(' ')[0]}")
        parts.append(
            f'<g class="s{COLOURS[name]}"><circle cx="{x + 6}" cy="24" r="6"/>'
            f'<text x="{x + 18}" y="28.5">{label}</text></g>'
        )
        x += 44 + 8 * len(label)
    return "".join(parts)


def _style() -> str:
    """The rules of the page that drawings need."""
    text = STYLE.read_text()
    colours, _, _ = text.partition("* {")
    needed = ("svg .", "svg text", "svg circle", "svg rect", ".s")
    rules = "\n".join(line for line in text.splitlines() if line.startswith(needed))
    return (
        re.sub(r"\s+", " ", colours + rules)
        + " rect.sheet, svg .band { fill: var(--card) } svg .band { fill: var(--band) }"
    )


def newest() -> ComparisonReport:
    """The figures of the newest release. Raises LookupError when there are none."""
    history = past_reports(HISTORY)
    return history[list(history)[-1]]


if __name__ == "__main__":
    FIGURE.write_text(figure(newest()))
