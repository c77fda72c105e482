"""The exchange of health events between the workers of one edge.

An event says that a backend is down or up again, on probation or healthy, or that a server is suspect or cleared:
what changes which backends get requests. That is a few messages for an incident, so they use the control channel
that relays routes: from the worker to the admin process, and from there to the others, in about a millisecond. (A
table in shared memory would be faster, but needs a layout for 100,000 environments, and a rule for who writes.)
Means, error ratios and requests in flight are not shared: each worker has its own exact ones, and those of others
would be out of date.

A worker applies an event until its own measurements contradict it: it makes its own connects and probes.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from edge.rules.balancing.health_records import HealthEvent

DOWN: Final = "down"
UP: Final = "up"
PROBATION: Final = "probation"
HEALTHY: Final = "healthy"
SUSPECT: Final = "suspect"
CLEAR: Final = "clear"
MOST_UNSENT = 1000
"Events that wait to be sent. Beyond that the oldest is dropped: other workers find out by themselves."
MOST_REMEMBERED = 10_000
"Backends of unknown environments whose last event is kept."


class HealthEvents:
    """Events that a worker has to send, and received ones of environments that it does not know."""

    __slots__ = ("_remembered", "_unsent", "ring")

    def __init__(self) -> None:
        self._unsent: deque[HealthEvent] = deque(maxlen=MOST_UNSENT)
        self._remembered: LRUCache[tuple[str, str, str], tuple[HealthEvent, float]] = LRUCache(MOST_REMEMBERED)
        self.ring: Callable[[], None] | None = None
        "Called when there is something to send; None = there are no other workers."

    def publish(self, event: HealthEvent) -> None:
        """Queue an event for the other workers, if there are any."""
        if self.ring is not None:
            self._unsent.append(event)
            self.ring()

    def take(self) -> list[HealthEvent]:
        """Return all queued events and empty the queue."""
        events = list(self._unsent)
        self._unsent.clear()
        return events

    def remember(self, event: HealthEvent, now: float) -> None:
        """Keep a received event for when its environment gets a request here."""
        key = (event.site, event.environment, event.endpoint)
        if event.kind in (DOWN, PROBATION):
            self._remembered[key] = (event, now)
        else:
            self._remembered.pop(key, None)

    def take_remembered(self, site: str, environment: str, endpoint: str) -> tuple[HealthEvent, float] | None:
        """Return the last event that was received for this backend, and when, and forget it; None = none. Its age
        does not matter: it only causes a connect or a probe."""
        return self._remembered.pop((site, environment, endpoint), None)
