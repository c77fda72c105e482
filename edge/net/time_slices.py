"""Long work in the loop, a little in each turn, so that requests do not wait for it.

A slice ends when its time is over, not after so many steps: what one step costs depends on the machine. Between two
slices there is a pause, which bounds the share of the worker that such work takes while there is more of it. When
the slice comes late, the loop has much to do, or other processes have the machine: then the pause is longer, for of
each turn of the loop a new client needs a part (uvloop accepts one connection in a turn).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

_STEPS = 16
"Between two looks at the clock."
_MAKES_WAY = 4.0
"Times that it came late is how long it waits."

log = logging.getLogger("styx.slices")


class TimeSlices:
    """Of one worker; works take turns. A work is an iterator each step of which takes some microseconds."""

    __slots__ = ("_budget", "_clock", "_due", "_longest_pause", "_pause", "_timer", "_works")

    def __init__(
        self,
        *,
        budget: float = 0.001,
        pause: float = 0.002,
        longest_pause: float = 0.05,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`budget`: seconds that a slice takes, on `clock`. `pause`, `longest_pause`: seconds before the next."""
        self._budget = budget
        self._pause = pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._works: deque[Iterator[object]] = deque()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        "When the slice should begin, on the loop's clock."

    def add(self, work: Iterator[object]) -> None:
        """Begin it in the next turn of the running loop."""
        self._works.append(work)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due = loop.time()
            self._timer = loop.call_soon(self._slice)

    def close(self) -> None:
        """Leave undone what is left."""
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
            except Exception:  # one that fails must not take the others along
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
            pause = max(self._pause, min(_MAKES_WAY * late, self._longest_pause))
            self._due = loop.time() + pause
            self._timer = loop.call_later(pause, self._slice)


def _is_done(work: Iterator[object]) -> bool:
    """Take a few steps."""
    steps = 0
    for _ in islice(work, _STEPS):
        steps += 1
    return steps < _STEPS
