"""Load for unknown hosts: each request for another one, from clients with addresses of their own.

`python -m bench.routing.unknown_host_load PLAN RESULT`: two JSON files. All clients connect, and result.began
appears. Requests are sent from SIGUSR1 until SIGTERM. Each client has one connection and one request in flight, so
an edge that is slower than the rate gets fewer requests; the result says how many. Closed connections are opened
again.
"""

import asyncio
import re
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.lab.load_process import TIMEOUT
from bench.lab.programs import BenchFailed
from bench.lab.servers import spawn, until
from bench.lab.task_files import play_task
from edge.platform.child_process import ChildProcess

TICK = 0.004
"Seconds between two looks at what is due."
AT_ONCE = 50
"Clients that connect at the same time."
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ERROR = re.compile(rb"\r\nx-styx-error: *([a-z_]+)", re.IGNORECASE)


class UnknownHostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The clients, and how much they request."""

    port: int
    sources: list[str]
    "Local addresses, one for each client."
    rate: float
    "Requests a second of all of them together, in turn."
    names: str
    'With one "{}", for a number that grows; each name is requested once.'


class UnknownHostResult(msgspec.Struct, kw_only=True):
    """What came of it."""

    completed: int = 0
    seconds: float = 0.0
    statuses: dict[str, int] = {}
    'By "404 unknown_host"; "closed" = there was no response.'

    @property
    def rate(self) -> float:
        return self.completed / self.seconds if self.seconds else 0.0


@dataclass
class UnknownHostClients:
    """A running load."""

    process: ChildProcess
    _result: Path
    result: UnknownHostResult = field(default_factory=UnknownHostResult)
    "Empty until `stop`."

    def begin(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    async def stop(self) -> None:
        """Raises BenchFailed."""
        self.process.send_signal(signal.SIGTERM)
        await until(self.process.ended.is_set, TIMEOUT)
        try:
            self.result = msgspec.json.decode(self._result.read_bytes(), type=UnknownHostResult)
        except (OSError, msgspec.DecodeError):
            raise BenchFailed(f"the clients failed: {self.process.last_words()}") from None


@asynccontextmanager
async def unknown_host_clients(plan: UnknownHostPlan, directory: Path) -> AsyncIterator[UnknownHostClients]:
    """All are connected at the beginning of the block, which then begins and stops them. Raises BenchFailed."""
    todo, result = directory / "unknown-hosts.json", directory / "unknown-hosts-result.json"
    todo.write_bytes(msgspec.json.encode(plan))
    result.unlink(missing_ok=True)
    began = result.with_suffix(".began")
    began.unlink(missing_ok=True)
    process = spawn("bench.routing.unknown_host_load", directory, todo, result)
    try:
        if not await until(lambda: began.exists() or process.ended.is_set(), TIMEOUT) or not began.exists():
            raise BenchFailed(f"the clients did not connect: {process.last_words()}")
        yield UnknownHostClients(process, result)
    finally:
        process.kill()
        await process.ended.wait()


class Client(asyncio.Protocol):
    """One of them, for as long as its connection lives."""

    __slots__ = ("_data", "_load", "_transport", "requesting", "source")

    def __init__(self, load: "UnknownHostLoad", source: str) -> None:
        self._load = load
        self.source = source
        self.requesting = False
        "Whether it waits for a response."
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send_request(self, request: bytes) -> None:
        self.requesting = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(data, 0, end)
        if len(data) < end + 4 + (int(length[1]) if length else 0):
            return
        self._data, self.requesting = b"", False
        error = _ERROR.search(data, 0, end + 2)
        self._load.statuses[data[9:12] + b" " + error[1] if error else data[9:12]] += 1
        if b"\r\nconnection: close" in data[:end].lower():
            self._transport.close()
        else:
            self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)


class UnknownHostLoad:
    """All of them."""

    def __init__(self, plan: UnknownHostPlan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self.idle: deque[Client] = deque()
        "Those that may ask; who waits longest is the next."
        self.statuses: Counter[bytes] = Counter()
        self._connecting: set[asyncio.Task[None]] = set()
        self._ended = False

    async def connect_all(self) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(source: str) -> None:
            async with gate:
                await self._connect(source)

        await asyncio.gather(*map(one, self._plan.sources))

    async def _connect(self, source: str) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((source, 0))
        try:
            await self._loop.sock_connect(sock, ("127.0.0.1", self._plan.port))
            _, client = await self._loop.create_connection(lambda: Client(self, source), sock=sock)
        except OSError:
            sock.close()
            self.statuses[b"not connected"] += 1
            await asyncio.sleep(0.5)
            self._connect_soon(source)
        else:
            self.idle.append(client)

    def _connect_soon(self, source: str) -> None:
        if not self._ended:
            task = self._loop.create_task(self._connect(source))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def lost(self, client: Client) -> None:
        """Its connection has ended: it comes back."""
        if client in self.idle:
            self.idle.remove(client)
        self.statuses[b"closed"] += client.requesting
        self._connect_soon(client.source)

    async def send_until(self, enough: asyncio.Event) -> UnknownHostResult:
        """At the rate of the plan, or as many as are completed."""
        before, began, names = self.statuses.copy(), time.monotonic(), self._plan.names
        number, due = 0, 0.0
        while not enough.is_set():
            now = time.monotonic()
            # What could not be sent when it was due is not made up for later.
            due = min((now - began) * self._plan.rate, number + len(self._plan.sources))
            while number < due and self.idle:
                request = f"GET / HTTP/1.1\r\nHost: {names.format(number)}\r\nAccept: */*\r\n\r\n"
                self.idle.popleft().send_request(request.encode())
                number += 1
            await asyncio.sleep(TICK)
        self._ended = True
        seen = self.statuses - before
        completed = sum(count for status, count in seen.items() if status[:1].isdigit())
        statuses = {status.decode(): count for status, count in seen.most_common()}
        return UnknownHostResult(completed=completed, seconds=time.monotonic() - began, statuses=statuses)


async def _play(plan: UnknownHostPlan, began: Path) -> UnknownHostResult:
    begin, enough = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, begin.set)
    loop.add_signal_handler(signal.SIGTERM, enough.set)
    clients = UnknownHostLoad(plan)
    await clients.connect_all()
    began.touch()  # noqa: ASYNC240
    await begin.wait()
    return await clients.send_until(enough)


if __name__ == "__main__":
    begins = Path(sys.argv[2]).with_suffix(".began")
    play_task(UnknownHostPlan, lambda plan: uvloop.run(_play(plan, begins)))
