"""Back-pressure on one connection, of a client or a backend: when to read from its socket, and which bytes are
held.

    stopped   the exchange takes no more of the body, because the receiver on its other side is slower
    deferred  the next read is left to a later turn of the loop (read_budget.py)

In both states the socket is not read from, so the bytes that are held are those of one read at most.
"""

import asyncio

from edge.net.transport.read_budget import ReadBudget
from edge.net.transport.small_reads import read_in_small_pieces


def discard(data: bytes) -> None:
    """Discard bytes that would be written to a connection that is closed."""


class ReadControl:
    """The reading part of a connection. Not a subclass of `asyncio.Protocol`: a loop only looks up the methods of a
    protocol, and attributes behind such a base are slower when this class is compiled."""

    __slots__ = ("_held", "_read_is_deferred", "_reading", "_transport", "paused", "stopped")

    def __init__(self, reading: ReadBudget) -> None:
        self._reading = reading
        self._transport: asyncio.Transport | None = None
        self._held = b""
        "Bytes that are not parsed yet: an incomplete head, or a read that is deferred to a later turn."
        self._read_is_deferred = False
        self.paused = False
        "Whether reading from the socket is paused."
        self.stopped = False
        "Whether the exchange takes no more of the body."

    def pause(self) -> None:
        """Stop reading until the exchange takes more."""
        self.stopped = True
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def _start_reading(self) -> None:
        if self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()

    def _start_reading_again(self) -> None:
        """Read again, now or in a later turn of the loop; from now on in small pieces."""
        if not self.paused or self._transport is None:
            return
        self._read_in_small_pieces()
        if self._reading.begin_resuming():
            self._start_reading()
        else:
            self._read_later()

    def _hold(self, data: bytes) -> None:
        """Hold `data` unparsed, and stop reading."""
        self._held = data
        self._stop_reading()
        self._read_in_small_pieces()

    def _read_in_small_pieces(self) -> None:
        if self._transport is not None:
            read_in_small_pieces(self._transport, self)

    def _read_later(self) -> None:
        """Defer the next read to a later turn of the loop."""
        if not self._read_is_deferred:
            self._read_is_deferred = True
            self._reading.defer(self._read_on)

    def _read_on(self) -> None:
        """Continue a deferred read."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol: the loop has read `data`."""
        raise NotImplementedError

    def eof_received(self) -> bool | None:
        """asyncio.Protocol: the other end sends no more."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol: the connection is closed, by either end."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """asyncio.Protocol: the write buffer is above its high watermark."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """asyncio.Protocol: the write buffer is below its low watermark again."""
        raise NotImplementedError
