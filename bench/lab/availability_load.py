"""An open-loop load generator that never retries, on keep-alive and new connections, in a process of its own.

`python -m bench.lab.availability_load LOAD RESULT`: two JSON files. result.began appears when the first request is
about to leave. Every second request takes a keep-alive connection, the others connect for themselves. A request is
lost if the whole right response did not arrive, even if it could not be sent. A keep-alive connection that the
server closed between two requests is no loss.
"""

import asyncio
import signal
import socket
import ssl
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, Generic, Protocol, TypeVar, cast
from zlib import crc32

import msgspec
import uvloop

from bench.lab.task_files import play_task

ENDING = 2.0
"Seconds until a server that announced that it would close has done so."
BODY = 4096
"Bytes of a POST, at most."
LARGE = 65536
"Bytes of every 20th response."
CRLF2 = b"\r\n\r\n"
AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.Protocol)
WRONG_BODY, WRONG_SITE = "wrong body", "page of another site"
"Kinds of faults, of which the second is the worst that an edge can do."


class AvailabilityLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent."""

    port: int
    hosts: list[str]
    rate: float
    "Requests a second; the gaps between them are exponential."
    seconds: float
    "At least: it goes on until it gets SIGUSR1."
    seed: int
    keep_alive: int = 32
    "Kept connections, used in turn; more when all of them are busy."
    time_limit: float = 10.0
    "Seconds for one whole response, from when the request was due."
    sources: list[str] = []
    "Local addresses from which connections come, in turn; empty = the kernel chooses."


class Completed(msgspec.Struct, frozen=True, array_like=True):
    """A request that got the right response. Times are of the monotonic clock, which all processes share."""

    port: int
    "Of the client."
    due: float
    seen: float


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A request that did not."""

    kind: str
    keep_alive: bool
    port: int
    "Of the client; 0 = it did not get so far."
    due: float
    sent: float
    "When it was written; 0 = it was not."
    seen: float


class AvailabilityResult(msgspec.Struct, kw_only=True):
    """What came back."""

    offered: int = 0
    completed: list[Completed] = []
    faults: list[Fault] = []
    closed_between: int = 0
    "Kept connections that the server closed while they were idle, or announced to close."
    late_ms: list[float] = []
    "How much later than due each request was begun."


class Lost(Exception):
    """No right response came; the text is the kind of fault."""


