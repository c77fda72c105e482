"""The report of `soak`: what each process took up over time, and whether it grew."""

from dataclasses import dataclass, field

from bench.report import Fact, none_missed, table, verdict
from bench.soak.soak_load import SoakResult
from bench.soak.soak_samples import FAULTS, MIB, Sample, Trend, trends

DESCRIPTORS, MORE_DESCRIPTORS = 1.15, 16
"Times as many as when it had settled, and so many more: clients come at random."
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"Characters of a curve."
MOST_SHOWN = 6
LEAST_SCALE = 0.1
"Of what is shown: a curve whose ends differ by less is drawn as if they differed by this part."
ALLOWED = {
    "requests from sites that come and go": ("200", "301", "404", "502", "503", "504", "cut"),
    "the same over TLS": ("200", "301", "404", "502", "503", "504", "cut"),
    "made-up hostnames": ("404", "429", "503"),
    "made-up names over TLS": ("cut",),
    "send a body slowly": ("200",),
    "send noise": ("400", "414", "431", "501", "505", "closed", "cut"),
}
"""What restless clients may get, by the beginning of what is counted; those that are not named leave, or are cut.
A site that comes or goes may be cut within a response."""


@dataclass(slots=True)
class SoakReport:
    """All that was seen."""

    minutes: float
    tolerance: float
    settle: float
    window: float
    load: SoakResult
    samples: list[Sample]
    quiet_before: Sample
    "Before the load."
    quiet_after: Sample
    "When all clients had left, and what is idle had been closed."
    acts: dict[str, int]
    complaints: list[str] = field(default_factory=list)
    "What could not be done, and errors that styx has logged."

    @property
    def trends(self) -> list[Trend]:
        return trends(self.samples, self.settle, self.window)

    @property
    def good(self) -> bool:
        return bool(self.trends) and none_missed(self.facts())

    def facts(self) -> list[Fact]:
        return [*self._memory(), *self._left(), *self._requests()]

    def _memory(self) -> list[Fact]:
        found = []
        for trend in self.trends:
            before, after = trend.before, trend.after
            what = f"{trend.process}, {trend.lived / 60:.1f} min"
            goal = f"<= +{self.tolerance:.0%}"
            for kind, first, last, growth in (
                ("heap", before.proportional_heap, after.proportional_heap, trend.growth),
                ("resident memory", before.resident, after.resident, trend.resident_growth),
            ):
                seen = f"{first / MIB:.2f} -> {last / MIB:.2f} MiB ({growth:+.1%})"
                found.append(Fact(f"{kind} of {what}", seen, goal, growth <= self.tolerance))
            most = before.descriptors * DESCRIPTORS + MORE_DESCRIPTORS
            seen = f"{before.descriptors} -> {after.descriptors}"
            found.append(Fact(f"descriptors of {what}", seen, f"<= {most:.0f}", after.descriptors <= most))
        return found

    def _left(self) -> list[Fact]:
        after, before = self.quiet_after, self.quiet_before
        open_after, open_before = after.descriptors, before.descriptors
        found = [
            Fact(
                "descriptors when all had left",
                f"{open_before} -> {open_after}",
                "<= 8 more",
                open_after <= open_before + 8,
            )
        ]
        for name in ("styx_client_connections", "styx_requests_in_flight", "styx_buffered_bytes"):
            left = after.metrics.get(name, -1.0)
            found.append(Fact(f"{name} when all had left", f"{left:.0f}", "0", left == 0.0))
        for name in FAULTS:
            count = after.metrics.get(name, -1.0)
            found.append(Fact(name, f"{count:.0f}", "0", count == 0.0))
        return found

    def _requests(self) -> list[Fact]:
        steady = self.load.steady
        lost = sum(count for statuses in steady.values() for what, count in statuses.items() if what != "200")
        strange = self.strange
        return [
            Fact("steady requests that did not get a 200", f"{lost} of {self.load.offered}", "0", not lost),
            Fact("restless clients that got what they must not", f"{sum(strange.values())}", "0", not strange),
            Fact("errors logged, commands that failed", f"{len(self.complaints)}", "0", not self.complaints),
        ]

    @property
    def strange(self) -> dict[str, int]:
        """What no restless client may get."""
        return {
            f"{kind}: {what}": count
            for kind, seen in self.load.restless.items()
            for what, count in seen.items()
            if not what.startswith(ALLOWED.get(kind, ("left", "cut")))
        }

    @property
    def raw(self) -> object:
        return {"trends": self.trends, "facts": self.facts()}

    def text(self) -> str:
        rows = [(fact.what, fact.seen, fact.goal, verdict(met=fact.met)) for fact in self.facts()]
        load = self.load
        parts = [
            f"soak: {self.minutes:g} min, {load.offered} steady requests (p50 {load.p50_ms:.1f} ms, p99 "
            f"{load.p99_ms:.1f} ms, sent late by {load.late_p99_ms:.1f} ms), "
            f"{sum(sum(seen.values()) for seen in load.restless.values())} restless clients, "
            f"{load.left_out} left out; {_counts(self.acts)}",
            table(("", "seen", "goal", ""), rows),
            f"Heap of each process in MiB (Pss_Anon), a sample every {self._every:.0f} s:\n" + self.curves(),
        ]
        if not self.trends:
            parts.append("No process lived long enough to be judged: NOT MET")
        wrong = [
            *(f"{fault.at:.1f} s, {fault.kind}, {fault.host}: {fault.what}" for fault in load.faults),
            *(f"{count} x {what}" for what, count in self.strange.items()),
            *self.complaints,
        ]
        if wrong:
            more = [f"... and {len(wrong) - MOST_SHOWN} more"] if len(wrong) > MOST_SHOWN else []
            parts.append("\n".join([*wrong[:MOST_SHOWN], *more]))
        return "\n\n".join(parts)

    @property
    def _every(self) -> float:
        return self.minutes * 60 / max(1, len(self.samples))

    def curves(self) -> str:
        """One line for each process: its heap over time."""
        rows = []
        for process in dict.fromkeys(name for sample in self.samples for name in sample.processes):
            values = [s.processes[process].proportional_heap / MIB for s in self.samples if process in s.processes]
            rows.append((process, curve(values), f"{min(values):.2f}-{max(values):.2f}"))
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {drawn}  {spread}" for name, drawn, spread in rows)


def curve(values: list[float]) -> str:
    """At most WIDTH bars; the lowest one stands for the least value."""
    step = max(1.0, len(values) / WIDTH)
    shown = [values[int(number * step)] for number in range(min(WIDTH, len(values)))]
    least = min(shown)
    scale = max(max(shown) - least, LEAST_SCALE * least) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int((value - least) / scale * len(BARS)))] for value in shown)


def _counts(acts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(acts.items()))
