"""The effect of one failed server, or of one hanging tenant, on the requests of all others.

unplugged: 200 environments of 5 containers on 10 servers; one server takes no connections any more. How many
           requests wait for a connect that times out? Once more without telling styx who is on which server.
hang:      50 tenants of 5 containers at 60 % load, and one whose five containers take requests and never respond.
           What do the others notice? Before that the same without it.
"""

import asyncio
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import msgspec

from bench.balancing.balance import containers
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.servers import free_ports
from bench.lab.start_signal import StartSignal
from bench.lab.styx_under_test import styx_under_test
from bench.report import table, verdict
from bench.stubs.fixed_routes import backend_entry, served_routes
from bench.stubs.stub_containers import StubPlan, Trouble

ENVIRONMENTS, SERVERS, EACH = 200, 10, 5
TENANTS, BUSY = 50, 0.6
DEMAND_MS = 600.0
WARM_UP = 8.0
_TIMED_OUT = re.compile(r'^styx_attempts_total\{result="connect_timeout"\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighboursPlan:
    """How long each is measured."""

    seconds: float = 60.0
    seed: int = 7


@dataclass(slots=True)
class NeighboursReport:
    """What came of it."""

    unplugged: dict[str, tuple[int, LoadResult]] = field(default_factory=dict)
    "By what the routes name: connects that timed out, and the responses."
    hang: dict[str, LoadResult] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.hang["one hangs"].p99_ms / self.hang["all are healthy"].p99_ms

    @property
    def good(self) -> bool:
        fewer = self.unplugged["servers named"][0] < self.unplugged["servers unnamed"][0]
        worse = _errors(self.hang["one hangs"]) - _errors(self.hang["all are healthy"])
        return fewer and self.ratio <= 1.1 and worse <= 0

    @property
    def raw(self) -> object:
        return {
            "unplugged": {variant: paid for variant, (paid, _) in self.unplugged.items()},
            "hang": {
                variant: (load_result.p99_ms, _errors(load_result)) for variant, load_result in self.hang.items()
            },
        }

    def text(self) -> str:
        rows = [
            (variant, str(paid), *_cells(load_result)) for variant, (paid, load_result) in self.unplugged.items()
        ]
        first = table(("one of ten servers unplugged", "waits", "completed", "errors", "p99 ms"), rows)
        rows = [(variant, "", *_cells(load_result)) for variant, load_result in self.hang.items()]
        second = table(("the other 50 tenants, while", "", "completed", "errors", "p99 ms"), rows)
        summary = f"p99 x {self.ratio:.2f}, goal 1.10, and no error more: {verdict(met=self.good)}"
        return f"{first}\n\n{second}\n{summary}\n"


def _errors(load_result: LoadResult) -> int:
    return load_result.offered - len(load_result.completed)


def _cells(load_result: LoadResult) -> tuple[str, str, str]:
    wrong = {status: times for status, times in load_result.statuses.items() if status != "200"}
    variant = ", ".join(f"{times} x {status}" for status, times in Counter(wrong).most_common(3)) or "0"
    return str(len(load_result.completed)), variant, f"{load_result.p99_ms:.0f}"


async def run(plan: NeighboursPlan) -> NeighboursReport:
    """Both. Raises BenchFailed."""
    report = NeighboursReport()
    for variant in ("servers named", "servers unnamed"):
        print(f"neighbours: unplugged, {variant}", file=sys.stderr, flush=True)
        report.unplugged[variant] = await _unplugged(plan, named=variant == "servers named")
    for variant in ("all are healthy", "one hangs"):
        print(f"neighbours: {variant}", file=sys.stderr, flush=True)
        report.hang[variant] = await _hang(plan, hangs=variant == "one hangs")
    return report


async def _unplugged(plan: NeighboursPlan, *, named: bool) -> tuple[int, LoadResult]:
    rand = Random(plan.seed)
    ports = free_ports(ENVIRONMENTS * EACH)
    servers = [rand.randrange(SERVERS) for _ in ports]
    names = [f"srv-{server}" if named else "" for server in servers]
    end = WARM_UP + plan.seconds
    troubles = [Trouble(n, "unplugged", WARM_UP, end + 30.0) for n, server in enumerate(servers) if server == 0]
    hosts = [f"live-s{n}.localhost" for n in range(ENVIRONMENTS)]
    schedule = Schedule(
        ports=[],
        host="",
        hosts=hosts,
        path="/",
        rate=300.0,
        seconds=WARM_UP + min(plan.seconds, 20.0),
        seed=plan.seed,
        name="unplugged",
        post_every=10,
        demand_ms=20.0,
        warm_up=WARM_UP,
    )
    return await _played(StubPlan(ports, troubles), names, [schedule])


async def _hang(plan: NeighboursPlan, *, hangs: bool) -> LoadResult:
    ports = free_ports((TENANTS + 1) * EACH)
    troubles = [Trouble(n, "hangs", WARM_UP, WARM_UP + plan.seconds) for n in range(EACH)] if hangs else []
    hosts = [f"live-s{n}.localhost" for n in range(TENANTS + 1)]

    def schedule(name: str, hosts: list[str], rate: float) -> Schedule:
        return Schedule(
            ports=[],
            host="",
            hosts=hosts,
            path="/",
            rate=rate,
            seconds=WARM_UP + plan.seconds,
            seed=plan.seed,
            name=name,
            post_every=10,
            demand_ms=DEMAND_MS,
            warm_up=WARM_UP,
        )

    each = EACH * 4 * 1000.0 / DEMAND_MS * BUSY
    both = [schedule("others", hosts[1:], each * TENANTS), schedule("hanging", hosts[:1], each)]
    _, others = await _played(StubPlan(ports, troubles), ["srv"] * len(ports), both)
    return others


async def _played(plan: StubPlan, servers: Sequence[str], schedules: Sequence[Schedule]) -> tuple[int, LoadResult]:
    """Connects that timed out, and what came of the first schedule. `live-sN` has those from N * EACH on."""
    variant = [backend_entry(f"c{n}", port, servers[n]) for n, port in enumerate(plan.ports)]

    def route_of(hostname: str) -> tuple[str, Sequence[dict[str, object]]]:
        site = hostname.removeprefix("live-").partition(".")[0]
        number = int(site[1:])
        return site, variant[number * EACH : (number + 1) * EACH]

    with tempfile.TemporaryDirectory(prefix="styx-neighbours-") as name:
        directory = Path(name)
        start_signal = StartSignal(directory / "begins", len(schedules))
        begins = str(start_signal.file)
        async with (
            containers(msgspec.structs.replace(plan, begins=begins), directory),
            served_routes(route_of) as url,
            styx_under_test(directory, url, "") as styx,
        ):
            playing = [msgspec.structs.replace(one, ports=[styx.server.port], begins=begins) for one in schedules]
            load_results, _ = await asyncio.gather(_all(playing, directory), start_signal.send())
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{styx.admin_port}/metrics") as response,
            ):
                found = _TIMED_OUT.search(await response.text())
    return int(float(found[1])) if found else 0, load_results[0]


async def _all(schedules: Sequence[Schedule], directory: Path) -> list[LoadResult]:
    """At once, each in a process of its own."""
    places = [directory / schedule.name for schedule in schedules]
    for place in places:
        place.mkdir()
    return await asyncio.gather(
        *(
            run_schedule(schedule, place, may_be_fruitless=number > 0)
            for number, (schedule, place) in enumerate(zip(schedules, places, strict=True))
        )
    )
