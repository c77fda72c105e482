"""The environment of the scenes of `routes`: styx between containers and a core API, and the plan of the bench."""

import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.balancing.balance import containers
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.servers import free_ports
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.stubs.core_api_stub import TROUBLES, CoreApiStub, Known
from bench.stubs.fixed_routes import backend_entry
from bench.stubs.stub_containers import StubPlan

MIB = 1 << 20
KNOWN = 200
"Hostnames of the normal traffic."
RATE = 300.0
"Its requests a second."
CONCURRENCY = 64
"Questions in flight at once, at most (core_api.concurrency)."
FLOOD = 5_000.0
FLOOD_CONNECTIONS = 100
FLOOD_ROUNDS = 3
P99_GOAL = 1.5
MEMORY_GOAL = 64 * MIB
RECOVERY_GOAL = 8.0
"Seconds after its return within which the core API gets lookups again; the pause of the circuit breaker is 6.25."
SCENES = ("first", "flood", "faults", "moved", "shared", "scale")
NORMAL = [f"known-{n}.test" for n in range(KNOWN)]

QUEUE = 10_000
"Requests that wait in a container: the scene is about where they go, not about full backends."
SETTINGS = """
timeouts: {{head: 10m}}
limits: {{connections_per_client: 0}}
forwarding: {{trusted: [{trusted}]}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutesPlan:
    """What is played, and how long."""

    seconds: float = 20.0
    "Of each flood."
    seed: int = 5
    scenes: Sequence[str] = SCENES
    first: int = 10_000
    "Requests at once, for"
    new: int = 2_000
    "hostnames."
    troubles: Sequence[str] = TROUBLES
    each_trouble: float = 6.0
    "Seconds of it."
    moved_rate: float = 500.0
    "Requests a second while a container moves."
    moves_at: float = 4.0
    moved_seconds: float = 8.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A styx before containers and a core API."""

    directory: Path
    core: CoreApiStub
    styx: StyxUnderTest

    async def play(self, name: str, hosts: list[str], rate: float, seconds: float, seed: int = 1) -> LoadResult:
        schedule = Schedule(
            ports=[self.styx.server.port],
            host="",
            hosts=hosts,
            path="/",
            rate=rate,
            seconds=seconds,
            seed=seed,
            name=name,
            post_every=10,
        )
        place = self.directory / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        return await run_schedule(schedule, place, may_be_fruitless=True)

    async def metric(self, name: str) -> float:
        url = f"http://127.0.0.1:{self.styx.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", await response.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0


def _known_for(ports: Sequence[int]) -> Callable[[str], Known | None]:
    """known-N and new-N exist, each a site of its own, on containers that they share."""
    backends = [backend_entry(f"c{n}", port, f"srv-{n}") for n, port in enumerate(ports)]

    def route_of(hostname: str) -> Known | None:
        site = hostname.partition(".")[0]
        return Known(site, backends) if site.startswith(("known-", "new-")) else None

    return route_of


@asynccontextmanager
async def running_stage(
    *, max_age: int = 60, behind_proxy: bool = False, core: int | None = None, more: str = ""
) -> AsyncIterator[Stage]:
    ports = free_ports(3)
    stub = CoreApiStub(_known_for(ports), freshness=f"max-age={max_age}, stale-while-revalidate=600", delay=0.003)
    with tempfile.TemporaryDirectory(prefix="styx-routes-") as name:
        directory = Path(name)
        async with containers(StubPlan(ports, [], queue=QUEUE), directory), stub.running():
            more += SETTINGS.format(trusted='"127.0.0.0/8"' if behind_proxy else "")
            async with styx_under_test(directory, stub.url, more, core=core) as styx:
                yield Stage(directory, stub, styx)


def statuses_text(statuses: dict[str, int]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in Counter(statuses).most_common(4)) or "nothing"
