"""Routes at the platform's scale, and without the platform.

first:   10,000 first requests for 2,000 new hostnames at once: 2,000 questions, never more than the limit in hand
flood:   5,000 requests a second for made-up hostnames, beside normal traffic; from one client, then from thousands
faults:  the core API is gone, answers 500, hangs, talks noise or slowly, or tells nonsense, while normal traffic
         goes on and new hostnames are asked for
shared:  the Redis that edges share is frozen, stopped, and started empty, beside known and new hostnames
moved:   a container moves under load; another edge knows it as well, without a request
scale:   half a million hostnames of three backends in one worker (bench/routing/many_routes.py)
"""

import asyncio
import re
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import aiohttp

from bench.balancing.balance import containers
from bench.lab import peers
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.plain_http import Broken, Connection
from bench.lab.procfs import Cores, memory
from bench.lab.programs import BenchFailed
from bench.lab.redis_server import PROGRAM, RedisServer
from bench.lab.servers import free_ports
from bench.lab.start_signal import StartSignal
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.lab.wrk import Wrk
from bench.report import none_missed, table, verdict
from bench.routing import many_routes
from bench.stubs.core_api_stub import TROUBLES, CoreApiStub, Known
from bench.stubs.fixed_routes import backend_told
from bench.stubs.stub_containers import StubPlan, Trouble

MIB = 1 << 20
KNOWN = 200
"Hostnames of the normal traffic."
RATE = 300.0
"Its requests a second."
CONCURRENCY = 64
"Questions in hand at once, at most (core_api.concurrency)."
FLOOD = 5_000.0
FLOOD_CONNECTIONS = 100
FLOOD_ROUNDS = 3
P99_GOAL = 1.5
MEMORY_GOAL = 64 * MIB
RECOVERY_GOAL = 8.0
"Seconds after its return within which the core API is asked for new hostnames again; a breaker's pause is 6.25."
SCENES = ("first", "flood", "faults", "moved", "shared", "scale")
NORMAL = [f"known-{n}.test" for n in range(KNOWN)]

QUEUE = 10_000
"Requests that wait in a container: here is asked where they go, not who is full."
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
class Line:
    """One thing that was measured, and whether that is good enough; None = it has no goal."""

    scene: str
    what: str
    seen: str
    goal: str
    met: bool | None


@dataclass(slots=True)
class RoutesReport:
    """All that was measured."""

    lines: list[Line] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return none_missed(self.lines)

    @property
    def raw(self) -> object:
        return [(line.scene, line.what, line.seen) for line in self.lines]

    def text(self) -> str:
        rows = [(f"{line.scene}: {line.what}", line.seen, line.goal, verdict(met=line.met)) for line in self.lines]
        return table(("routes", "seen", "goal", ""), rows)


