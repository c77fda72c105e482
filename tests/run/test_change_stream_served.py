"""The change stream of the platform reaches all workers, without a request."""

import asyncio
import json
import re

import pytest

from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from tests.run.test_saved_routes import responses
from tests.support.processes.edges import Kept, edge, events

HOST = "live-acme.localhost"


@pytest.fixture
async def platform():
    async with PocketPlatform(PlatformSpec(notice=0.02, seed=7, heartbeat=0.1)) as running:
        await running.create_environment("acme", service_time=0)
        yield running


@pytest.fixture
async def styx(platform, until):
    async with edge(core_api=platform.core_api_url) as styx:
        await until(lambda: platform.changes.readers == 1)
        yield styx


async def known(styx):
    """What each worker knows about the hostname."""
    status, body = await styx.ask_admin(f"/v1/routes/{HOST}/explain")
    assert status == 200, body
    return [told["content"] for told in json.loads(body)["workers"] if told["content"] is not None]


async def told_by_all(styx, condition):
    """Wait until the condition holds for the route in every worker that has it."""
    while True:
        told = await known(styx)
        if all(condition(route) for route in told):
            return told


async def test_all_workers_know_of_a_change_without_a_request(platform, styx):
    assert await responses(styx) == {b"HTTP/1.1 200 OK"}
    before = platform.lookups[HOST]
    await platform.set_goal("acme", containers=3)
    told = await told_by_all(styx, lambda route: len(route["backends"]) == 3 and route["freshness"] == "fresh")
    assert len(told) == 2
    assert {route["source"] for route in told} <= {"the core API", "another process"}
    assert platform.lookups[HOST] > before


async def test_a_stream_that_breaks_continues_where_it_was(platform, styx, until):
    async def metric(name):
        return next(
            float(line.rpartition(" ")[2])
            for line in (await styx.ask_admin("/metrics"))[1].splitlines()
            if line.startswith(f"{name} ")
        )

    platform.changes.publish({"hostname": "one.test"})
    while await metric("styx_changes_total") < 1.0:
        pass
    await platform.stop_core_api()
    while await metric("styx_changes_up") == 1.0:
        pass
    platform.changes.publish({"hostname": "two.test"})
    await platform.start_core_api()
    while await metric("styx_changes_total") < 2.0:
        pass
    assert await metric("styx_changes_up") == 1.0
    assert await metric("styx_changes_gaps_total") == 1.0, "the beginning"
    assert await metric("styx_changes_silence_seconds") < 5.0


async def test_thousands_of_changes_a_second_cost_neither_requests_nor_workers(platform, styx, until):
    """Nor many lookups: each worker looks up a hostname once in a second."""
    assert await responses(styx) == {b"HTTP/1.1 200 OK"}
    workers = {told["pid"] for told in json.loads((await styx.ask_admin("/v1/overview"))[1])["workers"]}
    loop = asyncio.get_running_loop()
    before, began = platform.lookups[HOST], loop.time()
    for n in range(100):
        for m in range(60):
            platform.changes.publish({"server": f"srv-{100 * n + m}"})
            platform.changes.publish({"hostname": HOST})
            platform.changes.publish({"site": "acme"})
        if n % 10 == 0:
            assert await responses(styx) == {b"HTTP/1.1 200 OK"}
        await asyncio.sleep(0.01)
    await platform.set_goal("acme", containers=2)
    told = await told_by_all(styx, lambda route: len(route["backends"]) == 2 and route["freshness"] == "fresh")
    assert {one["pid"] for one in json.loads((await styx.ask_admin("/v1/overview"))[1])["workers"]} == workers
    assert len(told) == 2
    assert platform.lookups[HOST] - before <= 2 * (loop.time() - began + 2)
    assert not [event for event in events(styx) if event["level"] == "error"]


async def test_a_new_hostname_is_used_at_once(platform, styx):
    async def ask(hostname):
        async with Kept(styx.port) as kept:
            reply = await kept.ask(f"GET / HTTP/1.1\r\nHost: {hostname}\r\n\r\n".encode())
            return reply.partition(b"\r\n")[0]

    for _ in range(8):
        assert b" 404 " in await ask("live-new.localhost")
    await platform.create_environment("new", service_time=0)
    for _ in range(8):
        while (line := await ask("live-new.localhost")) != b"HTTP/1.1 200 OK":
            assert b" 404 " in line, "the event is on its way"


async def test_the_list_of_routes(styx, call):
    await responses(styx)
    status, body = await styx.ask_admin("/v1/routes?limit=5&site=acme&freshness=fresh")
    assert status == 200
    for told in json.loads(body)["workers"]:
        assert {route["freshness"] for route in told["content"]["routes"]} <= {"fresh"}
    status, body = await styx.ask_admin("/v1/routes?limit=5&site=acme")
    assert status == 200
    for told in json.loads(body)["workers"]:
        [route] = told["content"]["routes"]
        assert (route["hostname"], route["environment"], route["backends"]) == (HOST, "live", 1)
        assert told["content"]["next"] is None
    assert (await styx.ask_admin("/v1/routes?site=nobody"))[0] == 200
    listed = await call("routes", "--site", "acme", "--admin", styx.settings.admin.address)
    assert listed.code == 0
    # On a busy machine it may have become stale meanwhile.
    assert re.search(rf"^{re.escape(HOST)}  acme/live    1         (fresh|stale)  ", listed.out, re.MULTILINE)
