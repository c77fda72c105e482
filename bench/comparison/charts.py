"""The plots of the report as inline SVG. Colours are classes of the page's style sheet, light and dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 1000.0
"Units of a wide chart; the page scales it."
LABEL_GAP = 15.0
"Least distance between two labels at the ends of lines."

EARLY = 30.0
"A line that ends so far from the right has its name beside its end."


@dataclass(frozen=True, slots=True)
class Value:
    """A median with the range of the rounds, of one series."""

    series: str
    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from `low` to `high` to positions from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The position of a value; those outside are moved to the nearest end."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)

    @property
    def ticks(self) -> list[float]:
        """Round values within the scale."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            return [tick for tick in found if self.low * 0.999 <= tick <= self.high * 1.001]
        step = round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is not less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * 0.999)


def number(value: float) -> str:
    """Three digits that count, with thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(value: float) -> str:
    """For the ticks of an axis."""
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def dot_plot(rows: Sequence[tuple[str, str, Sequence[Value], float | None]], colours: Mapping[str, int]) -> str:
    """A row for each case: label, second label, values by series as multiples of 1, and a goal.

    The axis is logarithmic, so that twice as much and half as much are equally far from 1.
    """
    values = [bound for _, _, found, _ in rows for value in found for bound in (value.low, value.high)]
    left, right, top, row_height = 262.0, WIDTH - 20.0, 34.0, 42.0
    bottom = top + row_height * len(rows)
    scale = Scale(min([*values, 0.5]) * 0.95, max([*values, 2.0]) * 1.05, left, right, log=True)
    parts = [
        f'<rect class="band" x="0" width="{WIDTH:.0f}" y="{top + row_height * index:.1f}" height="{row_height:.1f}"'
        ' rx="5"/>'
        for index in range(0, len(rows), 2)
    ]
    parts.append(_axis(scale, top - 6, bottom, "×"))
    one = scale.at(1.0)
    parts.append(f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{top - 6:.1f}" y2="{bottom:.1f}"/>')
    for index, (label, second, found, goal) in enumerate(rows):
        middle = top + row_height * (index + 0.5)
        parts.append(_text(label, 10, middle - 2, "label"))
        parts.append(_text(second, 10, middle + 14, "second"))
        if goal is not None:
            x = scale.at(goal)
            parts.append(
                f'<path class="goal" d="M{x:.1f} {middle - 16:.1f}v32"><title>Goal: at most {goal:g} ×</title>'
                "</path>"
            )
        for n, value in enumerate(found):
            y = middle + (n - (len(found) - 1) / 2) * min(6.0, 30 / max(1, len(found)))
            tip = f"{value.series}: {number(value.middle)} × ({number(value.low)} to {number(value.high)})"
            parts.append(
                f'<g class="s{colours[value.series]}"><title>{escape(label)}, {escape(tip)}</title>'
                f'<line class="range" x1="{scale.at(value.low):.1f}" x2="{scale.at(value.high):.1f}"'
                f' y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<circle cx="{scale.at(value.middle):.1f}" cy="{y:.1f}" r="5.5"/></g>'
            )
    return _svg(WIDTH, bottom + 8, "CPU per request relative to HAProxy, by case", parts)


def bars(values: Sequence[Value], colours: Mapping[str, int], unit: str, description: str) -> str:
    """A horizontal bar for each series, with its value."""
    width, left, right, row_height = 340.0, 100.0, 262.0, 23.0
    most = max([value.high for value in values] or [1.0])
    scale = Scale(0.0, most or 1.0, left, right)
    parts = []
    for index, value in enumerate(values):
        y = row_height * index
        end = max(scale.at(value.middle), left + 1.5)
        tip = f"{value.series}: {number(value.middle)} {unit} ({number(value.low)} to {number(value.high)})"
        parts.append(
            f'<g class="s{colours[value.series]}"><title>{escape(tip)}</title>'
            f"{_text(value.series, left - 8, y + 15, 'name')}"
            f'<rect x="{left:.0f}" width="{end - left:.1f}" y="{y + 3.5:.1f}" height="15" rx="3"/>'
        )
        if value.high > value.low:
            parts.append(
                f'<path class="whisker" d="M{scale.at(value.low):.1f} {y + 11:.1f}H{scale.at(value.high):.1f}"/>'
            )
        parts.append(f"{_text(number(value.middle), scale.at(value.high) + 6, y + 15, 'value')}</g>")
    return _svg(width, row_height * len(values) + 2, description, parts)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    colours: Mapping[str, int],
    *,
    x_title: str,
    y_title: str,
    log: bool = False,
    x_labels: Sequence[str] = (),
    reference: float | None = None,
    height: float = 340.0,
    width: float = WIDTH,
) -> str:
    """A line with a dot at each point, and its name at its end. `x_labels`: names for x = 0, 1, 2, ..."""
    points = [point for found in series.values() for point in found]
    if not points:
        return ""
    left, right, top, bottom = 52.0, width - 112.0, 30.0, height - 46.0
    x_most, y_most = max(x for x, _ in points), max(y for _, y in points)
    if log:
        y_scale = Scale(min(y for _, y in points) * 0.8, y_most * 1.25, bottom, top, log=True)
    else:
        y_scale = Scale(0.0, max(y_most, reference or 0.0) * 1.08, bottom, top)
    x_scale = Scale(0.0, x_most or 1.0, left, right)
    parts = []
    for tick in y_scale.ticks:
        y = y_scale.at(tick)
        parts.append(f'<line class="grid" x1="{left:.0f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(short(tick), left - 8, y + 4, "tick end"))
    for n, tick in enumerate(range(len(x_labels)) if x_labels else x_scale.ticks):
        text = x_labels[n] if x_labels else short(tick)
        parts.append(_text(text, x_scale.at(tick), bottom + 20, "tick mid"))
    parts.append(f'<line class="axis" x1="{left:.0f}" x2="{right:.1f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>')
    parts.append(_text(y_title, 0, 12, "title"))
    parts.append(_text(x_title, right, height - 6, "title end"))
    if reference is not None:
        y = y_scale.at(reference)
        parts.append(f'<line class="one" x1="{left:.0f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    ends, labels = [], []
    for name, found in series.items():
        if not found:
            continue
        path = "L".join(f"{x_scale.at(x):.1f} {y_scale.at(y):.1f}" for x, y in found)
        dots = "".join(
            f'<circle cx="{x_scale.at(x):.1f}" cy="{y_scale.at(y):.1f}" r="3.6">'
            f"<title>{escape(name)}: {number(y)} at {escape(x_labels[int(x)]) if x_labels else number(x)}</title>"
            "</circle>"
            for x, y in found
        )
        parts.append(f'<g class="s{colours[name]}"><path class="line" d="M{path}"/>{dots}</g>')
        x, y = x_scale.at(found[-1][0]), y_scale.at(found[-1][1])
        if x < right - EARLY:
            labels.append(f'<g class="s{colours[name]}">{_text(name, x + 8, y - 6, "end-label")}</g>')
        else:
            ends.append((y, x, name))
    for label_y, y, x, name in _apart(ends, top, bottom):
        leader = f'<path class="leader" d="M{x + 5:.1f} {y:.1f}L{right + 12:.1f} {label_y:.1f}"/>'
        label = _text(name, right + 16, label_y + 4, "end-label")
        labels.append(f'<g class="s{colours[name]}">{leader}{label}</g>')
    return _svg(width, height, f"{y_title} by {x_title}", parts + labels)


def _apart(
    ends: list[tuple[float, float, str]], top: float, bottom: float
) -> list[tuple[float, float, float, str]]:
    """(y of the label, y and x of the end, name): labels keep their order, and their distance."""
    placed: list[tuple[float, float, float, str]] = []
    last = top - LABEL_GAP
    for y, x, name in sorted(ends):
        last = max(y, last + LABEL_GAP)
        placed.append((last, y, x, name))
    over = last - bottom
    if over > 0:
        placed = [(label_y - over, y, x, name) for label_y, y, x, name in placed]
    return placed


def _axis(scale: Scale, top: float, bottom: float, unit: str) -> str:
    parts = []
    for tick in scale.ticks:
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(_text(f"{tick:g} {unit}", x, top - 8, "tick mid"))
    return "".join(parts)


def _text(text: str, x: float, y: float, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(width: float, height: float, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )
