"""A builtin container: an asyncio server in the event loop of the platform.

    connection ─► head ─► asleep? boot ─► right id? no: 421 ─► room (W + Q)? no: 503 refused ─► body ─► worker
                                                                                                   └─► response

The order is that of the nginx make: check the id, then the capacity, then read the body, then execute. Only
execution counts an order id, and it begins after the whole body. A rejected request is never executed.
"""

import asyncio
import contextlib
import math
import random
import socket
import ssl
import struct
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from edge.platform import reserved_port
from edge.platform.containers.builtin_http import PIECE, ContainerRequest, MalformedRequest, Wire, response_head
from edge.platform.containers.container import (
    Activity,
    ContainerSpec,
    ContainerTls,
    Faults,
    OnRefusal,
    OnStateChange,
    State,
)
from edge.platform.containers.sample_site import Visit, respond
from edge.platform.reserved_port import BACKLOG, ReservedPort

STOP_DEADLINE = 5.0
"Seconds after which `stop` cuts the requests in flight."

IDLE_KEPT = 40.0
"""Seconds for which a connection that is to end waits for one more request: longer than an edge keeps idle ones
(`pool.idle_timeout`), so that the edge closes it, and no request crosses with the close (as with
keepalive_min_timeout of nginx)."""

LINGER = 2.0
"""Seconds to read and discard the body of a rejected request. Closing a socket with unread bytes resets it, and the
client may lose the response to the reset (RFC 9112, section 9.6)."""


MOST_NOTED = 60
"Characters of a path or a user agent that are kept of the last request."


def lognormal(rand: random.Random, mean: float, cv: float) -> float:
    """Draw from a lognormal distribution with this mean and coefficient of variation; `mean` itself if cv is 0."""
    if mean == 0 or cv == 0:
        return mean
    variance = math.log(1 + cv * cv)
    return rand.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))


@dataclass(slots=True)
class Capacity:
    """The workers of a container, and the queue before them."""

    workers: asyncio.Semaphore
    limit: int
    "Most requests executed or queued at the same time."
    taken: int = 0
    full: bool = False
    "True: all requests are refused, also below the limit (`fill`)."
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    "Set when the last request has left."

    def enter(self) -> bool:
        """Admit a request; return False if it is refused."""
        if self.full or self.taken >= self.limit:
            return False
        self.taken += 1
        self.empty.clear()
        return True

    def leave(self) -> None:
        """Release the room of an admitted request."""
        self.taken -= 1
        if self.taken == 0:
            self.empty.set()


@dataclass(slots=True)
class RequestLedger:
    """Counts of requests that a container served, refused and rejected as misdirected, and of executed orders."""

    served: int = 0
    refused: int = 0
    misdirected: int = 0
    executed: Counter[str] = field(default_factory=Counter)
    last_at: float = 0.0
    "Loop time at which the last request came or ended, or of the start."
    last_request: str = ""

    def note(self, request: ContainerRequest, now: float) -> None:
        """Record a request as the last one."""
        path = request.target.partition("?")[0][:MOST_NOTED]
        sender = request.headers.get("user-agent", "").partition(" ")[0][:MOST_NOTED]
        self.last_at, self.last_request = now, f"{request.method} {path}{f' by {sender}' if sender else ''}"


