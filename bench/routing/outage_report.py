"""The report of one scene of `outages`: its requests, and whether they meet the goals."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from bench.lab.availability_load import WRONG_SITE, AvailabilityResult, Completed, Fault
from bench.report import Fact, none_missed, table, verdict

WINDOW = 2.0
"Seconds."
RATIO_GOAL = 2.0
NOISY = 2.0
"""When the p99 of one calm window is so many times that of the median window, or that of requests which do not pass
through styx grew by so much, then the machine was slow, and a ratio says nothing."""
KILL_FELT = 1.0
"""Seconds for which latencies do not count from when a worker was stopped to be killed: what waits in its socket
waits for another one. That is what `operate` looks at."""
COLD_SHARE, COLD_WITHIN = 0.99, 2.0
"Part of the cold hostnames that must get 200, and within how many seconds from when the request was due."


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the requests that were due in a period, in milliseconds from when they were due."""

    p50: float
    p99: float
    windows: list[float]
    "The p99 of each window."

    @classmethod
    def between(cls, completed: Sequence[Completed], begin: float, end: float) -> "Latency":
        took = [(a.due, 1e3 * (a.seen - a.due)) for a in completed if begin <= a.due < end]
        edges = [begin + WINDOW * n for n in range(int((end - begin) / WINDOW) + 1)]
        windows = [[ms for due, ms in took if first <= due < last] for first, last in pairwise(edges)]
        every = [ms for _, ms in took]
        return cls(percentile(every, 0.5), percentile(every, 0.99), [percentile(w, 0.99) for w in windows if w])

    @property
    def unrest(self) -> float:
        """The worst window as a multiple of the median one."""
        return max(self.windows) / median(self.windows) if self.windows else 1.0


