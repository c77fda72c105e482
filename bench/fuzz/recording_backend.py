"""A backend that writes down all that styx sends it, reads it strictly, and answers as a script says.

It serves every hostname: the core API beside it names it for all of them, with an environment for each first label.
Who sent a request is told by X-Forwarded-For, which styx writes itself: each connection of the fuzzer comes from an
address of its own (127.x.y.z), so what arrives can be held against what exactly that client sent.
"""

import asyncio
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import h11

from bench.fuzz.mutations import Act, Steps
from bench.fuzz.strict_reader import Asked, Faulty, State, Unfinished, members, read_answer, read_request

ONCE = (
    b"host",
    b"x-request-id",
    b"via",
    b"x-styx-backend",
    b"x-styx-attempt",
    b"x-forwarded-for",
    b"x-forwarded-host",
)
"Fields that every request must have exactly once when it comes to a backend."
NOT_TWICE = (b"content-length", b"transfer-encoding", b"connection", b"te", b"upgrade", b"expect")
PROBE = b"x-styx-probe"
"Marks a copy of a safe request, sent to a backend on probation."
BY_THE_EDGE = frozenset(
    (*ONCE, *NOT_TWICE, PROBE, b"max-forwards", b"x-forwarded-proto", b"x-forwarded-port", b"x-real-ip")
)
"What the edge writes; all other fields must have come from the client as they are."


@dataclass(slots=True)
class Arrival:
    """A request that came, whole or not."""

    id: bytes
    client: str
    connection: int
    asked: Asked
    tunnelled: bytearray = field(default_factory=bytearray)
    "What came after the answer 101."
    answered: str = ""
    "How a strict reader sees the answer that it got: whole, partial, broken, until_close, refused."

    @property
    def whole(self) -> bool:
        return self.asked.whole

    @property
    def is_probe(self) -> bool:
        """Whether the edge says that this is a copy."""
        return any(name == PROBE for name, _ in self.asked.fields)


def faults_of(asked: Asked, head: bytes) -> list[str]:
    """What no proxy may send on, though each field alone could be read."""
    names = [name for name, _ in asked.fields]
    faults = [f"{names.count(name)} times {name.decode()}" for name in ONCE if names.count(name) != 1]
    faults += [f"{names.count(name)} times {name.decode()}" for name in NOT_TWICE if names.count(name) > 1]
    if not head.partition(b"\r\n")[0].endswith(b" HTTP/1.1"):
        faults.append("not HTTP/1.1")
    if asked.target != head.split(b" ", 2)[1]:
        faults.append("not in origin-form")
    spellings = {name.replace(b"_", b"-") for name in names if b"_" in name}
    faults += [f"{name.decode()} with underscores" for name in spellings & BY_THE_EDGE]
    if b"transfer-encoding" in names and (b"transfer-encoding", b"chunked") not in asked.fields:
        faults.append("a transfer coding that is not spelled chunked")
    if members(asked.fields, b"connection") - {b"te", b"upgrade", b"keep-alive", b"close"}:
        faults.append("Connection names fields")
    return faults


def h11_disagrees(asked: Asked, data: bytes) -> str:
    """What an established reader says about a whole request, if not the same. It takes ASCII targets only."""
    if not asked.target.isascii():
        return ""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body = bytearray()
    try:
        reader.receive_data(data)
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return "h11 waits for more"
            if isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError as error:
        return f"h11: {error}"
    return "" if bytes(body) == asked.payload.content else "h11 reads another body"


MUTE = ".77"
"Clients with such addresses are not asked to go on with their bodies."
Found = Callable[[str, str, str], None]
"Called with the address of the client, the kind of fault, and words."


def plain_answer(arrival: Arrival) -> bytes:
    """Legal, in one of three framings, and tells who asked for what."""
    body = told_of(arrival)
    form = len(arrival.asked.target) % 3
    if form == 0:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    if form == 1:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def told_of(arrival: Arrival) -> bytes:
    """The body of a plain answer."""
    asked = arrival.asked
    digest = hashlib.sha1(asked.payload.content, usedforsecurity=False).hexdigest().encode()
    return b"%b %b %b %b %b" % (arrival.client.encode(), arrival.id, asked.method, asked.target, digest)


class RecordingBackend:
    """All connections of styx to it, and what came over them. `found` is told what must not be."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.scripts: dict[str, Steps] = {}
        "What is answered to a client of this address; a plain answer to others."
        self.hasty: set[str] = set()
        "Clients whose answer begins before their request is complete."
        self.arrivals: dict[str, list[Arrival]] = {}
        self.heads = 0
        self.connections = 0
        self.port = 0
        self._open: set[BackendSide] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RecordingBackend"]:
        """On a free port, until the end of the block."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: BackendSide(self), "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for side in list(self._open):
                side.end()
            await asyncio.sleep(0)  # only then their sockets are closed

    def made(self, side: "BackendSide") -> int:
        self._open.add(side)
        self.connections += 1
        return self.connections

    def lost(self, side: "BackendSide") -> None:
        self._open.discard(side)

    def arrived(self, arrival: Arrival) -> None:
        """A head; the body may follow."""
        self.heads += 1
        self.arrivals.setdefault(arrival.client, []).append(arrival)


