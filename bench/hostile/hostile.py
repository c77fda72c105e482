"""Runs the scenes of `hostile`: expensive clients and containers, and whether others are served meanwhile.

    newcomers   uploads, heads and interim responses that keep the loop busy: are new clients let in?
    uploads     to containers that do not know `Expect`, or refuse early
    holders     clients that do not read, say nothing, vanish, or hold what they got

Beside nginx and HAProxy, with the same clients. That clients vanish is played in network namespaces: as root.
"""

from dataclasses import dataclass

from bench.hostile import hostile_accept, hostile_holders, hostile_uploads
from bench.report import PartsReport

SCENES = ("newcomers", "uploads", "holders")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostilePlan:
    """What is played."""

    scenes: tuple[str, ...] = SCENES
    rounds: int = 1
    "Of the newcomers."
    seconds: float = 5.0
    "Of each attack."


async def run(plan: HostilePlan) -> PartsReport:
    """Raises BenchFailed."""
    report = PartsReport(between="\n")
    for scene in plan.scenes:
        if scene == "newcomers":
            accept = hostile_accept.HostileAcceptPlan(rounds=plan.rounds, seconds=plan.seconds)
            report.parts.append(await hostile_accept.play(accept))
        elif scene == "uploads":
            report.parts.append(
                await hostile_uploads.play(hostile_uploads.HostileUploadsPlan(seconds=2 * plan.seconds))
            )
        else:
            report.parts.append(
                await hostile_holders.play(hostile_holders.HostileHoldersPlan(seconds=plan.seconds))
            )
    return report
