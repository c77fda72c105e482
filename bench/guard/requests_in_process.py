"""Requests through one worker without sockets, for counting their instructions under callgrind.

`valgrind --tool=callgrind --instr-atstart=no python -m bench.guard.requests_in_process --callgrind`

A client and a backend that only count bytes, a known route, an idle connection. For each load some requests warm
up, then REQUESTS of them are counted, and dumped with the name of the load. Hash seed, clock and random numbers are
fixed, and the garbage collector is off, so that two runs differ by less than 0.5 %.

This module is run in the checkout that it measures, because it uses what is private to it.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.admin.request_counters import STATUS_AT
from edge.net.accept.accept_chain import NewConnection
from edge.net.balancing.pool import Pool
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.h1_connection import H1Connection
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.settings import Settings
from edge.run.worker import Worker

HOST = "shop.test"
WARM_UP = 300
REQUESTS = 300
"The guard divides the counts of both versions by it: who changes it moves base_commit.txt too."
NOW = 1000.0
"Seconds of a clock that stands still."
SETTINGS = {
    "listeners": ({"address": "127.0.0.1:0"},),
    "core_api": {"url": "http://127.0.0.1:1"},
    "access_log": {"path": "/dev/null"},
    "edge_name": "edge-1",
    "retries": {"ask_before_upload": "never"},
}
FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 "
    "Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en-US;q=0.9,en;q=0.8,nl;q=0.7",
    "Cache-Control: max-age=0",
    f"Referer: http://{HOST}/articles/1",
    'Sec-CH-UA: "Chromium";v="137", "Not/A)Brand";v="24"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Upgrade-Insecure-Requests: 1",
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\nX-Container: b1\r\n\r\n%b"
)
TINY, LARGE = RESPONSE % (3, b"ok\n"), RESPONSE % (65536, bytes(65536))
TURNS = 1000
"Turns of the loop after which a response with status 200 is overdue."
OK_RESPONSES = STATUS_AT + 200
"The cell that counts them."
PIECE = 65536
"Bytes of a body that arrive at once."


class Transport(asyncio.Transport):
    """Counts what is written, keeps nothing of it, and is always writable."""

    def __init__(self, protocol: Any, on_write: Callable[[Any, int], None] | None = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.closing = False
        self._on_write = on_write
        self._sockets = socket.socketpair()
        "Stands for the connection where its options are set."
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._sockets[0]
        return ("192.0.2.7", 5000) if name == "peername" else default

    def write(self, data: Any) -> None:
        if self._on_write is not None:
            self._on_write(self, len(data))

    def writelines(self, parts: Any) -> None:
        if self._on_write is not None:
            self._on_write(self, sum(map(len, parts)))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16384, 65536

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def close_sockets(self) -> None:
        for one in self._sockets:
            one.close()


class BackendLoop:
    """Connects the pool to backends that respond in the turn of the loop after the end of a request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.response = TINY
        self.upload = 0
        "Bytes of the body of each request."
        self._came = 0
        self.transports: list[Transport] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Callable[[], Any], *_: Any, **__: Any) -> tuple[Any, Any]:
        protocol = factory()
        self.transports.append(Transport(protocol, self._respond))
        return self.transports[-1], protocol

    def _respond(self, transport: Transport, size: int) -> None:
        self._came += size
        if self._came > self.upload:  # by the head
            self._came = 0
            self._loop.call_soon(self._send, transport)

    def _send(self, transport: Transport) -> None:
        for begin in range(0, len(self.response), PIECE):
            transport.protocol.data_received(self.response[begin : begin + PIECE])


