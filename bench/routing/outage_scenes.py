"""Scenes of `outages`: failures of the routes file and of the core API, and what each of them checks."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from bench.operations.operate_scenes import AT_ONCE, USUAL, Excuse
from bench.operations.operated_edge import send, stop
from bench.report import Fact
from bench.routing.outage_stage import COLD, CONTAINERS, KNOWN, Stage, Which, every, half, none, other_half
from bench.stubs.site_containers import site_containers

LONGEST = 20.0
"Seconds for which routes are gone in a scene, at most: well below 30 s, when that may be believed."
BELIEVED_WITHIN = 90.0
"Seconds within which generations that are lower, and stay so, have to be believed."
LONG = 20.0
"Seconds of a scene from which on it waits for that."
BAD = 10.0
"Seconds until a bad deployment is undone."
TAKEN_OVER_WITHIN = 10.0
"Seconds until routes are what they are after `styx invalidate`, or after a change of the routes file."
RECOVERED_WITHIN = 8.0
"Seconds until hostnames work again with which the core API was in trouble."
REPLACED_WITHIN = 20.0
"Seconds until there is a new worker in place of a killed one. Here it is not judged how soon."
PAUSE = 0.15
"Seconds between the two halves of a write in place."


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One outage. Known hostnames must get 200 all the time, whatever the scene."""

    name: str
    what: str
    play: Callable[[Stage], Awaitable[None]]
    prepare: Callable[[Stage], Awaitable[None]] | None = None
    "What is done before anything is measured."
    from_file: bool = False
    "Routes come from a file, not from a core API."
    with_engine: bool = False
    "The edge shares a Redis."
    cold: Which = every
    "Cold hostnames that must get 200 meanwhile."
    refused: Which = none
    "Others that are requested as well; they may get 503, but no page of another site."
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return USUAL | self.more


# the routes file


async def file_emptied(stage: Stage) -> None:
    stage.monitor.mark("the file is empty")
    stage.write_routes("")
    await asyncio.sleep(min(stage.seconds, LONGEST))
    await _restored(stage)


