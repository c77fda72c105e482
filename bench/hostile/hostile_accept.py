"""Whether new clients are accepted while others cost the edge as much as they can.

    attackers ──────────────────────────►          ──► sink
                                            edge
    visitors, each on a new connection ──►          ──► site
                  core 1                   core 0      core 1

    uploads    chunked ones without end, in tiny or in large chunks
    heads      64 KiB each of what takes long to parse, before it is refused
    interims   requests to a container that sends 63 interim responses before its final one

styx, nginx and HAProxy have their turn in each scene, with the same visitors. Their latency counts from when they
were due. After the attackers have left, all at once and in the middle of their bodies, visitors go on coming, until
it is clear how long the edge took to recover.
"""

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from bench.hostile import hostile_clients
from bench.hostile.hostile_clients import Attack, Attacked, Requesting, Visit, Visited, Visits
from bench.lab.load_process import run_task
from bench.lab.peers import HAPROXY_TOP, NGINX_TOP, haproxy_command, nginx_command, nginx_names
from bench.lab.procfs import KIB, Cores, memory, run_seconds
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server, free_ports, serving, styx
from bench.report import table, verdict
from bench.stubs.fixed_routes import backend_entry, served_routes

HOST, SINK_HOST = "site.test", "sink.test"
# As they are installed, but that uploads are passed on as they come, as styx does.
NGINX_CONF = (
    NGINX_TOP
    + """\
    access_log off;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    upstream site {{ server 127.0.0.1:{site}; keepalive 128; }}
    upstream sink {{ server 127.0.0.1:{sink}; keepalive 128; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        server_name {host};
        location / {{ proxy_pass http://site; }}
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name {sink_host};
        location / {{ proxy_pass http://sink; }}
    }}
}}
"""
)
HAPROXY_CONF = (
    HAPROXY_TOP
    + """\
frontend edge
    bind 127.0.0.1:{port} backlog 4096
    use_backend sink if {{ req.hdr(host) {sink_host} }}
    default_backend site
backend site
    http-reuse always
    server s1 127.0.0.1:{site}
backend sink
    http-reuse always
    server s1 127.0.0.1:{sink}
"""
)
CLIENTS = hostile_clients.__name__
SETTLED = 1.0
"Seconds of an attack before visits count as beside it."
SLOW, IN_A_ROW = 0.1, 20
"An edge has recovered when so many visits in a row take no longer than so many seconds."
MOST_RATIO, MOST_RECOVERY = 3.0, 2.0
"Goals: p99 of visitors as a multiple of nginx's; seconds until recovery."


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One attack."""

    name: str
    clients: int
    chunk: int = 0
    rate: float
    "Chunks, or requests, a second of each; 0 = as many as the edge takes."
    messages: tuple[bytes, ...] = ()
    "Sent instead of uploads."

    def attack(self, port: int, begin: float, seconds: float) -> Attack | Requesting:
        if self.messages:
            return Requesting(
                port=port,
                messages=list(self.messages),
                clients=self.clients,
                rate=self.rate,
                begin=begin,
                seconds=seconds,
            )
        return Attack(
            port=port,
            host=SINK_HOST,
            clients=self.clients,
            chunk=self.chunk,
            rate=self.rate,
            begin=begin,
            seconds=seconds,
        )


def _request(path: str, *fields: bytes) -> bytes:
    lines = (f"GET {path} HTTP/1.1\r\nHost: {SINK_HOST}".encode(), *fields, b"Connection: close\r\n\r\n")
    return b"\r\n".join(lines)


COSTLY_HEADS = (
    _request("/", *[b"a:"] * 16000),
    _request("/", b"Connection: " + b"a," * 30000),
    _request("/", b"Via: " + b"1.1 a," * 10000),
    _request("/", b"TE: " + b"a;q=0.5," * 7500),
)
"As large as any edge reads a head."
SCENES = (
    *(
        Scene(name=f"{clients} x {name}", clients=clients, chunk=chunk, rate=rate)
        for name, chunk, rate in (
            ("1 byte, 2,700/s", 1, 2700.0),
            ("1 byte, flood", 1, 0.0),
            ("64 KiB, flood", 65536, 0.0),
        )
        for clients in (100, 200)
    ),
    Scene(name="20 x costly heads, 20/s", clients=20, rate=20.0, messages=COSTLY_HEADS),
    Scene(name="50 x 63 interims, 4/s", clients=50, rate=4.0, messages=(_request("/interims"),)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileAcceptPlan:
    """How much is measured."""

    rounds: int = 1
    seconds: float = 5.0
    "Of each attack."
    after: float = 3.0
    "Seconds of visits after it."
    rate: float = 100.0
    "New connections a second."
    timeout: float = 2.0
    "After which a visit has failed."
    scenes: tuple[Scene, ...] = SCENES
    edges: tuple[str, ...] = ("styx", "nginx", "haproxy")
    checkout: Path | None = None
    "The folder of another version of styx."


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What visitors of one edge saw in one scene."""

    scene: str
    edge: str
    visits: int
    failed: int
    p50_ms: float
    "Of all visits; one that failed took as long as it was waited for."
    p99_ms: float
    max_ms: float
    recovery: float
    "Seconds from the attackers' leaving until visits are fast again."
    chunks: float
    "A second, of all attackers."
    cut: int
    "Attackers that the edge closed."
    cpu: float
    "Part of its core."
    resident: float
    "MiB, at the end of the attack."
    late_ms: float
    "How late visits began, p99."


