"""Reads of at most 64 KiB from a connection whose other side is slower than it.

uvloop reads a quarter of a mebibyte at once. What the other side does not take of it waits with the loop, and is
written when that side takes bytes again: for hundreds of connections at once, it may be, in one turn, in which
nobody else is served. So whoever was stopped once is read from in smaller pieces. (For all connections this would
be half a microsecond more for each read.)
"""

import asyncio

LARGEST = 64 * 1024
"Bytes of one read."

BUFFER = memoryview(bytearray(LARGEST))
"Shared by all: it is read into and copied from within one callback of the loop."


class SmallReads(asyncio.BufferedProtocol):
    """Stands before the protocol of a connection."""

    __slots__ = ("data_received", "protocol")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self.data_received = protocol.data_received

    def __repr__(self) -> str:
        return f"<SmallReads {self.protocol!r}>"

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(BUFFER[:nbytes]))

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


def read_in_small_pieces(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    """From now on, if not so already."""
    if transport.get_protocol() is protocol:
        transport.set_protocol(SmallReads(protocol))
