"""However the bytes are cut, they are the same requests and the same answers."""

import asyncio
import re
from math import inf

import pytest

from edge.net.accept.lingering_close import LINGER, LingeringClose
from tests.support.fake_transports import turns

STEPS = pytest.mark.parametrize("step", [1, 7, 4096])
HOST = b"Host: shop.test\r\n"
STREAM = b"".join(
    [
        b"GET /1?a=b HTTP/1.1\r\n" + HOST + b"Cookie: a=1\r\nCookie: b=2\r\n\r\n",
        b"POST /2 HTTP/1.1\r\n" + HOST + b"Content-Length: 11\r\n\r\nGET / HTTP/",
        b"POST /3 HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nT: 1\r\n\r\n",
        b"POST /4 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"\r\nHEAD /5 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /6 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /7 HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
        b"DELETE /9 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    ]
)
TARGETS = ["/1?a=b", "/2", "/3", "/4", "/5", "/6", "/7", "/9"]
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def feed(transport, data, step):
    """Piece by piece, and none while reading is paused, as a kernel would."""
    for at in range(0, len(data), step):
        async with asyncio.timeout(100):
            while transport.paused and not transport.closed:  # noqa: ASYNC110 - rings no bell
                await asyncio.sleep(0.001)
        if transport.closed:
            return
        transport.protocol.data_received(data[at : at + step])
        await turns(1)
    await turns()


async def ended(bench, count):
    async with asyncio.timeout(100):
        while len(bench.outcomes) < count:  # noqa: ASYNC110 - rings no bell
            await asyncio.sleep(0.001)
    await turns()


def without_ids(data: bytes) -> bytes:
    return re.sub(rb"X-Request-Id: [^\r]*", b"X-Request-Id: x", data)


async def run(bench, step):
    client = bench.client()
    await feed(client, STREAM, step)
    await ended(bench, len(TARGETS))
    outcomes = [(o.method, o.target, o.status, o.cause, o.bytes_in, o.bytes_out) for o in bench.outcomes]
    payloads = [re.sub(rb"\r\n\r\n[0-9a-f]+\r\n", b"\r\n\r\n", request) for request in bench.requests]
    return client, outcomes, [without_ids(payload) for payload in payloads]


@STEPS
async def test_requests_in_pieces(bench, step):
    client, told, requests = await run(bench, step)
    assert [target for _, target, *_ in told] == TARGETS
    assert {status for _, _, status, *_ in told} == {200}
    assert [bytes_in for *_, bytes_in, _ in told] == [0, 11, 8, 0, 0, 0, 0, 0]
    assert client.closed == "close"
    assert client.written.count(b"HTTP/1.1 200 OK\r\n") == len(TARGETS)
    assert [request.split(b" ")[1].decode() for request in requests] == TARGETS
    assert requests[0].count(b"Cookie: ") == 2


@STEPS
async def test_a_bad_one_in_pieces(bench, step):
    client = bench.client()
    await feed(
        client, b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nGET /2 HTTP/1.1\r\nHost : shop.test\r\n\r\n" + STREAM, step
    )
    await ended(bench, 2)
    assert [o.status for o in bench.outcomes] == [200, 400]
    assert len(bench.requests) == 1


@STEPS
@pytest.mark.parametrize(
    ("response", "body"),
    [
        (RESPONSE, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" + RESPONSE, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
    ],
    ids=["length", "interim", "chunked", "204"],
)
async def test_responses_in_pieces(bench, step, response, body):
    bench.loop.answer = b""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await turns()
    [transport] = bench.loop.transports
    for at in range(0, len(response), step):
        assert not bench.outcomes
        transport.protocol.data_received(response[at : at + step])
    assert [o.cause for o in bench.outcomes] == ["ok"]
    assert bench.outcomes[0].bytes_out == len(body)
    assert bench.worker.context.pool.idle == 1


@pytest.mark.parametrize("cut", [len(RESPONSE), len(RESPONSE) - 1])
async def test_the_end_of_a_response_fills_its_client(bench, cut):
    """The connection to the backend goes to the next client, who is not full."""
    bench.loop.answer = b""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await turns()
    [transport] = bench.loop.transports
    client.full = True
    for piece in filter(None, (RESPONSE[:cut], RESPONSE[cut:])):
        assert not transport.paused or cut < len(RESPONSE)
        transport.protocol.data_received(piece)
    assert [o.cause for o in bench.outcomes] == ["ok"]
    assert bench.worker.context.pool.idle == 1
    assert not transport.paused


async def test_nothing_is_written_after_the_client_left(bench):
    bench.loop.answer = b""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await turns()
    [transport] = bench.loop.transports
    client.lose()
    transport.protocol.data_received(RESPONSE)
    await turns()
    assert [o.cause for o in bench.outcomes] == ["client_gone"]
    assert transport.closed


async def test_the_client_left_while_the_connection_was_made(bench):
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    client.lose()
    await turns()
    assert [o.cause for o in bench.outcomes] == ["client_gone"]
    assert not bench.requests
    assert bench.worker.context.pool.idle == 1, "somebody else will use it"


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


async def a_full_client(bench):
    """A client in the middle of a response that takes no more."""
    bench.loop.answer = b""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await turns()
    [backend] = bench.loop.transports
    client.waiting, client.full = 80_000, True
    backend.protocol.data_received(LONG + b"a" * 90_000)
    return client, backend


async def test_a_slow_client_is_alive_as_long_as_it_takes_bytes(bench):
    client, backend = await a_full_client(bench)
    assert backend.paused
    for waiting in (60_000, 20_000, 19_999):
        client.waiting = waiting
        client.protocol.deadline_passed(client.protocol.deadline + 1.0)
        assert not client.closed
        assert client.protocol.deadline < inf
    client.protocol.deadline_passed(client.protocol.deadline + 1.0)
    assert [outcome.cause for outcome in bench.outcomes] == ["client_stalled"]
    assert client.closed


async def test_the_end_of_a_response_may_be_taken_slowly(bench):
    client, backend = await a_full_client(bench)
    backend.protocol.data_received(b"a" * 10_000)
    assert [outcome.cause for outcome in bench.outcomes] == ["ok"]
    client.waiting = 50_000
    client.protocol.deadline_passed(client.protocol.deadline + 1.0)
    assert not client.closed
    client.protocol.deadline_passed(client.protocol.deadline + 1.0)
    assert client.closed == "abort"


async def test_a_request_that_came_as_its_connection_was_to_be_closed_is_served(bench):
    client = bench.client()
    _, other_end = client.sockets
    other_end.send(b"GET")  # the kernel has it, the loop has not told yet
    client.protocol.deadline_passed(client.protocol.deadline + 1.0)
    assert not client.closed
    assert client.protocol.deadline < inf
    client.sockets[0].recv(3)
    client.protocol.deadline_passed(client.protocol.deadline + 1.0)
    assert client.closed


async def test_a_full_client_does_not_move_the_deadline_of_its_next_response(bench):
    """What it does not take is of an interim response; the final one is still waited for."""
    bench.loop.answer = b""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await turns()
    deadline = client.protocol.deadline
    client.full = True
    bench.loop.transports[0].protocol.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    client.protocol.resume_writing()
    assert client.protocol.deadline == deadline


async def test_the_rest_of_a_refused_request_is_not_read_for_ever(bench):
    """Thrown away for LINGER seconds, so that the client sees why; then it is over, whatever still comes."""
    client = bench.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert b" 400 Bad Request" in client.written
    lingering = client.protocol
    assert isinstance(lingering, LingeringClose)
    assert lingering.deadline <= bench.worker.context.clock() + LINGER
    lingering.buffer_updated(60_000)
    lingering.deadline_passed(lingering.deadline + 0.1)
    assert client.closed == "abort"
    await turns()
    assert bench.worker.snapshot()["client_connections"] == 0
