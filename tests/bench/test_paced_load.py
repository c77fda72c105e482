"""The open-loop generator: latency counts from when a request was due; who cannot follow is overloaded."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from bench.lab.paced_load import PacedGenerator, PacedLoad, PacedResult, is_complete

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend(asyncio.Protocol):
    """Responds to each request after a while."""

    def __init__(self, response: bytes, delay: float) -> None:
        self._response = response
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay, self._transport.write, self._response)


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """serve(response, delay) -> port; in a thread, because the generator blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = []

    def start(response: bytes, delay: float) -> int:
        made = loop.create_server(lambda: Backend(response, delay), "127.0.0.1", 0)
        servers.append(asyncio.run_coroutine_threadsafe(made, loop).result())
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


def run(port: int, *, rate: float = 200.0, connections: int = 32, warm_up: float = 0.1) -> PacedResult:
    load = PacedLoad(
        port=port,
        request="GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        rate=rate,
        seconds=0.5,
        warm_up=warm_up,
        connections=connections,
        seed=1,
    )
    return PacedGenerator(load).run()


def test_all_requests_are_completed(serve: Callable[..., int]) -> None:
    result = run(serve(OK, 0.005))
    assert result.offered > 50
    assert result.completed == result.offered
    assert not result.overloaded
    assert result.percentiles_ms["50"] >= 5.0
    assert list(result.percentiles_ms) == ["50", "90", "99", "99.9"]


def test_waiting_for_a_connection_counts(serve: Callable[..., int]) -> None:
    # One connection can carry 20 requests per second, 200 are due in half a second: each waits for all before it.
    result = run(serve(OK, 0.05), connections=1, warm_up=0.0)
    assert result.overloaded
    assert result.percentiles_ms["99.9"] >= 50.0 * result.completed - 500.0


def test_other_statuses_are_failures(serve: Callable[..., int]) -> None:
    result = run(serve(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 0.0))
    assert result.completed == 0
    assert result.failed == result.offered > 50
    assert result.percentiles_ms == {}


@pytest.mark.parametrize(
    ("data", "expected"),
    [(OK, True), (OK[:-1], False), (b"HTTP/1.1 200 OK\r\n", False), (b"HTTP/1.1 204 No Content\r\n\r\n", True)],
)
def test_a_response_is_complete_with_its_body(data: bytes, *, expected: bool) -> None:
    assert is_complete(data) is expected