class WorkerWithoutSockets:
    """One worker, one client connection at a time, one backend."""

    def __init__(self) -> None:
        settings = Settings.model_validate(SETTINGS)
        self._worker = Worker(settings, clock=lambda: NOW, rand=lambda: 0.0)
        context = self._worker.context
        self.backend_loop = BackendLoop(asyncio.get_running_loop())
        context.pool = context.balancer.pool = Pool(
            settings.pool,
            self.backend_loop,  # type: ignore[arg-type]
            lambda pool, endpoint: H1Backend(pool, endpoint, context.head_reader, settings.limits, context.reading),
        )
        backends = (Backend("b1", "192.0.2.1", 80),)
        route = RouteResponse(HOST, "shop", "live", 1, backends)
        context.table.put(HOST, route, cache_control="max-age=100000", now=NOW, rand=0.0)
        self._client = self._connect()

    def _connect(self) -> Transport:
        context = self._worker.context
        return Transport(NewConnection(context, self._info, (H1Connection,)))

    def _info(self, _: object) -> ClientInfo:
        return ClientInfo("192.0.2.7", port=80, trusted=False, via=b"styx")

    def reconnect(self) -> None:
        """Close the connection of the client and open another one."""
        if not self._client.closing:
            raise AssertionError("the worker keeps the connection")
        self._client.protocol.connection_lost(None)
        self._client.close_sockets()
        self._client = self._connect()

    @property
    def finished(self) -> float:
        """Requests that have ended with 200. (An observer of outcomes would need their records, which styx does not
        make by itself.)"""
        return self._worker.row.cells[OK_RESPONSES]

    async def close(self) -> None:
        """Close its sockets and stop what it began."""
        for transport in (self._client, *self.backend_loop.transports):
            transport.close_sockets()
        await self._worker.context.resolver.close()

    async def request(self, load: "Load", head: bytes) -> None:
        """Send a request of a load, with this head, and wait for the end of its response."""
        finished, protocol = self.finished, self._client.protocol
        self.backend_loop.response, self.backend_loop.upload = load.response, load.upload
        protocol.data_received(head)
        for _ in range(load.upload // PIECE):
            self._client.protocol.data_received(ZEROS)
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if self.finished > finished:
                if load.new_connection:
                    self.reconnect()
                return
        raise TimeoutError(f"no response with 200 after {TURNS} turns of the loop")


def head(number: int, line: str = "GET /tiny HTTP/1.1", *more: str) -> bytes:
    """A request of a browser; `number` goes into its cookie."""
    lines = [line, f"Host: {HOST}", *FIELDS, f"Cookie: session={number:032x}; theme=dark", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def session_head(number: int) -> bytes:
    """A request of one of SESSIONS browsers, each of which repeats KINDS kinds of requests in turn."""
    session, kind = number // KINDS % SESSIONS, number % KINDS
    return head(session, f"GET /page/{session}/{kind} HTTP/1.1", f"Priority: u={kind}")


SESSIONS, KINDS = 24, 8
UPLOADED = 1 << 20
ZEROS = bytes(PIECE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of requests and responses."""

    head: Callable[[int], bytes] = lambda _: head(0)
    "The head of each request by its number."
    response: bytes = TINY
    upload: int = 0
    "Bytes of the body of each request."
    warm_up: int = WARM_UP
    "Requests before those that are counted: heads are cached at their second occurrence."
    new_connection: bool = False
    "Whether each request has a connection of its own."


LOADS = {
    "repeating": Load(),
    "sessions": Load(head=session_head, warm_up=2 * SESSIONS * KINDS),
    "unique": Load(head=head),
    "64-kib": Load(response=LARGE),
    "1-mib-upload": Load(
        head=lambda _: head(0, "POST /upload HTTP/1.1", f"Content-Length: {UPLOADED}"), upload=UPLOADED
    ),
    "new-connection": Load(head=lambda _: head(0, "GET /tiny HTTP/1.1", "Connection: close"), new_connection=True),
}


def control(*arguments: str) -> None:
    """Run callgrind_control for this process, if it was started with --callgrind."""
    if "--callgrind" in sys.argv:
        process = subprocess.Popen(["callgrind_control", *arguments, str(os.getpid())], stdout=subprocess.DEVNULL)
        # valgrind sees the command between two blocks of code, not in a blocking call. Long naps, because what is
        # done here after "on" and before "off" counts.
        while process.poll() is None:
            time.sleep(0.02)
        if process.returncode:
            sys.exit(f"callgrind_control failed: {process.returncode}")


async def main() -> None:
    """Send all loads."""
    worker = WorkerWithoutSockets()
    for name, load in LOADS.items():
        heads = [load.head(number) for number in range(load.warm_up + REQUESTS)]
        for one in heads[: load.warm_up]:
            await worker.request(load, one)
        gc.collect()
        gc.disable()
        control("-i", "on")
        for one in heads[load.warm_up :]:
            await worker.request(load, one)
        control("-i", "off")
        control(f"--dump={name}")
        gc.enable()


if __name__ == "__main__":
    asyncio.run(main())