@dataclass(slots=True)
class HostileAcceptReport:
    """All results; good when the goals are met by styx."""

    results: list[Result] = field(default_factory=list)

    def of(self, scene: str, edge: str) -> list[Result]:
        return [result for result in self.results if (result.scene, result.edge) == (scene, edge)]

    def ratio(self, scene: str) -> float | None:
        """Of the p99s of styx and nginx in the same round; the median of all rounds. None = not measured."""
        pairs = zip(self.of(scene, "styx"), self.of(scene, "nginx"), strict=False)
        ratios = [ours.p99_ms / theirs.p99_ms for ours, theirs in pairs]
        return median(ratios) if ratios else None

    @property
    def good(self) -> bool:
        ours = [result for result in self.results if result.edge == "styx"]
        ratios = [self.ratio(result.scene) for result in ours]
        calm = all(not result.failed and result.recovery <= MOST_RECOVERY for result in ours)
        return calm and all(ratio is None or ratio <= MOST_RATIO for ratio in ratios)

    def text(self) -> str:
        heading = (
            *("attackers", "edge", "visits", "failed", "p50 ms", "p99 ms", "max ms", "recovery s"),
            *("attacks/s", "cut", "core", "MiB", "late ms", "p99 / nginx", ""),
        )
        return table(heading, map(self._row, self.results))

    def _row(self, result: Result) -> tuple[str, ...]:
        times = (f"{ms:.1f}" for ms in (result.p50_ms, result.p99_ms, result.max_ms))
        ratio = self.ratio(result.scene) if result.edge == "styx" else None
        good = not result.failed and result.recovery <= MOST_RECOVERY and (ratio is None or ratio <= MOST_RATIO)
        return (
            *(result.scene, result.edge, str(result.visits), str(result.failed), *times, f"{result.recovery:.2f}"),
            *(f"{result.chunks:,.0f}", str(result.cut), f"{result.cpu:.0%}", f"{result.resident:.0f}"),
            f"{result.late_ms:.1f}",
            *("" if ratio is None else f"{ratio:.2f}", verdict(met=good) if result.edge == "styx" else ""),
        )


async def play(plan: HostileAcceptPlan) -> HostileAcceptReport:
    """Raises BenchFailed."""
    need("nginx", "haproxy", "taskset")
    cores, report = Cores.split(), HostileAcceptReport()
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name, cores.reserved():
        directory = Path(name)
        for number in range(plan.rounds):
            for scene in plan.scenes:
                for edge in plan.edges:
                    async with _edge(edge, directory, cores.proxy, plan) as server:
                        report.results.append(await _measure(plan, scene, server, directory, number))
    return report


