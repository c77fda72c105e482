"""Does styx grow when everything around it changes for a long time? A fixed, moderate load, and churn of all kinds.

A real styx with two workers and listeners for HTTP, HTTPS and HTTP/2, before a pocket platform whose containers
speak TLS. Clients (`soak_load`, `restless_clients`) and the platform (`soak_churn`) never rest; the configuration
is reloaded every two minutes. Caches are small, so that they are full soon: what grows then is no cache.

Memory is compared within one process: the minute in which it had settled, and its last. A reload of hot settings
keeps the workers, so all processes live from the beginning to the end. `cold_reload` changes a cold setting half
way, which replaces the workers: then each generation is judged by its own life. Heap is counted in equal shares for
the processes that share a page (Pss_Anon). The rest of Pss are files, whose share depends on what else runs on the
machine.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from bench.lab.load_process import run_task
from bench.lab.programs import BenchFailed
from bench.lab.servers import free_ports
from bench.operations.operated_edge import Edge, operated
from bench.soak import soak_load
from bench.soak.restless_clients import SoakTargets
from bench.soak.soak_churn import PASSING, STEADY, Churn, create_steady, hostname
from bench.soak.soak_load import SoakLoad, SoakResult
from bench.soak.soak_report import SoakReport
from bench.soak.soak_samples import Sample, Sampler, take
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.route_api import CacheControl

IDLE = 10.0
"Seconds after which styx closes idle connections, of clients and to backends."
SECONDS_TO_END = 60.0
"Until the generator has ended after its last request."
QUIET = 60.0
"""Seconds until nothing may be left of the load, at most. Idle connections to the core API are the last: styx keeps
them for half a minute, as many as there were lookups at once."""
MORE_DESCRIPTORS = 8
"So many more than before are nothing."
COLD_FROM = 16.0
"Minutes that a soak lasts, at least, when its workers are replaced: both halves can be judged then."
WARM_UPS = (0.1, 0.3, 0.5, 0.7)
"Parts of the time in which a process settles at which the load has a peak."
FRESHNESS = CacheControl(max_age=5, unknown_max_age=5)
RETRIES = {"replay_buffer": "512KiB"}
"More than any upload: one that is refused half way by a full container can be sent to another."
ERROR = '"level":"error"'
"In an event log of styx: something that must not happen, whatever the platform and clients do."


@dataclass(frozen=True, kw_only=True, slots=True)
class SoakPlan:
    """How long, and how hard."""

    minutes: float = 20.0
    rate: float = 200.0
    "Steady requests a second."
    restless_rate: float = 25.0
    seed: int = 1
    every: float = 10.0
    "Seconds between two samples."
    settle: float = 240.0
    "Seconds until a process has settled: caches are full, allocators have what they need."
    window: float = 60.0
    "Seconds over which medians are taken."
    tolerance: float = 0.05
    "How much a heap may grow between the two windows, as a part of it."
    reload_every: float = 120.0
    cold_reload: bool = False
    "Whether workers are replaced half way."

    @property
    def seconds(self) -> float:
        return 60 * self.minutes

    @property
    def warm_ups(self) -> list[float]:
        """Moments of peaks: at the start, and when the workers are new."""
        births = [0.0, *([self.cold_at] if self.cold_reload else [])]
        return [birth + self.settle * share for birth in births for share in WARM_UPS]

    @property
    def cold_at(self) -> float:
        """Seconds after the start: the first reload of the second half."""
        return ceil(self.seconds / 2 / self.reload_every) * self.reload_every


async def run(plan: SoakPlan) -> SoakReport:
    """Raises BenchFailed, ContainerFailed."""
    if plan.seconds < plan.settle + 2 * plan.window:
        raise BenchFailed(f"needs {(plan.settle + 2 * plan.window) / 60:g} minutes to judge anything")
    if plan.cold_reload and plan.minutes < COLD_FROM:
        raise BenchFailed(f"needs {COLD_FROM:g} minutes to judge workers before and after a cold reload")
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="styx-soak-")))
        platform = await stack.enter_async_context(
            PocketPlatform(PlatformSpec(tls=True, freshness=FRESHNESS, seed=plan.seed))
        )
        await create_steady(platform)  # first: styx asks for its default certificate when it starts
        edge, targets = await stack.enter_async_context(_edge(platform, directory))
        churn = Churn(platform, edge, Random(plan.seed))
        quiet_before = await take(edge, time.monotonic())
        sampler = Sampler(edge, plan.every, time.monotonic())
        load = await _play(plan, directory, targets, churn, sampler)
        quiet_after = await _when_quiet(edge, quiet_before)
        said = (directory / "styx.out").read_text().splitlines()
        return SoakReport(
            minutes=plan.minutes,
            tolerance=plan.tolerance,
            settle=plan.settle,
            window=plan.window,
            load=load,
            samples=sampler.samples,
            quiet_before=quiet_before,
            quiet_after=quiet_after,
            acts=dict(churn.acts),
            complaints=[*churn.complaints, *(line for line in said if ERROR in line or "Traceback" in line)],
        )


async def _play(
    plan: SoakPlan, directory: Path, targets: SoakTargets, churn: Churn, sampler: Sampler
) -> SoakResult:
    """Load and churn, until the time is over."""
    load = SoakLoad(
        targets=targets,
        rate=plan.rate,
        restless_rate=plan.restless_rate,
        seconds=plan.seconds,
        seed=plan.seed,
        warm_ups=plan.warm_ups,
    )
    beside = [asyncio.create_task(task) for task in (churn.run(), sampler.run(), _reload(plan, churn))]
    generator = asyncio.create_task(
        run_task(
            soak_load.__name__, load, SoakResult, directory, time_limit=plan.seconds + SECONDS_TO_END, name="load"
        )
    )
    try:
        await asyncio.wait([generator, *beside], return_when=asyncio.FIRST_COMPLETED)
        for task in beside:
            if task.done():
                task.result()  # raises what it failed with
        return await generator
    finally:
        for running in (generator, *beside):
            running.cancel()
        await asyncio.gather(generator, *beside, return_exceptions=True)
        await churn.stop()


async def _reload(plan: SoakPlan, churn: Churn) -> None:
    """Hot settings again and again; a cold one half way, if the plan says so."""
    began = time.monotonic()
    number, is_cold = 0, False
    while True:
        number += 1
        await asyncio.sleep(max(0.0, began + number * plan.reload_every - time.monotonic()))
        churn.rotate_log()
        more: dict[str, Any] = {}
        if plan.cold_reload and not is_cold and number * plan.reload_every >= plan.cold_at:
            is_cold = True
            more["forwarding"] = {"via_name": "styx-bench"}
        await churn.reload(retries={**RETRIES, "attempts": 5 + number % 2}, **more)


async def _when_quiet(edge: Edge, before: Sample) -> Sample:
    """The first sample with no more connections than before the load, or one when that took too long."""
    began = time.monotonic()
    names = ("styx_client_connections", "styx_backend_connections", "styx_requests_in_flight")
    while True:
        sample = await take(edge, began)
        quiet = sample.metrics and all(sample.metrics[name] <= before.metrics[name] for name in names)
        if (quiet and sample.descriptors <= before.descriptors + MORE_DESCRIPTORS) or sample.at > QUIET:
            return sample
        await asyncio.sleep(0.5)


@asynccontextmanager
async def _edge(platform: PocketPlatform, directory: Path) -> AsyncIterator[tuple[Edge, SoakTargets]]:
    """A styx before this platform, ready."""
    assert platform.pki is not None
    https, h2 = free_ports(2)
    certificate, key = platform.pki.edge
    steady = [hostname(site) for site in STEADY]
    settings: dict[str, Any] = {
        "workers": 2,
        "edge_name": "bench",
        "core_api": {"url": platform.core_api_url},
        "backends": {
            "tls": {"ca": str(platform.pki.container_ca), "certificate": str(certificate), "key": str(key)}
        },
        "tls": {"default": steady[0], "max_age": "60s", "ready": 16, "capacity": 64},
        "routes": {
            "directory": str(directory / "routes"),
            "capacity": 64,
            "ready": 16,
            "unknown_host_capacity": 64,
        },
        "demerits": {"idle_after": "20s", "forget_after": "40s", "capacity": 500},
        "timeouts": {
            "keep_alive": f"{IDLE}s",
            "head": "5s",
            "body": "5s",
            "write_stall": "10s",
            "connect": "2s",  # all containers are one process: when it is held up, they do not all accept in time
            "connect_alone": "5s",
            "connect_total": "10s",
        },
        "retries": RETRIES,
        "pool": {"idle_timeout": f"{IDLE}s"},
        "drain": {"delay": "0s", "timeout": "5s"},
        "access_log": {"path": str(directory / "access.log")},
        "log": {"level": "warning", "format": "json"},
    }
    others = ({"address": f"127.0.0.1:{https}", "tls": True}, {"address": f"127.0.0.1:{h2}", "http2": True})
    (directory / "routes").mkdir()
    async with operated("styx", directory, settings, more_listeners=others) as edge:
        targets = SoakTargets(
            http=edge.port,
            https=https,
            h2=h2,
            ca=str(platform.pki.site_ca),
            steady=steady,
            passing=[hostname(site) for site in PASSING],
        )
        yield edge, targets
        with suppress(FileNotFoundError):
            (directory / "access.log").unlink()
