"""Backends that record what they get, and read it with a reader of their own.

A `Stage` is a worker without sockets whose backends are `RecordingEnd`s: every connection keeps its bytes,
reads them with `tests/support/recorder.py`, and responds to each request when all of it has come. Clients and
responses are told apart by X-Request-Id, which the edge sends to both sides.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edge.net.accept.lingering_close import LingeringClose
from edge.rules.routing.route_response import Backend, RouteResponse
from tests.net.conftest import Bench, new_pool
from tests.support.fake_transports import FakeTransport
from tests.support.recorder import Recorder, usual
from tests.support.strict_reader import Message, read_response

QUIET = 8
"Turns of the loop without news after which nothing more will happen."
SOON = 0.05
"Waits of the edge that are shorter than this are made to nothing."


class HastyLoop:
    """The running loop, with its short waits left out."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> asyncio.Handle:
        return self._loop.call_soon(call, *args) if delay < SOON else self._loop.call_later(delay, call, *args)


class RecordingEnd(FakeTransport):
    """The end of a backend on one connection."""

    def __init__(self, protocol: Any, stage: "Stage") -> None:
        self.stage = stage
        self.recorder = Recorder(self.say, stage.response)
        self._read = 0
        self._reads = False
        super().__init__(protocol)

    @property
    def got(self) -> list[Message]:
        """The whole requests."""
        return self.recorder.got

    def write(self, data: Any) -> None:
        super().write(data)
        self.stage.news += 1
        if not self._reads:
            self._reads = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._reads = False
        begin, self._read = self._read, len(self.written)
        self.recorder.feed(self.written[begin:])

    def say(self, data: bytes) -> None:
        """Response with these bytes."""
        if data and not self.closed:
            self.stage.news += 1
            self.protocol.data_received(data)

    def end(self) -> None:
        """The backend closes."""
        if not self.closed:
            self.stage.news += 1
            self.protocol.eof_received()
            self.lose()


class Stage(Bench):
    """See the module. `settings` are those of the pool."""

    def __init__(self, **settings: float) -> None:
        super().__init__()
        self.news = 0
        self.ends: list[RecordingEnd] = []
        self.words: bytes | None = None
        "What is said to every request instead of the usual; empty = nothing."
        context = self.worker.context
        context.pool = context.balancer.pool = new_pool(self.loop, context.reading, **settings)
        context.loop = context.balancer.loop = HastyLoop()  # type: ignore[assignment]
        self.loop.create_connection = self._connect  # type: ignore[method-assign]

    def serve(self, hosts: Iterable[str]) -> None:
        """These hostnames lead to the recording backend too."""
        context = self.worker.context
        for host in hosts:
            response = RouteResponse(host, host, "live", 1, (Backend("b0", "192.0.2.1", 80),))
            context.table.put(host, response, cache_control="max-age=1000", now=time.monotonic(), rand=0.0)

    async def _connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        protocol = factory()
        self.ends.append(RecordingEnd(protocol, self))
        return self.ends[-1], protocol

    def response(self, message: Message) -> bytes:
        """What is said to this request."""
        return usual(message) if self.words is None else self.words

    async def settle(self) -> None:
        """Wait until nothing happens any more, and no read is left to a later turn, as on a slow machine."""
        quiet = 0
        while quiet < QUIET:
            before = self.news, len(self.outcomes)
            await asyncio.sleep(0)
            is_quiet = before == (self.news, len(self.outcomes)) and not len(self.worker.context.reading)
            quiet = quiet + 1 if is_quiet else 0

    async def play(self, plays: Iterable[Sequence[bytes]]) -> list[FakeTransport]:
        """Many clients at once: each sends its pieces one by one, and none while its reading is paused."""
        pairs = [(self.client(), iter(pieces)) for pieces in plays]
        clients = [client for client, _ in pairs]
        busy = pairs
        while busy:
            busy = [pair for pair in busy if _fed(*pair)]
            await asyncio.sleep(0)
            if busy and all(client.paused for client, _ in busy):
                await self.settle()
                busy = [(client, pieces) for client, pieces in busy if not client.paused]
        await self.settle()
        return clients

    async def clear(self) -> None:
        """All clients leave; all connections to backends are gone and forgotten."""
        for transport in [*self.clients, *self.ends]:
            if not transport.closed:
                transport.lose()
        self.clients.clear()
        self.ends.clear()
        self.outcomes.clear()
        self.words = None
        await self.settle()

    async def close(self) -> None:
        await self.worker.context.pool.close()
        await self.settle()
        await self.worker.context.resolver.close()


def _fed(client: FakeTransport, pieces: Any) -> bool:
    """Hand over the next piece. Whether there may be more."""
    if client.closed:
        return False
    if client.paused:
        return True
    for piece in pieces:
        client.protocol.data_received(piece)
        return True
    return False


def is_over(client: FakeTransport) -> bool:
    """Whether the edge has closed this connection, or its side of it."""
    return bool(client.closed) or isinstance(client.protocol, LingeringClose)


def responses_in(data: bytes, methods: Sequence[bytes], *, ended: bool) -> list[Message]:
    """The responses that a client got, as far as a 101. Raises Unreadable, Unfinished."""
    found: list[Message] = []
    at = 0
    while at < len(data) and not (found and found[-1].status == 101):
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        message, at = read_response(data, at, method=method, ended=ended)
        found.append(message)
    return found
