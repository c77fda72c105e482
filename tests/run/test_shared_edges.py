"""Two edges share routes and changes through a real Redis engine, and keep serving without it."""

import asyncio
import json
from contextlib import asynccontextmanager

from tests.support.needs import needs_redis
from tests.support.processes.edges import Kept, edge

pytestmark = needs_redis
HOST = "live-acme.localhost"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@asynccontextmanager
async def sharing(platform, engine, limit="10s"):
    more = f'redis: {{url: "{engine.url}", timeout: {limit}}}'
    async with edge(core_api=platform.core_api_url, workers=1, more=more) as styx:
        yield styx


async def ask(styx):
    async with Kept(styx.port) as kept:
        return int((await kept.ask(REQUEST)).split(b" ")[1])


async def generation(styx):
    status, body = await styx.ask_admin(f"/v1/routes/{HOST}/explain")
    assert status == 200
    return json.loads(body)["workers"][0]["content"]["generation"]


async def written(engine):
    from redis.asyncio import Redis

    async with Redis.from_url(engine.url) as redis:
        while not await redis.exists(f"styx:route:{HOST}"):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def listening(engine, edges):
    """Until so many edges wait for changes: earlier ones they take for "anything may have changed"."""
    from redis.asyncio import Redis

    async with Redis.from_url(engine.url) as redis:
        while sum(client["cmd"] == "xread" for client in await redis.client_list()) < edges:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_cold_edge_uses_routes_that_another_looked_up(platform, engine):
    async with sharing(platform, engine) as first:
        assert await ask(first) == 200
        await written(engine)
        await platform.stop_core_api()
        async with sharing(platform, engine) as second:
            assert await ask(second) == 200


async def test_a_route_invalidated_at_one_edge_is_looked_up_again_by_the_other(platform, engine, call):
    async with sharing(platform, engine) as first, sharing(platform, engine) as second:
        assert [await ask(first), await ask(second)] == [200, 200]
        before = platform.lookups[HOST]
        while platform.lookups[HOST] == before:  # the second may still be looking for its place
            printed = await call("invalidate", "hostname", HOST, "--admin", first.settings.admin.address)
            assert printed.code == 0, printed.err
            await asyncio.sleep(0.05)


async def test_a_change_that_one_edge_discovers_reaches_the_other(platform, engine, until):
    """Without the change stream: the core API does not announce the change."""
    async with sharing(platform, engine) as first, sharing(platform, engine) as second:
        assert [await ask(first), await ask(second)] == [200, 200]
        before = await generation(second)
        await listening(engine, 2)
        [container] = platform.containers("acme")
        with platform.changes.muted():
            await platform.move(container.spec.id, announce=False)
        assert await ask(first) == 200
        while await generation(second) == before:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def test_without_the_engine_nothing_is_lost(platform, engine, until):
    async with sharing(platform, engine, limit="50ms") as styx:
        statuses = []

        async def asking():
            while True:
                statuses.append(await ask(styx))
                await asyncio.sleep(0.005)

        async def twenty_more():
            seen = len(statuses)
            await until(lambda: len(statuses) >= seen + 20 or load.done())

        load = asyncio.create_task(asking())
        try:
            await twenty_more()
            engine.freeze()
            await twenty_more()
            engine.thaw()
            await engine.stop()
            await twenty_more()
            await engine.start()
            await twenty_more()
        finally:
            load.cancel()
        assert len(statuses) >= 80
        assert set(statuses) == {200}
