"""A backend that records all that styx sends, parses it strictly, and responds as a script says.

It serves every hostname: the core API beside it names it for all of them, with an environment for each first label.
X-Forwarded-For names the client, which styx writes itself: each connection of the fuzzer comes from an
address of its own (127.x.y.z), so what arrives can be held against what exactly that client sent.
"""

import asyncio
import base64
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import h11

from bench.fuzz.mutations import Act, Steps
from bench.fuzz.strict_reader import Faulty, RequestMessage, State, Unfinished, members, read_request, read_response
from bench.stubs.listening import listening

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
    request: RequestMessage
    tunnelled: bytearray = field(default_factory=bytearray)
    "What came after the response 101."
    response_state: str = ""
    "How a strict reader sees the response that it got: whole, partial, broken, until_close, refused."

    @property
    def whole(self) -> bool:
        return self.request.whole

    @property
    def is_probe(self) -> bool:
        """Whether the edge says that this is a copy."""
        return any(name == PROBE for name, _ in self.request.fields)


def faults_of(request: RequestMessage, head: bytes) -> list[str]:
    """What no proxy may send on, though each field alone could be read."""
    names = [name for name, _ in request.fields]
    faults = [f"{names.count(name)} times {name.decode()}" for name in ONCE if names.count(name) != 1]
    faults += [f"{names.count(name)} times {name.decode()}" for name in NOT_TWICE if names.count(name) > 1]
    if not head.partition(b"\r\n")[0].endswith(b" HTTP/1.1"):
        faults.append("not HTTP/1.1")
    if request.target != head.split(b" ", 2)[1]:
        faults.append("not in origin-form")
    spellings = {name.replace(b"_", b"-") for name in names if b"_" in name}
    faults += [f"{name.decode()} with underscores" for name in spellings & BY_THE_EDGE]
    if b"transfer-encoding" in names and (b"transfer-encoding", b"chunked") not in request.fields:
        faults.append("a transfer coding that is not spelled chunked")
    if members(request.fields, b"connection") - {b"te", b"upgrade", b"keep-alive", b"close"}:
        faults.append("Connection names fields")
    return faults


def h11_disagrees(request: RequestMessage, data: bytes) -> str:
    """What an established reader says about a whole request, if not the same. It takes ASCII targets only."""
    if not request.target.isascii():
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
    return "" if bytes(body) == request.payload.content else "h11 reads another body"


ACCEPT, GUID = b"<accept>", b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"Stands in a script for the proof that the key of a WebSocket was read (RFC 6455, section 4.2.2)."
MUTE = ".77"
"Clients with such addresses get no 100 (Continue) to go on with their bodies."
Found = Callable[[str, str, str], None]
"Called with the address of the client, the kind of fault, and words."


def plain_response(arrival: Arrival) -> bytes:
    """Legal, in one of three framings, and names the client and the target."""
    body = echo_of(arrival)
    form = len(arrival.request.target) % 3
    if form == 0:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    if form == 1:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def echo_of(arrival: Arrival) -> bytes:
    """The body of a plain response."""
    request = arrival.request
    digest = hashlib.sha1(request.payload.content, usedforsecurity=False).hexdigest().encode()
    return b"%b %b %b %b %b" % (arrival.client.encode(), arrival.id, request.method, request.target, digest)


