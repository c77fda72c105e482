"""Scene `shared` of `routes`: the Redis that edges share is frozen, stopped, and started empty."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.lab.load_generator import LoadResult
from bench.lab.programs import BenchFailed
from bench.lab.redis_server import PROGRAM, RedisServer
from bench.report import SceneFact
from bench.routing.route_stage import (
    NORMAL,
    RATE,
    RoutesPlan,
    Stage,
    running_stage,
    statuses_text,
)

SHARED_PHASES = ("ok", "frozen", "stopped", "started empty")
EACH_PHASE, TURNED_AFTER = 8.0, 1.0
SHARED_ROUNDS = 3
ADDED_GOAL = 1.2


@dataclass(slots=True)
class Phase:
    """What was seen of an edge that shares, and of one beside it that does not."""

    p99s: list[tuple[float, float]] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    "Latencies of the first requests for new hostnames, at the edge that shares."
    wrong: Counter[str] = field(default_factory=Counter)


async def shared_redis(plan: RoutesPlan) -> list[SceneFact]:
    if PROGRAM is None:
        raise BenchFailed("redis-server is not installed")
    phases = {name: Phase() for name in SHARED_PHASES}
    with tempfile.TemporaryDirectory(prefix="styx-redis-") as name:
        engine = RedisServer(Path(name))
        await engine.start()
        try:
            # At the same time, for this machine is never twice as quick.
            async with (
                running_stage(more=f'redis: {{url: "{engine.url}"}}\n') as sharing,
                running_stage() as alone,
            ):
                for stage in (sharing, alone):
                    await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
                for number in range(SHARED_ROUNDS):
                    for phase in SHARED_PHASES:
                        await _shared_phase(phases[phase], phase, number, engine, sharing, alone)
        finally:
            engine.thaw()
            await engine.stop()
    return [line for phase in SHARED_PHASES for line in _phase_lines(phase, phases[phase])]


async def _shared_phase(
    seen: Phase, phase: str, number: int, engine: RedisServer, sharing: Stage, alone: Stage
) -> None:
    new = [f"new-{phase.replace(' ', '-')}-{number}-{n}.test" for n in range(100_000)]

    async def turn() -> None:
        await asyncio.sleep(TURNED_AFTER)
        await _turn(engine, phase)

    async def both(name: str, hosts: list[str], rate: float) -> list[LoadResult]:
        return await asyncio.gather(
            *(stage.play(name, hosts, rate, EACH_PHASE, number) for stage in (sharing, alone))
        )

    known, unknown, _ = await asyncio.gather(both("known", NORMAL, RATE), both("new", new, 20.0), turn())
    seen.p99s.append((known[0].p99_ms, known[1].p99_ms))
    seen.new += unknown[0].latencies_ms
    for load_result in (known[0], unknown[0]):
        seen.wrong.update({status: n for status, n in load_result.statuses.items() if status != "200"})


async def _turn(engine: RedisServer, phase: str) -> None:
    match phase:
        case "frozen":
            engine.freeze()
        case "stopped":
            engine.thaw()
            await engine.stop()
        case "started empty":
            await engine.start()


def _phase_lines(phase: str, seen: Phase) -> list[SceneFact]:
    ratio, scene = median(a / b for a, b in seen.p99s), f"shared engine {phase}"
    new = sorted(seen.new)
    return [
        SceneFact(scene, "known and new hostnames, not 200", statuses_text(seen.wrong), "nothing", not seen.wrong),
        SceneFact(
            scene,
            "p99 of known hostnames: ms with it / without one",
            f"{', '.join(f'{a:.1f}/{b:.1f}' for a, b in seen.p99s)}: x {ratio:.2f}",
            f"<= {ADDED_GOAL}",
            ratio <= ADDED_GOAL,
        ),
        SceneFact(
            scene,
            "new hostnames, p99 and slowest",
            f"{new[len(new) * 99 // 100]:.1f} ms, {new[-1]:.0f} ms",
            "",
            None,
        ),
    ]
