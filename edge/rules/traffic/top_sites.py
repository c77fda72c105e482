"""Finds the environments with most requests, most failures and most time, in bounded memory.

Two sketches (Space-Saving: Metwally, Agrawal and El Abbadi, 2005) of CAPACITY environments each: one of failures,
and one of all requests, in which a request weighs 1 and as much again for each second that it takes. Whatever has
more than 1/CAPACITY of all weight is there, however many environments there are, and no weight is too low by more
than that. There are two windows of WINDOW seconds: the one under way, and the one before it.

Of many requests only a sample is looked at, some SAMPLES in a second, each standing for those that were left out.
So the cost does not grow with the load: `skip` is counted down on the path of requests.
"""

import heapq
from typing import Final

from edge.rules.traffic.top_records import SiteLoad, TopReport

CAPACITY: Final = 200
"Environments in each sketch."
WINDOW: Final = 60.0
SAMPLES: Final = 20
"Samples in a second, of successes and of failures each; two microseconds for each."
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
        """Count a sample."""
        entry = self._entries.get(key)
        if entry is None:
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
        self._before: tuple[SpaceSaving, SpaceSaving] | None = None

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
        key, requests, seconds = (site, environment), float(weight), weight * ms / 1000
        failures = requests if failed else 0.0
        self._now[0].add(key, requests + seconds, requests, failures, seconds)
        if failed:
            self._now[1].add(key, failures, requests, failures, seconds)

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
        everything = self._merged(0)
        failing = [everything.get(key, load) for key, load in self._merged(1).items()]
        loads = list(everything.values())
        return TopReport(
            max(now - self._began, 1e-3),
            heapq.nlargest(MOST_REPORTED, loads, key=_requests),
            heapq.nlargest(MOST_REPORTED, failing, key=_failures),
            heapq.nlargest(MOST_REPORTED, loads, key=_seconds),
        )

    def _merged(self, sketch: int) -> dict[tuple[str, str], SiteLoad]:
        """What both windows know, by environment."""
        merged: dict[tuple[str, str], SiteLoad] = {}
        for window in (self._now, self._before):
            if window is not None:
                for key, entry in window[sketch].loads().items():
                    load = merged.setdefault(key, SiteLoad(key[0], key[1], 0.0, 0.0, 0.0))
                    load.missed += entry[1]
                    load.requests += entry[2]
                    load.failures += entry[3]
                    load.seconds += entry[4]
        return merged


def _new_window() -> tuple[SpaceSaving, SpaceSaving]:
    """Sketches of all requests and of failures."""
    return SpaceSaving(), SpaceSaving()


def _requests(load: SiteLoad) -> float:
    return load.requests


def _failures(load: SiteLoad) -> float:
    return load.failures


def _seconds(load: SiteLoad) -> float:
    return load.seconds
