"""The builtin make of a container: an asyncio server in the platform's own loop.

    connection ─► head ─► asleep? boot ─► mine? no: 421 ─► room (W + Q)? no: 503 refused ─► body ─► worker ─► answer

The order is that of the nginx make: identity before room, both before the body, and execution (the only thing that
counts an order id) after the whole body is there. A request that is turned away is never executed.
"""

import asyncio
import contextlib
import math
import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

from edge.platform.builtin_http import PIECE, ContainerRequest, MalformedRequest, Wire, response_head
from edge.platform.containers import ContainerSpec, State, StateTold
from edge.platform.reserved_port import BACKLOG, ReservedPort
from edge.platform.sample_site import Visit, answer

STOP_DEADLINE = 5.0
"Seconds `stop` lets the requests at hand take before it cuts them."

LINGER = 2.0
# Closing a socket with unread bytes resets it, and the reset overtakes the answer (RFC 9112, 9.6): after turning
# away a request with a body we read on for a while and throw away what comes.


def lognormal(rand: random.Random, mean: float, cv: float) -> float:
    """A draw with this mean and coefficient of variation; exactly `mean` when cv is 0."""
    if mean == 0 or cv == 0:
        return mean
    variance = math.log(1 + cv * cv)
    return rand.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))


@dataclass(slots=True)
class Capacity:
    """Workers, and the places of a queue before them."""

    workers: asyncio.Semaphore
    limit: int
    taken: int = 0
    full: bool = False
    "True: requests are refused whatever the numbers say (`fill`)."
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> bool:
        if self.full or self.taken >= self.limit:
            return False
        self.taken += 1
        self.empty.clear()
        return True

    def leave(self) -> None:
        self.taken -= 1
        if self.taken == 0:
            self.empty.set()


@dataclass(slots=True)
class RequestLedger:
    """How many requests a container served, refused and rejected as misdirected, and which orders it executed."""

    served: int = 0
    refused: int = 0
    misdirected: int = 0
    executed: Counter[str] = field(default_factory=Counter)


class BuiltinContainer:
    """See edge.platform.containers.Container. `rand` draws the service times."""

    def __init__(self, spec: ContainerSpec, *, rand: random.Random, told: StateTold | None = None) -> None:
        self.spec = spec
        self.state: State = "running"
        self.ledger = RequestLedger()
        recipe = spec.recipe
        self.capacity = Capacity(asyncio.Semaphore(recipe.workers), recipe.workers + recipe.queue)
        self.slow_factor = 1.0
        self._rand = rand
        self._told = told
        self._reserved_port: ReservedPort | None = None
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

    async def start(self) -> None:
        self._enter_state("running")
        await self._listen()

    async def sleep(self) -> None:
        self._enter_state("asleep")
        self._listener.let_go()
        await self._listen()

    async def wake(self) -> None:
        await self._listen()
        await self._boot()

    async def stop(self) -> None:
        self._listener.close()
        self._listener.let_go()
        if self.capacity.taken:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.capacity.empty.wait(), STOP_DEADLINE)
        await self._fall()

    async def kill(self) -> None:
        self._listener.close()
        await self._fall()

    async def _fall(self) -> None:
        self._listener.cut()
        if self._reserved_port:
            await self._reserved_port.reserve()

    async def move(self) -> None:
        old, was_listening = self._reserved_port, self.listening
        self._reserved_port = await ReservedPort.bind(self.spec.address)
        self._listener.close()
        self._listener.let_go()
        if old:
            old.release()
        if was_listening:
            await self._listen()

    def dismiss(self) -> None:
        """Give the port back to the machine; after `stop`, at the very end."""
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
            lambda: Wire(self._serve), sock=await self._reserved_port.take(), backlog=BACKLOG
        )

    def _enter_state(self, state: State) -> None:
        changed, self.state = state != self.state, state
        if changed and self._told:
            self._told(self.spec.id, state)

    async def _boot(self) -> None:
        """Wait for the one boot there is, however many requests came meanwhile."""
        if self.state != "asleep":
            return
        if self._booting is None:
            self._booting = asyncio.ensure_future(asyncio.sleep(self.spec.recipe.boot_time))
        await asyncio.shield(self._booting)
        self._booting = None
        if self.state == "asleep":
            self._enter_state("running")

    # -- one connection --

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.listening:
            writer.transport.abort()  # accepted in the very turn in which the container fell
            return
        self._listener.wires[writer] = False
        try:
            while await self._one(reader, writer) and writer not in self._listener.last:
                self._listener.wires[writer] = False
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the peer is gone; nobody is left to tell
        except (MalformedRequest, asyncio.LimitOverrunError) as error:
            self._turn_away(writer, 400, "Connection: close", text=str(error))
        finally:
            self._listener.forget(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False = close the connection."""
        request = ContainerRequest.parse(await reader.readuntil(b"\r\n\r\n"))
        self._listener.wires[writer] = True
        await self._boot()
        meant = request.headers.get("x-styx-backend")
        if meant and meant != self.spec.id:
            self.ledger.misdirected += 1
            self._turn_away(writer, 421, *_closing(request), text=f"This is {self.spec.id}, not {meant}.\n")
            return await _part(request, reader, writer)
        if not self.capacity.enter():
            self.ledger.refused += 1
            refusal = "X-Styx-Refused: queue-full"
            self._turn_away(writer, 503, refusal, *_closing(request), text="The queue is full.\n")
            return await _part(request, reader, writer)
        try:
            visit = Visit(self.spec, request, writer, keep_alive=request.keep_alive)
            await visit.receive(reader)
            async with self.capacity.workers:
                await self._execute(visit)
        finally:
            self.capacity.leave()
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
        visit.keep_alive = visit.keep_alive and visit.writer not in self._listener.last
        await answer(visit)

    def _turn_away(self, writer: asyncio.StreamWriter, status: int, *lines: str, text: str) -> None:
        headers: dict[str, str | int] = {"Content-Type": "text/plain", "X-Container": self.spec.id}
        headers |= {"Content-Length": len(text), **dict(line.split(": ", 1) for line in lines)}
        writer.write(response_head(status, headers) + text.encode("latin-1"))


class _Listener:
    """The listening server of a container and the connections it accepted."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.wires: dict[asyncio.StreamWriter, bool] = {}
        "Connections, with True while a request is at hand."
        self.last: set[asyncio.StreamWriter] = set()
        "Busy connections that are closed after the answer at hand."

    def close(self) -> None:
        """Accept no more."""
        if self.server:
            self.server.close()
            self.server = None

    def let_go(self) -> None:
        """Close what is idle now, and the rest as soon as it is."""
        for writer, busy in self.wires.items():
            if busy:
                self.last.add(writer)
            else:
                writer.close()

    def forget(self, writer: asyncio.StreamWriter) -> None:
        del self.wires[writer]
        self.last.discard(writer)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self.wires:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # Without lingering, closing sends RST instead of FIN: the way a killed machine looks.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def _closing(request: ContainerRequest) -> tuple[str, ...]:
    return () if request.body_read and request.keep_alive else ("Connection: close",)


async def _part(request: ContainerRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """After an answer that left the body unread: True = the connection can be used on."""
    if request.body_read:
        return request.keep_alive
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            await writer.drain()
            writer.write_eof()
            while await reader.read(PIECE):
                pass
    return False
