"""CPU per proxied request of this version of styx beside that of others, all at the same time.

    wrk, wrk, wrk ──► this, that, older styx ──► three backends
        core 1               core 0                 core 1

They share one core, so what else goes on in the machine disturbs all of them alike: the ratios of one round differ
by some 1 %, where versions measured one after the other differ by 20. Each gets as many requests as it can take;
the scheduler gives all the same time. The kernel counts CPU time in nanoseconds.
"""

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.lab import peers
from bench.lab.procfs import Cores, run_seconds
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server, styx
from bench.lab.wrk import Wrk
from bench.report import ratios, table, verdict
from bench.speed.speed import BODIES, BROWSER, Body
from bench.stubs.fixed_routes import fixed_routes

THIS = "this"
MOST = 1.05
"CPU of this version, as a multiple of each other one's."
WARM_UP = 1.0
CONNECTIONS = 32
"To each."


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionsPlan:
    """How much is measured, and against what."""

    against: tuple[Path, ...]
    "Checkouts of other versions."
    this: Path | None = None
    "A checkout of this version; None = the one that the bench is part of."
    bodies: tuple[str, ...] = tuple(body.name for body in BODIES)
    rounds: int = 6
    seconds: float = 5.0


@dataclass(slots=True)
class VersionsReport:
    """By body, then by version: microseconds per request in each round."""

    costs: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, body: Body, version: str, cost_us: float) -> None:
        self.costs.setdefault(body.name, {}).setdefault(version, []).append(cost_us)

    def ratios(self, body: str, other: str) -> list[float]:
        """This version's cost as a multiple of the other's, round by round."""
        return ratios(self.costs[body][THIS], self.costs[body][other])

    @property
    def good(self) -> bool:
        return all(
            median(self.ratios(body, other)) <= MOST
            for body, costs in self.costs.items()
            for other in costs
            if other != THIS
        )

    def text(self) -> str:
        parts = ["CPU per proxied request, all versions at the same time on one core"]
        for body, costs in self.costs.items():
            rows = [(THIS, f"{median(costs[THIS]):.1f}", "", "", "", "")]
            for other in costs:
                if other != THIS:
                    of_rounds = self.ratios(body, other)
                    cells = f"{median(of_rounds):.3f}", f"{min(of_rounds):.3f}-{max(of_rounds):.3f}", f"<= {MOST}"
                    rows.append(
                        (other, f"{median(costs[other]):.1f}", *cells, verdict(met=median(of_rounds) <= MOST))
                    )
            parts += ["", table((body, "µs/request", "this / it", "min-max", "goal", ""), rows)]
        return "\n".join(parts)


async def run(plan: VersionsPlan) -> VersionsReport:
    """Raises BenchFailed."""
    need("nginx", "taskset", "wrk")
    if not plan.against:
        raise BenchFailed("against what? Name a checkout of another version: --against ../styx-before")
    cores = Cores.split()
    with cores.reserved(), tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        return await _run(plan, Path(name), cores)


async def _run(plan: VersionsPlan, directory: Path, cores: Cores) -> VersionsReport:
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(peers.backends(directory))
        url = await stack.enter_async_context(fixed_routes("bench", ports))
        loaded: dict[str, tuple[Server, Wrk]] = {}
        for name, checkout in _named(plan).items():
            own = directory / name
            own.mkdir()
            server = await stack.enter_async_context(styx(own, url, core=cores.proxy, checkout=checkout))
            loaded[name] = server, Wrk(own, connections=CONNECTIONS, headers=BROWSER)
        report = VersionsReport()
        for body in BODIES:
            if body.name not in plan.bodies:
                continue
            await _round(loaded, body, WARM_UP)
            for _ in range(plan.rounds):
                for name, cost in (await _round(loaded, body, plan.seconds)).items():
                    report.add(body, name, cost)
        return report


def _named(plan: VersionsPlan) -> dict[str, Path | None]:
    """This version, and the others by the names of their folders."""
    named: dict[str, Path | None] = {THIS: plan.this}
    for checkout in plan.against:
        if not (checkout / "edge" / "__main__.py").exists():
            raise BenchFailed(f"{checkout} is no checkout of styx")
        name = checkout.resolve().name
        named[name if name not in named else f"{name}-{len(named)}"] = checkout.resolve()
    return named


async def _round(loaded: dict[str, tuple[Server, Wrk]], body: Body, seconds: float) -> dict[str, float]:
    """Microseconds of CPU per request, of each."""
    before = {name: run_seconds(server.pid) for name, (server, _) in loaded.items()}
    loads = await asyncio.gather(
        *(wrk.run(server.url(body.path), seconds, heads=body.heads) for server, wrk in loaded.values())
    )
    costs: dict[str, float] = {}
    for (name, (server, _)), load in zip(loaded.items(), loads, strict=True):
        costs[name] = 1e6 * (run_seconds(server.pid) - before[name]) / load.requests
        os.truncate(server.log, 0)  # a run makes gigabytes; it is appended to
    return costs
