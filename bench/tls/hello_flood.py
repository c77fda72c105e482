"""Whether others are served while ClientHellos flood the edge.

    2,000 hellos a second for made-up names,        ──► styx       beside: what it costs the others
    500 handshakes that are left, 1,000 addresses   ──► a sink     elsewhere: what it costs the machine
    300 requests a second over TLS ──► styx ──► a backend

Rounds without, elsewhere and beside are interleaved. The names do not exist: the core API is asked for as many as
unknown hosts may ask. Memory is that of styx in a long flood, from the end of its first third on.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.lab import paced_load, peers
from bench.lab.load_process import run_task
from bench.lab.paced_load import PacedLoad, PacedResult
from bench.lab.procfs import Cores, cpu_seconds, memory
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import free_ports, serving
from bench.report import Fact, facts_table, none_missed
from bench.tls import hello_load, hello_sink
from bench.tls.hello_load import HelloResult, HelloTask
from bench.tls.tls_lab import HOST, TlsLab, core_api, tls_styx

RATE, REQUESTS, HALVES = 2000.0, 300.0, 500
SOURCES = [f"127.77.{number // 250}.{number % 250 + 1}" for number in range(1000)]
MIB = 1 << 20
MOST_RATIO = 1.5
"p99 beside the flood, as a multiple of the p99 with the same flood elsewhere."
MOST_GROWTH = 8 * MIB
MOST_LOOKUPS = 300.0
"""Questions a second for names that do not exist: `limits.unknown_hosts` by default allows 100 for clients that
have named one before, as many for others, and more at the beginning."""
SETTLED = 2.0
"Seconds of a flood before requests count."


@dataclass(slots=True)
class HelloFloodReport:
    """What the requests saw, and what became of the hellos."""

    phases: dict[str, list[PacedResult]] = field(default_factory=dict)
    "By `without`, `elsewhere`, `beside`; one for each round."
    floods: list[HelloResult] = field(default_factory=list)
    lookups: list[float] = field(default_factory=list)
    "A second, for names that do not exist."
    growth: int = 0
    cpu_us: float = 0.0
    "CPU of styx for each hello, with what the other clients cost."

    def p99(self, phase: str) -> float:
        return median(result.percentiles_ms.get("99", float("inf")) for result in self.phases[phase])

    @property
    def ratio(self) -> float:
        pairs = zip(self.phases["beside"], self.phases["elsewhere"], strict=True)
        return median(beside.percentiles_ms["99"] / other.percentiles_ms["99"] for beside, other in pairs)

    def facts(self) -> list[Fact]:
        failed = sum(result.failed for results in self.phases.values() for result in results)
        lost = sum(result.offered - result.completed for results in self.phases.values() for result in results)
        ends: Counter[str] = sum((Counter(flood.ends) for flood in self.floods), Counter())
        sent, seconds = sum(flood.sent for flood in self.floods), sum(flood.seconds for flood in self.floods)
        asked = max(self.lookups)
        return [
            Fact("hellos a second", f"{sent / seconds:.0f}"),
            Fact("how they ended", ", ".join(f"{n} x {how}" for how, n in ends.most_common(5))),
            Fact("handshakes that were left", str(sum(flood.halves for flood in self.floods))),
            Fact("CPU of styx per hello, with all else", f"{self.cpu_us:.0f} us"),
            Fact("p99 without a flood", f"{self.p99('without'):.2f} ms"),
            Fact("p99 with the flood elsewhere", f"{self.p99('elsewhere'):.2f} ms"),
            Fact("p99 beside the flood", f"{self.p99('beside'):.2f} ms"),
            Fact("beside / elsewhere", f"{self.ratio:.2f}", f"<= {MOST_RATIO}", self.ratio <= MOST_RATIO),
            Fact("requests that failed or came late", f"{failed}, {lost}", "0, 0", not failed and not lost),
            Fact("lookups a second", f"{asked:.1f}", f"<= {MOST_LOOKUPS:g}", asked <= MOST_LOOKUPS),
            Fact(
                "growth of VmRSS",
                f"{self.growth / MIB:.1f} MiB",
                f"<= {MOST_GROWTH // MIB} MiB",
                self.growth <= MOST_GROWTH,
            ),
        ]

    @property
    def good(self) -> bool:
        return none_missed(self.facts())

    def text(self) -> str:
        return facts_table("flood of ClientHellos", self.facts())


async def play(directory: Path, *, rounds: int, seconds: float) -> HelloFloodReport:
    """Raises BenchFailed."""
    need("nginx", "taskset")
    cores = Cores.split()
    with cores.reserved():
        async with AsyncExitStack() as stack:
            lab = TlsLab(directory)
            lab.write()
            ports = await stack.enter_async_context(peers.backends(directory, 1))
            url = await stack.enter_async_context(core_api(lab, ports))
            styx = await stack.enter_async_context(tls_styx(directory, url, core=cores.proxy, access_log=False))
            sink = await stack.enter_async_context(_sink(directory))
            bench = _Bench(lab, styx.pid, styx.port, HelloFloodReport())
            await bench.requests("warm-up", 1.0, 0)
            del bench.report.phases["warm-up"]
            for number in range(1, rounds + 1):
                await bench.requests("without", seconds, number)
                await bench.with_flood("elsewhere", sink, seconds, number)
                await bench.with_flood("beside", styx.port, seconds, number)
            return bench.report


@asynccontextmanager
async def _sink(directory: Path) -> AsyncIterator[int]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", hello_sink.__name__, str(port), HOST]
    async with serving("sink", command, directory=directory, port=port):
        yield port


@dataclass(slots=True)
class _Bench:
    """One styx, and what is sent to it."""

    lab: TlsLab
    pid: int
    port: int
    report: HelloFloodReport

    async def requests(self, phase: str, seconds: float, seed: int) -> None:
        """300 requests a second for so long; the same seed gives the same arrivals."""
        load = PacedLoad(
            port=self.port,
            request=f"GET {peers.TINY_PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
            rate=REQUESTS,
            seconds=seconds,
            warm_up=SETTLED,
            connections=32,
            seed=seed,
            tls_host=HOST,
            ca=str(self.lab.ca),
        )
        limit = SETTLED + seconds + 30
        result = await run_task(paced_load.__name__, load, PacedResult, self.lab.directory, time_limit=limit)
        if not result.percentiles_ms:
            raise BenchFailed("no request was completed")
        self.report.phases.setdefault(phase, []).append(result)

    async def with_flood(self, phase: str, port: int, seconds: float, seed: int) -> None:
        """The same with a flood to this port."""
        span = SETTLED + seconds + 2
        task = HelloTask(port=port, sources=SOURCES, rate=RATE, halves=HALVES, host=HOST, seconds=span, seed=seed)
        lookups, cpu = self.lab.lookups.total(), cpu_seconds(self.pid)
        flood = asyncio.create_task(
            run_task(hello_load.__name__, task, HelloResult, self.lab.directory, time_limit=span + 30)
        )
        watched = asyncio.create_task(self._growth(span))
        try:
            await asyncio.sleep(0.5)
            await self.requests(phase, seconds, seed)
            result = await flood
            growth = await watched
        finally:
            flood.cancel()
            watched.cancel()
        if port == self.port:
            self.report.floods.append(result)
            self.report.lookups.append((self.lab.lookups.total() - lookups) / span)
            self.report.growth = max(self.report.growth, growth)
            self.report.cpu_us = 1e6 * (cpu_seconds(self.pid) - cpu) / max(1, result.sent)

    async def _growth(self, span: float) -> int:
        """How much memory grows from the end of the first third of a flood on."""
        await asyncio.sleep(span / 3)
        before = most = memory(self.pid).resident
        for _ in range(int(span * 2 / 3)):
            await asyncio.sleep(1.0)
            most = max(most, memory(self.pid).resident)
        return most - before
