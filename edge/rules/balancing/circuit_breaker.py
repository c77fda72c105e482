"""The circuit breaker of the core API: it stops lookups while the core API fails, and tests it after a pause.

    closed ── five hostnames in a row could not be asked for ──► open ── after a pause ──► half-open
      ▲                                                            ▲      one lookup         │
      └──────────────────────── responded ─────────────────────────┴── failed: double pause ──┘

While it is open no request waits for the core API: known routes are used, and requests for other hostnames get a
503 at once.

Only failures of the service count: no connection, a timeout, 5xx, 429. A response that concerns a single hostname
(400, a body that cannot be decoded) shows that the service works. Clients choose the hostnames, so failures (5xx)
for unknown hostnames are not enough: a lookup of a known one must fail as well. (Nygard, "Release It!", 2007. Envoy
and gorouter continue to ask, and every client of an unknown hostname waits for the whole timeout.)
"""

FAILURES = 5
"Different hostnames whose failed lookups open it."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"Seconds."


class CircuitBreaker:
    """The circuit breaker of one worker."""

    __slots__ = ("_conclusive", "_failed", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failed: set[str] = set()
        "Hostnames whose lookups failed since the last response; at most `FAILURES`."
        self._conclusive = False
        "Whether one of these failures cannot be due to the hostname."
        self._pause = 0.0
        "Seconds of the current pause; 0 = the breaker is closed."
        self._until = 0.0
        self._probing = False
        "Whether the half-open lookup is under way."

    @property
    def is_open(self) -> bool:
        """Whether lookups are stopped."""
        return self._pause > 0.0

    @property
    def needs_known(self) -> bool:
        """Whether it would open if the hostnames had not been chosen by clients: the caller should look up a known
        one."""
        return not self._pause and len(self._failed) >= FAILURES and not self._conclusive

    def wait(self, now: float) -> float:
        """Seconds until a lookup may start; 0 = now."""
        return max(0.0, self._until - now) if self._pause else 0.0

    def claim_lookup(self, now: float) -> bool:
        """Return whether a lookup may start now. While the breaker is open, True grants the half-open lookup: there
        is no other before the pause is over again."""
        if not self._pause:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause
        self._probing = True
        return True

    def record_response(self) -> None:
        """Record a response of the core API: close the breaker."""
        self._failed.clear()
        self._conclusive = False
        self._pause = 0.0
        self._probing = False

    def record_failure(self, hostname: str, now: float, rand: float, *, conclusive: bool) -> bool:
        """Record a failed lookup. `conclusive`: the hostname cannot be the reason, because the service did not
        respond at all, the hostname is a known one, or no known one exists. Returns whether that opened the
        breaker."""
        if self._pause and not self._probing:
            return False  # this lookup started before the breaker opened
        if self._pause:
            self._probing = False
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
            self._until = now + self._pause * (0.75 + rand / 2)
            return False
        if len(self._failed) < FAILURES:
            self._failed.add(hostname)
        self._conclusive = self._conclusive or conclusive
        if len(self._failed) < FAILURES or not self._conclusive:
            return False
        self._pause = SHORTEST_PAUSE
        self._until = now + self._pause * (0.75 + rand / 2)
        return True
