"""What the workers of one edge tell each other about backends: few words, at once, and each judges for itself.

Told is what changes who gets requests: a backend is down or up again, on probation or well, a server suspect or
cleared. That is a few messages for an incident, so they go by the control channel that relays routes already: from
the worker to the admin process, and from there to the others, in about a millisecond. (A table in shared memory
would save that way, but needs a layout for 100,000 environments, and a rule for who writes.) Means, error ratios
and requests in flight are not shared: each worker has its own exact ones, and foreign ones would be late.

What is heard is believed until own experience says otherwise: the worker makes its own connects and probes.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from edge.rules.balancing.health_records import HealthEvent

DOWN: Final = "down"
UP: Final = "up"
PROBATION: Final = "probation"
WELL: Final = "well"
SUSPECT: Final = "suspect"
CLEAR: Final = "clear"
MOST_UNTOLD = 1000
"Evidence that waits to be told; of more the oldest is dropped, for others find out by themselves."
MOST_REMEMBERED = 10_000


class HealthEvents:
    """What a worker has to tell, and what it has heard of environments that it does not know."""

    __slots__ = ("_remembered", "_untold", "ring")

    def __init__(self) -> None:
        self._untold: deque[HealthEvent] = deque(maxlen=MOST_UNTOLD)
        self._remembered: LRUCache[tuple[str, str, str], tuple[HealthEvent, float]] = LRUCache(MOST_REMEMBERED)
        self.ring: Callable[[], None] | None = None
        "Called when there is something to tell."

    def tell(self, evidence: HealthEvent) -> None:
        """To the other workers, if there are any."""
        if self.ring is not None:
            self._untold.append(evidence)
            self.ring()

    def take(self) -> list[HealthEvent]:
        """All that is to be told; it is told then."""
        told = list(self._untold)
        self._untold.clear()
        return told

    def remember(self, evidence: HealthEvent, now: float) -> None:
        """It was heard, and may be of use when its environment gets a request here."""
        key = (evidence.site, evidence.environment, evidence.endpoint)
        if evidence.what in (DOWN, PROBATION):
            self._remembered[key] = (evidence, now)
        else:
            self._remembered.pop(key, None)

    def recall(self, site: str, environment: str, endpoint: str) -> tuple[HealthEvent, float] | None:
        """What was heard of this backend, and when. However old: a connect or a probe is its first consequence."""
        return self._remembered.pop((site, environment, endpoint), None)
