"""Shared parts of reports: tables of text, goals, and ratios of the same round."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class BenchReport(Protocol):
    """What every bench returns."""

    @property
    def good(self) -> bool:
        """All goals were met."""

    def text(self) -> str:
        """Tables for people."""


@dataclass(slots=True)
class PartsReport:
    """One report after the other."""

    parts: list[BenchReport] = field(default_factory=list)
    between: str = "\n\n"
    "Between two of them."

    @property
    def good(self) -> bool:
        return all(part.good for part in self.parts)

    def text(self) -> str:
        return self.between.join(part.text() for part in self.parts)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was measured; `met` None = it has no goal."""

    what: str
    seen: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class SceneFact:
    """Something that was measured in one scene of a bench; `met` None = it has no goal."""

    scene: str
    what: str
    seen: str
    goal: str = ""
    met: bool | None = None


class HasGoal(Protocol):
    """A measurement that may have a goal: a Fact, or a line of a report."""

    @property
    def met(self) -> bool | None:
        """None = it has no goal."""


def none_missed(measurements: Iterable[HasGoal]) -> bool:
    """Whether every one that has a goal met it."""
    return all(measurement.met is not False for measurement in measurements)


def verdict(*, met: bool | None) -> str:
    """The last cell of a row; empty if there is no goal."""
    if met is None:
        return ""
    return "met" if met else "NOT MET"


def facts_table(title: str, facts: Iterable[Fact]) -> str:
    """What was seen of each, beside its goal."""
    rows = [(fact.what, fact.seen, fact.goal, verdict(met=fact.met)) for fact in facts]
    return table((title, "seen", "goal", ""), rows)


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Our figure as a multiple of the other one of the same round, for each round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    lines = [list(heading), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()
