"""Routes shared in a real engine that stops, freezes, or has damaged records."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from edge.net.redis.redis_routes import FAILURES, RedisRoutes
from edge.rules.routing.route_records import record_of
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.saved_route import SavedRoute
from edge.rules.settings import RedisSettings
from tests.support.needs import needs_redis

pytestmark = needs_redis


def a_record(hostname="a.test"):
    now = time.time()
    response = RouteResponse(hostname, "site", "live", 1, (Backend("b", "10.0.0.1", 80),))
    return record_of(hostname, now, SavedRoute(now + 60, now + 600, now + 9000, '"e"', response))


class Edge:
    def __init__(self, engine, *, bounds=None, **settings):
        self.now = 1000.0
        self.routes = RedisRoutes(
            RedisSettings(url=engine.url, **{"timeout": 10.0, **settings}),
            clock=lambda: self.now,
            wall=time.time,
            **(bounds or {}),
        )

    async def write(self, *records, gone=9000.0):
        for record in records:
            self.routes.put(record, time.time() + gone)
        if self.routes._writing is not None:
            await self.routes._writing


@pytest.fixture
async def edges(engine):
    """edges(**settings) -> an edge with that engine."""
    made = []

    def edge(**settings):
        made.append(Edge(engine, **settings))
        return made[-1]

    yield edge
    for one in made:
        await one.routes.close()


async def test_a_written_record_is_found_by_the_other_edge(edges):
    one, other = edges(), edges()
    await one.write(a_record(), a_record("b.test"))
    assert await other.routes.get("a.test") == (await one.routes.get("a.test"))
    assert (await other.routes.get("b.test")).hostname == "b.test"
    assert await other.routes.get("c.test") is None
    assert (other.routes.found, other.routes.missed, other.routes.failures) == (2, 1, 0)


async def test_edges_with_another_prefix_do_not_share(edges):
    one, other = edges(), edges(prefix="other")
    await one.write(a_record())
    assert await other.routes.get("a.test") is None


async def test_a_record_expires_with_its_route(edges, engine):
    one = edges()
    await one.write(a_record(), gone=100.0)
    await one.write(a_record("b.test"), gone=-1.0)
    async with Redis.from_url(engine.url) as redis:
        assert 90 < await redis.ttl("styx:route:a.test") <= 100
        assert not await redis.exists("styx:route:b.test")


@pytest.mark.parametrize("found", ["", "nonsense", "of another"])
async def test_a_damaged_record_is_not_used(edges, engine, found):
    one = edges()
    async with Redis.from_url(engine.url) as redis:
        await redis.set("styx:route:a.test", a_record("b.test").data if found == "of another" else found)
    assert await one.routes.get("a.test") is None
    assert one.routes.failures == 0


async def test_a_stopped_engine_is_not_used_for_a_while_and_then_again(edges, engine):
    one = edges()
    await one.write(a_record())
    await engine.stop()
    for _ in range(FAILURES):
        assert await one.routes.get("a.test") is None
    before = one.routes.failures
    assert await one.routes.get("a.test") is None
    await one.write(a_record())
    assert one.routes.failures == before, "no further attempt"
    await engine.start()
    one.now += 2.0
    await one.write(a_record())
    assert (await one.routes.get("a.test")).hostname == "a.test"


async def test_a_frozen_engine_costs_its_timeout_three_times(edges, engine):
    one = edges(timeout=0.05)
    await one.write(a_record())
    engine.freeze()
    for _ in range(20):
        assert await one.routes.get("a.test") is None
    assert one.routes.failures == FAILURES
    engine.thaw()
    found = None
    async with asyncio.timeout(100):
        while found is None:  # the engine may take a moment to continue
            one.now += 60.0
            found = await one.routes.get("a.test")
    assert found.hostname == "a.test"


async def test_waiting_records_are_bounded(edges, engine):
    one = edges(bounds={"most_waiting": 3, "at_once": 2})
    await one.write(*(a_record(f"{n}.test") for n in range(5)))
    async with Redis.from_url(engine.url) as redis:
        assert sorted(await redis.keys("styx:route:*")) == [b"styx:route:%d.test" % n for n in (2, 3, 4)]


async def test_a_password_from_a_file(engine, tmp_path):
    async with Redis.from_url(engine.url) as redis:
        await redis.config_set("requirepass", "open sesame")
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    one, stranger = Edge(engine, password_file=str(file)), Edge(engine)
    await one.write(a_record())
    assert (await one.routes.get("a.test")).hostname == "a.test"
    assert await stranger.routes.get("a.test") is None
    assert stranger.routes.failures == 1
    await asyncio.gather(one.routes.close(), stranger.routes.close())


async def test_a_record_that_cannot_be_written_does_not_end_the_writing(edges):
    """Its expiry time is invalid."""
    one, other = edges(), edges()
    await one.write(a_record("b.test"), gone=float("nan"))
    await one.write(a_record("c.test"), gone=float("inf"))
    await one.write(a_record("a.test"))
    assert (await other.routes.get("a.test")) is not None
    assert (await other.routes.get("c.test")) is not None
