"""Half a million hostnames of three backends in one worker: memory, the time to load them, and CPU per request.

The routes come from the file of an earlier edge; the core API confirms each when it is first used. 10,000 sites
of fifty hostnames. CPU per request is taken of two such edges at the same time on one core: by wrk over the first
10,000 hostnames, which are of 200 sites, from the one, and over one of them from the other, in turns. No head comes
twice within 10,000 requests, neither time, so that what styx remembers of heads that repeat does not count.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from bench.lab import peers
from bench.lab.procfs import Cores, memory, run_seconds
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.lab.wrk import Wrk
from bench.speed.speed import BROWSER
from bench.stubs.core_api_stub import GENERATION, CoreApiStub, Known
from edge.rules.routing.route_records import HEADER, record_of
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.saved_route import SavedRoute

ROUTES, HOSTNAMES_A_SITE = 500_000, 50
HOT = 10_000
ROUNDS, SECONDS = 6, 4.0
SETTINGS = 'routes: {{directory: "{directory}", capacity: 600000, max_age: 1h}}\n'

SPREAD = """
local requests, n, hosts = {}, 0, %d
init = function(args)
  for i = 0, 9999 do
    wrk.headers["Cookie"] = string.format("session=%%032x; theme=dark", i * 7919)
    local host = i %% hosts
    wrk.headers["Host"] = string.format("h%%d.site-%%d.test", host, math.floor(host / %d))
    requests[i + 1] = wrk.format()
  end
  math.randomseed(1)
  for i = #requests, 2, -1 do
    local other = math.random(i)
    requests[i], requests[other] = requests[other], requests[i]
  end
end
request = function()
  n = n %% #requests + 1
  return requests[n]
end
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured."""

    routes: int
    load_seconds: float
    "How much later an edge with such a file accepts than one without it."
    bytes_each: float
    bytes_each_after: float
    "When the 10,000 had been requested."
    file_bytes_each: float
    one_us: float
    many_us: float
    ratio: float
    "The median of the ratios of neighbouring rounds."


def name_of(number: int) -> str:
    """The hostname of this number."""
    return f"h{number}.site-{number // HOSTNAMES_A_SITE}.test"


def _records(ports: list[int]) -> Iterator[bytes]:
    now = time.time()
    for number in range(ROUTES):
        route = _route(number, ports)
        saved = SavedRoute(now + 3600.0, now + 7200.0, now + 86400.0, f'"{number:032x}"', route)
        yield record_of(route.hostname, now, saved).data


async def measure() -> Seen:
    """Raises BenchFailed."""
    cores = Cores.split()
    with cores.reserved(), tempfile.TemporaryDirectory(prefix="styx-many-") as name:
        return await _measured(Path(name), cores)


def _core_api(ports: list[int]) -> CoreApiStub:
    """Confirms what the file says."""

    def route_of(hostname: str) -> Known | None:
        route = _route(int(hostname[1:].partition(".")[0]), ports)
        return Known(route.site, [msgspec.to_builtins(backend) for backend in route.backends], route.generation)

    return CoreApiStub(route_of, freshness="max-age=3600, stale-while-revalidate=3600", delay=0.0)


def _route(number: int, ports: list[int]) -> RouteResponse:
    site = f"site-{number // HOSTNAMES_A_SITE}"
    backends = tuple(
        Backend(f"{site}-{n}", "127.0.0.1", port, f"srv-{(number // HOSTNAMES_A_SITE + n) % 500}")
        for n, port in enumerate(ports)
    )
    return RouteResponse(name_of(number), site, "live", GENERATION, backends)


async def _measured(directory: Path, cores: Cores) -> Seen:
    async with peers.backends(directory) as ports, _core_api(ports).running() as core_api:
        edges: dict[str, StyxUnderTest] = {}
        started: dict[str, tuple[float, int]] = {}
        async with AsyncExitStack() as stack:
            for name in ("empty", "full", "another"):
                folder = directory / name
                folder.mkdir()
                if name != "empty":
                    with (folder / "routes").open("wb") as file:
                        file.write(HEADER)
                        file.writelines(_records(ports))
                began = time.monotonic()
                edges[name] = await stack.enter_async_context(
                    styx_under_test(
                        folder, core_api.url, SETTINGS.format(directory=folder), core=cores.proxy, time_limit=60.0
                    )
                )
                started[name] = (time.monotonic() - began, memory(edges[name].server.pid).resident)
            one, many = await _cpu(directory, (edges["full"], edges["another"]), core_api)
            after = memory(edges["full"].server.pid).resident
        (without, least), (with_it, most) = started["empty"], started["full"]
        file_size = (directory / "full" / "routes").stat().st_size
    return Seen(
        routes=ROUTES,
        load_seconds=with_it - without,
        bytes_each=(most - least) / ROUTES,
        bytes_each_after=(after - least) / ROUTES,
        file_bytes_each=file_size / ROUTES,
        one_us=median(one),
        many_us=median(many),
        ratio=median(b / a for a, b in zip(one, many, strict=True)),
    )


async def _cpu(
    directory: Path, edges: tuple[StyxUnderTest, StyxUnderTest], core_api: CoreApiStub
) -> tuple[list[float], list[float]]:
    """Microseconds per request for one hostname and for many, round by round."""
    # Both by the same script, so that wrk itself costs the same.
    kinds = {}
    for kind, hostnames in (("one", 1), ("many", HOT)):
        folder = directory / f"wrk-{kind}"
        folder.mkdir()
        kinds[kind] = Wrk(folder, connections=64, headers=BROWSER, lua=SPREAD % (hostnames, HOSTNAMES_A_SITE))
        lookups = -1
        while lookups < core_api.lookups.total():  # each is looked up when it is first used: it may have changed
            lookups = core_api.lookups.total()
            for edge in edges:
                await kinds[kind].run(edge.server.url(peers.TINY_PATH), SECONDS)
    costs: dict[str, list[float]] = {"one": [], "many": []}
    for number in range(ROUNDS):
        pair = dict(zip(kinds, edges if number % 2 else reversed(edges), strict=True))
        before = {kind: run_seconds(edge.server.pid) for kind, edge in pair.items()}
        loads = await asyncio.gather(
            *(kinds[kind].run(edge.server.url(peers.TINY_PATH), SECONDS) for kind, edge in pair.items())
        )
        for (kind, edge), load in zip(pair.items(), loads, strict=True):
            costs[kind].append(1e6 * (run_seconds(edge.server.pid) - before[kind]) / load.requests)
    return costs["one"], costs["many"]
