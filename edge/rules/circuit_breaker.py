"""When to leave a failing core API alone, and when to try it again.

    closed ── five hostnames in a row could not be asked for ──► open ── after a pause ──► half-open
      ▲                                                            ▲      one look-up        │
      └───────────────────────── answered ─────────────────────────┴── failed: double pause ──┘

While it is open nobody waits for the core API: what is known is served, what is not is answered 503 at once.

Only what concerns the service counts: no connection, no answer in time, 5xx, 429. An answer that condemns a single
hostname (400, a body that cannot be read) shows that the service works. And clients choose the names: unknown
hostnames open the breaker only together with a known one that failed as well, if there is one to ask for. (Nygard,
"Release It!", 2007; Envoy and gorouter go on asking, and every client of an unknown hostname waits for the whole
timeout.)
"""

FAILURES = 5
"Different hostnames."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class CircuitBreaker:
    """One worker's."""

    __slots__ = ("_failed", "_known_failed", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failed: set[str] = set()
        "Hostnames since the last answer; at most `FAILURES`."
        self._known_failed = False
        "Whether a known hostname is among them."
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
        """Whether so many hostnames failed that it would open, were a known one among them: somebody should ask
        for one."""
        return not self._pause and len(self._failed) >= FAILURES and not self._known_failed

    def claim_lookup(self, now: float) -> bool:
        """Whether the core API may be asked now. While it is open, who is told so claims the half-open probe."""
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
        self._known_failed = False
        self._pause = 0.0
        self._probing = False

    def record_failure(self, hostname: str, now: float, rand: float, *, known: bool) -> bool:
        """The service did not answer. `known`: this is a hostname with a route, or there is none at all to ask for.
        Returns whether that opened the breaker."""
        if self._pause and not self._probing:
            return False  # it was asked before the others had failed
        if self._pause:
            self._probing = False
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
            self._until = now + self._pause * (0.75 + rand / 2)
            return False
        if len(self._failed) < FAILURES:
            self._failed.add(hostname)
        self._known_failed = self._known_failed or known
        if len(self._failed) < FAILURES or not self._known_failed:
            return False
        self._pause = SHORTEST_PAUSE
        self._until = now + self._pause * (0.75 + rand / 2)
        return True
