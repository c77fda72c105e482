"""That a side is full is told once, when it becomes so: whoever begins later must look."""

import asyncio

import pytest

from edge.rules.routing.route_response import Backend, RouteResponse
from tests.support.fake_transports import turns

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Full\r\nX-Styx-Refused: full\r\nContent-Length: 0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n"
OFFER = GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FULL = 100_000
"More than the mark at which a transport says that it is full."


@pytest.fixture
def answers(bench):
    """What the connections to backends say to their first request, in the order in which they are made."""
    said: list[bytes] = []
    connect = bench.loop.create_connection

    async def connected(factory, host, port):
        transport, connection = await connect(factory, host, port)
        transport.answer = said.pop(0)
        return transport, connection

    bench.loop.create_connection = connected
    context = bench.worker.context
    backends = (Backend("b0", "192.0.2.1", 80), Backend("b1", "192.0.2.2", 80))
    response = RouteResponse("shop.test", "shop", "live", 2, backends)
    context.table.put("shop.test", response, cache_control="max-age=1000", now=context.clock(), rand=0.0)
    return said


async def test_the_client_when_the_response_begins(bench, answers):
    answers += [HINT + REFUSED, HINT + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
    client = bench.client()
    client.full = True
    client.protocol.data_received(GET + b"\r\n")
    async with asyncio.timeout(100):
        while len(bench.requests) < 2:
            await turns(1)
    await turns()
    assert bench.loop.transports[1].paused
    client.protocol.resume_writing()
    assert not bench.loop.transports[1].paused


@pytest.mark.parametrize("full", ["client", "backend"])
async def test_either_side_when_a_tunnel_begins(bench, answers, full):
    answers.append(SWITCH)
    client = bench.client()
    client.protocol.data_received(OFFER + b"early")
    async with asyncio.timeout(100):
        while not bench.loop.transports:
            await turns(1)
    backend = bench.loop.transports[0]
    side, other = (client, backend) if full == "client" else (backend, client)
    side.waiting = FULL
    async with asyncio.timeout(100):
        while b"HTTP/1.1 101" not in client.written:
            await turns(1)
    assert backend.written.endswith(b"early")
    assert other.paused
    assert not side.paused
    side.protocol.resume_writing()
    assert not other.paused


async def test_what_an_idle_connection_has_not_sent_ends_it(bench, answers):
    answers += [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] * 2
    for n in range(2):
        client = bench.client()
        client.protocol.data_received(GET + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(100):
            while len(bench.loop.transports) <= n:
                await turns(1)
            bench.loop.transports[n].waiting = 1
            while len(bench.outcomes) <= n:
                await turns(1)
        assert bench.worker.context.pool.idle == 0


async def test_a_backend_that_takes_bytes_slowly_is_alive(bench, answers):
    answers.append(b"")
    client = bench.client()
    client.protocol.data_received(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 50000\r\n\r\nabc")
    async with asyncio.timeout(100):
        while not bench.loop.transports:
            await turns(1)
    backend = bench.loop.transports[0]
    await turns()
    backend.waiting = 2000
    backend.full = True
    client.protocol.data_received(b"x" * 1000)
    assert client.paused
    now = bench.worker.context.clock()
    timeout = bench.worker.context.timeouts.between_bytes
    for waiting in (1500, 1499, 3):
        backend.waiting = waiting
        client.protocol.deadline_passed(now + timeout)
        assert not bench.outcomes
        assert client.protocol.deadline > now + timeout / 2
    client.protocol.deadline_passed(now + timeout)
    [outcome] = bench.outcomes
    assert outcome.cause == "stalled"
