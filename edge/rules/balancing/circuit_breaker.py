"""The circuit breaker of the core API: it stops lookups while the core API fails, and tests it after a pause.

    closed ── five hostnames in a row could not be asked for ──► open ── after a pause ──► half-open
      ▲                                                            ▲      one lookup         │
      └──────────────────────── responded ─────────────────────────┴── failed: double pause ──┘

While it is open no request waits for the core API: known routes are used, and requests for other hostnames get a
503 at once.

Only failures of the service count: no connection, a timeout, 5xx, 429. A response that concerns a single hostname
(400, a body that cannot be decoded) shows that the service works. Even a failure of the service may be due to the
hostname: clients choose unknown ones, for which a core API may fail or hang, and it may fail for those of one owner
because it has bad data of that one. So, unless it cannot be connected to, it only counts as failing when known
hostnames of two owners have failed, and the half-open lookups are of each owner in turn. (Nygard, "Release It!",
2007. Envoy and gorouter continue to ask, and every client of an unknown hostname waits for the whole timeout.)
"""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

FAILURES = 5
"Different hostnames whose failed lookups open it."
OWNERS = 2
"Owners of known hostnames of which lookups must have failed, if the core API can be connected to."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"Seconds."
MOST_SEARCHED = 1000
"Known hostnames among which a witness is searched."
MOST_OWNERS = 1000
"Owners whose failures are remembered; then all are forgotten."


class KnownHostname(NamedTuple):
    """A known hostname, and whose it is: an environment, or whatever shares the same record in the core API."""

    hostname: str
    owner: str


class CircuitBreaker:
    """The circuit breaker of one worker."""

    __slots__ = ("_conclusive", "_failed", "_failed_owners", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failed: set[str] = set()
        "Hostnames whose lookups failed since the last response; at most `FAILURES`."
        self._failed_owners: set[str] = set()
        "Owners of the known hostnames of which a lookup failed since the last response; at most `MOST_OWNERS`."
        self._conclusive = False
        "Whether these failures cannot be due to the hostnames."
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
    def needs_witness(self) -> bool:
        """Whether it would open if the failures could not be due to the hostnames: the caller should look up a
        `witness`."""
        return not self._pause and len(self._failed) >= FAILURES and not self._conclusive

    def has_failed(self, owner: str) -> bool:
        """Whether a lookup of a known hostname of this owner has failed since the last response."""
        return owner in self._failed_owners

    def forget_owners(self) -> None:
        """Forget whose lookups have failed: each owner has had a turn."""
        self._failed_owners.clear()

    def witness(self, known: Iterable[KnownHostname]) -> str | None:
        """The first of these hostnames whose owner has not failed since the last response; None = none of the first
        `MOST_SEARCHED`."""
        failed = self._failed_owners
        return next((each.hostname for each in islice(known, MOST_SEARCHED) if each.owner not in failed), None)

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
        self._failed_owners.clear()
        self._conclusive = False
        self._pause = 0.0
        self._probing = False

    def record_failure(
        self,
        hostname: str,
        now: float,
        rand: float,
        *,
        owner: str | None = None,
        connected: bool = True,
        known: Iterable[KnownHostname] = (),
    ) -> bool:
        """Record a failed lookup. Returns whether that opened the breaker.

        `owner`: of a known hostname. `connected`: False if there was no connection, so the hostname cannot be the
        reason. `known`: all known hostnames; without a witness among them, any failure is conclusive.
        """
        if owner is not None:
            if len(self._failed_owners) >= MOST_OWNERS:
                self._failed_owners.clear()
            self._failed_owners.add(owner)
        if self._pause and not self._probing:
            return False  # this lookup started before the breaker opened
        if self._pause:
            self._probing = False
            self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
            self._until = now + self._pause * (0.75 + rand / 2)
            return False
        if len(self._failed) < FAILURES:
            self._failed.add(hostname)
        if not self._conclusive:
            enough = not connected or len(self._failed_owners) >= OWNERS
            self._conclusive = enough or self.witness(known) is None
        if len(self._failed) < FAILURES or not self._conclusive:
            return False
        self._pause = SHORTEST_PAUSE
        self._until = now + self._pause * (0.75 + rand / 2)
        return True
