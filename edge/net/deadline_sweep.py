"""One coarse timer per worker instead of one per request.

A timer that is set and cancelled costs 1.7 microseconds, a deadline that is an attribute costs none. The
price is that a deadline is noticed up to one period late.

Whoever spoke while this process stood still, because the machine was busy or paused, is heard before anybody is
told that it is late: the bytes may lie in the socket since long.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

AT_ONCE = 4
"Members that are told that they are late before anybody else gets a turn; each may cost 100 microseconds."

log = logging.getLogger("styx.sweep")


class Due(Protocol):
    """Something with a deadline."""

    deadline: float
    "When `deadline_passed` is to be called; infinity = never."

    def deadline_passed(self, now: float) -> None:
        """The deadline has passed. Must move `deadline`, or it is called again at the next sweep."""


class DeadlineSweep:
    """Looks at the deadline of each of its members every `period` seconds."""

    __slots__ = ("_awaited", "_clock", "_loop", "_members", "_period", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, period: float, clock: Callable[[], float] | None = None
    ) -> None:
        """`clock`: the one that deadlines are of; None = the loop's."""
        self._loop = loop
        self._clock = clock or loop.time
        self._period = period
        self._members: set[Due] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._awaited = 0.0
        "When the next look is to be."

    def start(self) -> None:
        """Begin to look."""
        self._wait(self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reconfigure(self, period: float) -> None:
        """Look so often from the next look on."""
        self._period = period

    def add(self, member: Due) -> None:
        """Watch this deadline from now on."""
        self._members.add(member)

    def discard(self, member: Due) -> None:
        """Watch it no more."""
        self._members.discard(member)

    def __iter__(self) -> Iterator[Due]:
        """Whose deadlines are watched now."""
        return iter(tuple(self._members))

    def _wait(self, then: Callable[[], None]) -> None:
        self._awaited = self._loop.time() + self._period
        self._timer = self._loop.call_later(self._period, then)

    def _tick(self) -> None:
        if self._loop.time() - self._awaited > self._period:
            self._wait(self._look)
        else:
            self._look()

    def _look(self) -> None:
        self._wait(self._tick)
        self.look()

    def look(self) -> None:
        """Tell those that are late now."""
        now = self._clock()
        late = [member for member in self._members if member.deadline < now]
        # Thousands may be late at once, such as slow clients that came together, and come back when they are cut
        # off: told a few at a time, all over the period, they hold up nobody.
        turns = -(-len(late) // AT_ONCE)
        for turn in range(turns):
            few = late[turn * AT_ONCE : (turn + 1) * AT_ONCE]
            if turn:
                self._loop.call_later(self._period * turn / turns, self._tell, few, now)
            else:
                self._tell(few, now)

    def _tell(self, few: list[Due], now: float) -> None:
        for member in few:
            if member in self._members and member.deadline < now:
                try:
                    member.deadline_passed(now)
                except Exception:  # one that fails must not take the deadlines of all others along
                    log.exception("deadline failed", extra={"code": "deadline_failed", "member": repr(member)})
