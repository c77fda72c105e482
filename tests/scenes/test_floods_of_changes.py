"""Thousands of changes a second: requests are served, the core API is asked little, and the last one holds."""

import asyncio
from random import Random

from edge.rules.routing.change_records import Change

HOSTS = [f"site-{n}.test" for n in range(5)]
SECONDS, EVERY, AT_ONCE = 1.2, 0.01, 50


def a_change(rand):
    kind = rand.choice(("hostname", "site", "environment", "server", "all"))
    name = rand.choice([*HOSTS, *(f"no-{rand.randrange(10_000)}.test" for _ in HOSTS)])
    named = {"environment": f"{name}/live", "server": f"srv-{rand.randrange(100)}", "all": ""}
    return Change(kind, named.get(kind, name))


async def told_all_the_time(scene):
    rand, invalidator = Random(1), scene.worker.context.resolver.invalidator
    for _ in range(int(SECONDS / EVERY)):
        invalidator.changed([a_change(rand) for _ in range(AT_ONCE)])
        await asyncio.sleep(EVERY)


async def test_requests_are_served_and_the_core_api_is_asked_once_a_second(scene):
    here = scene.backend()
    for host in HOSTS:
        scene.route(host, [here])
        assert (await scene.get(host)).status == 200
    loop = asyncio.get_running_loop()
    began, flood = loop.time(), asyncio.create_task(told_all_the_time(scene))
    statuses = []
    while not flood.done():
        statuses += [(await scene.get(host)).status for host in HOSTS]
    passed = loop.time() - began
    assert set(statuses) == {200}
    assert len(statuses) > 50
    for host in HOSTS:
        asked = scene.core.lookups.count(host) - 1
        assert 1 <= asked <= passed + 1, "by the changes and by the requests that found it stale"
    assert set(scene.core.lookups) == set(HOSTS)


async def test_the_last_change_is_not_lost(scene):
    here, there = scene.backend(), scene.backend(body=b"moved")
    for host in HOSTS:
        scene.route(host, [here])
        assert (await scene.get(host)).status == 200
    await told_all_the_time(scene)
    for host in HOSTS:
        scene.route(host, [there])
    scene.worker.context.resolver.invalidator.changed([Change("site", host) for host in HOSTS])
    table = scene.worker.context.table

    def has_moved(host):
        return [backend.id for backend in table.get(host).response.backends] == [there.name]

    await scene.until(lambda: all(map(has_moved, HOSTS)))
    for host in HOSTS:
        assert (await scene.get(host)).body == b"moved"
