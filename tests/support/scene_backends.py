"""Scripted backends: raw servers on loopback that respond, refuse, stall, cut or lie, as a script says.

A script is `async def script(wire, request)`; it runs once for each request head that came, in order. What a
backend got, and how many connections it saw, is kept for the test to look at.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_transport import TlsTransport

DEADLINE = 100.0
"Seconds after which a wait in a test has failed: many, for nothing is quick on a machine that is busy."


class Gone(Exception):
    """The edge closed the connection."""


@dataclass
class Received:
    """One request as a backend got it."""

    head: bytes
    content: bytearray = field(default_factory=bytearray)
    "What has come of the body. To add to immutable bytes takes the square of its length."
    trailers: list[bytes] = field(default_factory=list)
    "The lines behind the body."
    whole: bool = False
    "The body came to its end."
    connection: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        lines = self.head.split(b"\r\n")[1:-2]
        self.fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    @property
    def body(self) -> bytes:
        return bytes(self.content)

    @body.setter
    def body(self, body: bytes) -> None:
        self.content[:] = body

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def method(self) -> bytes:
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: str) -> list[bytes]:
        return [value for n, value in self.fields if n == name.lower().encode()]

    def __getitem__(self, name: str) -> bytes:
        """The value of a field that must be there once."""
        [value] = self.values(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))


class Wire(asyncio.Protocol):
    """One connection to a scripted backend."""

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.requests = 0
        self.gone = asyncio.Event()
        self.tunnelled = False
        "Whether the edge may end its half and ours stays open."
        self.ended = asyncio.Event()
        "The edge has ended its half."
        self.sent = 0
        self._held = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.number = self.backend.connections
        self.backend.connections += 1
        self.backend.wires.append(self)
        self._task = asyncio.get_running_loop().create_task(self.backend.serve(self))

    def data_received(self, data: bytes) -> None:
        self.backend.bytes_in += len(data)
        self._held += data
        self._news.set()

    def eof_received(self) -> bool:
        self.ended.set()
        self._news.set()
        if not self.tunnelled:
            self._left()
        return self.tunnelled

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        if self in self.backend.wires:
            self.backend.wires.remove(self)

    def _left(self) -> None:
        self.gone.set()
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # verbs of scripts

    async def more(self) -> None:
        """Wait for bytes that were not there yet."""
        self._news.clear()
        if self.gone.is_set():
            raise Gone
        await self._news.wait()

    async def until(self, mark: bytes) -> bytes:
        searched = 0
        while (at := self._held.find(mark, searched)) < 0:
            searched = max(0, len(self._held) - len(mark) + 1)  # a long line is not searched again and again
            await self.more()
        return self._take(at + len(mark))

    async def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            await self.more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def go_on(self, request: Received) -> None:
        """Say that the body may come, to one that asked."""
        if "expect" in request:
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def body(self, request: Received) -> bytes:
        """Read the request's body to its end."""
        await self.go_on(request)
        if "transfer-encoding" in request:
            assert request["transfer-encoding"] == b"chunked"
            while size := int(await self.until(b"\r\n"), 16):
                request.content += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            while line := (await self.until(b"\r\n"))[:-2]:
                request.trailers.append(line)
        elif "content-length" in request:
            while missing := int(request["content-length"]) - len(request.content):
                while not self._held:
                    await self.more()
                request.content += self._take(min(missing, len(self._held)))
        request.whole = True
        self.backend.bodies.release()
        return request.body

    async def send(self, data: bytes) -> None:
        """Write, and wait until the edge takes more."""
        if self.gone.is_set() or self.transport.is_closing():
            raise Gone
        self.transport.write(data)
        self.sent += len(data)
        await self._writable.wait()

    async def gate(self) -> None:
        """Wait for `release`, if the test has said `hold`."""
        opened = asyncio.ensure_future(self.backend.opened.wait())
        gone = asyncio.ensure_future(self.gone.wait())
        await asyncio.wait({opened, gone}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        gone.cancel()
        if not self.backend.opened.is_set():
            raise Gone

    async def rest(self) -> bytes:
        """Everything until the edge ends its half."""
        while not self.ended.is_set():
            await self.more()
        return self._take(len(self._held))

    def end(self) -> None:
        """Send no more; still read."""
        self.transport.write_eof()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class TlsWire(asyncio.Protocol):
    """The handshake before a wire. Unlike that of uvloop it sends the alert when it fails."""

    def __init__(self, wire: Wire, context: ssl.SSLContext) -> None:
        self._wire = wire
        self._context = context

    def connection_made(self, transport: Any) -> None:
        bios = BioPair()
        tls = self._context.wrap_bio(bios.incoming, bios.outgoing, server_side=True)
        self._transport = TlsTransport(transport, tls, bios)
        self._transport.begin(self, b"")

    def handshake_done(self, early: bytes) -> None:
        self._transport.set_protocol(self._wire)
        self._wire.connection_made(self._transport)
        if early:
            self._wire.data_received(early)

    def handshake_failed(self, error: Exception) -> None:
        pass

    def handshake_lost(self, exc: Exception | None) -> None:
        pass


Script = Callable[[Wire, Received], Awaitable[None]]


class Backend:
    """One scripted container. `role` and `state` are what the core API says about it."""

    def __init__(self, name: str, script: Script | None = None) -> None:
        self.name = name
        self.script = script
        self.tls: ssl.SSLContext | None = None
        "Of its side; set before it has begun to listen."
        self.role = "active"
        self.state = "running"
        self.requests: list[Received] = []
        self.connections = 0
        "Opened so far."
        self.wires: list[Wire] = []
        "Open now."
        self.bytes_in = 0
        self.opened = asyncio.Event()
        self.opened.set()
        self.heads = asyncio.Semaphore(0)
        self.bodies = asyncio.Semaphore(0)
        self._sockets = [socket.socket()]
        self._server: asyncio.Server | None = None
        self._sockets[0].bind(("127.0.0.1", 0))
        self._sockets[0].setblocking(False)
        self.port = self._sockets[0].getsockname()[1]
        if script is not None:
            self._sockets[0].listen(1024)
            self._starting = asyncio.ensure_future(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_wire, sock=self._sockets[0])

    def _new_wire(self) -> Any:
        return Wire(self) if self.tls is None else TlsWire(Wire(self), self.tls)

    def __repr__(self) -> str:
        return f"<{self.name} {len(self.requests)} requests, {self.connections} connections>"

    @property
    def answer(self) -> dict[str, Any]:
        """As the core API tells it."""
        where = {"id": self.name, "address": "127.0.0.1", "port": self.port, "server": "srv-1"}
        return {**where, "role": self.role, "state": self.state, **({"tls": True} if self.tls else {})}

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def be_unreachable(self) -> None:
        """Listen with a full queue: the kernel drops the next SYN, and connecting hangs."""
        self._sockets[0].listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._sockets.append(filler)

    async def serve(self, wire: Wire) -> None:
        assert self.script is not None
        try:
            while not wire.transport.is_closing():
                request = Received(await wire.until(b"\r\n\r\n"), connection=wire.number)
                self.requests.append(request)
                wire.requests += 1
                self.heads.release()
                await wire.gate()
                await self.script(wire, request)
        except Gone:
            wire.close()

    # verbs of tests

    async def got_head(self) -> Received:
        """Wait for a request head that no earlier call waited for."""
        async with asyncio.timeout(DEADLINE):
            await self.heads.acquire()
        return self.last

    async def got_body(self) -> Received:
        async with asyncio.timeout(DEADLINE):
            await self.bodies.acquire()
        return self.last

    async def left(self) -> None:
        """Wait until the edge has closed all connections."""
        async with asyncio.timeout(DEADLINE):
            for wire in list(self.wires):
                await wire.gone.wait()

    def hold(self) -> None:
        """Do nothing about requests until `release`."""
        self.opened.clear()

    def release(self) -> None:
        self.opened.set()

    async def close_idle(self) -> None:
        """Close all connections, in order, and wait until the kernel knows."""
        async with asyncio.timeout(DEADLINE):
            for wire in list(self.wires):
                wire.close()
            while self.wires:  # noqa: ASYNC110 - rings no bell
                await asyncio.sleep(0)

    async def come_up(self, script: Script) -> None:
        """One that was dead listens from now on, where it always was."""
        assert self.script is None
        self.script = script
        self._sockets[0].listen(1024)
        self._starting = asyncio.ensure_future(self._start())
        await self._starting

    async def stop_listening(self) -> None:
        """From now on connections are refused; those that are there stay."""
        await self._starting
        assert self._server is not None
        self._server.close()

    async def stop(self) -> None:
        if self.script is not None:
            await self._starting
            assert self._server is not None
            self._server.close()
            tasks = [wire._task for wire in self.wires]
            for wire in list(self.wires):
                wire.transport.abort()
            await asyncio.gather(*tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()


# Scripts


def head_of(status: int, fields: list[tuple[str, str]], *, version: str = "1.1", reason: str = "Because") -> bytes:
    lines = [f"HTTP/{version} {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def answering(
    status: int = 200,
    body: bytes = b"hello",
    *,
    headers: list[tuple[str, str]] | None = None,
    framing: str = "length",
    read_body: bool = True,
) -> Script:
    """A whole response. `framing`: length, chunked (two chunks) or close."""

    async def script(wire: Wire, request: Received) -> None:
        if read_body:
            await wire.body(request)
        fields = list(headers or [])
        bodiless = request.method == b"HEAD" or status in (204, 304)
        payload = b"" if bodiless else body
        if framing == "length" and status != 204:
            fields.append(("Content-Length", str(len(body))))
        elif framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
            middle = len(body) // 2
            parts = [part for part in (payload[:middle], payload[middle:]) if part]
            payload = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            payload = b"" if bodiless else payload
        await wire.send(head_of(status, fields) + payload)
        if framing == "close":
            wire.close()

    return script


def refusing(retry_after: int | None = None, *, after: int = 0) -> Script:
    """Full: not processed. Reads `after` body bytes before it says so."""
    fields = [("X-Styx-Refused", "queue full"), ("Content-Length", "4")]
    if retry_after is not None:
        fields.append(("Retry-After", str(retry_after)))

    async def script(wire: Wire, request: Received) -> None:
        if after:
            await wire.go_on(request)
            request.content += await wire.exactly(after)
        else:
            await wire.body(request)
        await wire.send(head_of(503, fields) + b"full")

    return script


def raw(answer: bytes, *, then: str = "stay") -> Script:
    """These bytes, whatever they are; `then` stay, close or reset."""

    async def script(wire: Wire, request: Received) -> None:
        await wire.body(request)
        if answer:
            await wire.send(answer)
        if then == "close":
            wire.close()
        elif then == "reset":
            wire.reset()

    return script


async def silent(wire: Wire, request: Received) -> None:
    """Reads, never answers."""
    while True:
        await wire.more()
