"""How long bodies are read in one turn of the loop, so that the turns stay short whatever peers send.

    a turn:   deferred reads, for `per_turn` at most ─► all that is ready: long reads for as long again, short ones

A turn that takes long is a delay for everybody, most of all for new clients. One read from a socket, a quarter of a
mebibyte, takes 0.1 ms to be passed on as it is, and several when it is made of tiny chunks; and hundreds of sockets
may be readable at once. When the time of a turn is used up, what comes is held unread, its connection is not read
from meanwhile, and it goes on when those before it have had their turn. So at most one read is held for each
connection. Nor are more connections read from again at once than there is time for.

Short reads are not held: what they cost is bounded by their length, and small requests wait for nobody.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

SHORT = 4096
"Bytes of a read that is never held."
READ = 0.0001
"Seconds that the loop itself takes to read 64 KiB from a socket, and to write them to another."

log = logging.getLogger("styx.read_budget")


class ReadBudget:
    """Of one worker."""

    __slots__ = (
        "_clock",
        "_deferred",
        "_deferred_ends",
        "_ends",
        "_is_reading_on",
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
        "When the time of this turn for what comes is used up."
        self._turn_is_watched = False
        "The loop will tell when this turn is over."
        self._deferred: deque[Callable[[], None]] = deque()
        self._deferred_ends = 0.0
        "When the time of this turn for deferred reads is used up."
        self._is_reading_on = False
        "One of the deferred is being read."

    def __len__(self) -> int:
        """Reads that are deferred."""
        return len(self._deferred)

    def begin(self) -> bool:
        """Begin a long read; False = not in this turn.

        A turn is told from the next one by the loop, which costs a microsecond. A single download would pay it in
        every turn; so the loop is asked when a quarter of the time is used up, or more.
        """
        if self._is_reading_on:
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

    def _end_turn(self) -> None:
        self._turn_is_watched = False
        self._ends = 0.0

    def begin_to_listen(self) -> bool:
        """Begin to read from a socket again; False = not in this turn."""
        if not self.begin():
            return False
        if self._is_reading_on:
            self._deferred_ends -= READ
        else:
            self._ends -= READ
        return True

    def slice_end(self) -> float:
        """Until when one connection may go on reading what it holds."""
        return self._clock() + self._per_connection

    def is_over(self, end: float) -> bool:
        """Whether this moment has passed."""
        return self._clock() >= end

    def defer(self, read: Callable[[], None]) -> None:
        """Read this in a later turn, behind all that are deferred already."""
        if not self._deferred:
            self._loop.call_soon(self._read_deferred)
        self._deferred.append(read)

    def _read_deferred(self) -> None:
        deferred = self._deferred
        self._deferred_ends = self._clock() + self._per_turn
        self._is_reading_on = True
        for _ in range(len(deferred)):  # each once: what is deferred anew waits for the next turn
            try:
                deferred[0]()
            except Exception:  # one that fails must not take the others along
                log.exception("deferred read failed", extra={"code": "deferred_read_failed"})
            deferred.popleft()
            if self._clock() >= self._deferred_ends:
                break
        self._is_reading_on = False
        if deferred:
            self._loop.call_soon(self._read_deferred)
