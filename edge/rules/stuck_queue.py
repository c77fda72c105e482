"""Whether an accept queue is stuck: connections wait in it, and it does not become shorter. Pure.

A worker whose loop turns may still accept too few: its turns are long, or nobody of its loop's knows. Its clients
are connected, as far as their machines know, and get nothing.
"""


class StuckQueueDetector:
    """Of one accept queue, which is looked at now and then."""

    __slots__ = ("_empty_since", "_least", "_since", "calm", "is_stuck", "timeout")

    def __init__(self, *, timeout: float = 2.0, calm: float = 10.0) -> None:
        self.timeout = timeout
        "Seconds for which it must not have become shorter to be stuck."
        self.calm = calm
        "Seconds for which it must have been empty to be so no more."
        self.is_stuck = False
        self._least = 0
        "Its shortest length in this time."
        self._since = 0.0
        self._empty_since: float | None = None

    def look(self, length: int, now: float) -> bool:
        """Note its length. Returns whether `is_stuck` has changed."""
        before = self.is_stuck
        if not length:
            self._least = 0
            if self._empty_since is None:
                self._empty_since = now
            if now - self._empty_since >= self.calm:
                self.is_stuck = False
            return before is not self.is_stuck
        self._empty_since = None
        if not self._least or length < self._least:
            self._least, self._since = length, now
        elif now - self._since >= self.timeout:
            self.is_stuck = True
        return before is not self.is_stuck