class BuiltinContainer:
    """A `Container` in this process. `rand` draws the service times."""

    def __init__(
        self,
        spec: ContainerSpec,
        *,
        rand: random.Random,
        on_state_change: OnStateChange | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        self.spec = spec
        self.state: State = "running"
        self.ledger = RequestLedger()
        recipe = spec.recipe
        self.capacity = Capacity(asyncio.Semaphore(recipe.workers), recipe.workers + recipe.queue)
        self.slow_factor = 1.0
        self._rand = rand
        self._on_state_change = on_state_change
        self._on_refusal = on_refusal
        self._reserved_port: ReservedPort | None = None
        self._old_port: ReservedPort | None = None
        "Until `leave_old_port`: the port before the last move."
        self._listener = _Listener()
        self._booting: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        return self._reserved_port.port if self._reserved_port else self.spec.port

    @property
    def listening(self) -> bool:
        return self._listener.server is not None

    @property
    def executed(self) -> Counter[str]:
        return self.ledger.executed

    def activity(self) -> Activity:
        idle = 0.0 if self.capacity.taken else asyncio.get_running_loop().time() - self.ledger.last_at
        counts = self.capacity.taken, self.ledger.served
        return Activity(idle, *counts, self.ledger.last_request, booting=self._booting is not None)

    def faults(self) -> Faults:
        return Faults(self.capacity.full, self.slow_factor)

    async def start(self) -> None:
        self.ledger.last_at = asyncio.get_running_loop().time()
        self._enter_state("running")
        await self._listen()

    async def sleep(self) -> None:
        self._enter_state("asleep")
        self._listener.drain(keep_idle=True)
        await self._listen()

    async def wake(self) -> None:
        await self._listen()
        await self._boot()

    async def stop(self) -> None:
        self._listener.close()
        self._listener.drain(keep_idle=False)
        if self.capacity.taken:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.capacity.empty.wait(), STOP_DEADLINE)
        await self._terminate()

    async def kill(self) -> None:
        self._listener.close()
        await self._terminate()

    async def _terminate(self) -> None:
        self._listener.reset()
        self._release_old_port()
        if self._reserved_port:
            await self._reserved_port.reserve()

    async def move(self) -> None:
        port = await ReservedPort.bind(self.spec.address)
        await self.leave_old_port()
        self._old_port, self._reserved_port = self._reserved_port, port
        if self.listening:
            self._listener.set_aside()
            await self._listen()

    async def leave_old_port(self, *, keep_idle: bool = True) -> None:
        await self._listener.accept_waiting()
        self._listener.leave(keep_idle=keep_idle)
        self._release_old_port()

    def _release_old_port(self) -> None:
        if self._old_port:
            self._old_port.release()
            self._old_port = None

    def dismiss(self) -> None:
        """Release the port, at the very end, after `stop`."""
        if self._reserved_port:
            self._reserved_port.release()

    def fill(self, *, on: bool) -> None:
        self.capacity.full = on

    def slow(self, factor: float) -> None:
        self.slow_factor = factor

    async def heal(self) -> None:
        self.fill(on=False)
        self.slow(1.0)
        await self._listen()

    # -- listening and booting --

    async def _listen(self) -> None:
        if self.listening:
            return
        if self._reserved_port is None:
            self._reserved_port = await ReservedPort.bind(self.spec.address, self.spec.port)
        loop = asyncio.get_running_loop()
        self._listener.server = await loop.create_server(
            partial(Wire, partial(self._serve, self._listener.epoch)),
            sock=await self._reserved_port.take(),
            backlog=BACKLOG,
            ssl=None if self.spec.tls is None else _server_context(self.spec.tls),
        )

    def _enter_state(self, state: State) -> None:
        changed, self.state = state != self.state, state
        if changed and self._on_state_change:
            self._on_state_change(self.spec.id, state)

    async def _boot(self) -> None:
        """Wait until the container has booted; all requests that arrive meanwhile share one boot."""
        if self.state != "asleep":
            return
        if self._booting is None:
            self._booting = asyncio.ensure_future(asyncio.sleep(self.spec.recipe.boot_time))
        await asyncio.shield(self._booting)
        self._booting = None
        if self.state == "asleep":
            self.ledger.last_at = asyncio.get_running_loop().time()
            self._enter_state("running")

    # -- one connection --

    async def _serve(self, epoch: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._listener.is_open:
            writer.transport.abort()  # accepted in the same turn of the loop in which the container was stopped
            return
        # Busy from the start: its client connected to send a request, which must not cross with a close.
        self._listener.add(writer, epoch)
        try:
            while await self._serve_one(reader, writer):
                self._listener.rest(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is gone
        except (MalformedRequest, asyncio.LimitOverrunError) as error:
            self._reject(writer, 400, "Connection: close", text=str(error))
        finally:
            self._listener.remove(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return False to close the connection."""
        request = ContainerRequest.parse(await reader.readuntil(b"\r\n\r\n"))
        self._listener.connections[writer].busy = True
        self.ledger.note(request, asyncio.get_running_loop().time())
        await self._boot()
        intended = request.headers.get("x-styx-backend")
        if intended and intended != self.spec.id:
            self.ledger.misdirected += 1
            self._reject(
                writer, 421, *self._closing_line(request, writer), text=f"This is {self.spec.id}, not {intended}.\n"
            )
            return await _after_rejection(request, reader, writer)
        if not self.capacity.enter():
            self.ledger.refused += 1
            if self._on_refusal:
                self._on_refusal(self.spec.id, request.headers.get("x-request-id", ""))
            refusal = "X-Styx-Refused: queue-full"
            self._reject(writer, 503, refusal, *self._closing_line(request, writer), text="The queue is full.\n")
            return await _after_rejection(request, reader, writer)
        try:
            visit = Visit(self.spec, request, writer, keep_alive=request.keep_alive)
            await visit.receive(reader)
            async with self.capacity.workers:
                await self._execute(visit)
        finally:
            self.capacity.leave()
            self.ledger.last_at = asyncio.get_running_loop().time()
        return visit.keep_alive

    async def _execute(self, visit: Visit) -> None:
        order = visit.request.headers.get("x-order-id")
        if order:
            self.ledger.executed[order] += 1
        recipe = self.spec.recipe
        seconds = self.slow_factor * lognormal(self._rand, recipe.service_time, recipe.service_cv)
        if seconds:
            await asyncio.sleep(seconds)
        self.ledger.served += 1
        visit.served = self.ledger.served
        visit.keep_alive = visit.keep_alive and visit.writer not in self._listener.closing
        await respond(visit)

    def _closing_line(self, request: ContainerRequest, writer: asyncio.StreamWriter) -> tuple[str, ...]:
        goes_on = request.body_read and request.keep_alive and writer not in self._listener.closing
        return () if goes_on else ("Connection: close",)

    def _reject(self, writer: asyncio.StreamWriter, status: int, *lines: str, text: str) -> None:
        headers: dict[str, str | int] = {"Content-Type": "text/plain", "X-Container": self.spec.id}
        headers |= {"Content-Length": len(text), **dict(line.split(": ", 1) for line in lines)}
        writer.write(response_head(status, headers) + text.encode("latin-1"))


@dataclass(slots=True)
class _ContainerConnection:
    """One connection. `epoch`: how often the container had moved. `busy`: a request is in flight, or its first one
    has not come yet."""

    epoch: int
    busy: bool = True


class _Listener:
    """The listening server of a container, the one before its last move, and the connections they accepted."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.epoch = 0
        "Number of moves."
        self.connections: dict[asyncio.StreamWriter, _ContainerConnection] = {}
        self.closing: set[asyncio.StreamWriter] = set()
        "Connections that are closed after the current or the next response."
        self.idle_kept = IDLE_KEPT
        self._old_server: asyncio.Server | None = None

    def add(self, writer: asyncio.StreamWriter, epoch: int) -> None:
        """Take in a new connection; one at a port that has been left closes after its first response."""
        self.connections[writer] = _ContainerConnection(epoch)
        if epoch < self.epoch and self._old_server is None:
            self.closing.add(writer)

    def rest(self, writer: asyncio.StreamWriter) -> None:
        """After a response that did not announce a close: wait for the next request."""
        self.connections[writer].busy = False
        if writer in self.closing:
            asyncio.get_running_loop().call_later(self.idle_kept, self._close_idle, writer)

    def set_aside(self) -> None:
        """Before a move: the server becomes the old one."""
        self._old_server, self.server = self.server, None
        self.epoch += 1

    @property
    def is_open(self) -> bool:
        """Whether it accepts connections; during a move, at the old port."""
        return self.server is not None or self._old_server is not None

    async def accept_waiting(self) -> None:
        """Before `leave`: accept what waits at the old port."""
        if self._old_server:
            await reserved_port.until_all_are_accepted(self._old_server.sockets[0])

    def leave(self, *, keep_idle: bool) -> None:
        """Stop accepting at the old port, and drain its connections."""
        if self._old_server:
            self._old_server.close()
            self._old_server = None
        self._drain(self.epoch, keep_idle=keep_idle)

    def close(self) -> None:
        """Stop accepting."""
        self.leave(keep_idle=False)
        if self.server:
            self.server.close()
            self.server = None

    def drain(self, *, keep_idle: bool) -> None:
        """Close busy connections after their response; idle ones now, or after one more if it comes in time."""
        self._drain(self.epoch + 1, keep_idle=keep_idle)

    def _drain(self, before: int, *, keep_idle: bool) -> None:
        loop = asyncio.get_running_loop()
        for writer, connection in self.connections.items():
            if connection.epoch >= before:
                continue
            if connection.busy or keep_idle:
                self.closing.add(writer)
            if not connection.busy and keep_idle:
                loop.call_later(self.idle_kept, self._close_idle, writer)
            elif not connection.busy:
                writer.close()

    def _close_idle(self, writer: asyncio.StreamWriter) -> None:
        connection = self.connections.get(writer)
        if connection is not None and not connection.busy:
            writer.close()

    def remove(self, writer: asyncio.StreamWriter) -> None:
        """Remove a connection that is closed."""
        del self.connections[writer]
        self.closing.discard(writer)

    def reset(self) -> None:
        """Reset every connection."""
        for writer in self.connections:
            sock = writer.get_extra_info("socket")
            # With SO_LINGER 0, closing sends RST instead of FIN, as clients of a killed machine see it.
            if sock is not None:  # it has not just ended, over TLS
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def _server_context(tls: ContainerTls) -> ssl.SSLContext:
    """Of a server that serves the edge only."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.client_ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    return context


async def _after_rejection(
    request: ContainerRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Discard an unread body; return whether the connection can be used again."""
    if request.body_read:
        return request.keep_alive
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            await writer.drain()
            if writer.can_write_eof():  # not with TLS
                writer.write_eof()
            while await reader.read(PIECE):
                pass
    return False
