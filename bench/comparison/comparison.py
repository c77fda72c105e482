"""styx beside HAProxy, nginx, Envoy and Caddy in every case: `python -m bench report`.

    wrk ──► styx | HAProxy | nginx | … ──► backends
    core 1          core 0                  core 1

All proxies of a configuration run at the same time, and are loaded one after the other within each round, so that
disturbances of the machine fall on all of them alike. The page and the JSON file are written to bench/report/, and
with `--release VERSION` the JSON file to bench/history/ as well.
"""

import os
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Self

import msgspec

from bench.comparison import page
from bench.comparison.cases import CASES, Case
from bench.comparison.connections import idle_connections, streams
from bench.comparison.contestants import COMPILED, RIVAL, Contestant, contestants
from bench.comparison.results import ComparisonReport, LatencyPoint, Machine, Sample
from bench.lab import paced_load, peers
from bench.lab.load_process import run_task
from bench.lab.paced_load import PacedLoad, PacedResult
from bench.lab.peers import ProxySetup
from bench.lab.plain_http import Broken, Connection, request_head
from bench.lab.procfs import Cores, run_seconds
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server
from bench.lab.wrk import Wrk, host_per_request, uploading
from bench.speed.speed import BROWSER
from bench.stubs.deaf_backend import accepting_backends

FOLDER = Path(__file__).parents[1]
PAGE, FIGURES = FOLDER / "report" / "index.html", FOLDER / "report" / "report.json"
HISTORY = FOLDER / "history"
LEARNED_PER_SECOND = 1000
"Hostnames that an edge looks up, at least, while it warms up."
PACED_CONNECTIONS = 128
TIMEOUT = 30.0
"Seconds for a generator beyond its load."


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonPlan:
    """How much is measured."""

    rounds: int = 9
    seconds: float = 3.0
    "Of each load in each round."
    warm_up: float = 1.0
    "Seconds of load on each proxy before the first round of a case; 0 = none."
    cases: tuple[str, ...] = tuple(CASES)
    proxies: tuple[str, ...] = ()
    "Only these; empty = all."
    hosts: int = 10_000
    "At most, in each case."
    connections: int = 2000
    "At most, in each case."
    rates: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    "Of the open-loop load, as parts of the capacity of HAProxy; empty = it is left out."
    paced_rounds: int = 3
    idle: tuple[int, ...] = (500, 1000, 2000, 4000)
    "Numbers of idle connections; empty = they are left out."
    streams: int = 2000
    "0 = they are left out."
    compiled: Path | None = None
    "A checkout that is compiled; None = a copy of this one is."
    build: bool = True
    "Whether to compile a copy, if there is no other."
    release: str = ""
    "The figures are kept in bench/history/ under this version; empty = they are not."
    folder: Path | None = None
    "For the page and its figures; None = bench/report/."

    def shorter(self) -> Self:
        """Everything once, as briefly as possible: to see that it works."""
        return replace(
            self,
            rounds=1,
            seconds=1.0,
            warm_up=1.0,
            hosts=100,
            connections=200,
            rates=(0.05, 0.1),
            paced_rounds=1,
            idle=(50, 100),
            streams=50,
        )


async def run(plan: ComparisonPlan) -> ComparisonReport:
    """Measure, and write the page. Raises BenchFailed."""
    need("haproxy", "nginx", "taskset", "wrk")
    cores = Cores.split()
    with cores.reserved(), tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        directory = Path(name)
        found, notes = contestants(directory, plan.compiled, build=plan.build)
        found = [one for one in found if not plan.proxies or one.name in plan.proxies]
        report = ComparisonReport(
            machine=Machine.this(),
            versions={contestant.name: contestant.version for contestant in found},
            rounds=plan.rounds,
            seconds=plan.seconds,
            notes=notes,
        )
        comparison = Comparison(plan, found, directory, cores.proxy, report)
        for cases in _by_configuration(plan.cases):
            await comparison.compare(cases)
        if plan.idle:
            await comparison.measure_memory()
        report.missed = _missed(report)
    _write(plan, report)
    return report


