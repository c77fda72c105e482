"""Limits the size of reads from a connection that sends a long body, because a slow receiver has to be buffered
for.

uvloop reads 256 KiB at once. What the receiver does not take stays in the write buffer of the loop, 256 KiB for
every client that does not read, and is written when the receiver takes bytes again, in one turn in which no other
connection is served. So a body that does not come whole with its head is read in smaller pieces. (Short messages
are not: it takes 0.2 microseconds more for each read, on the path of every request.)
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

LARGEST: Final = 44 * 1024
"""Bytes of one read of a body, but the first: so less than 64 KiB are kept for a receiver that took the first read.
(What comes with a head is up to 256 KiB, on a connection whose responses were short before.)"""
LARGEST_FIRST: Final = 80 * 1024
"Bytes of the first read of a response: a head and 64 KiB come at once, and the receiver has room for most of it."
LONG: Final = 16 * 1024
"Bytes of a read above which a second copy of them costs more than a few calls."
WRITE_BUFFER: Final = 0
"""High watermark of the write buffer, in bytes: reading from the sender is paused whatever a receiver leaves. The
loop keeps a piece until its last byte is sent, so with a higher watermark it would keep two of them."""

_BUFFER: Final = memoryview(bytearray(LARGEST_FIRST))
"Shared by all connections: each read is copied out of it within the same callback of the loop."
FIRST: Final = _BUFFER
NEXT: Final = _BUFFER[:LARGEST]


def retained(unsent: int, *, full: bool) -> int:
    """Bytes of memory behind a write buffer of `unsent` bytes.

    `full`: the sender waits until they are taken. The piece that the receiver has taken a part of is in memory as a
    whole, and is counted like a long one: without this, whoever leaves a few bytes of each piece would be counted
    for next to nothing.
    """
    return max(unsent, LARGEST) if full and unsent else unsent


class ByteProtocol(Protocol):
    """The protocol of a connection. (Not a subclass of `asyncio.Protocol`: a loop only looks up its methods.)"""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class SmallReads:
    """Wraps the protocol of a connection to read into the shared buffer.

    The protocol may have two more methods. `read_buffer` returns the part of the shared buffer for the next read.
    `take_long_read` gets a read of more than LONG bytes where it lies, and copies from it what it keeps.
    """

    __slots__ = ("_buffer", "_take_long_read", "data_received", "protocol")

    def __init__(self, protocol: ByteProtocol) -> None:
        self.protocol = protocol
        self.data_received = protocol.data_received
        self._buffer: Callable[[], memoryview] = getattr(protocol, "read_buffer", _next)
        self._take_long_read: Callable[[memoryview], None] | None = getattr(protocol, "take_long_read", None)

    def __repr__(self) -> str:
        return f"<SmallReads {self.protocol!r}>"

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes > LONG and self._take_long_read is not None:
            self._take_long_read(_BUFFER[:nbytes])
        else:
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
    """Read in small pieces from now on, by wrapping the protocol, unless it is wrapped already."""
    current: object = transport.get_protocol()
    if current is protocol:
        transport.set_protocol(cast(asyncio.BaseProtocol, SmallReads(protocol)))