def percentile(values: Sequence[float], part: float) -> float:
    """0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Cold:
    """Hostnames that were requested once each, by clients that requested nothing else, during the outage."""

    requested: int
    in_time: int
    p99_ms: float
    "Of those that got 200."
    faults: dict[str, int]

    @classmethod
    def of(cls, load_result: AvailabilityResult, begin: float, end: float) -> "Cold":
        completed = [a for a in load_result.completed if begin <= a.due < end]
        faults = Counter(f.kind for f in load_result.faults if begin <= f.due < end)
        took = [a.seen - a.due for a in completed]
        in_time = sum(seconds <= COLD_WITHIN for seconds in took)
        return cls(len(completed) + faults.total(), in_time, 1e3 * percentile(took, 0.99), dict(faults))

    @property
    def good(self) -> bool:
        return self.in_time >= COLD_SHARE * self.requested

    def text(self) -> str:
        return f"{self.in_time} of {self.requested}, {self.p99_ms:.0f}" if self.requested else "-"


@dataclass(slots=True)
class Line:
    """One scene."""

    scene: str
    what: str
    requests: int
    failed: dict[str, int]
    'Requests for known hostnames without a right 200, by kind ("503 no_backends").'
    excused: int
    "Those among them, not in `failed`, that were on a connection to a worker when it was killed."
    wrong_site: int
    "Pages of another site, whatever hostname was requested."
    calm: Latency
    outage: Latency
    direct: tuple[Latency, Latency]
    "Of requests to a container that do not pass through styx, in the calm and in the outage."
    cold: Cold
    late_p99_ms: float
    killed_p99_ms: float
    "The p99 of the outage with what was due within KILL_FELT of a SIGKILL for a worker, which `outage` leaves out."
    "How late the generator was with known hostnames."
    facts: list[Fact] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    "Seconds since the beginning of the outage, and what was done."
    failures_at: list[float] = field(default_factory=list)
    "The first and the last failure, in the same seconds."

    @property
    def ratio(self) -> float:
        return self.outage.p99 / self.calm.p99 if self.calm.p99 else 0.0

    @property
    def slow(self) -> bool | None:
        """None = too much noise to say so."""
        if self.ratio <= RATIO_GOAL:
            return False
        calm, outage = self.direct
        return None if max(self.calm.unrest, outage.p99 / max(calm.p99, 1.0)) > NOISY else True

    @property
    def served(self) -> bool:
        """Everything is as it must be, however long it took."""
        facts_met = none_missed(self.facts)
        return not (self.failed or self.wrong_site or self.complaints) and self.cold.good and facts_met

    @property
    def good(self) -> bool:
        return self.served and not self.slow

    def cells(self) -> tuple[str, ...]:
        return (
            self.scene,
            str(self.requests),
            str(sum(self.failed.values())),
            str(self.wrong_site),
            f"{self.outage.p50:.0f} / {self.outage.p99:.0f}",
            f"{self.calm.p99:.0f}",
            f"{self.ratio:.2f}{' noisy' if self.slow is None else ''}",
            " / ".join(f"{latency.p99:.0f}" for latency in reversed(self.direct)),
            self.cold.text(),
            verdict(met=self.good),
        )

    def details(self) -> list[str]:
        """What the row does not say."""
        found = []
        if self.failed:
            first, last = self.failures_at
            kinds = ", ".join(f"{count} x {kind}" for kind, count in Counter(self.failed).most_common())
            done = [what for at, what in self.marks if at <= first]
            after = f" (after: {done[-1]})" if done else ""
            found.append(f"not 200: {kinds}; from {first:.1f} s{after} to {last:.1f} s")
        if self.excused:
            found.append(f"excused: {self.excused} on connections of killed workers")
        if self.killed_p99_ms:
            found.append(f"p99 with the {KILL_FELT:g} s from each SIGKILL on: {self.killed_p99_ms:.0f} ms")
        if self.cold.faults:
            found.append(
                "cold: " + ", ".join(f"{n} x {kind}" for kind, n in Counter(self.cold.faults).most_common())
            )
        if self.ratio > RATIO_GOAL:
            found.append(f"p99 of each {WINDOW:g} s: {', '.join(f'{ms:.0f}' for ms in self.outage.windows)} ms")
        found += self.complaints
        for fact in self.facts:
            goal = f" ({fact.goal}: {verdict(met=fact.met)})" if fact.met is not None else ""
            found.append(f"{fact.what}: {fact.seen}{goal}")
        return found


@dataclass(slots=True)
class OutagesReport:
    """All scenes."""

    seconds: float
    rate: float
    lines: list[Line] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    "Scenes that could not be played, and why."

    @property
    def good(self) -> bool:
        return bool(self.lines) and not self.broken and all(line.good for line in self.lines)

    def text(self) -> str:
        heading = (
            "scene",
            "requests",
            "not 200",
            "other site",
            "ms p50 / p99",
            "calm p99",
            "ratio",
            "direct, calm",
            "cold, p99 ms",
            "",
        )
        parts = [
            f"outages of {self.seconds:g} s beside {self.rate:g} requests/s to known hostnames; 2 workers. Goals: "
            f"known always 200, never another site's page, p99 <= {RATIO_GOAL:g} x calm; "
            f"cold >= {COLD_SHARE:.0%} 200 within {COLD_WITHIN:g} s",
            table(heading, (line.cells() for line in self.lines)),
        ]
        parts += ["\n  ".join([f"{line.scene}: {line.what}", *line.details()]) for line in self.lines]
        parts += self.broken
        late = max((line.late_p99_ms for line in self.lines), default=0.0)
        parts.append(f"The generator began 99 % of its requests within {late:.1f} ms of when they were due.")
        return "\n\n".join(parts)


def line_of(
    scene: tuple[str, str],
    *,
    known: AvailabilityResult,
    direct: AvailabilityResult,
    cold: AvailabilityResult,
    refused: AvailabilityResult,
    excuses: Callable[[Fault], bool],
    kills: Sequence[float],
    period: tuple[float, float, float],
) -> Line:
    """`period`: begin of the calm, begin and end of the outage. Of `refused` only pages of other sites count."""
    calm, begin, end = period
    faults = [fault for fault in known.faults if not excuses(fault)]
    cold_faults = [fault for fault in cold.faults if not excuses(fault)]
    undisturbed = [a for a in known.completed if not any(0.0 <= a.due - at < KILL_FELT for at in kills)]
    wrong = [
        fault for load_result in (known, cold, refused) for fault in load_result.faults if fault.kind == WRONG_SITE
    ]
    return Line(
        *scene,
        requests=known.offered,
        failed=dict(Counter(fault.kind for fault in faults)),
        excused=len(known.faults) - len(faults),
        wrong_site=len(wrong),
        calm=Latency.between(known.completed, calm, begin),
        outage=Latency.between(undisturbed, begin, end),
        killed_p99_ms=Latency.between(known.completed, begin, end).p99 if kills else 0.0,
        direct=(Latency.between(direct.completed, calm, begin), Latency.between(direct.completed, begin, end)),
        cold=Cold.of(AvailabilityResult(completed=cold.completed, faults=cold_faults), begin, end),
        late_p99_ms=percentile(known.late_ms, 0.99),
        failures_at=[f(fault.seen for fault in faults) - begin for f in (min, max)] if faults else [],
    )
