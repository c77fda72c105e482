"""The memory of a proxy with many connections: idle ones, and event streams."""

import asyncio
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.comparison.contestants import Contestant
from bench.comparison.results import MemoryPoint, Streams
from bench.lab import peers
from bench.lab.paced_load import END, is_complete
from bench.lab.peers import HOST, ProxySetup
from bench.lab.plain_http import request_head
from bench.lab.procfs import memory, run_seconds
from bench.lab.programs import BenchFailed
from bench.lab.servers import Server
from bench.stubs.holding_backend import holding_backend

AT_ONCE = 50
"Connections that are opened at the same time."
SETTLE = 1.0
"Seconds until memory is read."
DEADLINE = 20.0
"Seconds for one response."
EVENT_EVERY = 1.0
"Seconds between two events of one stream."


async def idle_connections(
    contestant: Contestant, counts: Sequence[int], directory: Path, core: int
) -> list[MemoryPoint]:
    """Resident memory with none and with each of these numbers of connections that had one request.

    Raises BenchFailed.
    """
    folder = Path(tempfile.mkdtemp(prefix="idle-", dir=directory))
    request = request_head(HOST, f"GET {peers.TINY_PATH}", {"User-Agent": "idle"})
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(peers.backends(folder))
        server = await stack.enter_async_context(contestant.start(folder, ports, ProxySetup(core=core)))
        # What is made once, at the first requests, does not count.
        _close(await _opened(server, request, AT_ONCE))
        await asyncio.sleep(SETTLE)
        points = [MemoryPoint(connections=0, resident=memory(server.pid).resident)]
        connections: list[socket.socket] = []
        try:
            for count in counts:
                connections += await _opened(server, request, count - len(connections))
                await asyncio.sleep(SETTLE)
                points.append(MemoryPoint(connections=count, resident=memory(server.pid).resident))
        finally:
            _close(connections)
        return points


async def streams(contestant: Contestant, count: int, seconds: float, directory: Path, core: int) -> Streams:
    """Memory and CPU of so many event streams, with an event per second in each. Raises BenchFailed."""
    folder = Path(tempfile.mkdtemp(prefix="streams-", dir=directory))
    page = request_head(HOST, "GET /page", {"User-Agent": "streams"})
    events = request_head(HOST, "GET /events", {"User-Agent": "streams", "Accept": "text/event-stream"})
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(holding_backend(EVENT_EVERY))
        setup = ProxySetup(core=core)
        server = await stack.enter_async_context(contestant.start(folder, [backend.port], setup))
        _close(await _opened(server, page, AT_ONCE))
        await asyncio.sleep(SETTLE)
        before = memory(server.pid).resident
        connections = await _opened(server, events, count, stream=True)
        reader = _EventReader(connections)
        try:
            await asyncio.sleep(SETTLE)
            received, cpu = reader.events, run_seconds(server.pid)
            await asyncio.sleep(max(seconds, 2 * EVENT_EVERY))
            received, cpu = reader.events - received, run_seconds(server.pid) - cpu
            resident = memory(server.pid).resident
        finally:
            reader.close()
            _close(connections)
    if not received:
        raise BenchFailed(f"{contestant.name} passed no event on")
    return Streams(count=count, bytes_each=(resident - before) / count, cpu_us=1e6 * cpu / received)


class _EventReader:
    """Reads from many sockets and counts events."""

    def __init__(self, connections: Sequence[socket.socket]) -> None:
        self.events = 0
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        for connection in connections:
            self._loop.add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        self.events += data.count(b"data:")
        if not data:
            self._loop.remove_reader(connection)

    def close(self) -> None:
        for connection in self._connections:
            self._loop.remove_reader(connection)


async def _opened(server: Server, request: bytes, count: int, *, stream: bool = False) -> list[socket.socket]:
    """Connections that had a whole response, or the head of a `stream`. Raises BenchFailed."""
    found: list[socket.socket] = []
    try:
        while len(found) < count:
            batch = range(min(AT_ONCE, count - len(found)))
            found += await asyncio.gather(*(_open(server, request, stream=stream) for _ in batch))
    except BaseException:
        _close(found)
        raise
    return found


async def _open(server: Server, request: bytes, *, stream: bool) -> socket.socket:
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    data = b""
    try:
        async with asyncio.timeout(DEADLINE):
            await loop.sock_connect(connection, ("127.0.0.1", server.port))
            await loop.sock_sendall(connection, request)
            while not (END in data if stream else is_complete(data)):
                if not (piece := await loop.sock_recv(connection, 65536)):
                    raise BenchFailed(f"{server.name} closed a connection: {data[:200]!r}")
                data += piece
    except (OSError, TimeoutError) as error:
        connection.close()
        raise BenchFailed(f"{server.name}: {type(error).__name__} {error}") from error
    if not data.startswith(b"HTTP/1.1 200 "):
        connection.close()
        raise BenchFailed(f"{server.name} responded {data[:200]!r}")
    return connection


def _close(connections: Sequence[socket.socket]) -> None:
    for connection in connections:
        connection.close()
