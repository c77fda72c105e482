"""What the trouble of one server, or of one tenant, costs everybody else.

unplugged: 200 environments of 5 containers on 10 servers; one server takes no connections any more. How many
           requests wait for a connect that times out? Once more without telling styx who is on which server.
hang:      50 tenants of 5 containers at 60 % load, and one whose five containers take requests and never answer.
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

from bench.arrivals import Harvest, Schedule
from bench.balance import containers
from bench.beginning import Beginning
from bench.fixed_routes import backend_told, served_routes
from bench.goodput import play
from bench.servers import free_ports
from bench.stub_containers import StubPlan, Trouble
from bench.tables import table, verdict
from bench.tuned import tuned_styx

ENVIRONMENTS, SERVERS, EACH = 200, 10, 5
TENANTS, BUSY = 50, 0.6
DEMAND_MS = 600.0
WARM_UP = 8.0
_TIMED_OUT = re.compile(r'^styx_attempts_total\{result="connect_timeout"\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long each is measured."""

    seconds: float = 60.0
    seed: int = 7


@dataclass(slots=True)
class Report:
    """What came of it."""

    unplugged: dict[str, tuple[int, Harvest]] = field(default_factory=dict)
    "By what styx is told: connects that timed out, and the answers."
    hang: dict[str, Harvest] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return _p99(self.hang["one hangs"]) / _p99(self.hang["all are well"])

    @property
    def good(self) -> bool:
        fewer = self.unplugged["servers named"][0] < self.unplugged["servers unnamed"][0]
        worse = _errors(self.hang["one hangs"]) - _errors(self.hang["all are well"])
        return fewer and self.ratio <= 1.1 and worse <= 0

    @property
    def raw(self) -> object:
        return {
            "unplugged": {told: paid for told, (paid, _) in self.unplugged.items()},
            "hang": {told: (_p99(harvest), _errors(harvest)) for told, harvest in self.hang.items()},
        }

    def text(self) -> str:
        rows = [(told, str(paid), *_cells(harvest)) for told, (paid, harvest) in self.unplugged.items()]
        first = table(("one of ten servers unplugged", "waits", "answered", "errors", "p99 ms"), rows)
        rows = [(told, "", *_cells(harvest)) for told, harvest in self.hang.items()]
        second = table(("the other 50 tenants, while", "", "answered", "errors", "p99 ms"), rows)
        said = f"p99 x {self.ratio:.2f}, goal 1.10, and no error more: {verdict(met=self.good)}"
        return f"{first}\n\n{second}\n{said}\n"


def _p99(harvest: Harvest) -> float:
    times = sorted(harvest.latencies_ms)
    return times[int(len(times) * 0.99)] if times else float("inf")


def _errors(harvest: Harvest) -> int:
    return harvest.offered - len(harvest.answered)


def _cells(harvest: Harvest) -> tuple[str, str, str]:
    wrong = {status: times for status, times in harvest.statuses.items() if status != "200"}
    told = ", ".join(f"{times} x {status}" for status, times in Counter(wrong).most_common(3)) or "0"
    return str(len(harvest.answered)), told, f"{_p99(harvest):.0f}"


async def run(plan: Plan) -> Report:
    """Both. Raises BenchFailed."""
    report = Report()
    for told in ("servers named", "servers unnamed"):
        print(f"neighbours: unplugged, {told}", file=sys.stderr, flush=True)
        report.unplugged[told] = await _unplugged(plan, named=told == "servers named")
    for told in ("all are well", "one hangs"):
        print(f"neighbours: {told}", file=sys.stderr, flush=True)
        report.hang[told] = await _hang(plan, hangs=told == "one hangs")
    return report


async def _unplugged(plan: Plan, *, named: bool) -> tuple[int, Harvest]:
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


async def _hang(plan: Plan, *, hangs: bool) -> Harvest:
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


async def _played(plan: StubPlan, servers: Sequence[str], schedules: Sequence[Schedule]) -> tuple[int, Harvest]:
    """Connects that timed out, and what came of the first schedule. `live-sN` has those from N * EACH on."""
    told = [backend_told(f"c{n}", port, servers[n]) for n, port in enumerate(plan.ports)]

    def route_of(hostname: str) -> tuple[str, Sequence[dict[str, object]]]:
        site = hostname.removeprefix("live-").partition(".")[0]
        number = int(site[1:])
        return site, told[number * EACH : (number + 1) * EACH]

    with tempfile.TemporaryDirectory(prefix="styx-neighbours-") as name:
        directory = Path(name)
        beginning = Beginning(directory / "begins", len(schedules))
        begins = str(beginning.file)
        async with (
            containers(msgspec.structs.replace(plan, begins=begins), directory),
            served_routes(route_of) as url,
            tuned_styx(directory, url, "") as styx,
        ):
            playing = [msgspec.structs.replace(one, ports=[styx.server.port], begins=begins) for one in schedules]
            harvests, _ = await asyncio.gather(_all(playing, directory), beginning.tell())
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{styx.admin_port}/metrics") as response,
            ):
                found = _TIMED_OUT.search(await response.text())
    return int(float(found[1])) if found else 0, harvests[0]


async def _all(schedules: Sequence[Schedule], directory: Path) -> list[Harvest]:
    """At once, each in a process of its own."""
    places = [directory / schedule.name for schedule in schedules]
    for place in places:
        place.mkdir()
    return await asyncio.gather(
        *(
            play(schedule, place, fruitless=number > 0)
            for number, (schedule, place) in enumerate(zip(schedules, places, strict=True))
        )
    )
