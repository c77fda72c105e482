"""The schedule of lookups of changed routes: spread, at a bounded rate, with a minimum interval per hostname.

One change may concern a server's five hundred sites, and a platform in trouble may send thousands of changes per
second. All edges receive them at the same moment: each looks the routes up in an order of its own, and at a bounded
rate.
"""

from heapq import heapify, heappop, heappush

_AHEAD = 3600.0
"Seconds by which a route in use goes before those that wait: longer than any of them waits."
_MOST_OUTDATED = 1000
"Outdated entries of the heap beyond which it is rebuilt, besides as many as there are valid ones."


class RefreshSchedule:
    """Hostnames to look up, and when. Of one worker; times are of any clock that only goes forward."""

    __slots__ = ("_burst", "_due", "_heap", "_interval", "_looked_up", "_paid_until", "_spread", "_step")

    def __init__(self, *, rate: float = 100.0, burst: int = 3, spread: float = 0.2, interval: float = 1.0) -> None:
        """`rate`: lookups per second at most, `burst`: at once at most; `spread`: seconds over which they are
        spread if they are few; `interval`: minimum seconds between two lookups of one hostname."""
        self._step = 1.0 / rate
        self._burst = burst * self._step
        self._spread = spread
        self._interval = interval
        self._due: dict[str, float] = {}
        "Time of the next lookup of each hostname."
        self._heap: list[tuple[float, str]] = []
        "The same, the earliest first; an entry whose time differs from that in `_due` is outdated."
        self._looked_up: dict[str, float] = {}
        "Times of the lookups within the last `interval` seconds, the earliest first."
        self._paid_until = float("-inf")
        "Time up to which the lookups so far are accounted for (GCRA, ITU-T I.371)."

    def __len__(self) -> int:
        return len(self._due)

    def add(self, hostname: str, now: float, rand: float) -> float:
        """Schedule a lookup of a changed route. Returns its time, which is an earlier one if it was scheduled
        already."""
        return self._add(hostname, now, now + rand * self._spread)

    def add_first(self, hostname: str, now: float) -> float:
        """Schedule a lookup of a changed route in use, before all those not in use. Returns its time."""
        return self._add(hostname, now, now - _AHEAD)

    def add_later(self, hostname: str, now: float) -> float:
        """Schedule a hostname that was taken, but whose lookup is already under way, for when that is over. Returns
        its time."""
        return self._add(hostname, now, now + self._interval)

    def _add(self, hostname: str, now: float, requested: float) -> float:
        before = self._due.get(hostname)
        if before is not None and before <= requested:
            return before
        not_before = self._looked_up.get(hostname, float("-inf")) + self._interval
        due = requested if not_before <= now else max(requested, not_before)
        if before is not None and before <= due:
            return before
        self._due[hostname] = due
        heappush(self._heap, (due, hostname))
        if len(self._heap) > 2 * len(self._due) + _MOST_OUTDATED:
            self._heap = [(due, hostname) for hostname, due in self._due.items()]
            heapify(self._heap)
        return due

    def take(self, now: float) -> str | None:
        """Take the hostname to look up now; None = none is due (see `next_at`)."""
        if now < self._paid_until - self._burst + self._step:
            return None
        heap, due = self._heap, self._due
        while heap and heap[0][0] <= now:
            at, hostname = heappop(heap)
            if due.get(hostname) == at:
                del due[hostname]
                return hostname
        return None

    def record_lookup(self, hostname: str, now: float) -> None:
        """Record that the hostname that was taken is looked up: it counts for rate and interval."""
        self._paid_until = max(self._paid_until, now) + self._step
        looked_up = self._looked_up
        looked_up.pop(hostname, None)
        looked_up[hostname] = now
        for earliest in [name for name, _ in zip(looked_up, range(2), strict=False)]:
            if looked_up[earliest] + self._interval <= now:
                del looked_up[earliest]

    def next_at(self) -> float | None:
        """Time at which `take` may return a hostname; None = none is scheduled."""
        heap, due = self._heap, self._due
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return max(heap[0][0], self._paid_until - self._burst + self._step) if heap else None
