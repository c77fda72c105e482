"""Limits the memory that a worker uses to buffer for slow clients: those that do not read, or do not finish
sending.

    write buffer full, part of a head, part of an upload ─► note ─► above limits.buffers? ─► cut off: who holds most
                             flushed, or connection lost ─► note, forget

Each connection is bounded by itself (`small_reads.py`), but there may be thousands. A connection that keeps up is
not counted: `note` takes a microsecond, and is called when a write buffer becomes full or has room again.
"""

import asyncio
import ctypes
import logging
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from edge.rules.event_rate_limit import EventBudget
from edge.rules.limits.buffer_shares import over_their_share
from edge.rules.limits.client_key import ClientKey

SMALL: Final = 4096
"Bytes below which a connection is not counted."
RELIEF: Final = 0.9
"Part of the limit to which buffers are reduced when it is exceeded."
AT_ONCE: Final = 16
"Connections that are cut off in one turn of the loop."
REVIEWED: Final = 200
"Connections whose size is updated each second."
TRIM_AFTER: Final = 4 << 20
"Bytes that must have been freed before malloc_trim is called: it takes 0.2 ms for each MiB."

log = logging.getLogger("styx.buffers")


def _no_trim(pad: int) -> None:
    """Do nothing: the C library has no `malloc_trim`."""


class Holder(Protocol):
    """A client connection, or a tunnel, that holds buffered bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes that are buffered for it now."""

    @property
    def client(self) -> ClientKey:
        """The client that they are counted for; empty = unknown."""

    def cut_off(self) -> None:
        """Close at once and free all buffers, because it holds more than its share."""


class BufferLimit:
    """Counts and limits the buffered bytes of one worker. A member of its deadline sweep."""

    __slots__ = (
        "_clock",
        "_cutting",
        "_events",
        "_held_before",
        "_limit",
        "_loop",
        "_peak",
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
        """`limit`: `limits.buffers`, in bytes. `trim`: returns freed memory to the system; `malloc_trim` of
        glibc."""
        self._limit = limit
        self._loop = loop
        self._clock = clock
        self._trim = trim
        self._sizes: dict[Holder, int] = {}
        self._events = EventBudget(per_second=0.1, burst=3.0)
        self._cutting = False
        self._peak = 0
        "The most bytes held since memory was last returned to the system."
        self._held_before = 0
        "Bytes held at the last call of `deadline_passed`."
        self.held = 0
        "Bytes buffered, in total."
        self.cut = 0
        "Connections cut off so far."
        self.deadline = 0.0

    def reconfigure(self, limit: int) -> None:
        """Set the limit, which is enforced from the next `note` on."""
        self._limit = limit

    def __len__(self) -> int:
        return len(self._sizes)

    def note(self, holder: Holder) -> None:
        """Update the size of `holder`, and enforce the limit in the next turn of the loop."""
        size = holder.held_bytes
        self.held += size - self._sizes.pop(holder, 0)
        if size < SMALL:
            self.held -= size
            return
        self._sizes[holder] = size
        if self.held > self._limit and not self._cutting:
            self._cutting = True
            self._loop.call_soon(self._enforce)

    def forget(self, holder: Holder) -> None:
        """Remove `holder`, whose connection is lost or given away."""
        self.held -= self._sizes.pop(holder, 0)

    def deadline_passed(self, now: float) -> None:
        """Update sizes, and return freed memory to the system. Called by the deadline sweep, every second."""
        self.deadline = now + 1.0
        for holder in list(islice(self._sizes, REVIEWED)):  # the oldest first; `note` moves them to the end
            self.note(holder)
        falls, self._held_before = self.held < self._held_before, self.held
        self._peak = max(self._peak, self.held)
        if self._peak - self.held >= TRIM_AFTER and not falls:  # nothing more is being freed
            self._peak = self.held
            self._trim(0)

    def _enforce(self) -> None:
        """Cut off those that hold more than their share, if the limit is still exceeded."""
        for holder in list(self._sizes):  # some buffers may have been flushed meanwhile
            self.note(holder)
        if self.held <= self._limit:
            self._cutting = False
            return
        buffers: list[tuple[object, int, Holder]]
        buffers = [(holder.client or holder, size, holder) for holder, size in self._sizes.items()]
        over = over_their_share(buffers, int(self._limit * RELIEF))
        self._peak = max(self._peak, self.held)
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
        """Cut off some of these connections, and the others in later turns of the loop."""
        for holder in over[:AT_ONCE]:
            if holder in self._sizes:
                self.forget(holder)
                self.cut += 1
                try:
                    holder.cut_off()
                except Exception:  # a failure must not stop the others
                    log.exception("cut-off failed", extra={"code": "cut_off_failed", "connection": repr(holder)})
        if len(over) > AT_ONCE:
            self._loop.call_soon(self._cut, over[AT_ONCE:])
        else:
            self._cutting = False
