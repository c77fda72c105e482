"""Who asks for sites that nobody has is answered, and read, behind those that are served."""

import time

import pytest

from edge.net.deferred_queue import BATCH
from tests.net.conftest import Bench
from tests.support.fake_transports import FakeTransport, turns

REAL = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


@pytest.fixture
def strangers(bench: Bench) -> list[FakeTransport]:
    """Twenty connections; "nobody.test" is known not to exist."""
    table = bench.worker.context.table
    table.put("nobody.test", None, cache_control="max-age=1000", now=time.monotonic(), rand=0.0)
    return [bench.client() for _ in range(20)]


def request(path: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: nobody.test\r\n\r\n" % path


def answered(transport: FakeTransport) -> int:
    return transport.written.count(b"HTTP/1.1 404 ")


async def test_a_few_in_a_turn(bench: Bench, strangers: list[FakeTransport]) -> None:
    for stranger in strangers:
        stranger.protocol.data_received(request(0))
    assert sum(map(answered, strangers)) == 0
    served = bench.client()
    served.protocol.data_received(REAL)
    while b"200 OK" not in served.written:
        await turns(1)
    assert sum(map(answered, strangers)) < len(strangers)
    await turns(len(strangers) // BATCH + 1)
    assert [answered(stranger) for stranger in strangers] == [1] * len(strangers)


async def test_the_next_request_is_read_later_and_never_lost(bench: Bench, strangers: list[FakeTransport]) -> None:
    stranger = strangers[0]
    stranger.protocol.data_received(request(0))
    await turns(2)
    stranger.protocol.data_received(request(1)[:10])
    seen = len(bench.outcomes)
    assert not stranger.paused
    stranger.protocol.data_received(request(1)[10:])
    assert stranger.paused  # so much is held, and no more
    assert len(bench.outcomes) == seen
    await turns(4)
    assert answered(stranger) == 2
    assert not stranger.paused
    assert bench.outcomes[-1].target == "/1"


async def test_it_is_served_as_others_once_it_asks_for_what_there_is(
    bench: Bench, strangers: list[FakeTransport]
) -> None:
    stranger = strangers[0]
    stranger.protocol.data_received(request(0))
    await turns(2)
    stranger.protocol.data_received(REAL)
    while b"200 OK" not in stranger.written:
        await turns(1)
    before = len(bench.requests)
    stranger.protocol.data_received(REAL)
    assert len(bench.requests) == before + 1  # at once


async def test_one_that_leaves_before_it_is_told(bench: Bench, strangers: list[FakeTransport]) -> None:
    strangers[0].protocol.data_received(request(0))
    strangers[0].lose()
    strangers[1].protocol.data_received(request(0))
    await turns(2)
    strangers[1].protocol.data_received(request(1))
    strangers[1].lose()
    await turns(4)
    assert [(o.status, o.target) for o in bench.outcomes] == [(499, "/0"), (404, "/0")]
