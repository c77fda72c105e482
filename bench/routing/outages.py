"""Outages of the sources of routes, and floods: known sites must be served as if nothing had happened.

Each scene (`outage_scenes`, `outage_floods`) has a styx of its own with two workers. An open loop of requests to 50
known hostnames goes on from before the calm period until the end; containers say whose they are, so a page of
another site is noticed. Beside it, hostnames that nobody requested before are requested once each.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

from bench.lab.availability_load import AvailabilityLoad, AvailabilityResult
from bench.lab.load_process import result_of, running_load
from bench.lab.programs import BenchFailed
from bench.lab.redis_server import PROGRAM, RedisServer
from bench.lab.servers import ROOT
from bench.operations.operate_scenes import Monitor
from bench.operations.operated_edge import operated
from bench.routing.outage_floods import FLOODS, address
from bench.routing.outage_report import Line, OutagesReport, line_of
from bench.routing.outage_scenes import SCENES, Scene
from bench.routing.outage_stage import COLD, CONTAINERS, DELAY, FRESHNESS, KNOWN, REFUSED, Sites, Stage, Which
from bench.stubs.core_api_stub import CoreApiStub
from bench.stubs.site_containers import ANY_SITE, site_containers
from edge.platform.child_process import ChildProcess

ALL_SCENES = {scene.name: scene for scene in (*SCENES, *FLOODS)}
WARM_UP = 3.0
"Seconds until all known hostnames are known to both workers, and all processes have started."
SETTLE = 2.0
"Seconds behind a scene that belong to it."
COLD_RATE, REFUSED_RATE = 5.0, 20.0
"First requests a second."
DIRECT_RATE = 100.0
"Requests a second to a container without styx: when they are slow, it is the machine."
COLD_NAMES = 1200
COLD_CLIENTS = 2000
"Addresses from which cold hostnames are requested, in turn: none has requested anything that does not exist."


@dataclass(frozen=True, kw_only=True, slots=True)
class OutagesPlan:
    """`seconds`: of each outage, more or less; `calm`: of the period before that it is compared with."""

    seconds: float = 30.0
    calm: float = 10.0
    rate: float = 200.0
    seed: int = 1
    scenes: Sequence[str] = tuple(ALL_SCENES)

    def shorter(self) -> Self:
        """To see that everything works; too short for latencies that mean much."""
        return replace(self, seconds=6.0, calm=4.0)


async def run(plan: OutagesPlan) -> OutagesReport:
    """Raises ContainerFailed."""
    report = OutagesReport(plan.seconds, plan.rate)
    for name in plan.scenes:
        print(f"outages: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="styx-outages-") as directory:
            try:
                report.lines.append(await _play(ALL_SCENES[name], plan, Path(directory)))
            except BenchFailed as error:
                report.broken.append(f"{name} could not be played: {error}")
    return report


async def _play(scene: Scene, plan: OutagesPlan, directory: Path) -> Line:
    async with AsyncExitStack() as until_the_end:
        stage = await _stage(scene, plan, directory, until_the_end)
        if scene.prepare is not None:
            await scene.prepare(stage)
        loads = {
            "known": AvailabilityLoad(
                port=stage.edge.port, hosts=KNOWN, rate=plan.rate, seconds=0.0, seed=plan.seed
            ),
            "direct": AvailabilityLoad(port=stage.direct_port, hosts=KNOWN, rate=DIRECT_RATE, seconds=0.0, seed=3),
            "cold": _first_requests(stage, COLD, scene.cold, COLD_RATE),
            "refused": _first_requests(stage, REFUSED, scene.refused, REFUSED_RATE),
        }
        period, load_results = await _under_load(
            scene, stage, plan, {n: load for n, load in loads.items() if load.hosts}
        )
    known = load_results["known"]
    if not known.completed:
        raise BenchFailed(f"{scene.name}: no request was completed: {[fault.kind for fault in known.faults[:5]]}")
    line = line_of(
        (scene.name, scene.what),
        known=known,
        direct=load_results["direct"],
        cold=load_results.get("cold", AvailabilityResult()),
        refused=load_results.get("refused", AvailabilityResult()),
        excuses=stage.monitor.excuses,
        kills=stage.kills,
        period=period,
    )
    line.facts, line.complaints = stage.facts, stage.monitor.complaints
    line.marks = [(at - period[1], what) for at, what in stage.monitor.marks]
    return line


@asynccontextmanager
async def _loads(loads: dict[str, AvailabilityLoad], directory: Path) -> AsyncIterator[dict[str, ChildProcess]]:
    async with AsyncExitStack() as stack:
        generators = {}
        for name, load in loads.items():
            (directory / name).mkdir(exist_ok=True)
            generators[name] = await stack.enter_async_context(running_load(load, directory / name))
        yield generators


async def _under_load(
    scene: Scene, stage: Stage, plan: OutagesPlan, loads: dict[str, AvailabilityLoad]
) -> tuple[tuple[float, float, float], dict[str, AvailabilityResult]]:
    """When it was calm, when the outage began and ended; what each load brought."""
    async with _loads(loads, stage.directory) as generators:
        await asyncio.sleep(WARM_UP)
        calm = monotonic()
        await asyncio.sleep(plan.calm)
        begin = monotonic()
        await scene.play(stage)
        await asyncio.sleep(SETTLE)
        end = monotonic()
        for generator in generators.values():
            generator.send_signal(signal.SIGUSR1)
    load_results = {name: result_of(generator, stage.directory / name) for name, generator in generators.items()}
    return (calm, begin, end), load_results


async def _stage(scene: Scene, plan: OutagesPlan, directory: Path, stack: AsyncExitStack) -> Stage:
    """Everything runs, until the stack is closed."""
    containers, ports = await stack.enter_async_context(site_containers(CONTAINERS, directory))
    (directory / "direct").mkdir()
    _, direct_ports = await stack.enter_async_context(site_containers({ANY_SITE: 1}, directory / "direct"))
    sites = Sites(ports)
    core = CoreApiStub(sites.known, freshness=FRESHNESS, delay=DELAY)
    await stack.enter_async_context(core.running())
    listed = [*KNOWN, *_names(COLD, scene.cold)]
    file = directory / "etc" / "routes.yaml"  # nothing else is in its directory
    file.parent.mkdir()
    file.write_text(sites.file(listed))
    settings: dict[str, Any] = {
        **scene.settings,
        "core_api": {"url": f"file:{file}" if scene.from_file else core.url},
    }
    engine_url = await _engine(directory, stack) if scene.with_engine else ""
    if engine_url:
        settings["redis"] = {"url": engine_url}
    edge = await stack.enter_async_context(operated("styx", directory, settings))
    return Stage(
        edge,
        Monitor(),
        plan.seconds,
        None,
        ROOT,
        stack,
        sites=sites,
        core=core,
        routes_file=file,
        listed=listed,
        directory=directory,
        containers=containers,
        direct_port=direct_ports[ANY_SITE][0],
        engine_url=engine_url,
    )


async def _engine(directory: Path, stack: AsyncExitStack) -> str:
    if PROGRAM is None:
        raise BenchFailed("redis-server is not installed")
    engine = RedisServer(directory)
    await engine.start()
    stack.push_async_callback(engine.stop)
    return engine.url


def _names(prefix: str, which: Which) -> list[str]:
    return [name for n in range(COLD_NAMES) if which(name := f"{prefix}{n}.test")]


def _first_requests(stage: Stage, prefix: str, which: Which, rate: float) -> AvailabilityLoad:
    """For hostnames in turn, each request on a connection of its own from another address."""
    return AvailabilityLoad(
        port=stage.edge.port,
        hosts=_names(prefix, which),
        rate=rate,
        seconds=0.0,
        seed=2,
        keep_alive=0,
        sources=[address(2, number) for number in range(COLD_CLIENTS)],
    )