async def _measure(plan: HostileAcceptPlan, scene: Scene, server: Server, directory: Path, number: int) -> Result:
    begin = time.monotonic() + 2.0
    length = plan.seconds + plan.after
    attack = scene.attack(server.port, begin, plan.seconds)
    visits = Visits(
        port=server.port,
        host=HOST,
        rate=plan.rate,
        begin=begin,
        seconds=length,
        seed=number + 1,
        timeout=plan.timeout,
    )
    watching = asyncio.create_task(_busy(server.pid, begin, plan.seconds))
    attacked, visited = await asyncio.gather(
        run_task(CLIENTS, attack, Attacked, directory, time_limit=length + 10, name="attack"),
        run_task(CLIENTS, visits, Visited, directory, time_limit=length + 10, name="visits"),
    )
    beside = [v for v in visited.visits if begin + SETTLED <= v.due < attacked.left]
    times = sorted(1e3 * (v.seconds if v.ok else max(v.seconds, plan.timeout)) for v in beside)
    cpu, resident = await watching
    if attacked.connected < scene.clients:
        raise BenchFailed(f"only {attacked.connected} of {scene.clients} attackers could connect to {server.name}")
    return Result(
        scene=scene.name,
        edge=server.name,
        visits=len(beside),
        failed=sum(not v.ok for v in beside),
        p50_ms=median(times),
        p99_ms=quantiles(times, n=100, method="inclusive")[98],
        max_ms=times[-1],
        recovery=recovery([v for v in visited.visits if v.due >= attacked.left], attacked.left),
        chunks=attacked.chunks / plan.seconds,
        cut=attacked.cut,
        cpu=cpu,
        resident=resident,
        late_ms=quantiles(visited.late_ms, n=100, method="inclusive")[98],
    )


def recovery(visits: Iterable[Visit], left: float) -> float:
    """Seconds from then until visits are fast again: the first of many in a row; infinity = they never are."""
    since, fast = left, 0
    for visit in sorted(visits, key=lambda visit: visit.due):
        if not visit.ok or visit.seconds > SLOW:
            since, fast = max(since, visit.due + visit.seconds), 0
        elif visit.due >= since:
            fast += 1
        if fast == IN_A_ROW:
            return since - left
    return math.inf


async def _busy(pid: int, begin: float, seconds: float) -> tuple[float, float]:
    """Which part of its core an edge takes during an attack, and the MiB that it has at the end."""
    await asyncio.sleep(begin - time.monotonic())
    before = run_seconds(pid)
    await asyncio.sleep(seconds)
    return (run_seconds(pid) - before) / seconds, memory(pid).resident / KIB**2


@asynccontextmanager
async def _edge(name: str, directory: Path, core: int, plan: HostileAcceptPlan) -> AsyncIterator[Server]:
    """One of the edges on its core; uploads go to a backend, visits to another."""
    sink, site = free_ports(2)
    async with AsyncExitStack() as stack:
        for backend, port in (("sink", sink), ("site", site)):
            command = [sys.executable, "-m", "bench.stubs.upload_sink", str(port)]
            await stack.enter_async_context(serving(backend, command, directory=directory, port=port))
        if name == "styx":
            routes = {
                HOST: ("site", [backend_entry("b1", site, "")]),
                SINK_HOST: ("sink", [backend_entry("b1", sink, "")]),
            }
            url = await stack.enter_async_context(served_routes(routes.__getitem__))
            yield await stack.enter_async_context(styx(directory, url, core=core, checkout=plan.checkout))
            return
        (port,) = free_ports(1)
        template, command_of = (NGINX_CONF, nginx_command) if name == "nginx" else (HAPROXY_CONF, haproxy_command)
        hosts = {"maxconn": 4096, "host": HOST, "sink_host": SINK_HOST, "site": site, "sink": sink}
        command = command_of(template.format(**nginx_names("nginx", directory), **hosts, port=port), directory)
        yield await stack.enter_async_context(serving(name, command, directory=directory, port=port, core=core))


if __name__ == "__main__":
    print(asyncio.run(play(HostileAcceptPlan())).text())
