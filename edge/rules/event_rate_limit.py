"""Rate limit of log events: events that clients or the platform can cause must not fill the log.

It is a token bucket for each kind of event, which also counts the events that were left out. Pure.
"""


class EventBudget:
    """The token bucket of one kind of event."""

    __slots__ = ("_burst", "_left_out", "_per_second", "_tokens", "_updated_at")

    def __init__(self, per_second: float = 5.0, burst: float = 20.0) -> None:
        self._per_second = per_second
        self._burst = self._tokens = burst
        self._updated_at = 0.0
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """Take a token for one event. Returns the number of events left out since the last one that was written;
        None = leave this event out as well."""
        earned = max(0.0, now - self._updated_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + earned)
        self._updated_at = now
        if self._tokens < 1.0:
            self._left_out += 1
            return None
        self._tokens -= 1.0
        left_out, self._left_out = self._left_out, 0
        return left_out
