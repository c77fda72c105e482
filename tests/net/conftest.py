"""A worker without sockets: its clients are fake transports, and so are its backends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from edge.net.accept.accept_chain import NewConnection
from edge.net.balancing.pool import Pool
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.head_reader import HeadReader
from edge.net.routing import resolver
from edge.net.transport.read_budget import ReadBudget
from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import HeadValidator
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.settings import Settings
from edge.run.worker import Worker
from tests.support.fake_transports import FakeLoop, FakeTransport, turns

PLAIN = {
    "listeners": ({"address": "127.0.0.1:0"},),
    "core_api": {"url": "http://127.0.0.1:1"},
    "access_log": {"path": ""},
    "edge_name": "edge-1",
}


class Bench:
    """One worker with fake clients and backends."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.worker = Worker(Settings.model_validate(PLAIN), observe=self.outcomes.append)
        self.loop = FakeLoop()
        self.clients: list[FakeTransport] = []
        context = self.worker.context
        context.pool = context.balancer.pool = new_pool(self.loop, context.reading)
        backends = (Backend("b0", "192.0.2.1", 80),)
        response = RouteResponse("shop.test", "shop", "live", 1, backends)
        context.table.put("shop.test", response, cache_control="max-age=1000", now=time.monotonic(), rand=0.0)

    def client(self) -> FakeTransport:
        """A new client connection."""
        peer = ClientInfo("192.0.2.7", port=80, trusted=False, via=b"styx")
        client = FakeTransport(NewConnection(self.worker.context, lambda _: peer, (H1Connection,)))
        self.clients.append(client)
        return client

    @property
    def requests(self) -> list[bytes]:
        """The requests that the backend received, on all its connections."""
        return [request for transport in self.loop.transports for request in transport.requests]


def new_pool(loop: FakeLoop, reading: ReadBudget | None = None, **settings: float) -> Pool:
    loaded = Settings.model_validate({**PLAIN, "pool": settings})
    head_reader = HeadReader(HeadValidator(loaded.limits, loaded.forwarding))
    budget = ReadBudget(asyncio.get_running_loop(), time.monotonic) if reading is None else reading
    return Pool(
        loaded.pool,
        loop,  # type: ignore[arg-type]
        lambda pool, endpoint: H1Backend(pool, endpoint, head_reader, loaded.limits, budget),
    )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    for client in bench.clients:  # before the backends: an attempt that loses its connection would be retried
        client.abort()
    await turns()
    await bench.worker.context.pool.close()
    for transport in bench.loop.transports:
        transport.abort()
    await turns()
    await bench.worker.context.resolver.close()


MakePool = Callable[..., Pool]


@pytest.fixture
def pool_of() -> MakePool:
    """pool_of(loop, **settings) -> a pool whose connections lead nowhere."""
    return new_pool


@pytest.fixture
def nobody_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver retries at once."""
    monkeypatch.setattr(resolver, "AGAIN_AFTER", 0.0)