class RecordingBackend:
    """All connections of styx to it, and what came over them. `found` is called with what must not be."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.scripts: dict[str, Steps] = {}
        "The response to a client of this address; others get a plain one."
        self.hasty: set[str] = set()
        "Clients whose response begins before their request is complete."
        self.arrivals: dict[str, list[Arrival]] = {}
        self.heads = 0
        self.connections = 0
        self.port = 0
        self._open: set[BackendSide] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RecordingBackend"]:
        """On a free port, until the end of the block."""
        async with listening(lambda: BackendSide(self), self._open, BackendSide.end) as self.port:
            yield self

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
        "The request in flight: not complete, or without a response yet."
        self._responding: asyncio.Task[None] | None = None
        self._spoiled = ""
        "Why styx must not send another request over this connection."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._backend.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.lost(self)
        self._transport = None
        if self._responding is not None:
            self._responding.cancel()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        arrival = self._arrival
        if arrival is not None and arrival.response_state == "tunnel":
            arrival.tunnelled += data
            return
        self._data += data
        if arrival is not None and arrival.whole:
            self._report(arrival.client, "pipelined", f"more came before the response: {data[:200]!r}")
            return
        try:
            request = read_request(self._data, forwarded=True)
        except Unfinished:
            return
        except Faulty as fault:
            self._report(self._client(), "forwarded", f"{fault}: {self._data[:300]!r}")
            self.end()
            return
        self._read(request)

    def _read(self, request: RequestMessage) -> None:
        if self._arrival is None:
            self._begin(request)
        assert self._arrival is not None
        arrival = self._arrival
        arrival.request = request
        if request.payload.state is State.BROKEN:
            self._report(arrival.client, "forwarded", f"broken body, {request.payload.why}: {self._data[:300]!r}")
            self.end()
        elif request.whole:
            self._whole(arrival, request)
        elif arrival.client in self._backend.hasty and not arrival.response_state:
            self._respond(arrival)

    def _whole(self, arrival: Arrival, request: RequestMessage) -> None:
        message, self._data = self._data[: request.payload.end], self._data[request.payload.end :]
        if disagreement := h11_disagrees(request, message):
            self._report(arrival.client, "forwarded", f"{disagreement}: {message[:300]!r}")
        # A hasty response may be complete by now: then what follows this body may be the next request.
        over = self._responding is not None and self._responding.done() and bool(arrival.response_state)
        if self._data and not over:
            self._report(arrival.client, "pipelined", f"more came with it: {self._data[:200]!r}")
        if not arrival.response_state:
            self._respond(arrival)
        elif over:
            self._arrival = None
            if self._data:
                self.data_received(b"")

    def _begin(self, request: RequestMessage) -> None:
        fields = dict(request.fields)
        client = fields.get(b"x-forwarded-for", b"").decode("latin-1")
        head = self._data[request.start : request.body_at]
        self._arrival = Arrival(fields.get(b"x-request-id", b""), client, self._number, request)
        for fault in faults_of(request, head):
            self._report(client, "forwarded", f"{fault}: {head[:400]!r}")
        if self._spoiled:
            self._report(client, "reused", f"after {self._spoiled}: {head[:200]!r}")
        # Now and then it says nothing: then the body comes after a while all the same.
        wanted = b"expect" in fields and not request.whole and not client.endswith(MUTE)
        if wanted and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._backend.arrived(self._arrival)

    def _respond(self, arrival: Arrival) -> None:
        steps = self._backend.scripts.get(arrival.client)
        assert self._transport is not None
        if steps is None:
            self._transport.write(plain_response(arrival))
            self._arrival = None
            return
        arrival.response_state = response_kind(steps, arrival.request)
        self._spoiled = "" if arrival.response_state == "whole" else f"a {arrival.response_state} response"
        self._responding = asyncio.ensure_future(self._play(steps, arrival))

    async def _play(self, steps: Steps, arrival: Arrival) -> None:
        key = dict(arrival.request.fields).get(b"sec-websocket-key", b"")
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        for step in steps:
            transport = self._transport
            if transport is None or transport.is_closing():
                return
            if step.act is Act.SEND:
                transport.write(step.data.replace(ACCEPT, accept))
            elif step.act is Act.PAUSE:
                await asyncio.sleep(step.seconds)
            elif step.act is Act.RESET:
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
        if arrival.response_state != "tunnel" and arrival.whole:
            self._arrival = None

    def _client(self) -> str:
        """The client of bytes that could not be read, if they tell."""
        _, found, rest = self._data.lower().partition(b"x-forwarded-for: ")
        return rest.partition(b"\r\n")[0].decode("latin-1") if found else ""

    def _report(self, client: str, kind: str, words: str) -> None:
        self._backend.found(client, kind, words)


def response_kind(steps: Steps, request: RequestMessage) -> str:
    """How a scripted response to this request leaves its connection: "whole", or a reason not to use it again."""
    data = b"".join(step.data for step in steps)
    ended = bool(steps) and steps[-1].act is Act.CLOSE
    try:
        response = read_response(data, method=request.method, ended=ended, upgrades=request.upgrades)
    except Faulty:
        return "broken"
    except Unfinished:
        return "partial"
    if response.status == 101:
        return "tunnel"
    if response.payload.state is not State.WHOLE or response.until_close:
        return response.payload.state.value if not response.until_close else "closing"
    if response.payload.end < len(data):
        return "longer"
    named = members(response.fields, b"connection")
    return "closing" if b"close" in named or (not response.minor and b"keep-alive" not in named) else "whole"
