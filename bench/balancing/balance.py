"""Goodput of ten containers, one of which is faulty: styx beside HAProxy, nginx and Envoy.

arrivals ──► styx, HAProxy, nginx or Envoy ──► ten containers of four workers and a queue of four

All get the same arrivals: random, at a fixed rate, not waiting for responses, timed from when they were due. Each
request names its work, so all balancers serve the same work. 90 % are GETs.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec

from bench.balancing.balancers import HOST, Balancer, balancers
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import free_ports, spawn, until_listening
from bench.lab.start_signal import StartSignal
from bench.report import table
from bench.stubs import stub_containers
from bench.stubs.stub_containers import WORKERS, Seen, StubPlan, Trouble
from edge.platform.child_process import ChildProcess

CONTAINERS = 10
MEAN_MS = 100.0
CAPACITY = CONTAINERS * WORKERS * 1000.0 / MEAN_MS
"Requests a second."
WARM_UP = 8.0
"Seconds in which everybody learns."
RESTART_EVERY, RESTART_LASTS = 6.0, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancePlan:
    """What is played."""

    rounds: int = 1
    seconds: float = 20.0
    warm_up: float = WARM_UP
    seed: int = 11
    scenarios: Sequence[str] = ("a70", "a100", "b", "c", "f1", "f2", "d")
    only: Sequence[str] = ()
    "Names of balancers; empty = all."


SCENARIOS = {
    "a70": ("all are well, 70 % load", 0.7),
    "a100": ("all are well, 100 % load", 1.0),
    "b": ("one is 10 x slower, 70 %", 0.7),
    "c": ("one fails at once, 70 %", 0.7),
    "f1": ("one is killed, 70 %", 0.7),
    "f2": ("one is unplugged, 70 %", 0.7),
    "d": ("one after the other restarts and is slow at first, 70 %", 0.7),
}


def troubles(scenario: str, counted_from: float, end: float) -> list[Trouble]:
    """What goes wrong, and when."""
    match scenario:
        case "b":
            return [Trouble(0, "slow", 0.0, end)]
        case "c":
            return [Trouble(0, "fails", 0.0, end)]
        case "f1":
            return [Trouble(0, "dead", counted_from, end)]
        case "f2":
            return [Trouble(0, "unplugged", counted_from, end)]
        case "d":
            times = [counted_from + RESTART_EVERY * n for n in range(int((end - counted_from) / RESTART_EVERY))]
            return [Trouble(n % CONTAINERS, "slow", at, at + RESTART_LASTS) for n, at in enumerate(times)]
        case _:
            return []


@dataclass(slots=True)
class Played:
    """One balancer in one scenario, once."""

    load_result: LoadResult
    seen: Seen

    @property
    def goodput(self) -> float:
        return len(self.load_result.completed) / self.load_result.offered

    @property
    def errors(self) -> float:
        return 1.0 - self.goodput

    def percentile(self, part: float) -> float:
        times = sorted(self.load_result.latencies_ms)
        return times[int(len(times) * part)] if times else float("inf")

    @property
    def bad_share(self) -> float:
        """Of the attempts that containers saw."""
        return self.seen.attempts[0] / max(1, sum(self.seen.attempts))

    @property
    def attempts(self) -> float:
        return sum(self.seen.attempts) / self.load_result.offered

    @property
    def twice(self) -> int:
        """POSTs that were executed more than once."""
        return sum(times > 1 for order, times in self.seen.executed.items() if "-post-" in order)


@dataclass(slots=True)
class BalanceReport:
    """By scenario and balancer."""

    plan: BalancePlan
    played: dict[str, dict[str, list[Played]]] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether styx executed nothing twice, and completed as much as the best peer, or nearly."""
        return all(
            not any(played.twice for played in runs)
            and median(p.goodput for p in runs) >= 0.99 * max(median(p.goodput for p in r) for r in rows.values())
            for rows in self.played.values()
            for name, runs in rows.items()
            if name.startswith("styx")
        )

    @property
    def raw(self) -> object:
        return {
            scenario: {name: [_figures(p) for p in runs] for name, runs in rows.items()}
            for scenario, rows in self.played.items()
        }

    def text(self) -> str:
        heading = (
            *("balancer", "goodput %", "min-max", "p50 ms", "p99 ms", "min-max"),
            *("errors %", "to bad %", "attempts", "POSTs twice"),
        )
        parts = []
        for scenario, rows in self.played.items():
            lines = [(name, *_cells(runs)) for name, runs in rows.items()]
            parts += [f"[{scenario}] {SCENARIOS[scenario][0]}", table(heading, lines), ""]
        return "\n".join(parts)


