"""CPU per request over TLS of styx beside nginx and HAProxy: on kept connections, and with a handshake for each.

    wrk, or connections one after the other ──► styx | nginx | HAProxy ──► three backends, plain HTTP
                     core 1                              core 0                 core 1

All have the same certificate (P-256), session tickets, and the libraries that they were built with. As in `speed`,
rounds are interleaved, and the median of the ratios within a round counts. The goals are those of a compiled styx:
`make compiled` first.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.lab import peers
from bench.lab.load_process import run_task
from bench.lab.procfs import Cores, cpu_seconds
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server
from bench.lab.wrk import Wrk
from bench.report import Fact, none_missed, ratios, table, verdict
from bench.speed.speed import BROWSER
from bench.tls import handshake_load
from bench.tls.handshake_load import HandshakeLoadResult, HandshakeTask
from bench.tls.tls_lab import HOST, ONE_CLIENT, TlsLab, core_api, tls_styx
from edge.compilation import BUILD

WARM_UP = 1.0
"Seconds of load on each before the first round."
RESUMED_AT_LEAST = 0.95
"Part of the connections after the first that must be resumed where they are to be."

Load = Callable[[Server, float], Awaitable[int]]
"Loads a proxy for so many seconds; gives the number of requests."


class TlsCase(NamedTuple):
    """One kind of load, and the most that styx may cost, as a multiple of each rival."""

    name: str
    path: str
    goals: dict[str, float]
    version: str = ""
    "Of connections for one request each; empty = kept connections."
    resumes: bool = False


CASES = (
    TlsCase("tiny, kept", peers.TINY_PATH, {"nginx": 1.25, "haproxy": 1.0}),
    TlsCase("64 KiB, kept", peers.LARGE_PATH, {"nginx": 1.05}),
    TlsCase("TLS 1.3, full", peers.TINY_PATH, {"nginx": 1.35}, "1.3"),
    TlsCase("TLS 1.3, resumed", peers.TINY_PATH, {"nginx": 1.5}, "1.3", resumes=True),
    TlsCase("TLS 1.2, full", peers.TINY_PATH, {}, "1.2"),
    TlsCase("TLS 1.2, resumed", peers.TINY_PATH, {}, "1.2", resumes=True),
)


@dataclass(slots=True)
class TlsSpeedReport:
    """By case, then by proxy: microseconds of CPU per request, one for each round."""

    build: str = BUILD
    costs: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: TlsCase, proxy: str, cost_us: float) -> None:
        self.costs.setdefault(case.name, {}).setdefault(proxy, []).append(cost_us)

    def ratios(self, case: TlsCase, rival: str) -> list[float]:
        """CPU of styx as a multiple of the rival's, round by round."""
        return ratios(self.costs[case.name]["styx"], self.costs[case.name][rival])

    def facts(self) -> list[Fact]:
        found = []
        for case in CASES:
            for rival in ("nginx", "haproxy"):
                if case.name not in self.costs or rival not in self.costs[case.name]:
                    continue
                seen = self.ratios(case, rival)
                # Plain Python is not what the goals are about.
                goal = case.goals.get(rival) if self.build == "compiled" else None
                met = None if goal is None else median(seen) <= goal
                words = f"{median(seen):.2f} ({min(seen):.2f}-{max(seen):.2f})"
                found.append(Fact(f"{case.name}: styx / {rival}", words, "" if goal is None else f"<= {goal}", met))
        return found

    @property
    def good(self) -> bool:
        return none_missed(self.facts())

    def text(self) -> str:
        costs = [
            (f"{name}, {proxy}", f"{median(of):.0f}", f"{min(of):.0f}-{max(of):.0f}")
            for name, by_proxy in self.costs.items()
            for proxy, of in by_proxy.items()
        ]
        facts = [(fact.what, fact.seen, fact.goal, verdict(met=fact.met)) for fact in self.facts()]
        return "\n\n".join(
            (
                table((f"CPU over TLS, styx {self.build}", "µs/request", "min-max"), costs),
                table(("ratio", "median (min-max)", "goal", ""), facts),
            )
        )


async def play(directory: Path, *, rounds: int, seconds: float) -> TlsSpeedReport:
    """Raises BenchFailed."""
    need("haproxy", "nginx", "taskset", "wrk")
    cores = Cores.split()
    with cores.reserved():
        async with AsyncExitStack() as stack:
            lab = TlsLab(directory)
            lab.write()
            ports = await stack.enter_async_context(peers.backends(directory))
            url = await stack.enter_async_context(core_api(lab, ports))
            setup = peers.ProxySetup(core=cores.proxy, tls=lab.bundle)
            proxies = [
                await stack.enter_async_context(tls_styx(directory, url, core=cores.proxy, more=ONE_CLIENT)),
                await stack.enter_async_context(peers.nginx(directory, ports, setup)),
                await stack.enter_async_context(peers.haproxy(directory, ports, setup)),
            ]
            wrk = Wrk(directory, connections=64, headers=BROWSER)
            return await _rounds(proxies, lab, wrk, rounds, seconds)


async def _rounds(proxies: Sequence[Server], lab: TlsLab, wrk: Wrk, rounds: int, seconds: float) -> TlsSpeedReport:
    loads = [(case, _load_of(case, lab, wrk)) for case in CASES]
    for _, load in loads:
        for proxy in proxies:
            await _cost(proxy, load, WARM_UP)
    report = TlsSpeedReport()
    for number in range(rounds):
        turn = number % len(proxies)  # each goes first, second and last equally often
        for case, load in loads:
            for proxy in (*proxies[turn:], *proxies[:turn]):
                report.add(case, proxy.name, await _cost(proxy, load, seconds))
    return report


def _load_of(case: TlsCase, lab: TlsLab, wrk: Wrk) -> Load:
    if not case.version:
        return partial(_kept, case, wrk)
    return partial(_connections, case, lab)


async def _kept(case: TlsCase, wrk: Wrk, proxy: Server, seconds: float) -> int:
    return (await wrk.run(f"https://127.0.0.1:{proxy.port}{case.path}", seconds)).requests


async def _connections(case: TlsCase, lab: TlsLab, proxy: Server, seconds: float) -> int:
    task = HandshakeTask(
        port=proxy.port,
        host=HOST,
        path=case.path,
        ca=str(lab.ca),
        seconds=seconds,
        version=case.version,
        resumes=case.resumes,
    )
    done = await run_task(
        handshake_load.__name__, task, HandshakeLoadResult, lab.directory, time_limit=seconds + 30
    )
    if done.failed or not done.completed:
        raise BenchFailed(f"{proxy.name}, {case.name}: {done.failed} connections failed")
    wanted = RESUMED_AT_LEAST * (done.completed - 1) if case.resumes else 0
    if done.resumed < wanted or (done.resumed and not case.resumes):
        raise BenchFailed(f"{proxy.name}, {case.name}: {done.resumed} of {done.completed} were resumed")
    return done.completed


async def _cost(proxy: Server, load: Load, seconds: float) -> float:
    """Microseconds of CPU for each request."""
    before = cpu_seconds(proxy.pid)
    requests = await load(proxy, seconds)
    used = cpu_seconds(proxy.pid) - before
    if not proxy.log.exists() or proxy.log.stat().st_size == 0:
        raise BenchFailed(f"{proxy.name} wrote no access log: it had less to do than the others")
    os.truncate(proxy.log, 0)  # all append, so this is safe; a run makes gigabytes
    return 1e6 * used / requests
