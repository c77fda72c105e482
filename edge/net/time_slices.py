"""Runs long work in the loop in short time slices, so that requests do not wait for it.

A slice ends after a time, not after a number of steps, because the cost of a step depends on the machine. Between
two slices there is a pause, which bounds the worker's share of time for such work. A slice that begins late shows
that the loop or the machine is busy. Then the pause is longer, because each turn of the loop that a slice takes
delays new clients (uvloop accepts one connection in a turn).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

_STEPS = 16
"Steps between two reads of the clock."
_PAUSE_PER_DELAY = 4.0
"The pause after a late slice, as a multiple of the seconds by which it was late."

log = logging.getLogger("styx.slices")


class TimeSlices:
    """The time slices of one worker, shared round robin. Work is an iterator with steps of a few microseconds."""

    __slots__ = ("_budget", "_clock", "_due", "_longest_pause", "_pause", "_timer", "_works")

    def __init__(
        self,
        *,
        budget: float = 0.001,
        pause: float = 0.002,
        longest_pause: float = 0.05,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`budget`: seconds of a slice, on `clock`. `pause`, `longest_pause`: seconds between two slices."""
        self._budget = budget
        self._pause = pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._works: deque[Iterator[object]] = deque()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        "When the next slice should begin, on the loop's clock."

    def add(self, work: Iterator[object]) -> None:
        """Begin this work in the next turn of the running loop."""
        self._works.append(work)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due = loop.time()
            self._timer = loop.call_soon(self._slice)

    def close(self) -> None:
        """Stop; unfinished work is dropped."""
        self._works.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _slice(self) -> None:
        works, clock, loop = self._works, self._clock, asyncio.get_running_loop()
        late, until = loop.time() - self._due, clock() + self._budget
        while works:
            try:
                done = _is_done(works[0])
            except Exception:  # a failure must not prevent the others
                log.exception("background work failed", extra={"code": "background_work_failed"})
                done = True
            if done:
                works.popleft()
            else:
                works.rotate(-1)
            if clock() >= until:
                break
        self._timer = None
        if works:
            pause = max(self._pause, min(_PAUSE_PER_DELAY * late, self._longest_pause))
            self._due = loop.time() + pause
            self._timer = loop.call_later(pause, self._slice)


def _is_done(work: Iterator[object]) -> bool:
    """Take a few steps. Returns whether the work has ended."""
    steps = 0
    for _ in islice(work, _STEPS):
        steps += 1
    return steps < _STEPS
