"""A backend with responses that clients can hold: a page, a large file, an event stream, a WebSocket, none.

It runs in the loop of the bench. Of what is not read it sends no more than its socket takes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from bench.stubs.listening import listening

LARGE = 64 << 20
PIECE = b"y" * 65536
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
FILE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENT = b"9\r\ndata: x\n\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
EVERY = 0.2
"Seconds between two events of a stream, by default."


class HoldingBackend:
    """Its connections. `every`: seconds between two events of a stream."""

    def __init__(self, every: float = EVERY) -> None:
        self.port = 0
        self.every = every
        self.open: set[_Connection] = set()
        self.streams: set[_Connection] = set()
        "Those that have an event stream and did not give it up."


class _Connection(asyncio.Protocol):
    def __init__(self, backend: HoldingBackend) -> None:
        self._backend = backend
        self._data = b""
        self._left = 0
        "Bytes of a large file."
        self._writable = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._backend.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.open.discard(self)
        self._backend.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._data.endswith(b"\r\n\r\n"):
            return
        target = self._data.split(b" ", 2)[1]
        self._data = b""
        if target == b"/hang":
            return
        if target == b"/large":
            self._left = LARGE
            self.transport.write(FILE)
            self._pour()
        elif target == b"/events":
            self._backend.streams.add(self)
            self.transport.write(EVENTS)
            self._tell()
        else:
            self.transport.write(SWITCH if target == b"/socket" else PAGE)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pour()

    def _pour(self) -> None:
        while self._left and self._writable and not self.transport.is_closing():
            self._left -= len(PIECE)
            self.transport.write(PIECE)

    def end(self) -> None:
        self.transport.abort()

    def _tell(self) -> None:
        if self in self._backend.streams:
            self.transport.write(EVENT)
            asyncio.get_running_loop().call_later(self._backend.every, self._tell)


@asynccontextmanager
async def holding_backend(every: float = EVERY) -> AsyncIterator[HoldingBackend]:
    """Listens until the end of the block. `every`: seconds between two events of a stream."""
    backend = HoldingBackend(every)
    async with listening(lambda: _Connection(backend), backend.open, _Connection.end) as backend.port:
        yield backend
