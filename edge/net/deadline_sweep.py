"""Checks all deadlines of one worker in one coarse timer, instead of one timer for each request.

A timer that is set and cancelled costs 1.7 microseconds, a deadline that is an attribute costs none. In exchange, a
passed deadline is noticed up to one period late.

After this process has stood still, because the machine was busy or paused, sockets are read before deadlines are
checked: the bytes that a deadline waits for may have arrived long ago.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from edge.rules.settings import TimeoutSettings

AT_ONCE: Final = 4
"Members whose `deadline_passed` is called before the loop gets a turn; each may cost 100 microseconds."

log = logging.getLogger("styx.sweep")


class HasDeadline(Protocol):
    """Something with a deadline."""

    deadline: float
    "When `deadline_passed` is to be called; infinity = never."

    def deadline_passed(self, now: float) -> None:
        """Act on the passed deadline. Must move `deadline`, or it is called again at the next sweep."""


class DeadlineSweep:
    """Checks the deadline of each of its members every `period` seconds."""

    __slots__ = ("_clock", "_loop", "_members", "_period", "_scheduled_at", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, period: float, clock: Callable[[], float] | None = None
    ) -> None:
        """`clock`: the clock of the deadlines; None = the loop's."""
        self._loop = loop
        self._clock = clock or loop.time
        self._period = period
        self._members: set[HasDeadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled_at = 0.0
        "When the next sweep is scheduled, on the loop's clock."

    def start(self) -> None:
        """Start the timer."""
        self._set_timer(self._tick)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reconfigure(self, period: float) -> None:
        """Use this period, in seconds, after the next sweep."""
        self._period = period

    def add(self, member: HasDeadline) -> None:
        """Check the deadline of this member from now on."""
        self._members.add(member)

    def discard(self, member: HasDeadline) -> None:
        """Check the deadline of this member no longer."""
        self._members.discard(member)

    def __iter__(self) -> Iterator[HasDeadline]:
        """The members, as they are now."""
        return iter(tuple(self._members))

    def _set_timer(self, then: Callable[[], None]) -> None:
        self._scheduled_at = self._loop.time() + self._period
        self._timer = self._loop.call_later(self._period, then)

    def _tick(self) -> None:
        if self._loop.time() - self._scheduled_at > self._period:
            self._set_timer(self._sweep)
        else:
            self._sweep()

    def _sweep(self) -> None:
        self._set_timer(self._tick)
        self.look()

    def look(self) -> None:
        """Call `deadline_passed` of all members whose deadline has passed."""
        now = self._clock()
        late = [member for member in self._members if member.deadline < now]
        # Thousands of deadlines may pass at once, such as those of slow clients that connected together, and
        # connect again when they are closed. A few calls at a time, spread over the period, delay no request.
        turns = -(-len(late) // AT_ONCE)
        for turn in range(turns):
            batch = late[turn * AT_ONCE : (turn + 1) * AT_ONCE]
            if turn:
                self._loop.call_later(self._period * turn / turns, self._call, batch, now)
            else:
                self._call(batch, now)

    def _call(self, batch: list[HasDeadline], now: float) -> None:
        for member in batch:
            if member in self._members and member.deadline < now:
                try:
                    member.deadline_passed(now)
                except Exception:  # a failure must not prevent the calls of other members
                    log.exception("deadline failed", extra={"code": "deadline_failed", "member": repr(member)})


def sweep_period(timeouts: TimeoutSettings) -> float:
    """Seconds between two sweeps: a quarter of the shortest timeout that the sweep watches, from 5 ms to 250 ms."""
    watched = (
        timeouts.head,
        timeouts.handshake,
        timeouts.body,
        timeouts.keep_alive,
        timeouts.write_stall,
        timeouts.first_byte,
        timeouts.first_byte_cold,
        timeouts.between_bytes,
        timeouts.deadline,
    )
    return max(0.005, min(0.25, min(watched) / 4))
