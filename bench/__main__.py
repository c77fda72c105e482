"""`python -m bench`: run benchmarks, print their tables, keep their figures in bench/results/.

Exit codes: 0 every goal met, 1 one not met or a benchmark failed, 2 wrong usage.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec
import uvloop

from bench.balancing import balance, goodput, neighbours, once
from bench.fuzz import fuzz
from bench.hostile import hostile, intruder
from bench.lab.programs import BenchFailed
from bench.operations import operate
from bench.routing import outages, routes
from bench.slow import memory, slow
from bench.speed import speed, versions
from edge.platform.containers import ContainerFailed
from edge.rules.settings import LogSettings
from edge.run import event_log

RESULTS = Path(__file__).parent / "results"


class Report(Protocol):
    """What every benchmark gives."""

    @property
    def good(self) -> bool:
        """All goals were met."""

    def text(self) -> str:
        """Tables for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What was asked for on the command line; None = as the benchmark likes."""

    rounds: int | None
    seconds: float | None
    seed: int | None
    replay: Path | None
    scenario: tuple[str, ...] = ()
    balancer: tuple[str, ...] = ()
    scene: tuple[str, ...] = ()
    short: bool = False
    against: tuple[Path, ...] = ()


Bench = Callable[[Wishes], Awaitable[Report]]


async def _speed(wishes: Wishes) -> Report:
    usual = speed.SpeedPlan()
    return await speed.run(
        speed.SpeedPlan(rounds=wishes.rounds or usual.rounds, seconds=wishes.seconds or usual.seconds)
    )


async def _memory(wishes: Wishes) -> Report:
    return await memory.run(memory.MemoryPlan(seconds=wishes.seconds or memory.MemoryPlan().seconds))


async def _goodput(wishes: Wishes) -> Report:
    usual = goodput.GoodputPlan()
    return await goodput.run(
        goodput.GoodputPlan(rounds=wishes.rounds or usual.rounds, seconds=wishes.seconds or usual.seconds)
    )


async def _fuzz(wishes: Wishes) -> Report:
    usual = REPLAY_SECONDS if wishes.replay else fuzz.FuzzPlan().seconds
    return await fuzz.run(
        fuzz.FuzzPlan(seconds=wishes.seconds or usual, seed=wishes.seed or 0, replay=wishes.replay)
    )


async def _slow(wishes: Wishes) -> Report:
    usual = slow.SlowPlan()
    return await slow.run(
        slow.SlowPlan(rounds=wishes.rounds or usual.rounds, seconds=wishes.seconds or usual.seconds)
    )


async def _operate(wishes: Wishes) -> Report:
    usual = operate.OperatePlan()
    return await operate.run(
        operate.OperatePlan(seconds=wishes.seconds or usual.seconds, seed=wishes.seed or usual.seed)
    )


async def _balance(wishes: Wishes) -> Report:
    usual = balance.BalancePlan()
    return await balance.run(
        balance.BalancePlan(
            rounds=wishes.rounds or usual.rounds,
            seconds=wishes.seconds or usual.seconds,
            seed=wishes.seed or usual.seed,
            scenarios=wishes.scenario or usual.scenarios,
            only=wishes.balancer,
        )
    )


async def _neighbours(wishes: Wishes) -> Report:
    usual = neighbours.NeighboursPlan()
    return await neighbours.run(
        neighbours.NeighboursPlan(seconds=wishes.seconds or usual.seconds, seed=wishes.seed or usual.seed)
    )


async def _once(wishes: Wishes) -> Report:
    usual = once.OncePlan()
    return await once.run(once.OncePlan(seconds=wishes.seconds or usual.seconds, seed=wishes.seed or usual.seed))


async def _routes(wishes: Wishes) -> Report:
    usual = routes.RoutesPlan()
    return await routes.run(
        routes.RoutesPlan(
            seconds=wishes.seconds or usual.seconds,
            seed=wishes.seed or usual.seed,
            scenes=wishes.scene or usual.scenes,
        )
    )


async def _outages(wishes: Wishes) -> Report:
    usual = outages.OutagesPlan(
        scenes=wishes.scene or tuple(outages.ALL_SCENES), seed=wishes.seed or outages.OutagesPlan().seed
    )
    plan = usual.shorter() if wishes.short else usual
    return await outages.run(replace(plan, seconds=wishes.seconds or plan.seconds))


async def _intruder(wishes: Wishes) -> Report:
    return await intruder.run(intruder.IntruderPlan(seconds=wishes.seconds or intruder.IntruderPlan().seconds))


async def _hostile(wishes: Wishes) -> Report:
    usual = hostile.HostilePlan()
    return await hostile.run(
        hostile.HostilePlan(
            scenes=wishes.scene or usual.scenes,
            rounds=wishes.rounds or usual.rounds,
            seconds=wishes.seconds or usual.seconds,
        )
    )


async def _versions(wishes: Wishes) -> Report:
    usual = versions.VersionsPlan(against=wishes.against)
    return await versions.run(
        replace(usual, rounds=wishes.rounds or usual.rounds, seconds=wishes.seconds or usual.seconds)
    )


BENCHES: dict[str, Bench] = {
    "routes": _routes,
    "once": _once,
    "balance": _balance,
    "neighbours": _neighbours,
    "speed": _speed,
    "memory": _memory,
    "goodput": _goodput,
    "slow": _slow,
    "operate": _operate,
    "outages": _outages,
    "intruder": _intruder,
    "hostile": _hostile,
    "fuzz": _fuzz,
    "versions": _versions,
}
NOT_AMONG_ALL = frozenset({"versions", "intruder", "hostile"})
SHORTER = {"fuzz": 60.0, "operate": 20.0, "outages": 10.0}
"Seconds of those that take long, when all are run."
REPLAY_SECONDS = 5.0
LOOPS = {"fuzz": uvloop.new_event_loop, "hostile": uvloop.new_event_loop}
"For those that do much themselves."


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("which", type=click.Choice([*BENCHES, "all"]), default="all")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Interleaved rounds.  [speed: 5, goodput: 3, slow: 2]")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86400),
    help="Length of one measurement.  [speed: 4, memory: 30, goodput: 15, slow: 15; fuzz: 600, or 60 among "
    "all; operate: 60 a scene, or 20 among all]",
)
@click.option("--seed", type=click.IntRange(min=1), help="fuzz, operate: send what an earlier run sent.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="fuzz: send one message again and again, from a file that a finding named.",
)
@click.option(
    "--scenario", type=click.Choice(list(balance.SCENARIOS)), multiple=True, help="balance: only this; repeatable."
)
@click.option(
    "--scene",
    type=click.Choice([*routes.SCENES, *outages.ALL_SCENES, *hostile.SCENES]),
    multiple=True,
    help="routes, outages, hostile: only this; repeatable.",
)
@click.option("--short", is_flag=True, help="outages: a few seconds of each scene.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="versions: the folder of another version; repeatable.",
)
@click.option("--balancer", multiple=True, help="balance: only this one, by its name in the table; repeatable.")
def main(which: str, **wishes: Any) -> None:
    """Measure styx beside its peers. bench/README.md tells how to read the figures."""
    event_log.configure(LogSettings(level="warning", format="console"))
    good = True
    wanted = Wishes(**wishes)
    for name in [name for name in BENCHES if name not in NOT_AMONG_ALL] if which == "all" else [which]:
        shorter = SHORTER.get(name) if which == "all" else None
        try:
            with asyncio.Runner(loop_factory=LOOPS.get(name)) as runner:
                report = runner.run(_run(BENCHES[name], replace(wanted, seconds=wanted.seconds or shorter)))
        except (BenchFailed, ContainerFailed) as error:
            click.echo(f"bench {name}: {error}", err=True)
            good = False
            continue
        except asyncio.CancelledError:
            sys.exit(1)
        click.echo(f"{report.text()}\n\n{_save(name, report)}\n")
        good = good and report.good
    sys.exit(not good)


async def _run(bench: Bench, wishes: Wishes) -> Report:
    # Ended from outside, it still has to end its children and remove its files.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await bench(wishes)


def _save(name: str, report: Report) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return path


if __name__ == "__main__":
    main()
