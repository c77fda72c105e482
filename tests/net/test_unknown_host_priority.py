"""Requests for unknown hosts are read, and get their response, after other requests."""

import time

import pytest

from edge.net.deferred_queue import BATCH
from tests.net.conftest import Bench
from tests.support.fake_transports import FakeTransport, turns

REAL = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


@pytest.fixture
def clients(bench: Bench) -> list[FakeTransport]:
    """Twenty connections; "nobody.test" is an unknown host."""
    table = bench.worker.context.table
    table.put("nobody.test", None, cache_control="max-age=1000", now=time.monotonic(), rand=0.0)
    return [bench.client() for _ in range(20)]


def request(path: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: nobody.test\r\n\r\n" % path


def response_count(transport: FakeTransport) -> int:
    return transport.written.count(b"HTTP/1.1 404 ")


async def test_a_few_in_a_turn(bench: Bench, clients: list[FakeTransport]) -> None:
    for client in clients:
        client.protocol.data_received(request(0))
    assert sum(map(response_count, clients)) == 0
    served = bench.client()
    served.protocol.data_received(REAL)
    while b"200 OK" not in served.written:
        await turns(1)
    assert sum(map(response_count, clients)) < len(clients)
    await turns(len(clients) // BATCH + 1)
    assert [response_count(client) for client in clients] == [1] * len(clients)


async def test_the_next_request_is_read_later_and_not_lost(bench: Bench, clients: list[FakeTransport]) -> None:
    client = clients[0]
    client.protocol.data_received(request(0))
    await turns(2)
    client.protocol.data_received(request(1)[:10])
    seen = len(bench.outcomes)
    assert not client.paused
    client.protocol.data_received(request(1)[10:])
    assert client.paused  # one request is buffered, and no more
    assert len(bench.outcomes) == seen
    await turns(4)
    assert response_count(client) == 2
    assert not client.paused
    assert bench.outcomes[-1].target == "/1"


async def test_a_request_for_a_known_host_is_served_as_usual(bench: Bench, clients: list[FakeTransport]) -> None:
    client = clients[0]
    client.protocol.data_received(request(0))
    await turns(2)
    client.protocol.data_received(REAL)
    while b"200 OK" not in client.written:
        await turns(1)
    before = len(bench.requests)
    client.protocol.data_received(REAL)
    assert len(bench.requests) == before + 1  # at once


async def test_a_client_that_leaves_before_its_response(bench: Bench, clients: list[FakeTransport]) -> None:
    clients[0].protocol.data_received(request(0))
    clients[0].lose()
    clients[1].protocol.data_received(request(0))
    await turns(2)
    clients[1].protocol.data_received(request(1))
    clients[1].lose()
    await turns(4)
    assert [(o.status, o.target) for o in bench.outcomes] == [(499, "/0"), (404, "/0")]