def _figures(p: Played) -> tuple[float, ...]:
    return (p.goodput, p.percentile(0.5), p.percentile(0.99), p.errors, p.bad_share, p.attempts, p.twice)


def _cells(runs: list[Played]) -> tuple[str, ...]:
    """Medians of all rounds; behind goodput and p99, which decide, the least and the most of them."""
    goodputs, _, p99s, *_ = columns = list(zip(*map(_figures, runs), strict=True))
    goodput, p50, p99, errors, bad, attempts, twice = map(median, columns)
    return (
        f"{goodput * 100:.2f}",
        f"{min(goodputs) * 100:.1f}-{max(goodputs) * 100:.1f}",
        f"{p50:.0f}",
        f"{p99:.0f}",
        f"{min(p99s):.0f}-{max(p99s):.0f}",
        f"{errors * 100:.2f}",
        f"{bad * 100:.2f}",
        f"{attempts:.2f}",
        f"{twice:.0f}",
    )


async def run(plan: BalancePlan) -> BalanceReport:
    """Play every scenario with every balancer, in turns. Raises BenchFailed."""
    found = {name: one for name, one in balancers().items() if not plan.only or name in plan.only}
    if not found:
        raise BenchFailed(f"there is no such balancer; there are {', '.join(balancers())}")
    if any(not name.startswith("styx") for name in found):
        need("haproxy", "nginx")
    report = BalanceReport(plan)
    for scenario in plan.scenarios:
        rows = report.played.setdefault(scenario, {name: [] for name in found})
        for number in range(plan.rounds):
            for name, balancer in found.items():
                print(f"balance: {scenario}, {name}", file=sys.stderr, flush=True)
                rows[name].append(await _play(plan, scenario, balancer, plan.seed + number))
    return report


async def _play(plan: BalancePlan, scenario: str, balancer: Balancer, seed: int) -> Played:
    warm_up = plan.warm_up
    with tempfile.TemporaryDirectory(prefix="styx-balance-") as name:
        directory = Path(name)
        ports = free_ports(CONTAINERS)
        start_signal = StartSignal(directory / "begins")
        begins = str(start_signal.file)
        stubs = StubPlan(ports, troubles(scenario, warm_up, warm_up + plan.seconds), warm_up, begins)
        async with containers(stubs, directory) as running, balancer(directory, ports) as server:
            schedule = Schedule(
                ports=[server.port],
                host=HOST,
                path="/",
                rate=SCENARIOS[scenario][1] * CAPACITY,
                seconds=warm_up + plan.seconds,
                seed=seed,
                name="balance",
                post_every=10,
                demand_ms=MEAN_MS,
                begins=begins,
                warm_up=warm_up,
            )
            load_result, _ = await asyncio.gather(run_schedule(schedule, directory), start_signal.send())
            seen = await running.seen()
        return Played(load_result, seen)


@dataclass(frozen=True, slots=True)
class Running:
    """Containers in a process of their own."""

    child: ChildProcess
    result: Path

    async def seen(self) -> Seen:
        """End them; what they saw. Raises BenchFailed."""
        await self.child.quit(10.0, signal.SIGTERM)
        try:
            return msgspec.json.decode(self.result.read_bytes(), type=Seen)
        except OSError as error:
            raise BenchFailed(f"the containers failed: {self.child.last_words()}") from error


@asynccontextmanager
async def containers(plan: StubPlan, directory: Path) -> AsyncIterator[Running]:
    """Run until the end of the block."""
    file, result = directory / "stubs.json", directory / "seen.json"
    file.write_bytes(msgspec.json.encode(plan))
    child = spawn(stub_containers.__name__, directory, file, result)
    try:
        # All have their ports by then: nobody else can be given one of them.
        await until_listening("the containers", child, plan.ports[-1])
        yield Running(child, result)
    finally:
        child.kill()
        await child.ended.wait()
