"""Scenes of `routes`: first requests for new hostnames, a core API in trouble, a container that moves."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

import aiohttp

from bench.balancing.balance import containers
from bench.lab.load_generator import Schedule
from bench.lab.load_process import run_schedule
from bench.lab.plain_http import Broken, Connection
from bench.lab.servers import free_ports
from bench.lab.start_signal import StartSignal
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.report import SceneFact
from bench.routing.route_stage import (
    CONCURRENCY,
    NORMAL,
    QUEUE,
    RATE,
    RECOVERY_GOAL,
    RoutesPlan,
    Stage,
    running_stage,
    statuses_text,
)
from bench.stubs.core_api_stub import CoreApiStub, Known
from bench.stubs.fixed_routes import backend_entry
from bench.stubs.stub_containers import StubPlan, Trouble


async def first_requests(plan: RoutesPlan) -> list[SceneFact]:
    async with running_stage() as stage:
        hosts = [f"new-{n}.test" for n in range(plan.new)]
        gate, opening = asyncio.Event(), asyncio.Semaphore(200)
        statuses: Counter[int] = Counter()

        async def one(host: str) -> None:
            async with opening:
                connection = await Connection.open(stage.styx.server.port)
            await gate.wait()
            try:
                statuses[(await connection.send_request(host, "GET /", {})).status] += 1
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
    lookups, most = stage.core.lookups, stage.core.most_in_flight
    seen = f"{lookups.total()} for {len(lookups)} hostnames"
    return [
        SceneFact("first", "lookups", seen, str(plan.new), lookups.total() == plan.new),
        SceneFact("first", "in flight at once", str(most), f"<= {CONCURRENCY}", most <= CONCURRENCY),
        SceneFact(
            "first",
            f"responses, in {took:.1f} s",
            str(dict(statuses)),
            "all by a container",
            statuses[200] == plan.first,
        ),
    ]


async def core_api_faults(plan: RoutesPlan) -> list[SceneFact]:
    lines: list[SceneFact] = []
    async with running_stage(max_age=2) as stage:
        await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
        for trouble in plan.troubles:
            lines += await _fault(stage, trouble, plan.each_trouble)
    return lines


async def _fault(stage: Stage, trouble: str, seconds: float) -> list[SceneFact]:
    scene, lookups = f"core API: {trouble}", trouble not in ("empty list", "older generation")
    new = [f"new-{trouble.replace(' ', '-')}-{n}.test" for n in range(100_000)]
    await stage.core.fall(trouble)
    known, unknown = await asyncio.gather(
        stage.play("known", NORMAL, RATE, seconds),
        stage.play("unknown", new, 20.0 if lookups else 0.01, seconds),
    )
    stage.core.most_in_flight = 0
    returned = asyncio.get_running_loop().time()
    await stage.core.fall("")
    back = await _requested_again(stage, trouble)
    await stage.play("after", NORMAL, RATE, 2.0)
    wrong = {status: n for status, n in known.statuses.items() if status != "200"}
    most, in_a_second = stage.core.most_in_flight, stage.core.most_in_a_second(returned)
    lines = [SceneFact(scene, "known hostnames, not 200", statuses_text(wrong), "nothing", not wrong)]
    if lookups:
        waits = sorted(unknown.all_ms)
        seen = f"{statuses_text(unknown.statuses)}; p50 {waits[len(waits) // 2]:.0f} ms, longest {waits[-1]:.0f}"
        lines.append(
            SceneFact(
                scene, "unknown ones", seen, "503 lookup_failed", set(unknown.statuses) == {"503 lookup_failed"}
            )
        )
        lines.append(
            SceneFact(
                scene, "new ones again after", f"{back:.1f} s", f"<= {RECOVERY_GOAL:g} s", back <= RECOVERY_GOAL
            )
        )
    seen = f"{most} in hand, {in_a_second} in a second"
    return [
        *lines,
        SceneFact(scene, "lookups after its return", seen, f"<= {CONCURRENCY} in hand", most <= CONCURRENCY),
    ]


async def _requested_again(stage: Stage, trouble: str) -> float:
    """Seconds until a new hostname is found."""
    began, number = monotonic(), 0
    while monotonic() - began < 30.0:
        number += 1
        connection = await Connection.open(stage.styx.server.port)
        try:
            host = f"new-back-{trouble.replace(' ', '-')}-{number}.test"
            if (await connection.send_request(host, "GET /", {})).status == 200:
                break
        finally:
            connection.close()
        await asyncio.sleep(0.02)
    return monotonic() - began


async def moved_container(plan: RoutesPlan) -> list[SceneFact]:
    lines: list[SceneFact] = []
    for streamed in (True, False):
        lines += await _move(plan, streamed=streamed)
    return lines


async def _move(plan: RoutesPlan, *, streamed: bool) -> list[SceneFact]:
    """`streamed`: the stream of changes announces it; otherwise the edges find out for themselves."""
    ports = free_ports(4)
    places = {"now": ports[:3]}

    def route_of(hostname: str) -> Known | None:
        backends = [backend_entry(f"c{n}", port, f"srv-{n}") for n, port in enumerate(places["now"])]
        return Known("shop", backends, generation=1 + (places["now"] is not first))

    first = places["now"]
    core = CoreApiStub(route_of, freshness="max-age=600, stale-while-revalidate=600", delay=0.003, streams=streamed)
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
                await _request_once(idle, "shop.test")
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
                at = await start_signal.send() + plan.moves_at
                await asyncio.sleep(max(0.0, at - monotonic()))
                places["now"] = [ports[3], *ports[1:3]]
                known_after: float | None = None
                if streamed:
                    core.publish({"site": "shop", "environment": "live"})
                    known_after = await _knows(idle, ports[3], 3.0)
                load_result = await playing
                found = await _knows(busy, ports[3], 1.0)
                if not streamed:
                    for _ in range(20):
                        await _request_once(idle, "shop.test")
                    known_after = await _knows(idle, ports[3], 3.0)
    wrong = {status: n for status, n in load_result.statuses.items() if status != "200"}
    scene = "moved, streamed" if streamed else "moved, not streamed"
    idle_goal = "<= 1 s, without a request" if streamed else "at its next failure"
    met = known_after is not None and (not streamed or known_after <= 1.0)
    return [
        SceneFact(
            scene,
            f"requests at {plan.moved_rate:g}/s, not 200",
            ", ".join([statuses_text(wrong), *load_result.failed[:4]]),
            "nothing",
            not wrong,
        ),
        SceneFact(scene, "p99", f"{load_result.p99_ms:.1f} ms", "", None),
        SceneFact(scene, "the busy edge knows", "yes" if found is not None else "no", "yes", found is not None),
        SceneFact(
            scene,
            "the idle edge knows",
            f"after {known_after:.2f} s" if known_after is not None else "no",
            idle_goal,
            met,
        ),
    ]


async def _request_once(styx: StyxUnderTest, host: str) -> int:
    connection = await Connection.open(styx.server.port)
    try:
        return (await connection.send_request(host, "GET /", {})).status
    finally:
        connection.close()


async def _knows(styx: StyxUnderTest, port: int, time_limit: float) -> float | None:
    """Seconds until its route names this port; None = it does not within `time_limit`."""
    began = monotonic()
    url = f"http://127.0.0.1:{styx.admin_port}/v1/routes/shop.test/explain"
    async with aiohttp.ClientSession() as session:
        while monotonic() - began < time_limit:
            async with session.get(url) as response:
                if f":{port}" in await response.text():
                    return monotonic() - began
            await asyncio.sleep(0.02)
    return None