async def file_without_routes(stage: Stage) -> None:
    cut = stage.listed[: len(stage.listed) // 3]
    texts = ("\n \n", "# routes of this edge\n", "{}\n", "routes: []\n", stage.sites.file(cut))
    for text in texts:
        stage.monitor.mark(f"the file holds {text[:20]!r}")
        stage.write_routes(text)
        await asyncio.sleep(min(stage.seconds, 3 * LONGEST) / len(texts))
        await _restored(stage)


async def _restored(stage: Stage) -> None:
    """The file is whole again, and has one hostname more, which has to work soon."""
    new = f"new-{len(stage.listed)}.test"
    stage.listed.append(new)
    stage.monitor.mark("the file is whole again")
    stage.write_routes(stage.sites.file(stage.listed))
    took = await stage.first_completed(new, TAKEN_OVER_WITHIN)
    stage.facts.append(_within("a new hostname in the file works", took, TAKEN_OVER_WITHIN))


async def file_rewritten(stage: Stage) -> None:
    """Ten times: truncated, and written after a pause; every other time in two pieces with the pause between."""
    text = stage.sites.file(stage.listed)
    for number in range(10):
        begin = text[: number % 2 * len(text) // 2]
        stage.monitor.mark(f"rewritten in place {number + 1}, {len(begin)} bytes at first")
        with stage.routes_file.open("w") as file:
            file.write(begin)
            file.flush()
            await asyncio.sleep(PAUSE)
            file.write(text[len(begin) :])
        await asyncio.sleep(max(0.5, stage.seconds / 10 - PAUSE))
    await _restored(stage)


async def file_broken(stage: Stage) -> None:
    """It cannot be understood, and both workers die one after the other: their successors never saw a good one."""
    stage.monitor.mark("the file is broken")
    stage.write_routes("routes: [{hostnames: [")
    for slot in (0, 1):
        await asyncio.sleep(1.0)
        await _kill_worker(stage, slot)
        await asyncio.sleep(stage.seconds / 3)
    await _restored(stage)


async def file_out_of_reach(stage: Stage) -> None:
    """Its directory is away, as one that is not mounted, and a worker dies meanwhile."""
    directory = stage.routes_file.parent
    stage.monitor.mark("the directory is away")
    away = directory.rename(directory.with_name("away"))
    await _kill_worker(stage, 0)
    await asyncio.sleep(stage.seconds / 2)
    away.rename(directory)
    await _restored(stage)


async def _kill_worker(stage: Stage, slot: int) -> None:
    """One of the two; requests on its connections are lost with it."""
    pid = stage.edge.workers()[slot]
    stage.kills.append(time.monotonic())
    await stop(pid)  # it stands still while its connections are looked at
    clients = stage.edge.clients_of(pid)
    killed = send(pid, signal.SIGKILL)
    stage.monitor.mark(f"SIGKILL for worker {slot}")
    stage.monitor.excused.append(Excuse(clients, killed + AT_ONCE))
    await stage.serve_again(f"killed worker {slot}", 2, time_limit=REPLACED_WITHIN, without=pid)


# generations


async def lower_generations(stage: Stage) -> None:
    stage.monitor.mark("the core API says lower generations")
    stage.sites.generation -= 500
    await asyncio.sleep(stage.seconds)


async def lower_generations_invalidated(stage: Stage) -> None:
    await lower_generations(stage)
    await stage.command("invalidate all", "after lower generations")
    await asyncio.sleep(stage.seconds / 2)


async def with_other_containers(stage: Stage) -> None:
    """Each site gets another set, which it can be moved to."""
    folder = stage.directory / "moved"
    folder.mkdir()
    running = site_containers(CONTAINERS, folder)
    _, stage.moved_ports = await stage.until_the_end.enter_async_context(running)


async def lower_generations_moved(stage: Stage) -> None:
    """All sites have other containers; those from before serve on."""
    before, stage.sites.ports = stage.sites.ports, stage.moved_ports
    began = time.monotonic()
    await lower_generations(stage)
    if stage.seconds < LONG:
        return
    took = await stage.moved(before, BELIEVED_WITHIN - (time.monotonic() - began))
    took = None if took is None else time.monotonic() - began
    stage.facts.append(_within("the new containers are used", took, BELIEVED_WITHIN))


async def lower_generations_moved_invalidated(stage: Stage) -> None:
    """The same; a few seconds after `styx invalidate all` the containers from before end."""
    before, stage.sites.ports = stage.sites.ports, stage.moved_ports
    await lower_generations(stage)
    await stage.command("invalidate all", "after lower generations")
    took = await stage.moved(before, TAKEN_OVER_WITHIN)
    stage.facts.append(_within("the new containers are used", took, TAKEN_OVER_WITHIN))
    stage.monitor.mark("the containers from before end")
    stage.containers.kill()
    await asyncio.sleep(stage.seconds / 2)


# a core API that is in trouble with half of all hostnames


def _in_trouble(trouble: str) -> Callable[[Stage], Awaitable[None]]:
    async def play(stage: Stage) -> None:
        core = stage.core
        core.concerns, core.instead = half, _neighbour
        stage.monitor.mark(f"the core API in trouble: {trouble}")
        await core.fall(trouble)
        await asyncio.sleep(stage.seconds)
        await core.fall("")
        stage.monitor.mark("the core API is well again")
        one = next(name for n in range(100) if half(name := f"{COLD}afterwards-{n}.test"))
        took = await stage.first_completed(one, RECOVERED_WITHIN)
        stage.facts.append(_within("a cold one of them works afterwards", took, RECOVERED_WITHIN))

    return play


def _neighbour(hostname: str) -> str:
    """Whose route is returned in place of this one's: always that of another site."""
    others = [other for other in KNOWN if other != hostname]
    return others[crc32(hostname.encode()) % len(others)]


# a deployment of the platform that says nonsense, with higher generations


def _without_backends(concerned: Which) -> Callable[[Stage], Awaitable[None]]:
    async def play(stage: Stage) -> None:
        stage.sites.without_backends = concerned
        await _bad_deployment(stage)

    return play


async def all_hostnames_missing(stage: Stage) -> None:
    stage.sites.missing = every
    await _bad_deployment(stage)


async def _bad_deployment(stage: Stage) -> None:
    sites = stage.sites
    stage.monitor.mark("a bad deployment")
    sites.generation += 1
    await asyncio.sleep(min(stage.seconds, BAD))
    stage.monitor.mark("it is undone")
    sites.without_backends = sites.missing = none
    sites.generation += 1
    await asyncio.sleep(BAD / 2)


def _within(what: str, took: float | None, goal: float) -> Fact:
    seen = "not" if took is None else f"after {took:.1f} s"
    return Fact(what, seen, f"<= {goal:g} s", took is not None and took <= goal)


SCENES = (
    Scene(name="file-emptied", what="the routes file is empty for a while", play=file_emptied, from_file=True),
    Scene(
        name="file-without-routes",
        what="it is blank, a comment, {}, routes: [], cut to a third",
        play=file_without_routes,
        from_file=True,
    ),
    Scene(name="file-rewritten", what="it is rewritten in place ten times", play=file_rewritten, from_file=True),
    Scene(name="file-broken", what="it is broken, and each worker is killed", play=file_broken, from_file=True),
    Scene(
        name="file-out-of-reach",
        what="its directory is away, and a worker is killed",
        play=file_out_of_reach,
        from_file=True,
    ),
    Scene(name="generations-lower", what="the core API says lower generations", play=lower_generations),
    Scene(
        name="generations-lower-invalidated",
        what="the same, then `styx invalidate all`",
        play=lower_generations_invalidated,
    ),
    Scene(
        name="generations-lower-moved",
        what="lower generations with other containers",
        play=lower_generations_moved,
        prepare=with_other_containers,
    ),
    Scene(
        name="generations-lower-moved-invalidated",
        what="the same, then `styx invalidate all`, then the old containers end",
        play=lower_generations_moved_invalidated,
        prepare=with_other_containers,
    ),
    *(
        Scene(
            name=f"core-api-{name}",
            what=f"{what} for half of all names",
            play=_in_trouble(trouble),
            cold=other_half,
            refused=half,
        )
        for name, trouble, what in (
            ("400", "400", "the core API returns 400"),
            ("nonsense", "nonsense", "it returns what cannot be understood"),
            ("other-hostname", "other hostname", "it returns a route of another hostname"),
        )
    ),
    Scene(
        name="backends-gone-all",
        what="higher generations without backends for all names",
        play=_without_backends(every),
        cold=none,
    ),
    Scene(
        name="backends-gone-half",
        what="the same for half of all names",
        play=_without_backends(half),
        cold=other_half,
    ),
    Scene(name="hostnames-gone-all", what="404 for all names", play=all_hostnames_missing, cold=none),
)
