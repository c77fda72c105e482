"""Scenes of `outages`: floods of changes and of unknown hosts, and an admin process that is stopped."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from bench.lab.programs import BenchFailed
from bench.operations.operated_edge import send, stop
from bench.report import Fact
from bench.routing.outage_scenes import Scene
from bench.routing.outage_stage import CLIENT_HOSTS, KNOWN, SERVERS, Stage
from bench.routing.unknown_host_load import UnknownHostPlan, unknown_host_clients
from edge.net.redis.redis_changes import RedisChanges
from edge.rules.routing.change_records import Change
from edge.rules.settings import RedisSettings

CHANGES_A_SECOND, CHANGES_FOR = 5000.0, 10.0
"How many, and for how many seconds at most."
TICK = 0.01
MANY = 10_000
"Hostnames that the edge knows besides, in a scene of LONG seconds; fewer in shorter ones."
LONG = 20.0
MANY_RATE, MANY_CLIENTS = 1500.0, 50
WATCHDOG = 5.0
SHORTEST_STOP = 10.0
ADMIN_BACK = 4.0
"Seconds beyond the watchdog within which there is an admin process again."


def address(network: int, number: int) -> str:
    """A loopback address: 127.NETWORK.x.y."""
    return f"127.{network}.{number // 250}.{1 + number % 250}"


# changes


async def know_many(stage: Stage) -> None:
    """Have every hostname of the crowd requested once."""
    many = _many(stage)
    plan = UnknownHostPlan(
        port=stage.edge.port,
        sources=[address(3, number) for number in range(MANY_CLIENTS)],
        rate=MANY_RATE,
        names=CLIENT_HOSTS + "{}.test",
    )
    async with unknown_host_clients(plan, _folder(stage, "crowd")) as clients:
        clients.begin()
        deadline = time.monotonic() + 60.0
        while sum(hostname.startswith(CLIENT_HOSTS) for hostname in stage.core.lookups) < many:
            if time.monotonic() > deadline:
                raise BenchFailed("the edge did not ask for all hostnames in time")
            await asyncio.sleep(0.2)
        await clients.stop()


def _many(stage: Stage) -> int:
    return MANY if stage.seconds >= LONG else MANY // 10


def _changes(rand: Random, many: int) -> Change:
    """One of some kind, of something that exists or does not."""
    kind = rand.choices(("hostname", "environment", "site", "server", "all"), (400, 200, 200, 200, 1))[0]
    site = rand.choice(
        (rand.choice(KNOWN).removesuffix(".test"), f"{CLIENT_HOSTS}{rand.randrange(many)}", f"no-{rand.random()}")
    )
    names = {
        "hostname": f"{site}.test",
        "environment": f"{site}/live",
        "site": site,
        "server": f"srv-{rand.randrange(2 * SERVERS)}",
        "all": "",
    }
    return Change(kind, names[kind])


def _event(change: Change) -> dict[str, object]:
    """As the core API's stream says it."""
    if change.kind == "environment":
        site, _, name = change.name.partition("/")
        return {"site": site, "environment": name}
    return {"all": True} if change.kind == "all" else {change.kind: change.name}


async def changes_by_stream(stage: Stage) -> None:
    await _flood_of_changes(stage, lambda changes: stage.core.publish(*map(_event, changes)))


async def changes_by_engine(stage: Stage) -> None:
    """As another edge would tell them."""
    bus = RedisChanges(lambda changes: None, Random().random)
    bus.start(RedisSettings(url=stage.engine_url, timeout=1.0))
    try:
        await _flood_of_changes(stage, bus.publish)
    finally:
        await bus.stop()


async def _flood_of_changes(stage: Stage, tell: Callable[[list[Change]], None]) -> None:
    rand, many, number = Random(1), _many(stage), 0
    workers, lookups = stage.edge.workers(), stage.core.lookups.total()
    began, seconds = time.monotonic(), min(stage.seconds, CHANGES_FOR)
    stage.monitor.mark("changes are published")
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * CHANGES_A_SECOND)
        tell([_changes(rand, many) for _ in range(due - number)])
        number = due
        await asyncio.sleep(TICK)
    stage.monitor.mark("that was all")
    await asyncio.sleep(1.0)
    lookups = stage.core.lookups.total() - lookups
    stage.facts += [
        Fact("changes published", f"{number / seconds:.0f}/s, {many} more hostnames known"),
        Fact("lookups at the core API meanwhile", f"{lookups / seconds:.0f}/s"),
        Fact(
            "workers replaced",
            str(len(set(workers) - set(stage.edge.workers()))),
            "0",
            workers == stage.edge.workers(),
        ),
    ]


