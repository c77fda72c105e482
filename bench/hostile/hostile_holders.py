"""Clients that hold what they have: their memory, and whether others are served meanwhile.

    readers    ask for a large file each, and never read it; then all leave
    idle       connect, three hundred of them, to an edge that may open two hundred files, and say nothing
    vanished   have an event stream, or a keep-alive connection, and lose their network without a word
    holders    120 WebSockets of one client, at a site that may have 100 requests in flight (a limit of styx alone)

styx, nginx and HAProxy have their turn in each scene. Others ask for a small page meanwhile, at random moments;
their times count from when they were due.
"""

import asyncio
import resource
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import uvloop

from bench.lab.load_generator import Schedule
from bench.lab.load_process import run_schedule
from bench.lab.peers import HAPROXY_TOP, NGINX_TOP, haproxy_command, nginx_command, nginx_names
from bench.lab.procfs import KIB, Cores, memory
from bench.lab.programs import need
from bench.lab.remote_machine import NoNamespace, remote_machine
from bench.lab.servers import STYX_YAML, Server, free_ports, serving
from bench.report import none_missed, table, verdict
from bench.stubs.fixed_routes import fixed_routes
from bench.stubs.holding_backend import HoldingBackend, holding_backend

HOST = "site.test"
EDGES = ("styx", "nginx", "haproxy")
NGINX_CONF = (
    NGINX_TOP
    + """\
    access_log off;
    upstream site {{ server 127.0.0.1:{backend}; keepalive 128; }}
    server {{
        listen {port} backlog=4096 so_keepalive=1s:1s:1;
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""
)
HAPROXY_CONF = (
    HAPROXY_TOP
    + """\
frontend edge
    bind :{port} backlog 4096 tcp-ut 2s
    option clitcpka
    clitcpka-idle 1s
    clitcpka-intvl 1s
    clitcpka-cnt 1
    default_backend site
backend site
    http-reuse always
    server s1 127.0.0.1:{backend}
"""
)
ESTABLISHED = "01"
"In /proc/net/tcp."
SETTLING = 15
"Seconds at most until nothing changes any more."
FILES = ("prlimit", "--nofile=200:200")
MEMORY_GOAL, LEFT_GOAL = 64.0, 0.25
"KiB for each client that does not read; what part of it is still there when they have left."
NOTICED_GOAL = 5.0
"Seconds from a pulled cable to the last connection that is given up; probes after 1 s, a limit of 2 s."
RATIO_GOAL, LEAST_MS = 3.0, 20.0
"p99 of others as a multiple of nginx's; what is below so many milliseconds is good anyway."


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileHoldersPlan:
    """How much is measured."""

    readers: int = 1000
    idle: int = 300
    kept: int = 30
    vanished: int = 40
    rate: float = 100.0
    "Small pages a second."
    seconds: float = 4.0
    scenes: tuple[str, ...] = ("readers", "idle", "vanished", "holders")
    edges: tuple[str, ...] = EDGES


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was measured at one edge, and whether it is good enough; None = it has no goal."""

    scene: str
    edge: str
    what: str
    seen: str
    met: bool | None = None


@dataclass(slots=True)
class HostileHoldersReport:
    """All that was measured."""

    lines: list[Line] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return none_missed(self.lines)

    def text(self) -> str:
        rows = [(line.scene, line.edge, line.what, line.seen, verdict(met=line.met)) for line in self.lines]
        return table(("holders", "edge", "", "seen", ""), rows)


@dataclass(slots=True)
class _Bench:
    """What all scenes share."""

    plan: HostileHoldersPlan
    directory: Path
    core: int
    report: HostileHoldersReport
    p99: dict[tuple[str, str], float] = field(default_factory=dict)

    def record(self, scene: str, edge: str, what: str, seen: str, met: bool | None = None) -> None:
        """Goals are for styx."""
        self.report.lines.append(Line(scene, edge, what, seen, met if edge == "styx" else None))

    async def others(self, scene: str, server: Server, *, beside: bool = True) -> None:
        """Small pages, as others ask for them meanwhile."""
        plan = self.plan
        schedule = Schedule(
            ports=[server.port], host=HOST, path="/", rate=plan.rate, seconds=plan.seconds, seed=1, name=scene
        )
        load_result = await run_schedule(schedule, self.directory, may_be_fruitless=True)
        completed = sorted(load_result.latencies_ms) or [float("inf")]
        p99 = quantiles([*completed, completed[-1]], n=100)[98]
        failed = load_result.offered - len(load_result.completed)
        if not beside:
            return
        self.p99[scene, server.name] = p99
        self.record(scene, server.name, "p99 of others", f"{p99:.1f} ms, {failed} of {load_result.offered} failed")


async def play(plan: HostileHoldersPlan) -> HostileHoldersReport:
    """Raises BenchFailed."""
    need("taskset", "prlimit", *(edge for edge in plan.edges if edge != "styx"))
    scenes: dict[str, Callable[[_Bench, str], Awaitable[None]]] = {
        "readers": _readers,
        "idle": _idle,
        "vanished": _vanished,
        "holders": _holders,
    }
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores, report = Cores.split(), HostileHoldersReport()
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name, cores.reserved():
        bench = _Bench(plan, Path(name), cores.proxy, report)
        for scene in plan.scenes:
            for edge in plan.edges:
                await scenes[scene](bench, edge)
            _compare(bench, scene)
    return report


def _compare(bench: _Bench, scene: str) -> None:
    ours, theirs = (bench.p99.get((scene, edge)) for edge in ("styx", "nginx"))
    if ours is not None and theirs is not None:
        met = ours <= max(LEAST_MS, RATIO_GOAL * theirs)
        bench.record(scene, "styx", "p99 of others / nginx's", f"{ours / theirs:.2f}", met)


async def _readers(bench: _Bench, edge: str) -> None:
    plan = bench.plan
    async with _edge(bench, edge) as (server, _):
        for _ in range(2):  # what ran before leaves its marks: they do not count
            _close(await _requesting(server.port, 20, "/large"))
            await asyncio.sleep(1.0)
        before = memory(server.pid).resident
        readers = await _requesting(server.port, plan.readers, "/large")
        await _settled(server.pid)
        await bench.others("readers", server)
        held = await _settled(server.pid) - before
        each = held / plan.readers / KIB
        bench.record("readers", edge, "memory of each", f"{each:.0f} KiB", each <= MEMORY_GOAL)
        _close(readers)
        await asyncio.sleep(4.0)
        left = (memory(server.pid).resident - before) / max(1, held)
        bench.record("readers", edge, "of it when they have left", f"{left:.0%}", left <= LEFT_GOAL)


async def _settled(pid: int) -> int:
    """Its memory when that has not changed by more than a hundredth for a second; or after a while."""
    last = 0
    for _ in range(SETTLING):
        await asyncio.sleep(1.0)
        last, before = memory(pid).resident, last
        if abs(last - before) <= before / 100:
            break
    return last


async def _idle(bench: _Bench, edge: str) -> None:
    plan = bench.plan
    async with _edge(bench, edge, within=FILES) as (server, _):
        kept = [await _connected("127.0.0.1", server.port) for _ in range(plan.kept)]
        await asyncio.gather(*map(_requested, kept))
        idle = [await _connected("127.0.0.1", server.port) for _ in range(plan.idle)]
        await asyncio.sleep(0.5)
        again = Counter(await asyncio.gather(*map(_requested, kept)))
        bench.record("idle", edge, "kept connections", _counted(again), again.keys() == {"200"})
        ends = Counter(await asyncio.gather(*(_response(sock, 0.2) for sock in idle)))
        bench.record("idle", edge, "idle ones", _counted(ends), not ends["closed"])
        await asyncio.sleep(0.7)
        new = [await _connected("127.0.0.1", server.port) for _ in range(plan.kept)]
        completed = Counter(await asyncio.gather(*map(_requested, new)))
        bench.record("idle", edge, "new ones, a second later", _counted(completed), not completed["closed"])
        _close([*kept, *idle, *new])


async def _vanished(bench: _Bench, edge: str) -> None:
    plan, loop = bench.plan, asyncio.get_running_loop()
    try:
        with remote_machine() as remote:
            async with _edge(bench, edge, host=remote.here) as (server, backend):
                streams = [remote.connect(server.port) for _ in range(plan.vanished)]
                await asyncio.gather(*(loop.sock_sendall(sock, _request("/events")) for sock in streams))
                await asyncio.gather(*(_response(sock, 5.0) for sock in streams))
                quiet = [remote.connect(server.port) for _ in range(plan.vanished)]
                await asyncio.gather(*map(_requested, quiet))
                remote.pull_the_cable()
                pulled = loop.time()
                beside = asyncio.create_task(bench.others("vanished", server, beside=False))
                counts: dict[str, Callable[[], int]] = {
                    "event streams given up": lambda: len(backend.streams),
                    "connections given up": lambda: _established(server.port, remote.there),
                }
                for what, left in counts.items():
                    seconds = await _until_none(left, pulled + 10.0) - pulled
                    seen = f"{still} are still there" if (still := left()) else f"after {seconds:.1f} s"
                    bench.record("vanished", edge, what, seen, not still and seconds <= NOTICED_GOAL)
                await beside
                _close([*streams, *quiet])
    except NoNamespace as why:
        bench.record("vanished", edge, "not played", str(why))


async def _until_none(left: Callable[[], int], latest: float) -> float:
    """When nothing is left, or it is too late."""
    loop = asyncio.get_running_loop()
    while left() and loop.time() < latest:  # noqa: ASYNC110 - rings no bell
        await asyncio.sleep(0.05)
    return loop.time()


async def _holders(bench: _Bench, edge: str) -> None:
    if edge != "styx":
        return
    async with _edge(bench, edge, settings="limits: {in_flight_per_environment: 100}\n") as (server, _):
        greedy = [await _connected("127.0.0.2", server.port) for _ in range(120)]
        statuses = Counter(await asyncio.gather(*(_requested(sock, "/socket") for sock in greedy)))
        bench.record("holders", edge, "120 WebSockets of one client", _counted(statuses))
        others = [await _connected(f"127.0.0.{n}", server.port) for n in range(3, 53)]
        statuses = Counter(await asyncio.gather(*map(_requested, others)))
        bench.record("holders", edge, "requests of others", _counted(statuses), statuses.keys() == {"200"})
        _close([*greedy, *others])


# the edges


@asynccontextmanager
async def _edge(
    bench: _Bench, name: str, *, host: str = "127.0.0.1", within: Sequence[str] = (), settings: str = ""
) -> AsyncIterator[tuple[Server, HoldingBackend]]:
    """One of them on its core, before a backend of its own."""
    port, admin_port = free_ports(2)
    directory = bench.directory
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(holding_backend())
        if name == "styx":
            url = await stack.enter_async_context(fixed_routes("site", [backend.port]))
            usual = STYX_YAML.format(
                port=port, core_api_url=url, admin_port=admin_port, log="/dev/null", flush_interval="1s"
            )
            more = "timeouts: {unacknowledged: 2s, write_stall: 2s}\n" if host != "127.0.0.1" else ""
            config = directory / "styx.yaml"
            config.write_text(usual.replace(f"127.0.0.1:{port}", f":{port}") + more + settings)
            command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
        else:
            template, command_of = (
                (NGINX_CONF, nginx_command) if name == "nginx" else (HAPROXY_CONF, haproxy_command)
            )
            names = nginx_names(name, directory)
            maxconn = 4000 if not within else 80
            conf = template.format(**names, port=port, backend=backend.port, maxconn=maxconn)
            command = command_of(conf, directory)
        command = [*within, *command]
        server = serving(name, command, directory=directory, port=port, core=bench.core)
        yield await stack.enter_async_context(server), backend


# the clients


def _request(path: str = "/") -> bytes:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n" if path == "/socket" else ""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{upgrade}\r\n".encode()


async def _connected(address: str, port: int, *, receive_buffer: int = 0) -> socket.socket:
    """A client's socket; `address`: its own. Raises OSError."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((address, 0))
    async with asyncio.timeout(5):
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def _requesting(port: int, count: int, path: str) -> list[socket.socket]:
    """So many that ask for this, and read nothing."""
    socks = []
    for number in range(count):
        socks.append(await _connected("127.0.0.1", port, receive_buffer=4096))
        await asyncio.get_running_loop().sock_sendall(socks[-1], _request(path))
        if number % 20 == 19:
            await asyncio.sleep(0.02)  # nobody is to be refused
    return socks


async def _requested(sock: socket.socket, path: str = "/") -> str:
    try:
        await asyncio.get_running_loop().sock_sendall(sock, _request(path))
    except OSError:
        return "closed"
    return await _response(sock, 5.0)


async def _response(sock: socket.socket, time_limit: float) -> str:
    """The status of what comes; or "closed", or "nothing"."""
    data = b""
    try:
        async with asyncio.timeout(time_limit):
            while b"\r\n\r\n" not in data:
                more = await asyncio.get_running_loop().sock_recv(sock, 65536)
                if not more:
                    return "closed"
                data += more
    except TimeoutError:
        return "nothing"
    except OSError:
        return "closed"
    return data.split(b" ", 2)[1].decode()


def _close(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _counted(ends: Counter[str]) -> str:
    return ", ".join(f"{times} x {what}" for what, times in sorted(ends.items()))


def _established(port: int, remote: str) -> int:
    """Connections of this machine on this port with that other one, as the kernel knows them."""
    there = socket.inet_aton(remote)[::-1].hex().upper()
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(
        local.endswith(f":{port:04X}") and other.startswith(there) and state == ESTABLISHED
        for _, local, other, state, *_ in rows
    )


if __name__ == "__main__":
    print(uvloop.run(play(HostileHoldersPlan())).text())
