"""Ten containers in one process: four workers behind a queue of four, and faults on request.

`python -m bench.stubs.stub_containers PLAN RESULT`: two JSON files. Every request says itself how much work it is
(`X-Demand-Ms`), so all balancers serve the same work. Runs until it is terminated, then writes what it saw.
"""

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import uvloop

from bench.lab.start_signal import wait_for_start
from bench.lab.task_files import play_task

WORKERS, QUEUE = 4, 4
_DEMAND = re.compile(rb"\r\nx-demand-ms: *([0-9.]+)", re.IGNORECASE)
_ORDER = re.compile(rb"\r\nx-order-id: *([^\r]+)", re.IGNORECASE)
_PROBE = re.compile(rb"\r\nx-styx-probe:", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


FAULTS = ("before", "body", "after", "half", "closes", "refuses")
"""The connection is reset before the request is executed; while its body comes; after it was executed, without an
response; after half of the response; it is closed in order a moment after the response, when the next one may be
under way; or the request is refused as if the queue were full."""

_REFUSED = b"HTTP/1.1 503 Full\r\nX-Styx-Refused: queue\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nfull"


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong with one container, from and until so many seconds after the beginning."""

    container: int
    kind: str
    """slow (ten times), fails (500 at once), dead (its port is closed), moves (it ends what it has, and is gone),
    unplugged (it takes no connections), hangs"""
    begin: float
    end: float


class StubPlan(msgspec.Struct, frozen=True):
    """Where they listen, and what happens."""

    ports: list[int]
    troubles: list[Trouble]
    counted_from: float = 0.0
    "Seconds after the beginning."
    begins: str = ""
    "File with the moment at which it begins, see `bench.lab.start_signal`; empty = it is at once."
    faults: float = 0.0
    "Part of the requests that one of FAULTS happens to."
    queue: int = QUEUE
    "Requests that wait for a worker; more are refused."
    certificates: list[tuple[str, str]] = []
    "Files with the certificate of each container and its key; empty = plain HTTP."
    client_ca: str = ""
    "File with the authority of who may connect, with TLS."


class Seen(msgspec.Struct):
    """What the containers saw."""

    attempts: list[int]
    "By container, refused ones included, from `counted_from` on."
    probes: int
    "Those of them that styx marks as copies."
    executed: dict[str, int]
    "How often each order was executed."


class StubContainer:
    """One of them."""

    def __init__(self, port: int, plan: StubPlan, number: int) -> None:
        self._port = port
        self._troubles = [trouble for trouble in plan.troubles if trouble.container == number]
        self._counted_from = plan.counted_from
        self._began = inf
        self._faults = plan.faults
        self._most_queued = plan.queue
        self._tls = _server_context(plan, number) if plan.certificates else None
        self._rand = Random(number)
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._fillers: list[socket.socket] = []
        self._moving: asyncio.Future[None] | None = None
        self._free = WORKERS
        self._queue: deque[Callable[[], None]] = deque()
        self.connections: set[StubConnection] = set()
        self.attempts = 0
        self.probes = 0
        self.executed: Counter[str] = Counter()

    async def start(self) -> None:
        """Listen."""
        await self._listen()

    def begin(self, moment: float) -> None:
        """From this moment of the loop's clock on, let happen what is planned."""
        self._began = moment
        for trouble in self._troubles:
            if trouble.kind in ("dead", "moves", "unplugged"):
                self._loop.call_at(moment + trouble.begin, self._fall, trouble.kind)
                self._loop.call_at(moment + trouble.end, lambda: asyncio.ensure_future(self._rise()))

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: StubConnection(self),
            "127.0.0.1",
            self._port,
            backlog=1024,
            reuse_address=True,
            ssl=self._tls,
        )

    def _fall(self, kind: str) -> None:
        assert self._server is not None
        if kind == "moves":
            self._moving = asyncio.ensure_future(self._move())
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        if kind == "unplugged":
            self._loop.call_later(0.005, self._take_no_more)

    async def _move(self) -> None:
        """One that is moved ends what it has: what waits to be accepted, and what lies in its sockets, too."""
        assert self._server is not None
        [listening] = self._server.sockets
        with socket.socket(fileno=os.dup(listening.fileno())) as sock, contextlib.suppress(BlockingIOError):
            sock.setblocking(False)
            while True:
                waiting, _ = sock.accept()
                await self._loop.connect_accepted_socket(lambda: StubConnection(self), waiting, ssl=self._tls)
        self._server.close()
        for connection in list(self.connections):
            connection.leave()

    def _take_no_more(self) -> None:
        """A full queue of connections: the kernel drops the next SYN, as a cable does that is not there."""
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", self._port))
        deaf.listen(0)
        self._fillers = [deaf]
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self._port))
            self._fillers.append(filler)

    async def _rise(self) -> None:
        for sock in self._fillers:
            sock.close()
        self._fillers = []
        await self._listen()

    def _state(self) -> str:
        since = self._loop.time() - self._began
        return next((t.kind for t in self._troubles if t.begin <= since < t.end), "")

    def fault(self) -> str:
        """What happens to the next request; "" = nothing."""
        return self._rand.choice(FAULTS) if self._faults and self._rand.random() < self._faults else ""

    def take(self, head: bytes, respond: Callable[[bytes], None], *, refuses: bool) -> None:
        """One request."""
        if self._loop.time() - self._began >= self._counted_from:
            self.attempts += 1
            self.probes += _PROBE.search(head) is not None
        state = self._state()
        if state == "hangs":
            return
        if state == "fails":
            self._loop.call_later(0.002, respond, b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")
            return
        if refuses or (not self._free and len(self._queue) >= self._most_queued):
            respond(_REFUSED)
            return
        if self._free:
            self._free -= 1
            self._work(head, respond)
        else:
            self._queue.append(lambda: self._work(head, respond))

    def _work(self, head: bytes, respond: Callable[[bytes], None]) -> None:
        demand, order = _DEMAND.search(head), _ORDER.search(head)
        seconds = float(demand[1]) / 1e3 if demand else 0.0
        if order and not _PROBE.search(head):
            self.executed[order[1].decode()] += 1

        def done() -> None:
            if self._queue:
                self._queue.popleft()()
            else:
                self._free += 1
            respond(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")

        self._loop.call_later(seconds * (10.0 if self._state() == "slow" else 1.0), done)


def _server_context(plan: StubPlan, number: int) -> ssl.SSLContext:
    """Of a container that serves the edge only."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=plan.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*plan.certificates[number])
    return context


class StubConnection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, container: StubContainer) -> None:
        self._container = container
        self._transport: asyncio.Transport | None = None
        self._in_flight = 0
        self._leaves = False
        self._fault: str | None = None
        "Of the request that comes; None = none has begun."
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._container.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._container.connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close when nothing is in flight, and nothing has come."""
        self._leaves = True
        if self._transport is None or self._in_flight or self._data:
            return
        if not select.select([self._transport.get_extra_info("socket").fileno()], [], [], 0)[0]:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = _LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if self._fault is None:
                self._fault = self._container.fault()
            if self._fault == "body" or (self._fault == "before" and len(self._data) >= size):
                self.abort()
                return
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            fault, self._fault = self._fault, None
            self._in_flight += 1
            respond = partial(self._respond, fault=fault)
            self._container.take(head, respond, refuses=fault == "refuses")

    def _respond(self, data: bytes, fault: str) -> None:
        self._in_flight -= 1
        if self._transport is None:
            return
        if fault in ("after", "half"):
            self._transport.write(data[: len(data) // 2] if fault == "half" else b"")
            asyncio.get_running_loop().call_later(0.002, self.abort)
            return
        self._transport.write(data)
        if self._leaves:
            self.leave()
        if fault == "closes":
            asyncio.get_running_loop().call_later(0.001, self._transport.close)


async def _begin(containers: list[StubContainer], begins: str) -> None:
    moment = await wait_for_start(Path(begins)) if begins else asyncio.get_running_loop().time()
    for container in containers:
        container.begin(moment)


async def _serve(plan: StubPlan) -> Seen:
    """Until the process gets SIGTERM; what they saw."""
    containers = [StubContainer(port, plan, number) for number, port in enumerate(plan.ports)]
    for container in containers:
        await container.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    beginning = asyncio.create_task(_begin(containers, plan.begins))
    await stop.wait()
    beginning.cancel()
    executed: Counter[str] = sum((container.executed for container in containers), Counter())
    return Seen([c.attempts for c in containers], sum(c.probes for c in containers), dict(executed))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        play_task(StubPlan, lambda plan: uvloop.run(_serve(plan)))
