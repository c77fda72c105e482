"""Limits the time for reading bodies in one turn of the event loop, so that turns stay short whatever is received.

    a turn:   deferred reads, for `per_turn` at most ─► all that is ready: long reads for as long again, short ones

A long turn delays every connection, new ones most of all. It takes 0.1 ms to pass on one read of 256 KiB as it is,
and several ms when it consists of tiny chunks; and hundreds of sockets may be readable at once. When the time of a
turn is used up, a read is held unparsed and its connection is paused; it continues in a later turn, behind the
reads deferred before it. So at most one read is held for each connection. Reading is also resumed on no more
connections at once than there is time for.

Short reads are not deferred: their cost is bounded by their length, and small requests are never delayed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

SHORT: Final = 4096
"Bytes of a read up to which it is never deferred."
READ: Final = 0.0001
"Seconds that the loop itself takes to read 64 KiB from a socket, and to write them to another."

log = logging.getLogger("styx.read_budget")


class ReadBudget:
    """The time budget for reads of one worker. Times are in seconds, on its clock.

    `per_turn`: for all long reads of a turn, and as much for deferred ones; `per_connection`: for one deferred one.
    """

    __slots__ = (
        "_clock",
        "_deferred",
        "_deferred_ends",
        "_ends",
        "_is_reading_deferred",
        "_loop",
        "_per_connection",
        "_per_turn",
        "_turn_is_watched",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        per_connection: float = 0.0005,
        per_turn: float = 0.002,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._per_connection = per_connection
        self._per_turn = per_turn
        self._ends = 0.0
        "When the time for new reads in this turn is used up; 0 = no long read in this turn yet."
        self._turn_is_watched = False
        "Whether the loop will call `_end_turn` when this turn is over."
        self._deferred: deque[Callable[[], None]] = deque()
        self._deferred_ends = 0.0
        "When the time for deferred reads in this turn is used up."
        self._is_reading_deferred = False
        "Whether a deferred read is being continued."

    def __len__(self) -> int:
        """Number of deferred reads."""
        return len(self._deferred)

    def begin(self) -> bool:
        """Begin a long read; False = not in this turn.

        The end of a turn is noticed by a callback of the loop, which costs a microsecond. A single download would
        pay for it in every turn, so the callback is only scheduled once a quarter of the time is used up.
        """
        if self._is_reading_deferred:
            return True
        now = self._clock()
        if self._turn_is_watched:
            return now < self._ends
        if not self._ends:  # the first one in this turn
            self._ends = now + self._per_turn
            return True
        if now >= self._ends:  # in this turn, or in a later one
            self._ends = now + self._per_turn
        elif now < self._ends - 0.75 * self._per_turn:
            return True
        self._turn_is_watched = True
        self._loop.call_soon(self._end_turn)
        return True

    def begin_behind_deferred(self) -> bool:
        """The same, but behind all that is deferred: then only that is done in a turn, and in order of arrival."""
        return (self._is_reading_deferred or not self._deferred) and self.begin()

    def _end_turn(self) -> None:
        self._turn_is_watched = False
        self._ends = 0.0

    def begin_resuming(self) -> bool:
        """Take the time for resuming reads from one socket; False = not in this turn."""
        if not self.begin():
            return False
        if self._is_reading_deferred:
            self._deferred_ends -= READ
        else:
            self._ends -= READ
        return True

    def slice_end(self) -> float:
        """Until when one connection may parse the bytes that it holds in this turn."""
        return self._clock() + self._per_connection

    def is_over(self, end: float) -> bool:
        """Whether this moment has passed."""
        return self._clock() >= end

    def defer(self, read: Callable[[], None]) -> None:
        """Call `read` in a later turn, behind all reads that are deferred already."""
        if not self._deferred:
            self._loop.call_soon(self._read_deferred)
        self._deferred.append(read)

    def _read_deferred(self) -> None:
        deferred = self._deferred
        self._deferred_ends = self._clock() + self._per_turn
        self._is_reading_deferred = True
        for _ in range(len(deferred)):  # each once: a read that is deferred again is left to the next turn
            try:
                deferred[0]()
            except Exception:  # a failure must not stop the other reads
                log.exception("deferred read failed", extra={"code": "deferred_read_failed"})
            deferred.popleft()
            if self._clock() >= self._deferred_ends:
                break
        self._is_reading_deferred = False
        if deferred:
            self._loop.call_soon(self._read_deferred)
