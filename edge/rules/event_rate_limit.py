"""How many lines one kind of event may write: what clients or the platform can cause must not fill the log.

A token bucket; whoever is allowed to write is told how many lines were left out before it. Pure.
"""


class EventBudget:
    """Of one kind of event."""

    __slots__ = ("_burst", "_left_out", "_per_second", "_tokens", "_updated_at")

    def __init__(self, per_second: float = 5.0, burst: float = 20.0) -> None:
        self._per_second = per_second
        self._burst = self._tokens = burst
        self._updated_at = 0.0
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """How many lines were left out since the last one that was written; None = leave this one out as well."""
        earned = max(0.0, now - self._updated_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + earned)
        self._updated_at = now
        if self._tokens < 1.0:
            self._left_out += 1
            return None
        self._tokens -= 1.0
        left_out, self._left_out = self._left_out, 0
        return left_out
