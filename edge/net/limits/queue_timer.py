"""The one timer of a queue: however many wait in it, it is checked when the first of them is due."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

_SHORTEST: Final = 0.001
"Seconds between two checks."


class QueueTimer:
    """Calls `check` once after each `schedule`."""

    __slots__ = ("_check", "_due", "_handle")

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._handle: asyncio.Handle | None = None
        self._due = inf
        "When the timer ends; -inf = in the next turn of the loop, infinity = there is no timer."

    def schedule(self, at: float | None, now: float, *, at_once: bool = False) -> None:
        """Schedule the next check, if that is earlier than the one scheduled. `at`: when it is due, on the clock of
        `now`; None = nothing waits. `at_once`: in the next turn of the loop instead."""
        if at is None:
            return
        due = -inf if at_once else max(at, now + _SHORTEST)
        if due >= self._due:
            return
        if self._handle is not None:
            self._handle.cancel()
        loop = asyncio.get_running_loop()
        self._due = due
        self._handle = loop.call_soon(self._run) if at_once else loop.call_later(due - now, self._run)

    def cancel(self) -> None:
        """Call off the check that is scheduled, if any."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._due = None, inf

    def _run(self) -> None:
        self._handle, self._due = None, inf
        self._check()
