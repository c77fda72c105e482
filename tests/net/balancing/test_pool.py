"""Idle connections: bounds, order, age."""

import pytest

from edge.rules.balancing.backend_state import Candidate
from edge.rules.balancing.demerits import BackendState
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend
from edge.rules.settings import PoolSettings
from tests.support.fake_transports import FakeLoop, turns


class Waiting:
    """Receives the result of a connect."""

    def __init__(self):
        self.links = []
        self.causes = []

    def connected(self, purpose, connection):
        self.links.append(connection)

    def not_connected(self, purpose, cause):
        self.causes.append(cause)


def candidate(name="b0", port=80):
    return Candidate(Backend(name, "192.0.2.1", port), BackendState())


async def dialled(pool, count=1, who=None):
    waiting = Waiting()
    for _ in range(count):
        pool.dial(who or candidate(), 1.0, waiting, None)
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


async def test_an_endpoint_is_id_address_and_port(pool_of):
    pool = pool_of(FakeLoop())
    [connection] = await dialled(pool)
    pool.release(connection, 0.0)
    assert pool.acquire(candidate("b0", 81).endpoint, to_repeat=False) is None
    assert pool.acquire(candidate("b1", 80).endpoint, to_repeat=False) is None
    assert pool.acquire(candidate().endpoint, to_repeat=False) is connection
    pool.release(connection, 0.0)
    await pool.close()


async def idle_for(pool, connection, seconds, now):
    """Release the connection, and sweep after so many seconds. Returns whether it is still idle."""
    pool.release(connection, now)
    pool.deadline_passed(now + seconds)
    await turns()
    return not connection.closed


@pytest.mark.parametrize(("kept_for", "seconds", "kept"), [(5.0, 3.9, True), (5.0, 4.1, False), (1.0, 0.1, False)])
async def test_a_backend_that_announces_its_idle_timeout(pool_of, kept_for, seconds, kept):
    """A second earlier: a request sent while the backend closes would be lost."""
    pool = pool_of(FakeLoop())
    [connection] = await dialled(pool)
    connection.keep_alive_timeout = kept_for
    assert await idle_for(pool, connection, seconds, 100.0) is kept
    await pool.close()


async def test_a_backend_that_closes_idle_connections_after_five_seconds(pool_of):
    """As uvicorn and Node.js do, without announcing it."""
    loop = FakeLoop()
    pool = pool_of(loop)
    first, second, third = await dialled(pool, 3)
    pool.release(first, loop.now)
    loop.now += 5.0
    loop.transports[0].abort()
    await turns()
    assert await idle_for(pool, second, 3.9, loop.now)
    pool.acquire(second.endpoint, to_repeat=True)
    assert not await idle_for(pool, third, 4.1, loop.now), "the next ones are closed earlier"
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


async def test_far_beyond_a_total_that_was_lowered_none_becomes_idle(pool_of):
    pool = pool_of(FakeLoop(), idle_per_backend=4, idle_total=4)
    idle, (late,) = await dialled(pool, 4), await dialled(pool, 1, candidate("b1"))
    for connection in idle:
        pool.release(connection, 0.0)
    pool.reconfigure(PoolSettings(idle_per_backend=2, idle_total=2))
    pool.release(late, 0.0)
    assert [connection.closed for connection in (*idle, late)] == [True, False, False, False, True]
    assert pool.idle == 3
    await pool.close()


async def test_beyond_the_total_the_oldest_of_each_backend_are_closed_in_turn(pool_of):
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


async def test_idle_connections_expire(pool_of):
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


async def test_a_connection_closed_by_its_backend_is_not_reused(pool_of):
    pool = pool_of(loop := FakeLoop())
    [connection] = await dialled(pool)
    pool.release(connection, 0.0)
    loop.transports[0].lose()
    assert pool.idle == 0
    assert pool.acquire(candidate().endpoint, to_repeat=False) is None
    assert pool.open == 0


@pytest.mark.parametrize("word", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
async def test_a_connection_with_unread_bytes_is_not_reused(pool_of, word):
    """The end or unsolicited bytes have arrived, but the loop has not reported them yet. For requests that may be
    repeated, the state that the loop knows is enough."""
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
async def test_causes_of_failed_connects(pool_of, error, cause):
    loop, waiting = FakeLoop(), Waiting()

    async def fails(*args):
        raise error

    loop.create_connection = fails
    pool_of(loop).dial(candidate(), 1.0, waiting, None)
    await turns()
    assert waiting.causes == [cause]


async def test_a_connection_with_bytes_before_the_request_is_not_used(bench):
    """The bytes cannot be the response to the request that is about to be sent."""
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


@pytest.mark.parametrize("error", [RuntimeError("the loop is closed"), OverflowError("port"), TypeError("host")])
async def test_a_dial_that_fails_for_an_unknown_reason_is_a_failed_connect(pool_of, caplog, error):
    """Its request goes on at once, and does not wait for its deadline."""

    class Broken(FakeLoop):
        async def create_connection(self, factory, host, port):
            raise error

    waiting = Waiting()
    pool_of(Broken()).dial(candidate(), 1.0, waiting, None)
    await turns()
    assert waiting.causes == [Cause.CONNECT_FAILED]
    [record] = caplog.records
    assert (record.code, record.backend) == ("dial_failed", candidate().endpoint)
