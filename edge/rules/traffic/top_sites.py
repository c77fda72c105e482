"""Finds the environments with most requests, most failures and most time, in bounded memory.

Three sketches (Space-Saving: Metwally, Agrawal and El Abbadi, 2005) of CAPACITY environments each. Whatever has
more than 1/CAPACITY of all requests is in the first one, however many environments there are, and no count is too
low by more than that; the same holds for failures and time. There are two windows of WINDOW seconds: the one under
way, and the one before it.

Of many requests only a sample is looked at, some SAMPLES in a second, each standing for those that were left out.
So the cost does not grow with the load: `skip` is counted down on the path of requests.
"""

import heapq
from typing import Final

from edge.rules.traffic.top_records import SiteLoad, TopReport

CAPACITY: Final = 200
"Environments in each sketch."
WINDOW: Final = 60.0
SAMPLES: Final = 200
"Samples in a second, of successes and of failures each; three microseconds for each."
MOST_REPORTED: Final = 50
LEAST_FAILURE: Final = 500
"Status from which a response counts as a failure."


class SpaceSaving:
    """The heaviest keys of a stream, with what else is summed up about them."""

    __slots__ = ("_capacity", "_entries", "_heap")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: dict[tuple[str, str], list[float]] = {}
        "By key: weight, part of it that may be another key's, requests, failures, seconds."
        self._heap: list[tuple[float, tuple[str, str]]] = []
        "Each key with a weight that it had; the lightest first."

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: tuple[str, str], weight: float, requests: float, failures: float, seconds: float) -> None:
        """Count a sample. A key without weight is not taken up."""
        entry = self._entries.get(key)
        if entry is None:
            if not weight:
                return
            inherited = self._make_room() if len(self._entries) >= self._capacity else 0.0
            entry = self._entries[key] = [inherited, inherited, 0.0, 0.0, 0.0]
            heapq.heappush(self._heap, (inherited, key))
        entry[0] += weight
        entry[2] += requests
        entry[3] += failures
        entry[4] += seconds

    def _make_room(self) -> float:
        """Drop the lightest key; returns its weight, which the next one inherits."""
        while True:
            noted, key = self._heap[0]
            weight = self._entries[key][0]
            if weight == noted:
                heapq.heappop(self._heap)
                del self._entries[key]
                return weight
            heapq.heapreplace(self._heap, (weight, key))

    def loads(self) -> dict[tuple[str, str], list[float]]:
        """What is known by key, as in `_entries`."""
        return self._entries


class Sampling:
    """Chooses about SAMPLES in a second, each with the number of those that it stands for."""

    __slots__ = ("_since", "_taken", "weight")

    def __init__(self) -> None:
        self.weight = 1
        "How many each sample stands for."
        self._taken = 0
        self._since = 0.0

    def take(self, now: float) -> int:
        """Take a sample; returns for how many it stands, and chooses how many the next one does."""
        weight, self._taken = self.weight, self._taken + 1
        elapsed = now - self._since
        if elapsed >= 1.0:
            self.weight = max(1, int(weight * self._taken / (SAMPLES * elapsed)))
            self._taken, self._since = 0, now
        elif self._taken >= SAMPLES:  # before the second is over
            self.weight, self._taken, self._since = weight * 2, 0, now
        return weight


class TopSites:
    """The sketches of one worker. `now`: seconds of a clock that only goes forward."""

    __slots__ = ("_before", "_began", "_failed", "_failures_left", "_now", "_ok", "_random", "_window_at", "skip")

    def __init__(self, now: float) -> None:
        self.skip = 0
        "Successes that are left out before the next one is recorded; the caller counts it down."
        self._ok, self._failed = Sampling(), Sampling()
        self._failures_left = 0
        self._random = 1
        self._window_at = self._began = now
        self._now = _new_window()
        self._before: tuple[SpaceSaving, SpaceSaving, SpaceSaving] | None = None

    def record(self, site: str, environment: str, status: int, ms: float, now: float) -> None:
        """Record a finished request: each failure, and successes when `skip` is 0."""
        failed = status >= LEAST_FAILURE
        if failed:
            if self._failures_left > 0:
                self._failures_left -= 1
                return
            weight = self._failed.take(now)
            self._failures_left = self._some(self._failed.weight)
        else:
            weight = self._ok.take(now)
            self.skip = self._some(self._ok.weight)
        if now - self._window_at >= WINDOW:
            self._next_window(now)
        key, seconds, failures = (site, environment), weight * ms / 1000, float(weight if failed else 0)
        requests, by_failures, by_time = self._now
        requests.add(key, weight, weight, failures, seconds)
        by_failures.add(key, failures, weight, failures, seconds)
        by_time.add(key, seconds, weight, failures, seconds)

    def _some(self, weight: int) -> int:
        """How many to leave out: weight - 1 on average, at random, because requests may come in a rhythm."""
        self._random = (self._random * 1103515245 + 12345) & 0x7FFFFFFF  # a linear congruential generator
        return (self._random >> 8) % (2 * weight - 1)

    def _next_window(self, now: float) -> None:
        # A window without requests for long is no measure of the time before it.
        recent = now - self._window_at < 2 * WINDOW
        self._before, self._began = (self._now, self._window_at) if recent else (None, now)
        self._now, self._window_at = _new_window(), now

    def report(self, now: float) -> TopReport:
        """The heaviest of both windows."""
        if now - self._window_at >= WINDOW:
            self._next_window(now)
        lists = []
        for n, current in enumerate(self._now):
            merged = {key: list(entry) for key, entry in current.loads().items()}
            for key, entry in (self._before[n].loads() if self._before is not None else {}).items():
                known = merged.get(key)
                merged[key] = list(entry) if known is None else [a + b for a, b in zip(known, entry, strict=True)]
            heaviest = heapq.nlargest(MOST_REPORTED, merged.items(), key=_weight)
            lists.append([SiteLoad(*key, entry[2], entry[3], entry[4], entry[1]) for key, entry in heaviest])
        return TopReport(max(now - self._began, 1e-3), *lists)


def _new_window() -> tuple[SpaceSaving, SpaceSaving, SpaceSaving]:
    """Sketches by requests, by failures and by time."""
    return SpaceSaving(), SpaceSaving(), SpaceSaving()


def _weight(item: tuple[tuple[str, str], list[float]]) -> float:
    return item[1][0]
