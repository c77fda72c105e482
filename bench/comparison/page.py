"""The page of the report: one HTML file without scripts, and without anything from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median

from bench.comparison import charts
from bench.comparison.cases import CASES
from bench.comparison.charts import Value, number
from bench.comparison.contestants import COMPILED, PLAIN, RIVAL
from bench.comparison.results import ComparisonReport

STYLE = Path(__file__).with_name("page.css")
METHOD = Path(__file__).with_name("method.html")
COLOURS: Mapping[str, int] = {PLAIN: 0, COMPILED: 1, RIVAL: 2, "nginx": 3, "Envoy": 4, "Caddy": 5}
"The class of each proxy in the style sheet."
OVER_VERSIONS = ("tiny", "sessions", "unique", "new-connection", "64-kib", "1-mib")
"Cases whose ratio is drawn for each release."
KIB, MIB = 1024, 1 << 20


def render(report: ComparisonReport, history: Mapping[str, ComparisonReport]) -> str:
    """The page. `history`: reports of releases, the oldest first."""
    best = COMPILED if COMPILED in report.versions else PLAIN
    parts = [
        _head(report),
        _tiles(report, best),
        _relative(report),
        _absolute(report),
        _latency(report),
        _memory(report),
        _over_versions(report, history),
        _table(report),
        _method(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>styx beside other proxies</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(report: ComparisonReport) -> str:
    legend = "".join(
        f'<li class="s{COLOURS[name]}"><i></i>{escape(name)} <small>{escape(version)}</small></li>'
        for name, version in report.versions.items()
    )
    machine = report.machine
    return (
        "<h1>styx beside other proxies</h1>\n"
        f'<p class="lead">All with the same features: access log, request id, forwarding fields, routing.\n'
        f"Measured {escape(report.measured)} on {escape(machine.processor)}, {machine.cores} cores, "
        f"{escape(machine.system)}; one core for the proxy. Lower is better everywhere.</p>\n"
        f'<ul class="legend">{legend}</ul>'
    )


def _tiles(report: ComparisonReport, best: str) -> str:
    tiles = [
        (f"{median(found):.2f} ×", f"the CPU of {RIVAL}: {CASES[key].title}")
        for key in ("tiny", "unique", "64-kib")
        if (found := report.ratios(key, best, RIVAL))
    ]
    costs = report.costs("tiny", best)
    if costs:
        tiles.append((f"{number(median(costs))} µs", "CPU per tiny request"))
    memory = report.per_connection(best)
    if memory is not None:
        tiles.append((f"{number(memory / KIB)} KiB", "memory per idle connection"))
    if len(tiles) < 2:
        return ""
    cells = []
    for value, what in tiles:
        figure, _, unit = value.partition(" ")
        cells.append(f'<div class="tile"><b>{figure} <small>{unit}</small></b><span>{escape(what)}</span></div>')
    return f'<p class="which">{escape(best)} in short</p>\n<div class="tiles">{"".join(cells)}</div>'


def relative_rows(report: ComparisonReport) -> list[tuple[str, str, list[Value], float | None]]:
    """CPU per request as a multiple of HAProxy's: for each case that was measured its title, what it is, the values
    of the proxies, and the goal."""
    rows = []
    for case in CASES.values():
        found = [
            Value(name, median(of_rounds), min(of_rounds), max(of_rounds))
            for name in report.versions
            if name != RIVAL and (of_rounds := report.ratios(case.key, name, RIVAL))
        ]
        if found:
            rows.append((case.title, case.what, found, case.must))
    return rows


def _relative(report: ComparisonReport) -> str:
    rows = relative_rows(report)
    if not rows:
        return ""
    return _section(
        f"CPU per request, relative to {RIVAL}",
        f"Dots are medians of the ratios of each round, lines their range. The dashed line is {RIVAL}; a short "
        f"upright line is the goal of compiled styx. The axis is logarithmic.",
        f'<div class="card">{charts.dot_plot(rows, COLOURS)}</div>',
    )


def _absolute(report: ComparisonReport) -> str:
    panels = []
    for case in CASES.values():
        values = [_value(name, report.costs(case.key, name)) for name in report.versions]
        panels.append(_panel(case.title, case.what, [value for value in values if value is not None], "µs"))
    return _section(
        "CPU per request, in microseconds",
        "User and system time of all processes of the proxy, divided by the requests; medians, with the range of "
        "the rounds. Each panel has a scale of its own.",
        f'<div class="panels">{"".join(panels)}</div>',
    )


def _latency(report: ComparisonReport) -> str:
    if not report.latency:
        return ""
    cards = []
    for title, percentile in (("Median", "p50_ms"), ("99th percentile", "p99_ms")):
        series = {
            name: _medians((point.rate, getattr(point, percentile)) for point in points)
            for name, points in report.latency.items()
        }
        chart = charts.lines(
            series, COLOURS, x_title="requests per second", y_title=f"{title}, ms", log=True, width=560
        )
        cards.append(f'<div class="card">{chart}</div>')
    return _section(
        "Latency by rate",
        "Requests at random moments that do not wait for responses, counted from when they were due. A line ends "
        "where the proxy no longer completes 98 % of them. The highest rate is "
        f"{100 * _highest(report):.0f} % of what one core of {RIVAL} can do.",
        f'<div class="pair">{"".join(cards)}</div>',
    )


def _highest(report: ComparisonReport) -> float:
    rates = [point.rate for points in report.latency.values() for point in points]
    costs = report.costs("tiny", RIVAL)
    return max(rates) * median(costs) / 1e6 if costs else 0.0


def _memory(report: ComparisonReport) -> str:
    if not report.memory:
        return ""
    series = {
        name: [(point.connections, point.resident / MIB) for point in points]
        for name, points in report.memory.items()
    }
    chart = charts.lines(series, COLOURS, x_title="idle connections", y_title="Resident memory, MiB")
    each = [
        Value(name, memory / KIB, memory / KIB, memory / KIB)
        for name in report.memory
        if (memory := report.per_connection(name)) is not None
    ]
    streams = [
        Value(name, found.bytes_each / KIB, found.bytes_each / KIB, found.bytes_each / KIB)
        for name, found in report.streams.items()
    ]
    events = [Value(name, found.cpu_us, found.cpu_us, found.cpu_us) for name, found in report.streams.items()]
    count = next((found.count for found in report.streams.values()), 0)
    panels = _panel("Idle connection", "Growth of resident memory for each, in KiB", each, "KiB")
    panels += _panel("Event stream", f"Growth of memory for each of {count:,}, in KiB", streams, "KiB")
    panels += _panel("Event", f"CPU per event of {count:,} streams, in µs", events, "µs")
    return _section(
        "Memory by connections",
        "All processes of the proxy; shared pages count in each. Connections had one request each.",
        f'<div class="card">{chart}</div><div class="panels" style="margin-top:12px">{panels}</div>',
    )


def _over_versions(report: ComparisonReport, history: Mapping[str, ComparisonReport]) -> str:
    reports = {**history, "now": report}
    cards = []
    for key in OVER_VERSIONS:
        series: dict[str, list[tuple[float, float]]] = {}
        for name in (PLAIN, COMPILED):
            of_versions = [past.ratios(key, name, RIVAL) for past in reports.values()]
            series[name] = [(float(n), median(found)) for n, found in enumerate(of_versions) if found]
        chart = charts.lines(
            series,
            COLOURS,
            x_title="",
            y_title=f"{CASES[key].title}, × {RIVAL}",
            x_labels=list(reports),
            reference=1.0,
            height=190,
            width=340,
        )
        if chart:
            cards.append(f'<div class="card">{chart}</div>')
    if not history or not cards:
        return ""
    return _section(
        "Over versions of styx",
        f"CPU per request relative to {RIVAL}, as measured for each release, each on the machine of its day.",
        f'<div class="panels wide">{"".join(cards)}</div>',
    )


def _table(report: ComparisonReport) -> str:
    heading = "".join(f"<th>{escape(name)}</th>" for name in report.versions)
    rows = []
    for case in CASES.values():
        if case.key not in report.cases:
            continue
        cells = "".join(_cell(report, case.key, name, case.must) for name in report.versions)
        rows.append(f"<tr><th>{escape(case.title)}</th>{cells}</tr>")
    return _section(
        "All figures",
        f"µs of CPU per request; below it the ratio to {RIVAL}, and in brackets its range.",
        f'<div class="card"><table><thead><tr><th></th>{heading}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>",
    )


def _cell(report: ComparisonReport, key: str, name: str, must: float | None) -> str:
    costs = report.costs(key, name)
    if not costs:
        return "<td>–</td>"
    of_rounds = report.ratios(key, name, RIVAL)
    if name == RIVAL or not of_rounds:
        return f"<td>{number(median(costs))}<small>&nbsp;</small></td>"
    kind = ""
    if name == COMPILED and must is not None:
        kind = ' class="met"' if median(of_rounds) <= must else ' class="missed"'
    ratio = f"{median(of_rounds):.2f} × ({min(of_rounds):.2f}–{max(of_rounds):.2f})"
    return f"<td>{number(median(costs))}<small{kind}>{ratio}</small></td>"


def _method(report: ComparisonReport) -> str:
    machine = report.machine
    loads = f"{min(report.loads):.1f} to {max(report.loads):.1f}" if report.loads else "not recorded"
    facts = {
        "Processor": f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB of memory",
        "System": f"{machine.system}, Linux {machine.kernel}",
        "Python": machine.python,
        **report.versions,
        "Rounds": f"{report.rounds} of {report.seconds:g} s for each proxy and case",
        "Load average": f"{loads} before the rounds",
    }
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return _section(
        "How it was measured",
        "",
        f'<ul class="method">{METHOD.read_text()}{notes}</ul><div class="card"><dl>{listed}</dl></div>',
    )


def _section(title: str, about: str, content: str) -> str:
    text = f'<p class="about">{escape(about)}</p>' if about else '<p class="about"></p>'
    return f"<section>\n<h2>{escape(title)}</h2>\n{text}\n{content}\n</section>"


def _panel(title: str, what: str, values: Sequence[Value], unit: str) -> str:
    if not values:
        return ""
    chart = charts.bars(values, COLOURS, unit, f"{title}: {what}")
    return f'<div class="card"><h3>{escape(title)}</h3><p>{escape(what)}</p>{chart}</div>'


def _value(name: str, found: Sequence[float]) -> Value | None:
    return Value(name, median(found), min(found), max(found)) if found else None


def _medians(points: Iterable[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """Of the rounds at each rate; without rates at which one round was overloaded."""
    by_rate: dict[float, list[float | None]] = {}
    for rate, value in points:
        by_rate.setdefault(rate, []).append(value)
    found = []
    for rate in sorted(by_rate):
        values = [value for value in by_rate[rate] if value is not None]
        if len(values) < len(by_rate[rate]):
            break
        found.append((rate, median(values)))
    return found
