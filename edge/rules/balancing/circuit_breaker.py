"""When to leave a failing core API alone, and when to try it again.

    closed ── five hostnames in a row could not be asked for ──► open ── after a pause ──► half-open
      ▲                                                            ▲      one look-up        │
      └───────────────────────── answered ─────────────────────────┴── failed: double pause ──┘

While it is open nobody waits for the core API: what is known is served, what is not is answered 503 at once.

Only what concerns the service counts: no connection, no answer in time, 5xx, 429. An answer that condemns a single
hostname (400, a body that cannot be read) shows that the service works. And clients choose the names: a service
that stumbles over those of unknown hostnames (5xx) must do so for a known one as well. (Nygard, "Release It!",
2007; Envoy and gorouter go on asking, and every client of an unknown hostname waits for the whole timeout.)
"""

FAILURES = 5
"Different hostnames."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class CircuitBreaker:
    """One worker's."""

    __slots__ = ("_conclusive", "_failed", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failed: set[str] = set()
        "Hostnames since the last answer; at most `FAILURES`."
        self._conclusive = False
        "Whether one of them failed for no reason that is in its name."
        self._pause = 0.0
        "0 = it is closed."
        self._until = 0.0
        self._probing = False
        "Whether a look-up is under way that was let through to see."

    @property
    def is_open(self) -> bool:
        """Whether the core API is left alone."""
        return self._pause > 0.0

    @property
    def needs_known(self) -> bool:
        """Whether so many hostnames failed that it would open, had they not been chosen by clients: somebody should
        ask for a known one."""
        return not self._pause and len(self._failed) >= FAILURES and not self._conclusive

    def claim_lookup(self, now: float) -> bool:
        """Returns whether the core API may be asked now. While the breaker is open, True hands out the half-open
        probe: nobody else gets one until the pause is over again."""
        if not self._pause:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause
        self._probing = True
        return True

    def answered(self) -> None:
        """The core API has answered."""
        self._failed.clear()
        self._conclusive = False
        self._pause = 0.0
        self._probing = False

    def record_failure(self, hostname: str, now: float, rand: float, *, conclusive: bool) -> bool:
        """The service failed. `conclusive`: not because of the name, for it did not answer at all, or this is a
        known hostname, or there is none to ask for. Returns whether that opened the breaker."""
        if self._pause and not self._probing:
            return False  # it was asked before the others had failed
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
