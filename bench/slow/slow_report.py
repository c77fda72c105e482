"""The report of `slow`."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median, quantiles

from bench.lab.load_generator import LoadResult
from bench.report import table, verdict
from bench.slow.slow_clients import PIECES_A_SECOND, SlowConnection, SlowResult

GOAL = 1.5
"Most p99 of normal traffic beside the slow clients, as a multiple of that without."
SLACK = 1.5
"Seconds after its deadline in which a client must be cut off: the sweep, and a busy machine."
REQUESTED_FIRST = 1.0
"A long body is taken only when the backend wants it, or after this time; then its deadline begins."


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowPlan:
    """How much is measured."""

    rounds: int = 2
    seconds: float = 15.0
    "Of normal traffic, alone and again beside the slow."
    heads: int = 2000
    bodies: int = 2000
    rate: float = 400.0
    "Normal requests a second."
    ramp: float = 6.0
    "Seconds over which the slow clients come."
    head: float = 10.0
    body: float = 20.0
    "Deadlines of styx: its defaults, or shorter for a test."
    polite: bool = True
    "The slow clients leave the core to normal traffic. Not on a busy machine: there they would never get it."

    def due(self, kind: str) -> float:
        """When a slow client must have been cut off."""
        return SLACK + (self.head if kind == "head" else self.body + REQUESTED_FIRST)


@dataclass(slots=True)
class Phase:
    """Normal traffic for a while."""

    load_result: LoadResult
    offered_rate: float
    styx_busy: float
    "Part of its core."
    others_busy: float
    "Part of the other core: generators and backend."

    @property
    def p99(self) -> float:
        return quantiles(self.load_result.latencies_ms, n=100)[98]

    @property
    def p50(self) -> float:
        return median(self.load_result.latencies_ms)

    @property
    def late(self) -> float:
        """How late requests were sent, p99 in ms."""
        return quantiles(self.load_result.late_ms, n=100)[98]


@dataclass(slots=True)
class SlowReport:
    """Phases of each round, and what became of the slow clients."""

    plan: SlowPlan
    alone: list[Phase] = field(default_factory=list)
    elsewhere: list[Phase] = field(default_factory=list)
    "The slow clients are there, but talk to nobody: what they cost by sharing a core with the generator."
    beside: list[Phase] = field(default_factory=list)
    results: list[SlowResult] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Of the p99s with and without, round by round."""
        return [beside.p99 / alone.p99 for beside, alone in zip(self.beside, self.alone, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def floor(self) -> float:
        """What this ratio would be if styx had nothing to do with them."""
        pairs = zip(self.elsewhere, self.alone, strict=True)
        return median(elsewhere.p99 / alone.p99 for elsewhere, alone in pairs)

    @property
    def connections(self) -> list[SlowConnection]:
        return [connection for result in self.results for connection in result.connections]

    @property
    def uncut(self) -> list[SlowConnection]:
        """Those that were not cut off in time."""
        return [
            connection
            for connection in self.connections
            if connection.ending != "cut" or connection.seconds > self.plan.due(connection.kind)
        ]

    @property
    def missing(self) -> int:
        """Slow clients that never were there."""
        wanted = self.plan.heads + self.plan.bodies
        return sum(result.unconnected for result in self.results) + sum(
            wanted - result.most_at_once for result in self.results
        )

    @property
    def pieces(self) -> float:
        """A second, of all slow clients together."""
        lived = sum(connection.seconds for connection in self.connections) / (self.plan.heads + self.plan.bodies)
        return sum(result.sent for result in self.results) / lived

    @property
    def meant(self) -> float:
        """How many there would be if their process had all the time that it needs."""
        return PIECES_A_SECOND * (self.plan.heads + self.plan.bodies)

    @property
    def statuses(self) -> Counter[str]:
        """What normal clients saw."""
        return sum(
            (Counter(phase.load_result.statuses) for phase in (*self.alone, *self.elsewhere, *self.beside)),
            Counter(),
        )

    @property
    def calm(self) -> bool:
        """Normal clients saw nothing but success, and slow ones the end."""
        return set(self.statuses) == {"200"} and not self.uncut and bool(self.connections)

    @property
    def good(self) -> bool:
        return self.ratio <= GOAL and self.calm and not self.missing

    def text(self) -> str:
        heading = (
            "slow clients",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "sent late, p99 ms",
            "core of styx",
            "other core",
        )
        load = f"{self.plan.heads} + {self.plan.bodies}"
        rows = [
            _row("none", self.alone),
            _row(f"{load} elsewhere", self.elsewhere),
            _row(f"{load} at styx", self.beside),
        ]
        kinds = [self._cut(kind) for kind in ("head", "length", "chunked")]
        cuts = table(("cut off", "times", "after s, p50", "longest", "at most", "with"), kinds)
        return "\n\n".join((table(heading, rows), table(("", "seen", "goal", ""), self._facts()), cuts))

    def _facts(self) -> list[tuple[str, ...]]:
        spread = " ".join(f"{ratio:.2f}" for ratio in self.ratios)
        statuses = ", ".join(f"{times} x {status}" for status, times in self.statuses.most_common())
        return [
            ("p99 with / without", f"{self.ratio:.2f} ({spread})", f"<= {GOAL}", verdict(met=self.ratio <= GOAL)),
            ("the same, crowd elsewhere", f"{self.floor:.2f}", "", ""),
            ("normal responses", statuses, "200", verdict(met=set(self.statuses) == {"200"})),
            (
                "slow, not cut off in time",
                f"{len(self.uncut)} of {len(self.connections)}",
                "0",
                verdict(met=not self.uncut),
            ),
            ("slow, not there at once", str(self.missing), "0", verdict(met=not self.missing)),
            ("pieces of the slow, a second", f"{self.pieces:.0f} of {self.meant:.0f}", "", ""),
        ]

    def _cut(self, kind: str) -> tuple[str, ...]:
        connections = [connection for connection in self.connections if connection.kind == kind]
        seconds = [connection.seconds for connection in connections] or [0.0]
        statuses = Counter(str(connection.status or "nothing") for connection in connections)
        counted = ", ".join(f"{times} x {status}" for status, times in statuses.most_common())
        longest, due = f"{max(seconds):.2f}", f"{self.plan.due(kind):.1f}"
        return (kind, str(len(connections)), f"{median(seconds):.2f}", longest, due, counted)


def _row(name: str, phases: list[Phase]) -> tuple[str, ...]:
    times = [(phase.offered_rate, phase.p50, phase.p99, phase.late) for phase in phases]
    rate, *milliseconds = (median(values) for values in zip(*times, strict=True))
    shares = [(phase.styx_busy, phase.others_busy) for phase in phases]
    busy = (f"{median(values):.0%}" for values in zip(*shares, strict=True))
    return (name, f"{rate:.0f}", *(f"{value:.2f}" for value in milliseconds), *busy)