# unknown hostnames


def _prepared(clients: int, rate: float) -> Callable[[Stage], Awaitable[None]]:
    async def prepare(stage: Stage) -> None:
        plan = UnknownHostPlan(
            port=stage.edge.port,
            sources=[address(1, number) for number in range(clients)],
            rate=rate,
            names="made-up-{}.example.test",
        )
        running = unknown_host_clients(plan, _folder(stage, "unknown-hosts"))
        stage.unknown_host_clients = await stage.until_the_end.enter_async_context(running)

    return prepare


async def unknown_hosts_flood(stage: Stage) -> None:
    clients = stage.unknown_host_clients
    assert clients is not None
    began = asyncio.get_running_loop().time()
    stage.monitor.mark("unknown hosts begin")
    clients.begin()
    await asyncio.sleep(stage.seconds)
    await clients.stop()
    stage.monitor.mark("unknown hosts end")
    statuses = ", ".join(f"{count} x {status}" for status, count in list(clients.result.statuses.items())[:4])
    stage.facts += [
        Fact("unknown hostnames: responses", f"{clients.result.rate:.0f}/s: {statuses}"),
        Fact("lookups at the core API in one second, at most", str(stage.core.most_in_a_second(began))),
    ]


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.directory / name
    folder.mkdir(exist_ok=True)
    return folder


# the admin process


async def admin_stopped(stage: Stage) -> None:
    """It stands still for the whole scene, and goes on afterwards if it is there still."""
    await _stop_admin(stage, signal.SIGCONT)


async def admin_killed(stage: Stage) -> None:
    """It stands still, and is killed afterwards if it is there still."""
    await _stop_admin(stage, signal.SIGKILL)


async def _stop_admin(stage: Stage, afterwards: signal.Signals) -> None:
    pid = stage.edge.processes()["admin"]
    stopped = await stop(pid)
    stage.monitor.mark("SIGSTOP for the admin process")
    back = asyncio.create_task(_admin_back(stage))
    try:
        await asyncio.sleep(max(stage.seconds, SHORTEST_STOP))
        with suppress(ProcessLookupError):
            send(pid, afterwards)
            stage.monitor.mark(f"{afterwards.name} for the admin process")
        completed = await back
    finally:
        back.cancel()
    goal = WATCHDOG + ADMIN_BACK
    seen = "not" if completed is None else f"after {completed - stopped:.1f} s"
    met = completed is not None and completed - stopped <= goal
    stage.facts.append(Fact("there is an admin process that responds", seen, f"<= {goal:g} s", met))


async def _admin_back(stage: Stage) -> float | None:
    """When it responded again; None = not within a while after the end of the scene."""
    deadline = time.monotonic() + max(stage.seconds, SHORTEST_STOP) + 15.0
    while time.monotonic() < deadline:
        if await stage.edge.request_admin("/readyz") is not None:
            return time.monotonic()
        await asyncio.sleep(0.1)
    return None


FLOODS = (
    Scene(
        name="changes-stream",
        what="5,000 changes a second by the core API's stream",
        play=changes_by_stream,
        prepare=know_many,
    ),
    Scene(
        name="changes-engine",
        what="the same by the Redis that edges share",
        play=changes_by_engine,
        prepare=know_many,
        with_engine=True,
    ),
    Scene(
        name="unknown-hosts-careful",
        what="100 clients ask for 9 made-up names a second each",
        play=unknown_hosts_flood,
        prepare=_prepared(100, 900.0),
    ),
    Scene(
        name="unknown-hosts-many",
        what="500 clients ask for 10,000 made-up names a second",
        play=unknown_hosts_flood,
        prepare=_prepared(500, 10_000.0),
    ),
    Scene(
        name="admin-stopped",
        what="the admin process stands still, then goes on",
        play=admin_stopped,
        more={"watchdog": f"{WATCHDOG:g}s"},
    ),
    Scene(
        name="admin-killed",
        what="it stands still, then is killed",
        play=admin_killed,
        more={"watchdog": f"{WATCHDOG:g}s"},
    ),
)
