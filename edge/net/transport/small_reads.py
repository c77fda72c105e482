"""Small reads from a connection that brings much: what one read brings may have to be kept for a slow receiver.

uvloop reads a quarter of a mebibyte at once. What the other side does not take of it waits with the loop, a quarter
of a mebibyte for every client that does not read, and is written when that side takes bytes again, in one turn in
which nobody else is served. So bodies that do not come whole with their head are read in pieces. (Short messages
are not: 0.2 microseconds more for each read, on the path of every request.)
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

LARGEST = 44 * 1024
"Bytes of one read of a body. With WRITE_BUFFER, less than 64 KiB wait for one receiver."
LARGEST_FIRST = 80 * 1024
"Of the first read of a response: 64 KiB and its head come at once, and its receiver has room for most of it."
WRITE_BUFFER = 8 * 1024
"Bytes that may wait for a receiver before its sender is not read from any more."

_BUFFER = memoryview(bytearray(LARGEST_FIRST))
"Shared by all: it is read into and copied from within one callback of the loop."
FIRST, NEXT = _BUFFER, _BUFFER[:LARGEST]


class ByteProtocol(Protocol):
    """The protocol of a connection. (Not a class of asyncio's: a loop only looks for its methods.)"""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class SmallReads(asyncio.BufferedProtocol):
    """Stands before the protocol of a connection, which may say into which part of the buffer it reads next."""

    __slots__ = ("_buffer", "data_received", "protocol")

    def __init__(self, protocol: ByteProtocol) -> None:
        self.protocol = protocol
        self.data_received = protocol.data_received
        self._buffer: Callable[[], memoryview] = getattr(protocol, "read_buffer", _next)

    def __repr__(self) -> str:
        return f"<SmallReads {self.protocol!r}>"

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_BUFFER[:nbytes].tobytes())

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


def _next() -> memoryview:
    return NEXT


def read_in_small_pieces(transport: asyncio.Transport, protocol: ByteProtocol) -> None:
    """From now on, if not so already."""
    current: object = transport.get_protocol()
    if current is protocol:
        transport.set_protocol(SmallReads(protocol))