async def run(plan: RoutesPlan) -> RoutesReport:
    """Raises BenchFailed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * plan.first)), hard))
    scenes: dict[str, Callable[[RoutesPlan], Awaitable[list[Line]]]] = {
        "first": _first,
        "flood": _flood,
        "faults": _faults,
        "moved": _moved,
        "shared": _shared,
        "scale": _scale,
    }
    report = RoutesReport()
    for name in plan.scenes:
        print(f"routes: {name}", file=sys.stderr, flush=True)
        report.lines += await scenes[name](plan)
    return report


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
    told = [backend_told(f"c{n}", port, f"srv-{n}") for n, port in enumerate(ports)]

    def route_of(hostname: str) -> Known | None:
        site = hostname.partition(".")[0]
        return Known(site, told) if site.startswith(("known-", "new-")) else None

    return route_of


@asynccontextmanager
async def _stage(
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


def _told(statuses: dict[str, int]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in Counter(statuses).most_common(4)) or "nothing"


# 10,000 first requests


async def _first(plan: RoutesPlan) -> list[Line]:
    async with _stage() as stage:
        hosts = [f"new-{n}.test" for n in range(plan.new)]
        gate, opening = asyncio.Event(), asyncio.Semaphore(200)
        statuses: Counter[int] = Counter()

        async def one(host: str) -> None:
            async with opening:
                connection = await Connection.open(stage.styx.server.port)
            await gate.wait()
            try:
                statuses[(await connection.ask(host, "GET /", {})).status] += 1
            except Broken:
                statuses[0] += 1
            finally:
                connection.close()

        async with asyncio.TaskGroup() as clients:
            for n in range(plan.first):
                clients.create_task(one(hosts[n % plan.new]))
            while await stage.metric('styx_client_connections{worker="0"}') < plan.first:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            began = monotonic()
            gate.set()
        took = monotonic() - began
    asked, most = stage.core.questions, stage.core.most_in_hand
    questions = f"{asked.total()} for {len(asked)} hostnames"
    return [
        Line("first", "questions", questions, str(plan.new), asked.total() == plan.new),
        Line("first", "in hand at once", str(most), f"<= {CONCURRENCY}", most <= CONCURRENCY),
        Line(
            "first",
            f"answers, in {took:.1f} s",
            str(dict(statuses)),
            "all by a container",
            statuses[200] == plan.first,
        ),
    ]


# made-up names

MADE_UP = """
local n = 0
math.randomseed({seed})
request = function()
  n = n + 1
  wrk.headers["Host"] = string.format("%x-%d.made-up.test", math.random(0, 2147483647), n)
  {address}
  return wrk.format()
