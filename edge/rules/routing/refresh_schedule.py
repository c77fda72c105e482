"""When routes that have changed are asked for again: spread, at a bounded rate, and none of them all the time.

One change may concern a server's five hundred sites, and a platform in trouble may tell thousands of changes in
a second. All edges hear of them at the same moment: each asks in an order of its own, and not too much in a second.
"""

from heapq import heapify, heappop, heappush

_AHEAD = 3600.0
"Seconds by which one that is used goes before those that wait: longer than any of them waits."
_TOO_MANY_LEFT_OVER = 1000


class RefreshSchedule:
    """Which hostname is asked for next. Of one worker; times are of any clock that only goes forward."""

    __slots__ = ("_asked", "_burst", "_due", "_heap", "_interval", "_paid_until", "_spread", "_step")

    def __init__(self, *, rate: float = 100.0, burst: int = 3, spread: float = 0.2, interval: float = 1.0) -> None:
        """`rate`: most questions a second, `burst`: most at once; `spread`: seconds over which they are spread if
        they are few; `interval`: least seconds between two questions about one hostname."""
        self._step = 1.0 / rate
        self._burst = burst * self._step
        self._spread = spread
        self._interval = interval
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        "The same, the earliest first; left over are those whose time is no longer that of `_due`."
        self._asked: dict[str, float] = {}
        "When those that were asked for within `interval` were, the earliest first."
        self._paid_until = float("-inf")
        "Up to when the questions so far are accounted for (GCRA, ITU-T I.371)."

    def __len__(self) -> int:
        return len(self._due)

    def add(self, hostname: str, now: float, rand: float) -> float:
        """It has changed. Returns when it is to be asked for; it is where it was if that is sooner."""
        return self._add(hostname, now, now + rand * self._spread)

    def add_first(self, hostname: str, now: float) -> float:
        """It has changed and was just used: before all those that were not. Returns the same."""
        return self._add(hostname, now, now - _AHEAD)

    def add_later(self, hostname: str, now: float) -> float:
        """It was taken, and is being asked for already: look again when that is over. Returns the same."""
        return self._add(hostname, now, now + self._interval)

    def _add(self, hostname: str, now: float, wanted: float) -> float:
        before = self._due.get(hostname)
        if before is not None and before <= wanted:
            return before
        not_before = self._asked.get(hostname, float("-inf")) + self._interval
        due = wanted if not_before <= now else max(wanted, not_before)
        if before is not None and before <= due:
            return before
        self._due[hostname] = due
        heappush(self._heap, (due, hostname))
        if len(self._heap) > 2 * len(self._due) + _TOO_MANY_LEFT_OVER:
            self._heap = [(due, hostname) for hostname, due in self._due.items()]
            heapify(self._heap)
        return due

    def take(self, now: float) -> str | None:
        """Who is asked for now, and is no longer due; None = nobody (see `next_at`)."""
        if now < self._paid_until - self._burst + self._step:
            return None
        heap, due = self._heap, self._due
        while heap and heap[0][0] <= now:
            at, hostname = heappop(heap)
            if due.get(hostname) == at:
                del due[hostname]
                return hostname
        return None

    def asked(self, hostname: str, now: float) -> None:
        """The one that was taken is being asked for: that counts."""
        self._paid_until = max(self._paid_until, now) + self._step
        asked = self._asked
        asked.pop(hostname, None)
        asked[hostname] = now
        for earliest in [name for name, _ in zip(asked, range(2), strict=False)]:
            if asked[earliest] + self._interval <= now:
                del asked[earliest]

    def next_at(self) -> float | None:
        """When `take` may give somebody; None = nobody is due."""
        heap, due = self._heap, self._due
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return max(heap[0][0], self._paid_until - self._burst + self._step) if heap else None
