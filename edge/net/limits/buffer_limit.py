"""What a worker keeps in memory for clients that do not read, or do not finish what they send.

    a side is full, half a head, part of an upload ─► note ─► limits.buffers? ─► cut: who holds most
                         taken, or gone ─► note, forget

Each connection is bounded by itself (`small_reads.py`); there may be thousands. Nothing is counted of one that
keeps up: to note costs a microsecond, whenever a side becomes full or has room again.
"""

import asyncio
import ctypes
import logging
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from edge.rules.event_rate_limit import EventBudget
from edge.rules.limits.buffer_shares import over_their_share
from edge.rules.limits.client_key import ClientKey

SMALL = 4096
"Bytes that are not worth counting."
RELIEF = 0.9
"Part of the limit that is left when somebody was cut."
AT_ONCE = 16
"Connections that are cut in one turn of the loop."
REVIEWED = 200
"Connections that are looked at again each second."
SPREE = 4 << 20
"Bytes that must have been let go of before the allocator is asked to return them: it takes 0.2 ms for each MiB."

log = logging.getLogger("styx.buffers")


def _no_trim(pad: int) -> None:
    """Another C library."""


class Holder(Protocol):
    """A connection, or two, with buffers."""

    @property
    def held_bytes(self) -> int:
        """What is kept for it now."""

    @property
    def client(self) -> ClientKey:
        """On whose account; empty = nobody knows."""

    def cut_off(self) -> None:
        """It holds more than its share: let go of it all at once."""


class Buffers:
    """Of one worker. A member of its sweep."""

    __slots__ = (
        "_before",
        "_clock",
        "_cutting",
        "_events",
        "_limit",
        "_loop",
        "_most",
        "_sizes",
        "_trim",
        "cut",
        "deadline",
        "held",
    )

    def __init__(
        self,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        trim: Callable[[int], object] = getattr(ctypes.CDLL(None), "malloc_trim", _no_trim),  # noqa: B008
    ) -> None:
        """`trim`: returns memory to the system; that of glibc."""
        self._limit = limit
        self._loop = loop
        self._clock = clock
        self._trim = trim
        self._sizes: dict[Holder, int] = {}
        self._events = EventBudget(per_second=0.1, burst=3.0)
        self._cutting = False
        self._most = 0
        "Since memory was returned."
        self._before = 0
        "At the last look."
        self.held = 0
        "Bytes, in all."
        self.cut = 0
        "Connections, so far."
        self.deadline = 0.0

    def reconfigure(self, limit: int) -> None:
        """From the next note on."""
        self._limit = limit

    def __len__(self) -> int:
        return len(self._sizes)

    def note(self, holder: Holder) -> None:
        """It holds more, or less, than before."""
        size = holder.held_bytes
        self.held += size - self._sizes.pop(holder, 0)
        if size < SMALL:
            self.held -= size
            return
        self._sizes[holder] = size
        if self.held > self._limit and not self._cutting:
            self._cutting = True
            self._loop.call_soon(self._relieve)

    def forget(self, holder: Holder) -> None:
        """It is gone."""
        self.held -= self._sizes.pop(holder, 0)

    def deadline_passed(self, now: float) -> None:
        """Return memory that was let go of. Called by the sweep."""
        self.deadline = now + 1.0
        for holder in list(islice(self._sizes, REVIEWED)):  # the oldest, which go behind the others by it
            self.note(holder)
        falls, self._before = self.held < self._before, self.held
        self._most = max(self._most, self.held)
        if self._most - self.held >= SPREE and not falls:  # all that leave at once have left
            self._most = self.held
            self._trim(0)

    def _relieve(self) -> None:
        for holder in list(self._sizes):  # some may have been taken meanwhile
            self.note(holder)
        if self.held <= self._limit:
            self._cutting = False
            return
        buffers: list[tuple[object, int, Holder]]
        buffers = [(holder.client or holder, size, holder) for holder, size in self._sizes.items()]
        over = over_their_share(buffers, int(self._limit * RELIEF))
        self._most = max(self._most, self.held)
        left_out = self._events.take(self._clock())
        if left_out is not None:
            log.warning(
                "buffers of slow clients over limits.buffers",
                extra={
                    "code": "buffer_limit",
                    "held": self.held,
                    "limit": self._limit,
                    "cut": len(over),
                    "left_out_before": left_out,
                },
            )
        self._cut(over)

    def _cut(self, over: list[Holder]) -> None:
        for holder in over[:AT_ONCE]:
            if holder in self._sizes:
                self.forget(holder)
                self.cut += 1
                try:
                    holder.cut_off()
                except Exception:  # one that fails must not take the others along
                    log.exception("cut-off failed", extra={"code": "cut_off_failed", "connection": repr(holder)})
        if len(over) > AT_ONCE:
            self._loop.call_soon(self._cut, over[AT_ONCE:])
        else:
            self._cutting = False
