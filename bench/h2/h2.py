"""Runs the scenes of `h2`: what HTTP/2 costs, and whether its streams and connections disturb each other.

speed       CPU of a request over TLS, and the memory of an idle connection, beside nginx
isolation   98 streams beside one whose backend hangs, and one whose client reads nothing
floods      of frames: how soon each ends, and what others feel of it
"""

from dataclasses import dataclass, field
from pathlib import Path

from bench.h2.h2_floods import floods
from bench.h2.h2_isolation import isolation
from bench.h2.h2_speed import speed
from bench.report import SceneFact, none_missed, table, verdict

SCENES = ("speed", "isolation", "floods")


@dataclass(frozen=True, kw_only=True, slots=True)
class H2Plan:
    """What is measured."""

    scenes: tuple[str, ...] = SCENES
    rounds: int = 5
    seconds: float = 4.0
    "Of one measurement."
    compiled: Path | None = None
    "A checkout whose speed is measured instead of that of this one."


@dataclass(slots=True)
class H2Report:
    """What was seen."""

    lines: list[SceneFact] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return bool(self.lines) and none_missed(self.lines)

    def text(self) -> str:
        rows = [(line.scene, line.what, line.seen, line.goal, verdict(met=line.met)) for line in self.lines]
        return table(("h2", "", "seen", "goal", ""), rows)


async def run(plan: H2Plan) -> H2Report:
    """Raises BenchFailed."""
    report = H2Report()
    if "speed" in plan.scenes:
        report.lines += await speed(plan.rounds, plan.seconds, plan.compiled)
    if "isolation" in plan.scenes:
        report.lines += await isolation(plan.rounds, plan.seconds)
    if "floods" in plan.scenes:
        report.lines += await floods(plan.rounds, plan.seconds)
    return report
