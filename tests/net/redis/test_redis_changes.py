"""Changes that edges publish to each other, over a real engine."""

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

import edge.net.redis.redis_changes as redis_changes_module
from edge.net.redis.redis_changes import RedisChanges
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, LONGEST_NAME, MOST_REMEMBERED
from edge.rules.settings import RedisSettings
from tests.support.needs import needs_redis

pytestmark = needs_redis
A, B, C = (Change("hostname", f"{name}.test") for name in "abc")


class Edge:
    def __init__(self, engine):
        self.received = []
        self.redis_changes = RedisChanges(self._receive, lambda: 0.0)
        self.settings = RedisSettings(url=engine.url)
        self.pieces = 0
        self.news = asyncio.Event()

    def _receive(self, changes):
        self.received += changes
        self.pieces += 1
        self.news.set()

    async def wait_for(self, count):
        async with asyncio.timeout(100):
            while len(self.received) < count:
                self.news.clear()
                await self.news.wait()
        return self.received


@pytest.fixture
async def two(engine, monkeypatch):
    """Two edges that have found their position in the stream."""
    monkeypatch.setattr(redis_changes_module, "SHORTEST_PAUSE", 0.02)
    monkeypatch.setattr(redis_changes_module, "BLOCK", 0.3)
    edges = [Edge(engine) for _ in range(2)]
    for edge in edges:
        edge.redis_changes.start(edge.settings)
        assert await edge.wait_for(1) == [EVERYTHING], "changes before it are unknown"
    yield edges
    for edge in edges:
        await edge.redis_changes.stop()


async def test_a_published_change_reaches_the_other_edge(two):
    one, other = two
    one.redis_changes.publish([A, B])
    assert await other.wait_for(3) == [EVERYTHING, A, B]
    other.redis_changes.publish([C])
    assert await one.wait_for(2) == [EVERYTHING, C], "and not its own changes"


async def test_a_reader_resumes_the_stream_after_an_interruption(two, engine):
    one, other = two
    one.redis_changes.publish([A])
    await other.wait_for(2)
    other.redis_changes.start(RedisSettings(url="redis://127.0.0.1:9/0"))
    one.redis_changes.publish([B])
    await asyncio.sleep(0.2)
    other.redis_changes.start(other.settings)
    assert await other.wait_for(3) == [EVERYTHING, A, B]


async def test_a_lost_connection_loses_nothing(two, engine):
    one, other = two
    one.redis_changes.publish([A])
    await other.wait_for(2)
    async with Redis.from_url(engine.url) as redis:
        await redis.client_kill_filter(_type="normal")
    one.redis_changes.publish([B])
    assert await other.wait_for(3) == [EVERYTHING, A, B]


async def test_an_engine_that_lost_its_data_makes_everything_stale(two, engine):
    one, other = two
    one.redis_changes.publish([A])
    await other.wait_for(2)
    await engine.stop()
    one.redis_changes.publish([B])
    await engine.start()
    received = await other.wait_for(3)
    assert received[2] == EVERYTHING
    one.redis_changes.publish([C])
    async with asyncio.timeout(100):
        while C not in other.received:  # noqa: ASYNC110 - other changes may precede it
            await asyncio.sleep(0.01)


async def test_trimmed_unread_entries_make_everything_stale(two, engine):
    one, other = two
    one.redis_changes.publish([A])
    await other.wait_for(2)
    other.redis_changes.start(RedisSettings(url="redis://127.0.0.1:9/0"))
    one.redis_changes.publish([B])
    async with Redis.from_url(engine.url) as redis:
        async with asyncio.timeout(100):
            while await redis.xlen("styx:changes") < 2:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
        assert await redis.execute_command("XTRIM", "styx:changes", "MAXLEN", 0) == 2
        await redis.xadd("styx:changes", {"from": "somebody", "changes": b"\x90"})
    other.redis_changes.start(other.settings)
    assert (await other.wait_for(3))[2] == EVERYTHING


async def test_an_unknown_change_means_everything(two, engine):
    _, other = two
    async with Redis.from_url(engine.url) as redis:
        await redis.xadd("styx:changes", {"from": "a later version", "changes": b"\xc1"})
    assert await other.wait_for(2) == [EVERYTHING, EVERYTHING]


async def test_without_a_url_nothing_is_read_or_written(engine):
    edge = Edge(engine)
    edge.redis_changes.start(RedisSettings())
    edge.redis_changes.publish([A])
    await edge.redis_changes.stop()
    async with Redis.from_url(engine.url) as redis:
        assert not await redis.exists("styx:changes")