class Comparison:
    """Measures all contestants and adds the figures to a report."""

    def __init__(
        self, plan: ComparisonPlan, found: list[Contestant], directory: Path, core: int, report: ComparisonReport
    ) -> None:
        self._plan = plan
        self._contestants = found
        self._directory = directory
        self._core = core
        self._report = report

    async def compare(self, cases: list[Case]) -> None:
        """CPU per request in cases of the same configuration, and latency by rate if it is the usual one."""
        first = cases[0]
        hosts = _hosts(min(first.hosts, self._plan.hosts))
        setup = ProxySetup(hosts=hosts, access_log=first.access_log, workers=first.workers, core=self._core)
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self._directory))
        async with AsyncExitStack() as stack:
            if first.upload:
                ports = await stack.enter_async_context(accepting_backends(folder, first.backends))
            else:
                ports = await stack.enter_async_context(peers.backends(folder, first.backends))
            servers: dict[Contestant, Server] = {}
            for contestant in self._contestants:
                own = folder / contestant.name.replace(" ", "-")
                own.mkdir()
                servers[contestant] = await stack.enter_async_context(contestant.start(own, ports, setup))
                await check(servers[contestant], contestant.name, first, hosts[-1])
            for case in cases:
                await self._case(case, servers, folder)
            if first is CASES["tiny"] and self._report.costs("tiny", RIVAL):  # its capacity sets the rates
                await self._latency(servers)

    async def _case(self, case: Case, servers: dict[Contestant, Server], folder: Path) -> None:
        wrk = self._wrk(case, folder)
        for contestant, server in servers.items():
            learning = min(case.hosts, self._plan.hosts) / LEARNED_PER_SECOND if contestant.learns else 0.0
            if seconds := max(self._plan.warm_up, learning):
                await _sample(server, case, wrk, seconds)
        samples = self._report.cases.setdefault(case.key, {name: [] for name in self._report.versions})
        for number in range(self._plan.rounds):
            _progress(f"{case.title}: round {number + 1} of {self._plan.rounds}")
            self._report.loads.append(os.getloadavg()[0])
            for contestant, server in _rotated(servers, number):
                samples[contestant.name].append(await _sample(server, case, wrk, self._plan.seconds))

    def _wrk(self, case: Case, folder: Path) -> Wrk:
        lua = ""
        if case.hosts > 1:
            lua = host_per_request(_hosts(min(case.hosts, self._plan.hosts)), folder / "hosts.txt")
        elif case.upload:
            lua = uploading(case.upload)
        fields = BROWSER if case.keep_alive else {**BROWSER, "Connection": "close"}
        connections = min(case.connections, self._plan.connections)
        return Wrk(folder, connections=connections, headers=fields, lua=lua)

    async def _latency(self, servers: dict[Contestant, Server]) -> None:
        capacity = 1e6 / median(self._report.costs("tiny", RIVAL))
        fields = {name: value for name, value in BROWSER.items() if name != "Host"}
        request = request_head(peers.HOST, f"GET {peers.TINY_PATH}", fields).decode("latin-1")
        for number in range(self._plan.paced_rounds):
            for part in self._plan.rates:
                _progress(f"Latency at {part:.0%} of the capacity of {RIVAL}: round {number + 1}")
                for contestant, server in _rotated(servers, number):
                    load = PacedLoad(
                        port=server.port,
                        request=request,
                        rate=part * capacity,
                        seconds=self._plan.seconds,
                        warm_up=self._plan.warm_up,
                        connections=PACED_CONNECTIONS,
                        seed=number + 1,
                    )
                    result = await run_task(
                        paced_load.__name__,
                        load,
                        PacedResult,
                        self._directory,
                        time_limit=load.warm_up + load.seconds + TIMEOUT,
                    )
                    self._report.latency.setdefault(contestant.name, []).append(_point(load, result))
                    _empty_log(server)

    async def measure_memory(self) -> None:
        """Idle connections, then event streams, each with fresh proxies."""
        for contestant in self._contestants:
            _progress(f"Idle connections: {contestant.name}")
            points = await idle_connections(contestant, self._plan.idle, self._directory, self._core)
            self._report.memory[contestant.name] = points
            if self._plan.streams:
                _progress(f"Event streams: {contestant.name}")
                self._report.streams[contestant.name] = await streams(
                    contestant, self._plan.streams, self._plan.seconds, self._directory, self._core
                )


