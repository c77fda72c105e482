"""Kept connections: bounds, order, age."""

import pytest

from edge.net.attempt import Attempt
from edge.rules.balancing.demerits import BackendState
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend
from edge.rules.routing.routes import Candidate
from tests.support.fake_transports import FakeLoop, turns


class Waiting:
    """Who dials."""

    def __init__(self):
        self.links = []
        self.causes = []

    def connected(self, attempt, connection):
        self.links.append(connection)

    def not_connected(self, attempt, cause):
        self.causes.append(cause)


def candidate(name="b0", port=80):
    return Candidate(Backend(name, "192.0.2.1", port), BackendState())


async def dialled(pool, count=1, who=None):
    waiting = Waiting()
    for _ in range(count):
        pool.dial(Attempt(who or candidate(), 0.0), 1.0, waiting)
    await turns()
    assert len(waiting.links) == count
    return waiting.links


async def test_last_in_first_out(pool_of):
    pool = pool_of(FakeLoop())
    links = await dialled(pool, 3)
    endpoint = candidate().endpoint
    for connection in links:
        pool.release(connection, 0.0)
    assert pool.idle == 3
    assert [pool.acquire(endpoint, to_repeat=True) for _ in range(4)] == [links[2], links[1], links[0], None]
    assert (pool.idle, pool.open, pool.opened, pool.reused) == (0, 3, 3, 3)
    for connection in links:
        connection.close()
    await turns()
    assert pool.open == 0


async def test_a_place_is_who_and_where(pool_of):
    pool = pool_of(FakeLoop())
    [connection] = await dialled(pool)
    pool.release(connection, 0.0)
    assert pool.acquire(candidate("b0", 81).endpoint, to_repeat=False) is None
    assert pool.acquire(candidate("b1", 80).endpoint, to_repeat=False) is None
    assert pool.acquire(candidate().endpoint, to_repeat=False) is connection
    pool.release(connection, 0.0)
    await pool.close()


async def idle_for(pool, connection, seconds, now):
    """Keep it, and look again after so many seconds; whether it is still there."""
    pool.release(connection, now)
    pool.deadline_passed(now + seconds)
    await turns()
    return not connection.closed


@pytest.mark.parametrize(("kept_for", "seconds", "kept"), [(5.0, 3.9, True), (5.0, 4.1, False), (1.0, 0.1, False)])
async def test_a_backend_that_says_for_how_long_it_keeps_connections(pool_of, kept_for, seconds, kept):
    """Less a second: a request sent when it closes would be lost."""
    pool = pool_of(FakeLoop())
    [connection] = await dialled(pool)
    connection.kept_for = kept_for
    assert await idle_for(pool, connection, seconds, 100.0) is kept
    await pool.close()


async def test_a_backend_that_closes_idle_connections_after_five_seconds(pool_of):
    """As uvicorn and Node.js do, without a word."""
    loop = FakeLoop()
    pool = pool_of(loop)
    first, second, third = await dialled(pool, 3)
    pool.release(first, loop.now)
    loop.now += 5.0
    loop.transports[0].abort()
    await turns()
    assert await idle_for(pool, second, 3.9, loop.now)
    pool.acquire(second.endpoint, to_repeat=True)
    assert not await idle_for(pool, third, 4.1, loop.now), "the next ones are closed before"
    second.close()
    await turns()
    await pool.close()


async def test_bounds(pool_of):
    pool = pool_of(FakeLoop(), idle_per_backend=2, idle_total=3)
    for connection in await dialled(pool, 3):
        pool.release(connection, 0.0)
    assert pool.idle == 2
    for connection in await dialled(pool, 2, candidate("b1")):
        pool.release(connection, 0.0)
    await turns()
    assert (pool.idle, pool.open) == (3, 3)
    await pool.close()
    await turns()
    assert (pool.idle, pool.open) == (0, 0)


async def test_when_all_are_many_the_oldest_make_room_of_each_backend_in_turn(pool_of):
    pool = pool_of(FakeLoop(), idle_per_backend=3, idle_total=4)
    busy, other = await dialled(pool, 3), await dialled(pool, 1, candidate("b1"))
    for connection in (*busy, *other):
        pool.release(connection, 0.0)
    late = await dialled(pool, 3, candidate("b2"))
    for connection in late:
        pool.release(connection, 1.0)
    assert [connection.closed for connection in (*busy, *other, *late)] == [
        True,
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert pool.idle == 4
    await pool.close()


async def test_old_ones_are_closed(pool_of):
    pool = pool_of(FakeLoop(), idle_timeout=10.0)
    old, young = await dialled(pool, 2)
    pool.release(old, 100.0)
    pool.release(young, 105.0)
    pool.deadline_passed(111.0)
    await turns()
    assert old.closed
    assert not young.closed
    assert pool.idle == 1
    assert pool.deadline > 111.0
    pool.deadline_passed(116.0)
    await turns()
    assert (pool.idle, pool.open) == (0, 0)


async def test_one_that_its_backend_closed_is_not_lent(pool_of):
    pool = pool_of(loop := FakeLoop())
    [connection] = await dialled(pool)
    pool.release(connection, 0.0)
    loop.transports[0].lose()
    assert pool.idle == 0
    assert pool.acquire(candidate().endpoint, to_repeat=False) is None
    assert pool.open == 0


@pytest.mark.parametrize("word", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
async def test_one_that_is_not_quiet_is_not_lent(pool_of, word):
    """The end has come, or bytes that nobody asked for, but the loop has not told yet: for what may be repeated the
    word of the loop will do."""
    pool = pool_of(loop := FakeLoop())
    [connection] = await dialled(pool)
    pool.release(connection, 0.0)
    assert pool.acquire(candidate().endpoint, to_repeat=False) is connection
    pool.release(connection, 0.0)
    if word:
        loop.transports[0].sockets[1].send(word)
    else:
        loop.transports[0].sockets[1].close()
    assert pool.acquire(candidate().endpoint, to_repeat=True) is connection
    pool.release(connection, 0.0)
    assert pool.acquire(candidate().endpoint, to_repeat=False) is None
    await turns()
    assert (pool.idle, pool.open) == (0, 0)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionRefusedError(111, "refused"), Cause.CONNECT_FAILED),
        (OSError(113, "no route to host"), Cause.HOST_UNREACHABLE),
        (OSError(110, "timed out"), Cause.CONNECT_TIMEOUT),
        (OSError(24, "too many open files"), Cause.EDGE_OVERLOADED),
        (OSError(99, "no address left"), Cause.EDGE_OVERLOADED),
    ],
)
async def test_why_not_connected(pool_of, error, cause):
    loop, waiting = FakeLoop(), Waiting()

    async def fails(*args):
        raise error

    loop.create_connection = fails
    pool_of(loop).dial(Attempt(candidate(), 0.0), 1.0, waiting)
    await turns()
    assert waiting.causes == [cause]


async def test_one_that_speaks_before_it_is_asked_is_not_used(bench):
    """Whatever it says is no answer to what we are about to say."""
    connect = bench.loop.create_connection

    async def greeted(factory, host, port):
        transport, connection = await connect(factory, host, port)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        return transport, connection

    bench.loop.create_connection = greeted
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    while not bench.outcomes:
        await turns(1)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert b"X-Styx-Error: bad_answer\r\n" in client.written
    assert b"evil" not in client.written
    assert not bench.requests
