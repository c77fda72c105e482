"""Failed lookups of hostnames without a route: what failed and when, and for how long a lookup is not repeated.

A known route records its own failed lookups (`routes.py`). Clients choose the other hostnames: these are bounded.
"""

from typing import NamedTuple

from cachetools import LRUCache

MOST_FAILURES = 10_000
"Hostnames whose last failed lookup is remembered."
SHORTEST_PAUSE = 0.25
"Seconds of the second pause of a hostname; each further one is twice as long."


class LookupFailure(NamedTuple):
    """The last failed lookup of one hostname."""

    at: float
    error: str
    rejected: bool
    "Whether the core API responded, but not with a usable response. False = the service did not work."
    pause: float
    "Seconds after `at` for which there is no other lookup."


class LookupState(NamedTuple):
    """The state of the lookups of one hostname."""

    failure: LookupFailure | None = None
    "The last one, if it failed."
    is_under_way: bool = False
    circuit_open: bool = False
    "Whether lookups are stopped, because the core API fails."
    wait: float = 0.0
    "Seconds for which a request for it causes no lookup."


class LookupFailures:
    """The failed lookups of one worker."""

    __slots__ = ("_by_hostname", "latest")

    def __init__(self, most: int = MOST_FAILURES) -> None:
        self._by_hostname: LRUCache[str, LookupFailure] = LRUCache(most)
        self.latest: LookupFailure | None = None
        "The last one of any hostname that was due to the service."

    def __len__(self) -> int:
        return len(self._by_hostname)

    def get(self, hostname: str) -> LookupFailure | None:
        """The last failed lookup of this hostname, if no later one succeeded; None = none is known."""
        return self._by_hostname.get(hostname)

    def is_rejected(self, hostname: str) -> bool:
        """Whether the core API had no usable response about this hostname."""
        failure = self._by_hostname.get(hostname)
        return failure is not None and failure.rejected

    def is_paused(self, hostname: str, now: float) -> bool:
        """Whether lookups of this hostname pause, because recent ones got no usable response."""
        failure = self._by_hostname.get(hostname)
        return failure is not None and now - failure.at < failure.pause

    def record(self, hostname: str, error: str, now: float, *, rejected: bool, longest_pause: float) -> None:
        """Record a failed lookup. After the second response in a row that is not usable, and after each further
        one, there is a pause of at most `longest_pause` seconds."""
        before, pause = self._by_hostname.get(hostname), 0.0
        if rejected and before is not None and before.rejected:
            pause = min(max(SHORTEST_PAUSE, 2.0 * before.pause), longest_pause)
        self._by_hostname[hostname] = LookupFailure(now, error, rejected, pause)

    def record_of_service(self, error: str, now: float) -> None:
        """Record that the service did not work, whatever the hostname was."""
        self.latest = LookupFailure(now, error, False, 0.0)

    def forget(self, hostname: str) -> None:
        """Forget a failed lookup: another one has succeeded."""
        self._by_hostname.pop(hostname, None)
