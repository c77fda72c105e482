"""Goodput of overloaded containers through styx and directly, and whether any order is executed twice.

direct:   arrivals ──► container 1, 2, 3 in turn     what they can deliver under this load
styx:     arrivals ──► styx ──► containers           the same arrivals

Three real containers (nginx before php-fpm) of 4 workers and 4 queue slots, 50 ms for every request, are offered
twice what they can do. Half the requests must be turned away; which half is left to styx.
"""

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import msgspec

from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.servers import Server, styx
from bench.report import ratios, table, verdict
from edge.platform.containers.nginx_container import Binaries
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform

SITE = "goodput"
HOST = f"live-{SITE}.localhost"
CONTAINERS, WORKERS, QUEUE = 3, 4, 4
SCRIPT_MS = 50
CAPACITY = CONTAINERS * WORKERS * 1000 / SCRIPT_MS
"Requests a second, if php-fpm itself cost nothing."
OVERLOAD = 2.0
GOAL = 0.95
ALLOWED = frozenset({"200", "503 all_refused"})
FLUSH = 0.2
"Seconds after which lines of the access log are written."


@dataclass(frozen=True, kw_only=True, slots=True)
class GoodputPlan:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 15.0


@dataclass(slots=True)
class GoodputReport:
    """Rounds directly and through styx, and what the containers and the access log say of all of them."""

    seconds: float
    direct: list[LoadResult] = field(default_factory=list)
    through: list[LoadResult] = field(default_factory=list)
    executed: Counter[str] = field(default_factory=Counter)
    "How often each order was executed, in all containers together."
    attempts: float = 0.0
    "Per request through styx."

    @property
    def ratios(self) -> list[float]:
        """Goodput through styx as a part of the direct one, round by round."""
        ours, theirs = self.through, self.direct
        return ratios((len(one.completed) for one in ours), (len(one.completed) for one in theirs))

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def statuses(self) -> Counter[str]:
        """All that clients of styx saw."""
        return sum((Counter(load_result.statuses) for load_result in self.through), Counter())

    @property
    def forbidden(self) -> dict[str, int]:
        """What they should not have seen."""
        return {status: times for status, times in self.statuses.items() if status not in ALLOWED}

    @property
    def twice(self) -> list[str]:
        """Orders executed more than once."""
        return [order for order, times in self.executed.items() if times > 1]

    @property
    def astray(self) -> set[str]:
        """Orders completed with 200 but not executed, or executed but not completed with 200."""
        completed = {order for load_result in (*self.direct, *self.through) for order in load_result.completed}
        return completed ^ self.executed.keys()

    @property
    def good(self) -> bool:
        return self.ratio >= GOAL and not self.forbidden and not self.twice and not self.astray

    def text(self) -> str:
        heading = ("goodput", "offered/s", "200/s", "p50 ms", "p99 ms", "sent late, p99 ms")
        rows = [self._row("direct", self.direct), self._row("styx", self.through)]
        spread = f"{min(self.ratios):.1%}-{max(self.ratios):.1%}"
        facts = [
            (
                "styx / direct, median",
                f"{self.ratio:.1%} ({spread})",
                f">= {GOAL:.0%}",
                verdict(met=self.ratio >= GOAL),
            ),
            ("responses", _counted(self.statuses), "200, 503 all_refused", verdict(met=not self.forbidden)),
            (
                "orders executed twice",
                f"{len(self.twice)} of {len(self.executed)}",
                "0",
                verdict(met=not self.twice),
            ),
            ("200 xor executed", str(len(self.astray)), "0", verdict(met=not self.astray)),
            ("attempts per request", f"{self.attempts:.2f}", "", ""),
        ]
        return "\n\n".join((table(heading, rows), table(("", "seen", "goal", ""), facts)))

    def _row(self, name: str, rounds: list[LoadResult]) -> tuple[str, ...]:
        return (
            name,
            f"{median(load_result.offered for load_result in rounds) / self.seconds:.0f}",
            f"{median(len(load_result.completed) for load_result in rounds) / self.seconds:.1f}",
            f"{median(median(load_result.latencies_ms) for load_result in rounds):.0f}",
            f"{median(p99(load_result.latencies_ms) for load_result in rounds):.0f}",
            f"{median(p99(load_result.late_ms) for load_result in rounds):.1f}",
        )


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


async def run(plan: GoodputPlan) -> GoodputReport:
    """Raises BenchFailed, ContainerFailed."""
    Binaries.find()
    wishes: dict[str, Any] = {"hostnames": [HOST], "workers": WORKERS, "queue": QUEUE, "service_time": 0}
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        directory = Path(name)
        async with PocketPlatform(PlatformSpec(make="nginx")) as platform:
            await platform.create_environment(SITE, containers=CONTAINERS, **wishes)
            async with styx(directory, platform.core_api_url, flush_interval=f"{FLUSH:g}s") as server:
                report = await _rounds(plan, platform, server, directory)
                await asyncio.sleep(2 * FLUSH)
                report.attempts = _attempts(server.log)
    return report


async def _rounds(plan: GoodputPlan, platform: PocketPlatform, server: Server, directory: Path) -> GoodputReport:
    containers = platform.containers(SITE)
    ports = {"direct": [container.port for container in containers], "styx": [server.port]}
    numbers = count()

    async def measure(way: str, seconds: float, seed: int) -> LoadResult:
        schedule = Schedule(
            ports=ports[way],
            host=HOST,
            path=f"/sleep/{SCRIPT_MS}",
            rate=OVERLOAD * CAPACITY,
            seconds=seconds,
            seed=seed,
            name=f"{way}-{next(numbers)}",
        )
        return await run_schedule(schedule, directory)

    for way in ports:
        await measure(way, 1.0, 0)
    warmed_up = _executed(platform)
    report = GoodputReport(plan.seconds)
    for number in range(1, plan.rounds + 1):
        # The same seed gives both the same arrivals.
        for way in ("direct", "styx") if number % 2 else ("styx", "direct"):
            load_result = await measure(way, plan.seconds, number)
            (report.direct if way == "direct" else report.through).append(load_result)
    report.executed = _executed(platform) - warmed_up
    return report


def _executed(platform: PocketPlatform) -> Counter[str]:
    return sum((container.executed for container in platform.containers(SITE)), Counter())


class _Line(msgspec.Struct):
    """What is of interest in a line of the access log."""

    attempts: list[msgspec.Raw]


def _attempts(log: Path) -> float:
    """Mean number per request."""
    lines = [msgspec.json.decode(line, type=_Line) for line in log.read_bytes().splitlines()]
    return sum(len(line.attempts) for line in lines) / len(lines)


def _counted(statuses: Counter[str]) -> str:
    return ", ".join(f"{times} x {status}" for status, times in statuses.most_common())
