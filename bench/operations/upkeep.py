"""The Reaper and the migration dragon lose no request: containers sleep, wake and move all the time, under load.

A pocket platform with two busy sites and many quiet ones, and styx before it, as `styx demo` runs them. An open
loop of GETs and POSTs goes on meanwhile; each POST has an order id, and the containers count executions.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.report import verdict
from edge.demo.demo import CONFIG, FRESHNESS, environ_of_styx
from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.platform.containers.container import Make
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform

BUSY = {"globex": 5, "acme": 3}
"Containers of the sites that are never idle."
KEPT = "timeouts: {keep_alive: 1h}\n"
"More of styx's configuration: the generator keeps idle connections, and would send on one that styx is closing."
QUEUE = 64
"Of each container: large, because refusals for want of room are not what is counted here."


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepPlan:
    """How long, how hard, and how restless the platform is."""

    seconds: float = 300.0
    seed: int = 5
    rate: float = 80.0
    "Requests per second for the busy sites."
    quiet_sites: int = 12
    quiet_rate: float = 2.0
    "Requests per second for all quiet sites together."
    idle_after: float = 3.0
    "Seconds after which the Reaper puts a container to sleep."
    pause: float = 0.3
    "Seconds between two moves."
    make: Make = "builtin"


@dataclass(slots=True)
class UpkeepReport:
    """What clients and containers saw."""

    plan: UpkeepPlan
    busy: LoadResult
    quiet: LoadResult
    executed: Counter[str]
    slept: int
    moved: int
    attempts: str
    "Of styx, by result."

    @property
    def statuses(self) -> Counter[str]:
        return Counter(self.busy.statuses) + Counter(self.quiet.statuses)

    @property
    def lost(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != "200")

    @property
    def twice(self) -> int:
        """POSTs that were executed more than once."""
        return sum(times > 1 for order, times in self.executed.items() if "-post-" in order)

    @property
    def unknown(self) -> int:
        """Answered 200, and yet executed by nobody."""
        return sum(order not in self.executed for load in (self.busy, self.quiet) for order in load.completed)

    @property
    def good(self) -> bool:
        is_restless = self.slept > 0 and self.moved > 0
        return is_restless and not (self.lost or self.twice or self.unknown)

    @property
    def raw(self) -> object:
        return {
            "statuses": self.statuses,
            "slept": self.slept,
            "moved": self.moved,
            "twice": self.twice,
            "p99_ms": {"busy": self.busy.p99_ms, "quiet": self.quiet.p99_ms},
        }

    def text(self) -> str:
        statuses = ", ".join(f"{count} x {status}" for status, count in self.statuses.most_common(8))
        failed = ", ".join([*self.busy.failed, *self.quiet.failed])
        requests = self.busy.offered + self.quiet.offered
        return (
            f"{self.plan.seconds:.0f} s, {requests} requests; {self.slept} times put to sleep, {self.moved} moves\n"
            f"responses: {statuses}\nattempts: {self.attempts}\n"
            f"p99: busy sites {self.busy.p99_ms:.0f} ms, quiet ones {self.quiet.p99_ms:.0f} ms, which often sleep\n"
            f"lost: {self.lost}{f' ({failed})' if failed else ''}; POSTs executed twice: {self.twice}; 200 but not "
            f"executed: {self.unknown}; goal 0, 0 and 0: {verdict(met=self.good)}\n"
        )


async def run(plan: UpkeepPlan) -> UpkeepReport:
    """Raises BenchFailed, ContainerFailed."""
    quiet = [f"quiet-{number}" for number in range(plan.quiet_sites)]
    spec = PlatformSpec(freshness=FRESHNESS, seed=plan.seed, make=plan.make)
    async with PocketPlatform(spec) as platform:
        sizes = {**BUSY, **dict.fromkeys(quiet, 1)}
        await asyncio.gather(
            *(platform.create_environment(site, containers=count, queue=QUEUE) for site, count in sizes.items())
        )
        async with StyxProcess(CONFIG + KEPT, environ_of_styx(platform, free_port())) as styx:
            platform.reaper.seconds, platform.dragon.seconds = plan.idle_after, plan.pause
            await platform.reaper.start()
            await platform.dragon.start()
            loads = await asyncio.gather(
                _load(styx.port, "busy", list(BUSY), plan.rate, plan),
                _load(styx.port, "quiet", quiet, plan.quiet_rate, plan),
            )
            await platform.dragon.stop()
            await platform.reaper.stop()
            attempts = await _attempts(styx)
        executed: Counter[str] = Counter()
        for site in sizes:
            for container in platform.containers(site):
                executed += container.executed
        return UpkeepReport(plan, *loads, executed, platform.reaper.acted, platform.dragon.acted, attempts)


async def _load(port: int, name: str, sites: Sequence[str], rate: float, plan: UpkeepPlan) -> LoadResult:
    schedule = Schedule(
        ports=[port],
        host="",
        hosts=[f"live-{site}.localhost" for site in sites],
        path="/",
        rate=rate,
        seconds=plan.seconds,
        seed=plan.seed,
        name=name,
        body=2000,
    )
    with tempfile.TemporaryDirectory(prefix="styx-upkeep-") as directory:
        return await run_schedule(schedule, Path(directory))


async def _attempts(styx: StyxProcess) -> str:
    """Attempts of styx by result, less those that are 0."""
    _, metrics = await styx.ask_admin("/metrics")
    found = []
    for line in metrics.splitlines():
        name, _, count = line.rpartition(" ")
        if name.startswith(prefix := 'styx_attempts_total{result="') and float(count):
            result = name.removeprefix(prefix).partition('"')[0]
            found.append(f"{float(count):.0f} x {result}")
    return ", ".join(found)
