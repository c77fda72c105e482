"""The wait of an exchange between two attempts: until a backend has a free slot, or has started."""

import asyncio
from collections.abc import Callable

from edge.rules.balancing.pending_queue import PendingQueue


class RetryWait:
    """The waits of one exchange, one at a time. Meanwhile no attempt is under way, and the client may leave."""

    __slots__ = ("_began", "_clock", "_go_on", "_queue", "_timer", "attempts_before", "slot_deadline", "waited")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.attempts_before = 0
        "Attempts that were made before the last wait."
        self.slot_deadline = 0.0
        "Until when the exchange may wait for slots; 0 = it has not waited for one."
        self.waited = 0.0
        "Seconds of all waits that are over."
        self._began = 0.0
        "When the present wait began."
        self._timer: asyncio.TimerHandle | None = None
        self._go_on: Callable[[], None] | None = None
        self._queue: PendingQueue | None = None

    def slot_wait(self, limit: float, now: float) -> float:
        """Seconds for which the exchange may still wait for a slot, `limit` in all."""
        return self.slot_deadline - now if self.slot_deadline else limit

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        go_on: Callable[[], None],
        *,
        attempts: int,
        queue: PendingQueue | None = None,
    ) -> None:
        """Wait for so many seconds after so many attempts, then call `go_on`. In a `queue`: earlier, if
        a slot is free."""
        self.attempts_before = attempts
        self._go_on = go_on
        self._queue = queue
        if queue is not None:
            queue.enter(self)
        self._began = self._clock()
        self._timer = loop.call_later(seconds, self.woken)

    def woken(self) -> None:
        """The wait is over: go on."""
        go_on = self._go_on
        self.stop()
        if go_on is not None:
            go_on()

    def stop(self) -> None:
        """End the wait, whatever it was for, and drop all references to the exchange."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.waited += self._clock() - self._began
        if self._queue is not None:
            self._queue.leave(self)
            self._queue = None
        self._go_on = None
