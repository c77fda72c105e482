"""The pending queue: requests of a small environment that wait because all its containers are full.

With one container no other can be tried, and refusals come in bursts: at 70 % load one in thirty requests meets a
full queue that has room again 50 ms later. So a few requests wait, first in, first out, until the response to
another request shows that a slot is free, or until they poll the backend, because other edges fill and empty the
same queue.
"""

from collections import deque
from typing import Final, Protocol

from edge.rules.settings import RetrySettings

SHORTEST_POLL: Final = 0.02
"Seconds."


class Waiter(Protocol):
    """A waiting request."""

    def woken(self) -> None:
        """Called when a slot may be free."""


class PendingQueue:
    """The waiting requests of one environment in one worker."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: deque[Waiter] | None = None
        "The longest waiting first. Created with the first waiter: an empty deque has 600 bytes."

    @property
    def queued(self) -> int:
        """Number of waiting requests."""
        return len(self.waiting or ())

    def enter(self, waiter: Waiter) -> None:
        """Append a waiter."""
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter, if it waits."""
        if self.waiting is not None and waiter in self.waiting:
            self.waiting.remove(waiter)

    def wake(self) -> None:
        """Wake the longest waiting: a backend has responded to a request, so a slot may be free."""
        if self.waiting:
            self.waiting.popleft().woken()


def queue_admits(backends: int, queued: int, settings: RetrySettings) -> bool:
    """Whether one more request may wait: in a small environment, as many as it has backends."""
    return backends <= settings.queue_backends and queued < backends


def poll_after(usual: float, left: float) -> float:
    """Seconds until a waiting request polls the backend. `usual`: seconds that a response takes; `left`: how long
    it may wait."""
    return min(max(0.5 * usual, SHORTEST_POLL), left)