end
function delay() return math.random(0, 2 * {delay}) end
"""
ADDRESS = (
    'wrk.headers["X-Forwarded-For"] = string.format("10.%d.%d.%d", math.random(0,255), math.random(0,255), '
    "math.random(0,255))"
)


async def _flood(plan: RoutesPlan) -> list[Line]:
    cores = Cores.split()
    lines: list[Line] = []
    with cores.kept_free():
        for clients in ("one client", "many clients"):
            lines += await _flood_by(clients, plan, cores.proxy)
    return lines


async def _flood_by(clients: str, plan: RoutesPlan, core: int) -> list[Line]:
    many = clients == "many clients"
    async with _stage(behind_proxy=many, core=core) as stage:
        lua = MADE_UP.format(
            seed=plan.seed, address=ADDRESS if many else "", delay=round(1000 * FLOOD_CONNECTIONS / FLOOD)
        )
        wrk = Wrk(stage.directory, connections=FLOOD_CONNECTIONS, headers={}, lua=lua, any_status=True)
        await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
        begun, memory_before = asyncio.get_running_loop().time(), memory(stage.styx.server.pid).resident
        known_before = sum(stage.core.questions[host] for host in NORMAL)
        p99s: list[tuple[float, float]] = []
        rates: list[float] = []
        wrong: Counter[str] = Counter()
        # The flood takes time of the core of clients and containers as well: compare with a flood elsewhere.
        async with peers.backends(stage.directory) as elsewhere:
            for _ in range(FLOOD_ROUNDS):
                _, alone = await asyncio.gather(
                    wrk.run(f"http://127.0.0.1:{elsewhere[0]}/", plan.seconds),
                    stage.play("alone", NORMAL, RATE, plan.seconds),
                )
                load, beside = await asyncio.gather(
                    wrk.run(f"http://127.0.0.1:{stage.styx.server.port}/", plan.seconds),
                    stage.play("beside", NORMAL, RATE, plan.seconds, seed=2),
                )
                p99s.append((beside.p99_ms, alone.p99_ms))
                rates.append(load.rate)
                wrong.update({status: n for status, n in beside.statuses.items() if status != "200"})
        grown = memory(stage.styx.server.pid).resident - memory_before
        kept = await stage.metric("styx_routes")
        known_asked = sum(stage.core.questions[host] for host in NORMAL) - known_before
    ratio, rate = median(with_it / without for with_it, without in p99s), stage.core.most_in_a_second(begun)
    scene = f"flood by {clients}"
    return [
        Line(scene, "made-up names a second", ", ".join(f"{rate:.0f}" for rate in rates), "", None),
        Line(
            scene,
            "p99 of known hostnames: ms beside it / beside one elsewhere",
            f"{', '.join(f'{a:.1f}/{b:.1f}' for a, b in p99s)}: x {ratio:.2f}",
            f"<= {P99_GOAL}",
            ratio <= P99_GOAL,
        ),
        Line(scene, "known hostnames, not 200", _told(wrong), "nothing", not wrong),
        Line(scene, "known hostnames still known", f"{kept:.0f}", str(KNOWN), kept == KNOWN),
        Line(scene, "questions about them meanwhile", str(known_asked), "", None),
        Line(
            scene,
            "questions in one second",
            str(rate),
            "<= 450 (twice limits.unknown_hosts, and bursts)",
            rate <= 450,
        ),
        Line(scene, "questions in all", str(sum(m >= begun for m in stage.core.moments)), "", None),
        Line(
            scene,
            "in hand at once",
            str(stage.core.most_in_hand),
            f"<= {CONCURRENCY}",
            stage.core.most_in_hand <= CONCURRENCY,
        ),
        Line(scene, "memory grown", f"{grown / MIB:.1f} MiB", f"< {MEMORY_GOAL // MIB} MiB", grown < MEMORY_GOAL),
    ]


# a core API in trouble


async def _faults(plan: RoutesPlan) -> list[Line]:
    lines: list[Line] = []
    async with _stage(max_age=2) as stage:
        await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
        for trouble in plan.troubles:
            lines += await _fault(stage, trouble, plan.each_trouble)
    return lines


async def _fault(stage: Stage, trouble: str, seconds: float) -> list[Line]:
    scene, lookups = f"core API: {trouble}", trouble not in ("empty list", "older generation")
    new = [f"new-{trouble.replace(' ', '-')}-{n}.test" for n in range(100_000)]
    await stage.core.fall(trouble)
    known, unknown = await asyncio.gather(
        stage.play("known", NORMAL, RATE, seconds),
        stage.play("unknown", new, 20.0 if lookups else 0.01, seconds),
    )
    stage.core.most_in_hand = 0
    returned = asyncio.get_running_loop().time()
    await stage.core.fall("")
    back = await _asked_again(stage, trouble)
    await stage.play("after", NORMAL, RATE, 2.0)
    wrong = {status: n for status, n in known.statuses.items() if status != "200"}
    most, in_a_second = stage.core.most_in_hand, stage.core.most_in_a_second(returned)
    lines = [Line(scene, "known hostnames, not 200", _told(wrong), "nothing", not wrong)]
    if lookups:
        waits = sorted(unknown.all_ms)
        seen = f"{_told(unknown.statuses)}; p50 {waits[len(waits) // 2]:.0f} ms, longest {waits[-1]:.0f}"
        lines.append(
            Line(scene, "unknown ones", seen, "503 lookup_failed", set(unknown.statuses) == {"503 lookup_failed"})
        )
        lines.append(
            Line(scene, "new ones again after", f"{back:.1f} s", f"<= {RECOVERY_GOAL:g} s", back <= RECOVERY_GOAL)
        )
    seen = f"{most} in hand, {in_a_second} in a second"
    return [
        *lines,
        Line(scene, "questions after its return", seen, f"<= {CONCURRENCY} in hand", most <= CONCURRENCY),
    ]


async def _asked_again(stage: Stage, trouble: str) -> float:
    """Seconds until a new hostname is found."""
    began, number = monotonic(), 0
    while monotonic() - began < 30.0:
        number += 1
        connection = await Connection.open(stage.styx.server.port)
        try:
            host = f"new-back-{trouble.replace(' ', '-')}-{number}.test"
            if (await connection.ask(host, "GET /", {})).status == 200:
                break
        finally:
            connection.close()
        await asyncio.sleep(0.02)
    return monotonic() - began


# a container that moves


async def _moved(plan: RoutesPlan) -> list[Line]:
    lines: list[Line] = []
    for told in (True, False):
        lines += await _move(plan, told=told)
    return lines


async def _move(plan: RoutesPlan, *, told: bool) -> list[Line]:
    """`told`: by the stream of changes; otherwise the edges find it out for themselves."""
    ports = free_ports(4)
    places = {"now": ports[:3]}

    def route_of(hostname: str) -> Known | None:
        backends = [backend_told(f"c{n}", port, f"srv-{n}") for n, port in enumerate(places["now"])]
        return Known("shop", backends, generation=1 + (places["now"] is not first))

    first = places["now"]
    core = CoreApiStub(route_of, freshness="max-age=600, stale-while-revalidate=600", delay=0.003, streams=told)
    with tempfile.TemporaryDirectory(prefix="styx-routes-") as name:
        directory = Path(name)
        for part in ("busy", "idle"):
            (directory / part).mkdir()
        start_signal = StartSignal(directory / "begins")
        begins = str(start_signal.file)
        moves = [Trouble(0, "moves", plan.moves_at, plan.moves_at + 3600.0)]
        stubs = StubPlan(ports, moves, begins=begins, queue=QUEUE)
        async with containers(stubs, directory), core.running():  # noqa: SIM117 - its URL
            async with (
                styx_under_test(directory / "busy", core.url, "") as busy,
                styx_under_test(directory / "idle", core.url, "") as idle,
            ):
                await _ask_once(idle, "shop.test")
                schedule = Schedule(
                    ports=[busy.server.port],
                    host="shop.test",
                    path="/",
                    rate=plan.moved_rate,
                    seconds=plan.moved_seconds,
                    seed=plan.seed,
                    name="moved",
                    demand_ms=2.0,
                    begins=begins,
                )
                playing = asyncio.create_task(run_schedule(schedule, directory))
                at = await start_signal.tell() + plan.moves_at
                await asyncio.sleep(max(0.0, at - monotonic()))
                places["now"] = [ports[3], *ports[1:3]]
                if told:
                    core.tell({"site": "shop", "environment": "live"})
                known_after = await _knows(idle, ports[3], 3.0)
                load_result = await playing
                found = await _knows(busy, ports[3], 1.0)
                if not told:
                    for _ in range(20):
                        await _ask_once(idle, "shop.test")
                    known_after = await _knows(idle, ports[3], 3.0)
    wrong = {status: n for status, n in load_result.statuses.items() if status != "200"}
    scene = "moved, told" if told else "moved, not told"
    idle_goal = "<= 1 s, without a request" if told else "at its next failure"
    met = known_after is not None and (not told or known_after <= 1.0)
    return [
        Line(
            scene,
            f"requests at {plan.moved_rate:g}/s, not 200",
            ", ".join([_told(wrong), *load_result.failed[:4]]),
            "nothing",
            not wrong,
        ),
        Line(scene, "p99", f"{load_result.p99_ms:.1f} ms", "", None),
        Line(scene, "the busy edge knows", "yes" if found is not None else "no", "yes", found is not None),
        Line(
            scene,
            "the idle edge knows",
            f"after {known_after:.2f} s" if known_after is not None else "no",
            idle_goal,
            met,
        ),
    ]


async def _ask_once(styx: StyxUnderTest, host: str) -> int:
    connection = await Connection.open(styx.server.port)
    try:
        return (await connection.ask(host, "GET /", {})).status
    finally:
        connection.close()


async def _knows(styx: StyxUnderTest, port: int, patience: float) -> float | None:
    """Seconds until its route names this port; None = it does not within `patience`."""
    began = monotonic()
    url = f"http://127.0.0.1:{styx.admin_port}/v1/routes/shop.test/explain"
    async with aiohttp.ClientSession() as session:
        while monotonic() - began < patience:
            async with session.get(url) as response:
                if f":{port}" in await response.text():
                    return monotonic() - began
            await asyncio.sleep(0.02)
    return None


# the engine that edges share

SHARED_PHASES = ("fine", "frozen", "stopped", "started empty")
EACH_PHASE, TURNED_AFTER = 8.0, 1.0
SHARED_ROUNDS = 3
ADDED_GOAL = 1.2


@dataclass(slots=True)
class Phase:
    """What was seen of an edge that shares, and of one beside it that does not."""

    p99s: list[tuple[float, float]] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    "Latencies of the first requests for new hostnames, at the edge that shares."
    wrong: Counter[str] = field(default_factory=Counter)


async def _shared(plan: RoutesPlan) -> list[Line]:
    if PROGRAM is None:
        raise BenchFailed("redis-server is not installed")
    phases = {name: Phase() for name in SHARED_PHASES}
    with tempfile.TemporaryDirectory(prefix="styx-redis-") as name:
        engine = RedisServer(Path(name))
        await engine.start()
        try:
            # At the same time, for this machine is never twice as quick.
            async with _stage(more=f'shared: {{url: "{engine.url}"}}\n') as sharing, _stage() as alone:
                for stage in (sharing, alone):
                    await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
                for number in range(SHARED_ROUNDS):
                    for phase in SHARED_PHASES:
                        await _shared_phase(phases[phase], phase, number, engine, sharing, alone)
        finally:
            engine.thaw()
            await engine.stop()
    return [line for phase in SHARED_PHASES for line in _phase_lines(phase, phases[phase])]


async def _shared_phase(
    seen: Phase, phase: str, number: int, engine: RedisServer, sharing: Stage, alone: Stage
) -> None:
    new = [f"new-{phase.replace(' ', '-')}-{number}-{n}.test" for n in range(100_000)]

    async def turn() -> None:
        await asyncio.sleep(TURNED_AFTER)
        await _turn(engine, phase)

    async def both(name: str, hosts: list[str], rate: float) -> list[LoadResult]:
        return await asyncio.gather(
            *(stage.play(name, hosts, rate, EACH_PHASE, number) for stage in (sharing, alone))
        )

    known, unknown, _ = await asyncio.gather(both("known", NORMAL, RATE), both("new", new, 20.0), turn())
    seen.p99s.append((known[0].p99_ms, known[1].p99_ms))
    seen.new += unknown[0].latencies_ms
    for load_result in (known[0], unknown[0]):
        seen.wrong.update({status: n for status, n in load_result.statuses.items() if status != "200"})


async def _turn(engine: RedisServer, phase: str) -> None:
    match phase:
        case "frozen":
            engine.freeze()
        case "stopped":
            engine.thaw()
            await engine.stop()
        case "started empty":
            await engine.start()


def _phase_lines(phase: str, seen: Phase) -> list[Line]:
    ratio, scene = median(a / b for a, b in seen.p99s), f"shared engine {phase}"
    new = sorted(seen.new)
    return [
        Line(scene, "known and new hostnames, not 200", _told(seen.wrong), "nothing", not seen.wrong),
        Line(
            scene,
            "p99 of known hostnames: ms with it / without one",
            f"{', '.join(f'{a:.1f}/{b:.1f}' for a, b in seen.p99s)}: x {ratio:.2f}",
            f"<= {ADDED_GOAL}",
            ratio <= ADDED_GOAL,
        ),
        Line(
            scene,
            "new hostnames, p99 and slowest",
            f"{new[len(new) * 99 // 100]:.1f} ms, {new[-1]:.0f} ms",
            "",
            None,
        ),
    ]


async def _scale(_: RoutesPlan) -> list[Line]:
    seen = await many_routes.measure()
    return [
        Line(
            "scale",
            f"{seen.routes} routes loaded",
            f"{seen.load_seconds:.1f} s",
            "< 10 s",
            seen.load_seconds < 10.0,
        ),
        Line("scale", "memory for each", f"{seen.bytes_each:.0f} bytes", "<= 2048", seen.bytes_each <= 2048),
        Line("scale", "file for each", f"{seen.file_bytes_each:.0f} bytes", "", None),
        Line(
            "scale",
            "CPU a request over 10,000 of them / over one",
            f"{seen.many_us:.1f} / {seen.one_us:.1f} us: x {seen.ratio:.2f}",
            "<= 1.15",
            seen.ratio <= 1.15,
        ),
        Line(
            "scale",
            "memory for each after that",
            f"{seen.bytes_each_after:.0f} bytes",
            "<= 2048",
            seen.bytes_each_after <= 2048,
        ),
    ]