async def test_a_change_that_cannot_be_encoded_blocks_no_other(two, caplog):
    one, other = two
    one.redis_changes.publish([A, Change("hostname", "\ud800"), B])
    one.redis_changes.publish([C])
    assert await other.wait_for(4) == [EVERYTHING, A, B, C]
    assert [r.code for r in caplog.records if hasattr(r, "code")] == ["change_not_encodable"]


async def test_an_invalid_entry_does_not_affect_others(two, engine):
    """Another program writes to the stream too: its entry means everything, and other entries are applied."""
    _, other = two
    async with Redis.from_url(engine.url) as redis, redis.pipeline(transaction=True) as pipe:
        await pipe.xadd("styx:changes", {"from": "x", "changes": msgspec.msgpack.encode([A])})
        await pipe.xadd("styx:changes", {"something": "else"})
        await pipe.xadd("styx:changes", {"from": b"\xff", "changes": msgspec.msgpack.encode([B])})
        await pipe.execute()
    assert await other.wait_for(4) == [EVERYTHING, EVERYTHING, A, B]


# Many at once


async def test_a_flood_is_read_in_batches_without_duplicates(two, engine):
    _, other = two
    many = [Change("site", f"site-{n % 5}") for n in range(5000)]
    async with Redis.from_url(engine.url) as redis:
        pipe = redis.pipeline(transaction=False)
        for change in many:
            pipe.xadd("styx:changes", {"from": "flood", "changes": msgspec.msgpack.encode([change])})
        pipe.xadd("styx:changes", {"from": "flood", "changes": msgspec.msgpack.encode([A])})
        await pipe.execute()
    async with asyncio.timeout(100):
        while A not in other.received:
            other.news.clear()
            await other.news.wait()
    assert other.pieces >= 5000 // redis_changes_module.READ_AT_ONCE
    assert len(other.received) <= 5 * other.pieces + 2
    assert set(other.received) == {EVERYTHING, A, *many}


async def test_too_many_changes_in_a_batch_are_a_change_of_everything(two, engine):
    _, other = two
    async with Redis.from_url(engine.url) as redis:
        pipe = redis.pipeline(transaction=True)
        for entry in range(30):
            names = [Change("hostname", f"{entry}-{n}.test") for n in range(1000)]
            pipe.xadd("styx:changes", {"from": "flood", "changes": msgspec.msgpack.encode(names)})
        await pipe.execute()
    received = await other.wait_for(10_001)
    assert received[1] == EVERYTHING
    assert len(received) <= 1 + other.pieces * (1 + MOST_REMEMBERED)


async def test_an_entry_that_is_too_long_or_of_another_version_means_everything(two, engine):
    _, other = two
    long = [Change("site", "x" * LONGEST_NAME)] * 4100
    async with Redis.from_url(engine.url) as redis:
        for changes in ([Change("planet", "earth")], [Change("site", "x" * (LONGEST_NAME + 1))], long):
            count = len(other.received)
            await redis.xadd("styx:changes", {"from": "another", "changes": msgspec.msgpack.encode(changes)})
            assert await other.wait_for(count + 1) == [EVERYTHING] * (count + 1)


async def test_changes_that_wait_to_be_written_are_bounded_and_not_lost(two):
    one, other = two
    one.redis_changes.start(RedisSettings(url="redis://127.0.0.1:9/0"))
    first = [Change("hostname", f"{n}.test") for n in range(redis_changes_module.WRITTEN_AT_ONCE)]
    one.redis_changes.publish(first)
    one.redis_changes.publish([Change("hostname", f"{n}.example") for n in range(50_000)])
    one.redis_changes.start(one.settings)
    assert await other.wait_for(len(first) + 2) == [EVERYTHING, EVERYTHING, *first]


async def test_everything_is_published_once_in_a_second(two):
    one, other = two
    for _ in range(100):
        one.redis_changes.publish([EVERYTHING])
        await asyncio.sleep(0)
    one.redis_changes.publish([A])
    began = asyncio.get_running_loop().time()
    assert await other.wait_for(3) == [EVERYTHING, EVERYTHING, A]
    assert await other.wait_for(4) == [EVERYTHING, EVERYTHING, A, EVERYTHING], (
        "the last one, when its time has come"
    )
    assert asyncio.get_running_loop().time() - began > 0.8