class BackendSide(asyncio.Protocol):
    """One connection from styx."""

    def __init__(self, backend: RecordingBackend) -> None:
        self._backend = backend
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._data = b""
        self._arrival: Arrival | None = None
        "The request in hand: not complete, or not answered yet."
        self._answering: asyncio.Task[None] | None = None
        self._spoiled = ""
        "Why styx must not send another request over this connection."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._backend.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.lost(self)
        self._transport = None
        if self._answering is not None:
            self._answering.cancel()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        arrival = self._arrival
        if arrival is not None and arrival.answered == "tunnel":
            arrival.tunnelled += data
            return
        self._data += data
        if arrival is not None and arrival.whole:
            self._tell(arrival.client, "pipelined", f"more came before the answer: {data[:200]!r}")
            return
        try:
            asked = read_request(self._data, forwarded=True)
        except Unfinished:
            return
        except Faulty as fault:
            self._tell(self._who(), "forwarded", f"{fault}: {self._data[:300]!r}")
            self.end()
            return
        self._read(asked)

    def _read(self, asked: Asked) -> None:
        if self._arrival is None:
            self._begin(asked)
        assert self._arrival is not None
        arrival = self._arrival
        arrival.asked = asked
        if asked.payload.state is State.BROKEN:
            self._tell(arrival.client, "forwarded", f"broken body, {asked.payload.why}: {self._data[:300]!r}")
            self.end()
        elif asked.whole:
            self._whole(arrival, asked)
        elif arrival.client in self._backend.hasty and not arrival.answered:
            self._answer(arrival)

    def _whole(self, arrival: Arrival, asked: Asked) -> None:
        message, self._data = self._data[: asked.payload.end], self._data[asked.payload.end :]
        if disagreement := h11_disagrees(asked, message):
            self._tell(arrival.client, "forwarded", f"{disagreement}: {message[:300]!r}")
        # A hasty answer may be complete by now: then what follows this body may be the next request.
        over = self._answering is not None and self._answering.done() and bool(arrival.answered)
        if self._data and not over:
            self._tell(arrival.client, "pipelined", f"more came with it: {self._data[:200]!r}")
        if not arrival.answered:
            self._answer(arrival)
        elif over:
            self._arrival = None
            if self._data:
                self.data_received(b"")

    def _begin(self, asked: Asked) -> None:
        fields = dict(asked.fields)
        client = fields.get(b"x-forwarded-for", b"").decode("latin-1")
        head = self._data[asked.start : asked.body_at]
        self._arrival = Arrival(fields.get(b"x-request-id", b""), client, self._number, asked)
        for fault in faults_of(asked, head):
            self._tell(client, "forwarded", f"{fault}: {head[:400]!r}")
        if self._spoiled:
            self._tell(client, "reused", f"after {self._spoiled}: {head[:200]!r}")
        # Now and then it says nothing: then the body comes after a while all the same.
        wanted = b"expect" in fields and not asked.whole and not client.endswith(MUTE)
        if wanted and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._backend.arrived(self._arrival)

    def _answer(self, arrival: Arrival) -> None:
        steps = self._backend.scripts.get(arrival.client)
        assert self._transport is not None
        if steps is None:
            self._transport.write(plain_answer(arrival))
            self._arrival = None
            return
        arrival.answered = answer_kind(steps, arrival.asked)
        self._spoiled = "" if arrival.answered == "whole" else f"a {arrival.answered} answer"
        self._answering = asyncio.ensure_future(self._play(steps, arrival))

    async def _play(self, steps: Steps, arrival: Arrival) -> None:
        for step in steps:
            transport = self._transport
            if transport is None or transport.is_closing():
                return
            if step.act is Act.SEND:
                transport.write(step.data)
            elif step.act is Act.PAUSE:
                await asyncio.sleep(step.seconds)
            elif step.act is Act.RESET:
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
        if arrival.answered != "tunnel" and arrival.whole:
            self._arrival = None

    def _who(self) -> str:
        """The client of bytes that could not be read, if they tell."""
        _, found, rest = self._data.lower().partition(b"x-forwarded-for: ")
        return rest.partition(b"\r\n")[0].decode("latin-1") if found else ""

    def _tell(self, client: str, kind: str, words: str) -> None:
        self._backend.found(client, kind, words)


def answer_kind(steps: Steps, asked: Asked) -> str:
    """How a scripted answer to this request leaves its connection: "whole", or a reason not to use it again."""
    data = b"".join(step.data for step in steps)
    ended = bool(steps) and steps[-1].act is Act.CLOSE
    try:
        answer = read_answer(data, method=asked.method, ended=ended, upgrades=asked.upgrades)
    except Faulty:
        return "broken"
    except Unfinished:
        return "partial"
    if answer.status == 101:
        return "tunnel"
    if answer.payload.state is not State.WHOLE or answer.until_close:
        return answer.payload.state.value if not answer.until_close else "closing"
    if answer.payload.end < len(data):
        return "longer"
    named = members(answer.fields, b"connection")
    return "closing" if b"close" in named or (not answer.minor and b"keep-alive" not in named) else "whole"
