"""Detects a stuck accept queue: it does not become shorter, and the connections at its head are not accepted. Pure.

A worker whose loop runs may still accept too few connections, because the turns of the loop are long, or because of
a fault in the loop. Its clients are connected, as far as their kernels know, but get no response.
"""


class StuckQueueDetector:
    """The state of one accept queue, whose length is sampled now and then."""

    __slots__ = ("_accepted", "_empty_since", "_least", "_since", "calm", "is_stuck", "timeout")

    def __init__(self, *, timeout: float = 2.0, calm: float = 10.0) -> None:
        self.timeout = timeout
        "Seconds without becoming shorter after which it is stuck."
        self.calm = calm
        "Seconds of being empty after which it is no longer stuck."
        self.is_stuck = False
        self._least = 0
        "Its shortest length since it was last empty."
        self._since = 0.0
        self._accepted = 0.0
        "Connections accepted by then."
        self._empty_since: float | None = None

    def look(self, length: int, now: float, accepted: float = 0.0) -> bool:
        """Record its length at `now`. Returns whether `is_stuck` has changed.

        `accepted`: connections accepted from it so far; a new worker begins at 0. The queue is first in, first out:
        in that of a busy worker there is always somebody, but nobody stays.
        """
        if accepted < self._accepted:
            self._accepted = 0.0
        before = self.is_stuck
        if not length:
            self._least = 0
            if self._empty_since is None:
                self._empty_since = now
            if now - self._empty_since >= self.calm:
                self.is_stuck = False
            return before is not self.is_stuck
        self._empty_since = None
        if not self._least or length < self._least or accepted - self._accepted > self._least:
            self._least, self._since, self._accepted = length, now, accepted
        elif now - self._since >= self.timeout:
            self.is_stuck = True
        return before is not self.is_stuck