async def check(server: Server, name: str, case: Case, host: str) -> None:
    """Raises BenchFailed unless the response is right, and the fields that every proxy adds are there."""
    line, body = (f"POST {case.path}", b"styx") if case.upload else (f"GET {case.path}", b"")
    fields = {name: value for name, value in BROWSER.items() if name != "Host"}
    try:
        connection = await Connection.open(server.port)
        try:
            reply = await connection.send_request(host, line, fields, body)
        finally:
            connection.close()
    except Broken as error:
        raise BenchFailed(f"{name}: {error}") from error
    if reply.status != 200:
        raise BenchFailed(f"{name} responded {reply.status}: {reply.fields} {reply.body[:200]!r}")
    absent = {"x-request-id", "x-styx-edge", "x-styx-backend"} - reply.fields.keys()
    if absent:
        raise BenchFailed(f"{name} does not add {', '.join(sorted(absent))} to its responses")


async def _sample(server: Server, case: Case, wrk: Wrk, seconds: float) -> Sample:
    before = run_seconds(server.pid)
    load = await wrk.run(server.url(case.path), seconds, heads=case.heads)
    used = run_seconds(server.pid) - before
    if case.access_log and (not server.log.exists() or server.log.stat().st_size == 0):
        raise BenchFailed(f"{server.name} wrote no access log")
    _empty_log(server)
    return Sample(
        cpu_us=1e6 * used / load.requests,
        busy=used / load.seconds,
        rate=load.rate,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
    )


def _empty_log(server: Server) -> None:
    """A run writes gigabytes. All proxies append, so this is safe."""
    if server.log.exists():
        os.truncate(server.log, 0)


def _point(load: PacedLoad, result: PacedResult) -> LatencyPoint:
    times = {} if result.overloaded else result.percentiles_ms
    return LatencyPoint(
        rate=load.rate,
        p50_ms=times.get("50"),
        p99_ms=times.get("99"),
        late_p99_ms=result.late_p99_ms,
    )


def _rotated(servers: dict[Contestant, Server], number: int) -> list[tuple[Contestant, Server]]:
    """Each comes first, second and last equally often."""
    pairs = list(servers.items())
    turn = number % len(pairs)
    return pairs[turn:] + pairs[:turn]


def _by_configuration(keys: tuple[str, ...]) -> list[list[Case]]:
    groups: dict[tuple[int, int, bool, int, bool], list[Case]] = {}
    for key in CASES:
        if key in keys:
            groups.setdefault(CASES[key].configuration, []).append(CASES[key])
    return list(groups.values())


def _hosts(count: int) -> list[str]:
    return [peers.HOST] if count == 1 else [f"site-{n}.localhost" for n in range(count)]


def _missed(report: ComparisonReport) -> list[str]:
    """Goals of compiled styx that its median does not meet."""
    missed = []
    for case in CASES.values():
        found = report.ratios(case.key, COMPILED, RIVAL)
        if case.must is not None and found and median(found) > case.must:
            missed.append(f"{case.title}: {median(found):.2f} x {RIVAL}, at most {case.must:g} x is the goal")
    return missed


def _write(plan: ComparisonPlan, report: ComparisonReport) -> None:
    figures = msgspec.json.format(msgspec.json.encode(report))
    folder = plan.folder or PAGE.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES.name).write_bytes(figures)
    if plan.release:
        (HISTORY / f"{plan.release}.json").write_bytes(figures)
    (folder / PAGE.name).write_text(page.render(report, past_reports(HISTORY)))
    _progress(f"{folder / PAGE.name} and {FIGURES.name}")


def past_reports(folder: Path) -> dict[str, ComparisonReport]:
    """The figures of each release, the oldest first. Files of another format are left out."""
    found: dict[str, ComparisonReport] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: version_key(path.stem)):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=ComparisonReport)
        except msgspec.DecodeError:
            continue
    return found


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """Orders 0.10.0 after 0.9.1."""
    parts = version.replace("-", ".").split(".")
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)


def _progress(text: str) -> None:
    print(f"report: {text}", file=sys.stderr, flush=True)
