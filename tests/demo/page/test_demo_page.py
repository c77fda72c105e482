"""The server of the demo's page: who may do what, its bounds, its stream, and a load that is honest."""

import asyncio
import json
import re

import aiohttp
import pytest
import pytest_asyncio

from edge.demo.page.demo_load import MOST_IN_FLIGHT, DemoLoad

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def http(demo):
    async with aiohttp.ClientSession(demo.url, timeout=aiohttp.ClientTimeout(total=100)) as session:
        yield session


async def events(response):
    """The events of a stream, as (name, data)."""
    name = ""
    async for line in response.content:
        if line.startswith(b"event: "):
            name = line[7:].decode().strip()
        elif line.startswith(b"data: "):
            yield name, json.loads(line[6:])


async def test_the_stream_tells_of_everything(http, demo, platform):
    async with http.get("/v1/demo/stream") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        stream = events(response)
        name, start = await anext(stream)
        assert (name, start["most_rate"], start["loads"]) == ("history", 300, ["off", "visits", "light", "heavy"])
        async for name, snapshot in stream:
            assert name == "snapshot"
            if snapshot["dots"] and snapshot["traffic"]["ok"] and snapshot["styx_retries"] is not None:
                break
    assert [site["site"] for site in snapshot["sites"]] == ["acme", "globex", "initech"]
    assert [server["name"] for server in snapshot["servers"]] == platform.fleet.servers
    assert len(snapshot["containers"]) == 8
    ago, outcome, site, container, tried = snapshot["dots"][0]
    assert ago >= 0
    assert (outcome, tried) == ("ok", [])
    assert container in {known.spec.id for known in platform.containers(site)}


async def test_the_load_stands_still_while_nobody_looks(http, demo, until):
    await until(lambda: demo._stream.subscribers == 0 and not demo.load._in_flight)
    sent, looked_at = demo.load.count.sent, demo.load._looked_at
    demo.load.rate = 300
    await until(lambda: demo.load._looked_at > looked_at)  # it has had its turns meanwhile
    assert demo.load.count.sent == sent
    async with http.get("/v1/demo/stream"):
        await until(lambda: demo.load.count.sent > sent)


async def test_what_another_page_asks_for_is_not_done(http, demo, platform):
    foreign = [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
    for headers in foreign:
        async with http.patch("/v1/demo/core-api", json={"up": False}, headers=headers) as response:
            assert response.status == 403
        async with http.post("/v1/platform/environments", json={"site": "evil"}, headers=headers) as response:
            assert response.status == 403
    for headers in ({"Host": "rebound.example"}, {"Via": "1.1 proxy"}):
        async with http.get("/", headers=headers) as response:
            assert response.status == 421
    own = {"Origin": demo.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    async with http.patch("/v1/demo/load", json={"rate": 10}, headers=own) as response:
        assert response.status == 204
    assert (platform.core_api_up, demo.load.rate) == (True, 10)


async def test_the_policy_of_the_page_is_strict(http):
    async with http.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Frame-Options"] == "DENY"
    for path in ("/demo/demo.js", "/status/dom.js"):
        async with http.get(path) as response:
            assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    for path in ("/demo/../demo_page.py", "/demo/none.js", "/status/none.js"):
        async with http.get(path) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rate": 301}, 400, "`int` <= 300"),
        ({"rate": -1}, 400, "`int` >= 0"),
        ({"sites": {"acme": "mad"}}, 400, "Invalid enum value"),
        ({"sites": {"nobody": "off"}}, 404, "there is no site nobody: there are acme, globex, initech."),
        ({"speed": 1}, 400, "unknown field"),
    ],
)
async def test_what_the_load_cannot_be(http, demo, body, status, words):
    async with http.patch("/v1/demo/load", json=body) as response:
        assert response.status == status
        assert words in (await response.json())["error"]
    assert demo.load.rate == 30


async def test_the_platform_is_managed_here_while_the_core_api_is_stopped(http, platform):
    async with http.patch("/v1/demo/core-api", json={"up": False}) as response:
        assert response.status == 204
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"{platform.core_api_url}/v1/platform/environments")
    [container] = platform.containers("acme")
    async with http.post(f"/v1/platform/containers/{container.spec.id}/kill") as response:
        assert response.status == 200
    assert not container.listening
    async with http.post("/v1/demo/heal") as response:
        assert response.status == 204
    assert platform.core_api_up
    assert container.listening


async def test_no_more_requests_in_flight_than_there_may_be(stage, until):
    """All of them hang at a server that does not respond."""
    hung = []
    server = await asyncio.start_server(lambda _, writer: hung.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with DemoLoad(port, lambda: {"acme": "acme.test"}, on_end=lambda _: None) as load:
        load.rate = 100_000
        await until(lambda: load.count.skipped > 0 and load.count.sent == MOST_IN_FLIGHT)
        load.rate = 0
    assert load.count.sent == MOST_IN_FLIGHT
    server.close()
    for writer in hung:
        writer.transport.abort()


async def test_lost_requests_are_counted_as_lost(until):
    """A server that closes each connection: nothing is retried in secret."""
    ends = []
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with DemoLoad(port, lambda: {"acme": "acme.test"}, on_end=ends.append) as load:
            load.rate = 200
            await until(lambda: len(ends) >= 20)
            await load.settle()
    assert {ended.outcome for ended in ends} == {"failed"}
    assert load.count.outcomes["failed"] == load.count.sent == len(ends)
    # The load sends POSTs too, and a close may be met as a reset.
    assert re.fullmatch(
        "(GET|POST) cut (ServerDisconnectedError|ClientOSError) for acme", load.count.last_failure or ""
    )
    server.close()


async def test_the_log_of_styx_does_not_grow_for_ever(stage, demo, http, until):
    _, styx, _ = stage
    async with http.get("/v1/demo/stream"):
        await until(lambda: styx.log.stat().st_size > 0)
        styx.shorten_log(most=10**9)
        before = styx.log.stat().st_size
        assert before > 0
        styx.shorten_log(most=0)
        assert styx.log.stat().st_size < before
        await until(lambda: styx.log.stat().st_size > 0)
        assert styx.log.read_bytes()[:1] == b"{", "it goes on from the beginning, without a hole"


async def test_environments_that_are_not_live_are_sites_of_their_own(http, platform):
    await platform.create_environment("acme", "dev")
    try:
        async with http.get("/v1/demo/stream") as response:
            stream = events(response)
            await anext(stream)
            snapshot = None  # the first one may be older
            while snapshot is None or not any(site["site"] == "dev-acme" for site in snapshot["sites"]):
                _, snapshot = await anext(stream)
    finally:
        await platform.remove_environment("acme", "dev")
    assert ("dev-acme", "acme/dev") in [(site["site"], site["path"]) for site in snapshot["sites"]]
    assert [container["site"] for container in snapshot["containers"]].count("dev-acme") == 1
    assert [container["site"] for container in snapshot["containers"]].count("acme") == 1
