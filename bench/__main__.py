"""`python -m bench`: runs benchmarks, prints their tables, and writes their figures to bench/results/.

Exit codes: 0 every goal met, 1 one not met or a benchmark failed, 2 wrong usage.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

import click
import msgspec
import uvloop

from bench.balancing import balance, goodput, neighbours, once
from bench.comparison import comparison
from bench.comparison.cases import CASES
from bench.fuzz import fuzz
from bench.fuzz_h2 import fuzz_h2
from bench.guard import guard
from bench.h2 import h2
from bench.hostile import hostile, intruder
from bench.lab.programs import BenchFailed
from bench.operations import operate, status_data, upkeep
from bench.report import BenchReport
from bench.routing import outages, route_stage, routes
from bench.slow import memory, slow
from bench.soak import soak
from bench.speed import speed, versions
from bench.tls import tls
from edge.platform.containers.container import ContainerFailed
from edge.rules.settings import LogSettings
from edge.run import event_log

RESULTS = Path(__file__).parent / "results"


Options = dict[str, Any]
"The options of the command line, by the names of its options; what was not is absent."


@dataclass(frozen=True, slots=True)
class Bench:
    """How one bench is run. An option sets the field of its name in the plan; without such a field it is of no
    effect."""

    run: Callable[[Any], Awaitable[BenchReport]]
    plan: Any
    renamed: Mapping[str, str] = field(default_factory=dict)
    "Options that set a field of another name: with each that field."
    adjusted: Callable[[Any, Options], Any] = lambda plan, _: plan
    "The plan for these options, before they set its fields."

    def planned(self, options: Options) -> Any:
        named = {self.renamed.get(name, name): value for name, value in options.items()}
        taken = {known.name: named[known.name] for known in fields(self.plan) if known.name in named}
        return replace(self.adjusted(self.plan, options), **taken)


SCENE = {"scene": "scenes"}


def _short_replay(plan: fuzz.FuzzPlan, options: Options) -> fuzz.FuzzPlan:
    return replace(plan, seconds=REPLAY_SECONDS) if "replay" in options else plan


class HasShorter(Protocol):
    """The plan of a bench that takes `--short`."""

    def shorter(self) -> Self:
        """To see that everything works."""


def _shortened(plan: HasShorter, options: Options) -> HasShorter:
    return plan.shorter() if "short" in options else plan


BENCHES = {
    "routes": Bench(routes.run, route_stage.RoutesPlan(), SCENE),
    "once": Bench(once.run, once.OncePlan()),
    "balance": Bench(balance.run, balance.BalancePlan(), {"scenario": "scenarios", "balancer": "only"}),
    "neighbours": Bench(neighbours.run, neighbours.NeighboursPlan()),
    "speed": Bench(speed.run, speed.SpeedPlan()),
    "memory": Bench(memory.run, memory.MemoryPlan()),
    "goodput": Bench(goodput.run, goodput.GoodputPlan()),
    "slow": Bench(slow.run, slow.SlowPlan()),
    "operate": Bench(operate.run, operate.OperatePlan()),
    "operate-h2": Bench(operate.run, operate.OperatePlan(http2=True, scenes=("reloads", "upgrade"))),
    "status": Bench(status_data.run, status_data.StatusPlan()),
    "upkeep": Bench(upkeep.run, upkeep.UpkeepPlan()),
    "soak": Bench(soak.run, soak.SoakPlan()),
    "outages": Bench(outages.run, outages.OutagesPlan(), SCENE, _shortened),
    "intruder": Bench(intruder.run, intruder.IntruderPlan()),
    "hostile": Bench(hostile.run, hostile.HostilePlan(), SCENE),
    "tls": Bench(tls.run, tls.TlsPlan(), SCENE),
    "fuzz": Bench(fuzz.run, fuzz.FuzzPlan(), adjusted=_short_replay),
    "fuzz-h2": Bench(fuzz_h2.run, fuzz.FuzzPlan(), adjusted=_short_replay),
    "h2": Bench(h2.run, h2.H2Plan(), SCENE),
    "versions": Bench(versions.run, versions.VersionsPlan(against=())),
    "guard": Bench(guard.run, guard.GuardPlan()),
    "report": Bench(
        comparison.run, comparison.ComparisonPlan(), {"case": "cases", "balancer": "proxies"}, _shortened
    ),
}
NOT_AMONG_ALL = frozenset({"h2", "tls", "status", "versions", "intruder", "hostile", "report", "guard", "soak"})
SHORTER = {"fuzz": 60.0, "fuzz-h2": 60.0, "operate": 20.0, "operate-h2": 20.0, "outages": 10.0, "upkeep": 60.0}
"Seconds of those that take long, when all are run."
REPLAY_SECONDS = 5.0
LOOPS = dict.fromkeys(("fuzz", "fuzz-h2", "h2", "hostile", "soak"), uvloop.new_event_loop)
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
@click.option("--minutes", type=click.FloatRange(6, 10_000), help="soak: how long.  [20]")
@click.option("--cold-reload", is_flag=True, help="soak: replace the workers half way, by a cold reload.")
@click.option("--seed", type=click.IntRange(min=1), help="fuzz, tls, operate, soak: send what an earlier run sent.")
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
    type=click.Choice([*route_stage.SCENES, *outages.ALL_SCENES, *hostile.SCENES, *h2.SCENES, *tls.SCENES]),
    multiple=True,
    help="routes, outages, hostile, h2, tls: only this; repeatable.",
)
@click.option(
    "--short", is_flag=True, help="outages: a few seconds of each scene. report: everything once, as a test."
)
@click.option("--tls", is_flag=True, help="once: over TLS on both sides.")
@click.option("--case", type=click.Choice(list(CASES)), multiple=True, help="report: only this; repeatable.")
@click.option(
    "--compiled",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="report, h2: a checkout that `make compiled` was run in.  [report: a copy of this one is compiled]",
)
@click.option("--release", help="report: keep the figures in bench/history/ under this version.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="report: for the page.  [bench/report]"
)
@click.option("--compile", is_flag=True, help="guard: compare both versions compiled, not as plain Python.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="versions, guard: the folder of another version; repeatable for versions.",
)
@click.option("--balancer", multiple=True, help="balance, report: only this one, by its name; repeatable.")
def main(which: str, **given: Any) -> None:
    """Measure styx beside its peers. bench/README.md explains how to read the figures."""
    event_log.configure(LogSettings(level="warning", format="console"))
    good = True
    options = {name: value for name, value in given.items() if value}
    for name in [name for name in BENCHES if name not in NOT_AMONG_ALL] if which == "all" else [which]:
        shorter = {"seconds": SHORTER[name]} if which == "all" and name in SHORTER else {}
        try:
            with asyncio.Runner(loop_factory=LOOPS.get(name)) as runner:
                report = runner.run(_run(BENCHES[name], shorter | options))
        except (BenchFailed, ContainerFailed) as error:
            click.echo(f"bench {name}: {error}", err=True)
            good = False
            continue
        except asyncio.CancelledError:
            sys.exit(1)
        click.echo(f"{report.text()}\n\n{_save(name, report)}\n")
        good = good and report.good
    sys.exit(not good)


async def _run(bench: Bench, options: Options) -> BenchReport:
    # Ended from outside, it still has to end its children and remove its files.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await bench.run(bench.planned(options))


def _save(name: str, report: BenchReport) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return path


if __name__ == "__main__":
    main()
