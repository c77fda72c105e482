"""When a connection is read from, and what is held of what was read: the same for clients and for backends.

    stopped   whoever gets the bytes takes no more, because its own other side is slower
    deferred  others have their turn first (read_budget.py)

Nothing is read from the socket in either case, so what is held is what one read brought, and never more.
"""

import asyncio

from edge.net.transport.read_budget import ReadBudget
from edge.net.transport.small_reads import read_in_small_pieces


class ReadControl:
    """The part of a connection that reads. No class of asyncio's: a loop only looks for the methods of a protocol,
    and attributes behind such a base are slower once this is compiled."""

    __slots__ = ("_held", "_read_is_deferred", "_reading", "_transport", "paused", "stopped")

    def __init__(self, reading: ReadBudget) -> None:
        self._reading = reading
        self._transport: asyncio.Transport | None = None
        self._held = b""
        "Bytes not yet read: a head that is not complete, or what waits until others had their turn."
        self._read_is_deferred = False
        self.paused = False
        "Nothing is read from the socket."
        self.stopped = False
        "The exchange takes no more of the body."

    def pause(self) -> None:
        """The exchange takes no more for now."""
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
        """The exchange takes more, now or when others have had their turn: from now on in smaller pieces."""
        if not self.paused or self._transport is None:
            return
        self._read_in_small_pieces()
        if self._reading.begin_to_listen():
            self._start_reading()
        else:
            self._read_later()

    def _hold(self, data: bytes) -> None:
        """This must wait."""
        self._held = data
        self._stop_reading()
        self._read_in_small_pieces()

    def _read_in_small_pieces(self) -> None:
        if self._transport is not None:
            read_in_small_pieces(self._transport, self)

    def _read_later(self) -> None:
        """Others have their turn first."""
        if not self._read_is_deferred:
            self._read_is_deferred = True
            self._reading.defer(self._read_on)

    def _read_on(self) -> None:
        """Others had their turn."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """The loop has read this."""
        raise NotImplementedError

    def eof_received(self) -> bool | None:
        """The other side sends no more."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, whoever did it."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The other side takes no more for now."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """The other side takes bytes again."""
        raise NotImplementedError
