"""Where a request waits for a moment when all containers of a small pool are full.

With one container nothing can be tried elsewhere, and refusals come in bursts: at 70 % load one in thirty requests
meets a full queue that has room again 50 ms later. So a few wait, the longest first, until somebody else's answer
tells of a free slot, or until it is time to ask again, for other edges fill and empty the same queue.
"""

from collections import deque
from typing import Protocol

from edge.rules.settings import RetrySettings

SHORTEST_POLL = 0.02


class Waiter(Protocol):
    """A request that waits."""

    def woken(self) -> None:
        """There may be room now."""


class PendingQueue:
    """The requests of one environment that wait in one worker."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: deque[Waiter] | None = None
        "The longest waiting first. Made when somebody waits: an empty deque has 600 bytes."

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self.waiting or ())

    def enter(self, waiter: Waiter) -> None:
        """Wait behind the others."""
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        if self.waiting is not None and waiter in self.waiting:
            self.waiting.remove(waiter)

    def wake(self) -> None:
        """A backend has answered somebody: the longest waiting gets its slot."""
        if self.waiting:
            self.waiting.popleft().woken()


def queue_admits(backends: int, queued: int, settings: RetrySettings) -> bool:
    """Whether one more request may wait: in a small pool, as many as it has backends."""
    return backends <= settings.queue_backends and queued < backends


def poll_after(usual: float, left: float) -> float:
    """Seconds until one that waits asks by itself. `usual`: what an answer takes; `left`: how long it may wait."""
    return min(max(0.5 * usual, SHORTEST_POLL), left)