async def connected(
    port: int,
    make: Callable[[socket.socket], AnyProtocol],
    *,
    source: str = "",
    tls: ssl.SSLContext | None = None,
    host: str | None = None,
) -> AnyProtocol:
    """Connect to a port of this machine, from an address of it. `make`: the protocol of a socket that is connected.
    `host`: whose certificate must be shown, with TLS.

    Raises Lost.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        if source:
            sock.bind((source, 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        _, wire = await loop.create_connection(lambda: make(sock), sock=sock, ssl=tls, server_hostname=host)
    except OSError as error:
        sock.close()
        raise Lost("refused" if isinstance(error, ConnectionRefusedError) else f"connect: {error}") from error
    except asyncio.CancelledError:
        sock.close()
        raise
    return wire


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.port: int = sock.getsockname()[1]
        self.sent = 0.0
        self.last = False
        "The server announced that it closes after this response."
        self.ended = asyncio.get_running_loop().create_future()
        'Its result is how the server closed: "eof" or "reset".'
        self._data = bytearray()
        self._response: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, port: int, source: str = "") -> "Wire":
        """To a port of this machine, from an address of it. Raises Lost."""
        return await connected(port, cls, source=source)

    @property
    def dead(self) -> bool:
        """Whether the other side has closed, as far as this machine knows."""
        if self.ended.done():
            return True
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    async def send_request(self, request: bytes) -> bytes:
        """The whole response, head and body. Raises Lost."""
        self._response = asyncio.get_running_loop().create_future()
        self.sent = time.monotonic()
        self._transport.write(request)
        return await self._response

    def close(self) -> None:
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(CRLF2)
        if end < 0 or self._response is None or self._response.done():
            return
        head = bytes(self._data[:end]).lower()
        length = head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0].strip()
        if not length.isdigit():
            self._response.set_exception(Lost("no length"))
            return
        whole = end + len(CRLF2) + int(length)
        if len(self._data) >= whole:
            self.last = b"\r\nconnection: close" in head
            response = bytes(self._data[:whole])
            del self._data[:whole]
            self._response.set_result(response)

    def eof_received(self) -> None:
        self._on_end("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end("reset" if exc is not None else "eof")

    def _on_end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
        if self._response is not None and not self._response.done():
            kind = "truncated" if self._data else "no response"
            self._response.set_exception(Lost("reset" if how == "reset" else kind))


async def send_all(
    load: AvailabilityLoad,
    rand: Random,
    load_result: AvailabilityResult,
    begin: Callable[[], None],
    send: Callable[[int, float], Coroutine[Any, Any, None]],
) -> None:
    """Send the requests of a load, each when it is due, and wait for the end of all. `begin` is called before the
    first; `send` sends one and gets its number, from 0, and when it was due."""
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, enough.set)
    begin()
    due = time.monotonic()
    end = due + load.seconds
    async with asyncio.TaskGroup() as requests:
        while (due := due + rand.expovariate(load.rate)) < end or not enough.is_set():
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            requests.create_task(send(load_result.offered, due))
            load_result.offered += 1


class EchoRequest(msgspec.Struct, frozen=True):
    """A request whose response says what arrived."""

    method: str
    site: str
    target: str
    body: bytes

    @classmethod
    def drawn(cls, rand: Random, hosts: Sequence[str], number: int) -> "EchoRequest":
        """That of this number: hosts take turns, one of five is a POST, every tenth has a large response."""
        body = rand.randbytes(rand.randint(1, BODY)) if rand.random() < 0.2 else b""
        target = f"/{rand.getrandbits(64):x}/{LARGE if number % 20 < 2 else 0}"
        return cls("POST" if body else "GET", hosts[number % len(hosts)], target, body)

    def check(self, got: bytes) -> None:
        """Raises Lost unless this is the body of its response."""
        if got != echo(self.method, self.site, self.target, self.body):
            raise Lost(WRONG_BODY if got.split(b" ", 2)[1:2] == [self.site.encode()] else WRONG_SITE)


class AnyWire(Protocol):
    """A connection that requests are sent on."""

    port: int
    "Of the client."

    def close(self) -> None:
        """Close it."""


AnyWireT = TypeVar("AnyWireT", bound=AnyWire)


class OpenLoop(ABC, Generic[AnyWireT]):
    """Plays one load. What sends a request is that of a version of HTTP."""

    new_every = 2
    "One request of so many opens a connection."

    def __init__(self, load: AvailabilityLoad) -> None:
        self._load = load
        self._load_result = AvailabilityResult()
        self._wires: deque[AnyWireT] = deque()
        "Connections that are kept."
        self._rand = Random(load.seed)

    async def play(self, begin: Callable[[], None]) -> AvailabilityResult:
        """`begin` is called when it begins."""
        await send_all(self._load, self._rand, self._load_result, begin, self._one)
        for wire in self._wires:
            wire.close()
        return self._load_result

    async def _one(self, number: int, due: float) -> None:
        begun = time.monotonic()
        self._load_result.late_ms.append(1e3 * (begun - due))
        used: list[AnyWireT] = []
        try:
            async with asyncio.timeout(self._load.time_limit):
                await self._send(number, used)
        except (Lost, TimeoutError) as error:
            fault = Fault(
                kind=str(error) or "timeout",
                keep_alive=bool(number % self.new_every),
                port=used[-1].port if used else 0,
                due=due,
                sent=self._give_up(used, begun),
                seen=time.monotonic(),
            )
            self._load_result.faults.append(fault)
        else:
            self._load_result.completed.append(Completed(used[-1].port, due, time.monotonic()))

    @abstractmethod
    async def _send(self, number: int, used: list[AnyWireT]) -> None:
        """Send the request of this number until its right response has come; the connections are added to `used`.

        Raises Lost.
        """

    @abstractmethod
    def _give_up(self, used: list[AnyWireT], begun: float) -> float:
        """A request is lost that was begun then. Returns when it was written; 0 = it was not."""


class AvailabilityGenerator(OpenLoop[Wire]):
    """Plays one load over HTTP/1.1."""

    def __init__(self, load: AvailabilityLoad) -> None:
        super().__init__(load)
        self._busy = 0
        "Requests that have a keep-alive connection, or wait for one."

    async def _send(self, number: int, used: list[Wire]) -> None:
        await (self._on_keep_alive(number, used) if number % self.new_every else self._on_new(number, used))

    def _give_up(self, used: list[Wire], begun: float) -> float:
        for wire in used:
            wire.close()
        return used[-1].sent if used else 0.0

    async def _on_keep_alive(self, number: int, used: list[Wire]) -> None:
        wire = self._take_idle()
        self._busy += 1
        try:
            used.append(wire := wire or await self._open(number))
            await self._send_request(wire, number, close=False)
        finally:
            self._busy -= 1
        if wire.last:
            self._load_result.closed_between += 1
        if wire.last or len(self._wires) >= self._load.keep_alive:
            wire.close()
        else:
            self._wires.append(wire)

    async def _open(self, number: int) -> Wire:
        sources = self._load.sources
        return await Wire.open(self._load.port, sources[number % len(sources)] if sources else "")

    def _take_idle(self) -> Wire | None:
        """The one that waits longest, once there are enough."""
        while self._wires and len(self._wires) + self._busy >= self._load.keep_alive:
            wire = self._wires.popleft()
            if not wire.dead:
                return wire
            self._load_result.closed_between += 1
            wire.close()
        return None

    async def _on_new(self, number: int, used: list[Wire]) -> None:
        used.append(wire := await self._open(number))
        close = bool(number % 4)
        await self._send_request(wire, number, close=close)
        if close:
            await asyncio.wait({wire.ended}, timeout=ENDING)
            if not wire.ended.done():
                raise Lost("not closed")
            if wire.ended.result() == "reset":
                raise Lost("reset after the response")
        wire.close()

    async def _send_request(self, wire: Wire, number: int, *, close: bool) -> None:
        request = EchoRequest.drawn(self._rand, self._load.hosts, number)
        lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.site}"]
        lines += ["Accept: */*", "User-Agent: open-loop"]
        if request.body:
            lines.append(f"Content-Length: {len(request.body)}")
        if close:
            lines.append("Connection: close")
        response = await wire.send_request("\r\n".join([*lines, "", ""]).encode() + request.body)
        head, _, got = response.partition(CRLF2)
        if head[9:12] != b"200":
            reason = head.lower().partition(b"\r\nx-styx-error:")[2].split(b"\r\n", 1)[0].strip().decode()
            raise Lost(f"{head[9:12].decode()} {reason}".strip())
        request.check(got)


def echo(method: str, site: str, target: str, body: bytes) -> bytes:
    """The response of the container of a site to this request; the site is called by its hostname."""
    line = f"{method} {site} {target} {len(body)} {crc32(body):08x}\n".encode()
    return line.ljust(int(target.rpartition("/")[2]), b".")


def main(generator: Callable[[AvailabilityLoad], OpenLoop[Any]]) -> None:
    """Of a module that is run as above. `generator`: makes what plays the load."""
    began = Path(sys.argv[2]).with_suffix(".began")
    play_task(AvailabilityLoad, lambda load: uvloop.run(generator(load).play(began.touch)))


if __name__ == "__main__":
    main(AvailabilityGenerator)
