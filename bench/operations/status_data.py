"""What an operator's looks at an edge cost: a scrape of /metrics, and the data of the status page.

Two workers, 10,000 environments, 1,000 requests/s from an open loop. Scrapes are timed from the request to the last
byte, without load and under it. CPU is that of the admin process, in windows of the same load with and without a
subscriber of `/v1/status/stream`. The page's first paint is that of Chromium, under the load, with an empty cache.
"""

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import msgspec

from bench.lab import peers
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.procfs import family, run_seconds
from bench.lab.programs import BenchFailed
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.operations.first_paint import Paint, first_paints
from bench.report import verdict
from bench.stubs.fixed_routes import backend_entry, served_routes

SCRAPE_GOAL, PAGE_GOAL, PAINT_GOAL = 0.050, 0.01, 1000.0
"Seconds of a scrape, part of a core that the page's data takes, and milliseconds until the page shows it."
VISITS = 7
PAUSE = 0.2
"Seconds between two scrapes."
ADMIN = re.compile(rb"styx: admin")
SETTINGS = "routes: {ready: 20000}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusPlan:
    """How much is served meanwhile. `seconds`: of each window."""

    seconds: float = 15.0
    seed: int = 9
    environments: int = 10_000
    rate: float = 1_000.0


class _Total(msgspec.Struct):
    total: int


class _Status(msgspec.Struct):
    environments: _Total


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Scrapes one after the other."""

    times: list[float]
    "Seconds of each."
    cpu: float
    "Seconds of the admin process for each, which a busy machine does not change much."

    @property
    def met(self) -> bool:
        return median(self.times) <= SCRAPE_GOAL


@dataclass(slots=True)
class StatusReport:
    """What the looks cost."""

    plan: StatusPlan
    environments: int
    "Those that the page counts, after a minute of load on all hostnames at random."
    idle: "Scrapes"
    loaded: "Scrapes"
    alone: float
    "Part of a core that the admin process takes under load, with nobody who looks."
    watched: float
    snapshots: int
    paints: list[Paint]
    load: LoadResult

    @property
    def page(self) -> float:
        """Part of a core that the page's data takes in the admin process."""
        return max(0.0, self.watched - self.alone)

    @property
    def good(self) -> bool:
        return self.idle.met and self.loaded.met and self.page <= PAGE_GOAL and self.quickly_shown

    @property
    def quickly_shown(self) -> bool:
        return not self.paints or median(paint.shown for paint in self.paints) <= PAINT_GOAL

    @property
    def raw(self) -> object:
        scrapes = {"idle": self.idle, "loaded": self.loaded}
        return {
            **scrapes,
            "alone": self.alone,
            "watched": self.watched,
            "snapshots": self.snapshots,
            "paints": self.paints,
        }

    def text(self) -> str:
        lines = [
            f"{self.environments} environments, {self.plan.rate:.0f} requests/s "
            f"(p99 {self.load.p99_ms:.0f} ms, {self.load.statuses})"
        ]
        for name, scrapes in (("without load", self.idle), ("under load", self.loaded)):
            typical, worst = median(scrapes.times) * 1e3, max(scrapes.times) * 1e3
            lines.append(
                f"/metrics {name}: median {typical:.1f} ms, worst of {len(scrapes.times)} {worst:.1f} ms, CPU "
                f"{scrapes.cpu * 1e3:.1f} ms; goal {SCRAPE_GOAL * 1e3:.0f} ms: {verdict(met=scrapes.met)}"
            )
        lines.append(
            f"admin process: {self.alone:.2%} of a core, with the page open {self.watched:.2%} "
            f"({self.snapshots} snapshots): the page's data {self.page:.2%}; goal {PAGE_GOAL:.0%}: "
            f"{verdict(met=self.page <= PAGE_GOAL)}"
        )
        return "\n".join([*lines, self._painted()]) + "\n"

    def _painted(self) -> str:
        if not self.paints:
            return "first paint: not measured, chromium is not installed"
        painted, shown = (median(getattr(paint, name) for paint in self.paints) for name in ("painted", "shown"))
        return (
            f"first paint of the page under load: {painted:.0f} ms, with data {shown:.0f} ms, worst of "
            f"{len(self.paints)} {max(paint.shown for paint in self.paints):.0f} ms ({self.paints[0].files} files, "
            f"{self.paints[0].bytes >> 10} KiB); goal {PAINT_GOAL:.0f} ms: {verdict(met=self.quickly_shown)}"
        )


