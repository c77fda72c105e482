"""`python -m bench`: run benchmarks, print their tables, keep their figures in bench/results/.

Exit codes: 0 every goal met, 1 one not met or a benchmark failed, 2 wrong usage.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click
import msgspec

from bench import goodput, memory, speed
from bench.programs import BenchFailed
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


Bench = Callable[[int | None, float | None], Awaitable[Report]]
"Called with rounds and seconds; None = as many as it likes."


async def _speed(rounds: int | None, seconds: float | None) -> Report:
    usual = speed.Plan()
    return await speed.run(speed.Plan(rounds=rounds or usual.rounds, seconds=seconds or usual.seconds))


async def _memory(_: int | None, seconds: float | None) -> Report:
    return await memory.run(memory.Plan(seconds=seconds or memory.Plan().seconds))


async def _goodput(rounds: int | None, seconds: float | None) -> Report:
    usual = goodput.Plan()
    return await goodput.run(goodput.Plan(rounds=rounds or usual.rounds, seconds=seconds or usual.seconds))


BENCHES: dict[str, Bench] = {"speed": _speed, "memory": _memory, "goodput": _goodput}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("which", type=click.Choice([*BENCHES, "all"]), default="all")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Interleaved rounds.  [speed: 5, goodput: 3]")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    help="Length of one measurement.  [speed: 4, memory: 30, goodput: 15]",
)
def main(which: str, rounds: int | None, seconds: float | None) -> None:
    """Measure styx beside its peers. bench/README.md tells how to read the figures."""
    event_log.configure(LogSettings(level="warning", format="console"))
    good = True
    for name in BENCHES if which == "all" else [which]:
        try:
            report = asyncio.run(_run(BENCHES[name], rounds, seconds))
        except (BenchFailed, ContainerFailed) as error:
            click.echo(f"bench {name}: {error}", err=True)
            good = False
            continue
        except asyncio.CancelledError:
            sys.exit(1)
        click.echo(f"{report.text()}\n\n{_save(name, report)}\n")
        good = good and report.good
    sys.exit(not good)


async def _run(bench: Bench, rounds: int | None, seconds: float | None) -> Report:
    # Ended from outside, it still has to end its children and remove its files.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await bench(rounds, seconds)


def _save(name: str, report: Report) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return path


if __name__ == "__main__":
    main()
