"""When to leave a failing core API alone, and when to try it again.

    closed ── five hostnames in a row could not be asked for ──► open ── after a pause ──► half-open
      ▲                                                            ▲      one question        │
      └───────────────────────── answered ─────────────────────────┴── failed: double pause ──┘

While it is open nobody waits for the core API: what is known is served, what is not is answered 503 at once.
One hostname that the core API stumbles over, however often it is asked for, opens nothing. (Nygard, "Release
It!", 2007; Envoy and gorouter go on asking, and every client of an unknown hostname waits for the whole timeout.)
"""

FAILURES = 5
"Different hostnames."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class Breaker:
    """One worker's."""

    __slots__ = ("_failed", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failed: set[str] = set()
        "Hostnames since the last answer; at most `FAILURES`."
        self._pause = 0.0
        "0 = it is closed."
        self._until = 0.0
        self._probing = False
        "Whether a question is out that was let through to see."

    @property
    def is_open(self) -> bool:
        """Whether the core API is left alone."""
        return self._pause > 0.0

    def allows(self, now: float) -> bool:
        """Whether a question may be asked now. When it is open, the one that is allowed is the half-open probe."""
        if not self._pause:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause
        self._probing = True
        return True

    def answered(self) -> None:
        """The core API said something that could be understood."""
        self._failed.clear()
        self._pause = 0.0
        self._probing = False

    def failed(self, hostname: str, now: float, rand: float) -> bool:
        """It did not. Returns whether that opened the breaker."""
        if self._pause and not self._probing:
            return False  # it was asked before the others had failed
        if self._pause:
            self._probing = False
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
            self._until = now + self._pause * (0.75 + rand / 2)
            return False
        self._failed.add(hostname)
        if len(self._failed) < FAILURES:
            return False
        self._pause = SHORTEST_PAUSE
        self._until = now + self._pause * (0.75 + rand / 2)
        return True