async def run(plan: StatusPlan) -> StatusReport:
    """Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="styx-status-") as name:
        directory = Path(name)
        async with peers.backends(directory) as ports:
            entries = [backend_entry(f"b{n}", port, f"srv-{n}") for n, port in enumerate(ports)]
            async with (
                served_routes(lambda hostname: (hostname.partition(".")[0], entries)) as core_api,
                styx_under_test(directory, core_api, SETTINGS, workers=2) as edge,
                aiohttp.ClientSession(f"http://127.0.0.1:{edge.admin_port}") as session,
            ):
                return await _measured(plan, directory, edge, session)


async def _measured(
    plan: StatusPlan, directory: Path, edge: StyxUnderTest, session: aiohttp.ClientSession
) -> StatusReport:
    admin = _admin_of(edge.server.pid)
    await _load(plan, directory, edge, 4 * plan.seconds)  # until nearly all hostnames are known
    idle = await _scrapes(session, admin, plan.seconds / 3)
    load = asyncio.ensure_future(_load(plan, directory, edge, 5 * plan.seconds))
    await asyncio.sleep(plan.seconds / 2)  # the generator has begun by then
    alone = await _cpu(admin, plan.seconds)
    async with _subscribed(session) as received:
        watched = await _cpu(admin, plan.seconds)
    loaded = await _scrapes(session, admin, plan.seconds)
    paints = await first_paints(f"http://127.0.0.1:{edge.admin_port}/", VISITS)
    async with session.get("/v1/status") as response:
        status = msgspec.json.decode(await response.read(), type=_Status)
    total = status.environments.total
    return StatusReport(plan, total, idle, loaded, alone, watched, len(received), paints, await load)


async def _load(plan: StatusPlan, directory: Path, edge: StyxUnderTest, seconds: float) -> LoadResult:
    return await run_schedule(
        Schedule(
            ports=[edge.server.port],
            host="",
            hosts=[f"site-{number}.test" for number in range(plan.environments)],
            path=peers.TINY_PATH,
            rate=plan.rate,
            seconds=seconds,
            seed=plan.seed,
            name="status",
            post_every=1_000_000,
        ),
        directory,
    )


async def _scrapes(session: aiohttp.ClientSession, admin: int, seconds: float) -> Scrapes:
    """Scrape again and again for so long."""
    times, end, before = [], time.monotonic() + seconds, run_seconds(admin)
    while time.monotonic() < end:
        began = time.monotonic()
        async with session.get("/metrics") as response:
            await response.read()
        times.append(time.monotonic() - began)
        await asyncio.sleep(PAUSE)
    return Scrapes(times, (run_seconds(admin) - before) / len(times))


@asynccontextmanager
async def _subscribed(session: aiohttp.ClientSession) -> AsyncIterator[list[int]]:
    """Reads the stream as the page does; gives the sizes of the snapshots."""
    sizes: list[int] = []

    async def read() -> None:
        async with session.get("/v1/status/stream", timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for line in response.content:
                sizes.extend([len(line)] if line.startswith(b"data:") else [])

    reader = asyncio.ensure_future(read())
    try:
        yield sizes
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _cpu(pid: int, seconds: float) -> float:
    """Part of a core that this process takes in the next seconds."""
    before, began = run_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (run_seconds(pid) - before) / (time.monotonic() - began)


def _admin_of(master: int) -> int:
    for pid in family(master):
        if ADMIN.search(Path(f"/proc/{pid}/cmdline").read_bytes()):
            return pid
    raise BenchFailed("styx has no admin process")
