"""Finds the environments with most requests, most failures and most time, in bounded memory.

Two sketches (Space-Saving: Metwally, Agrawal and El Abbadi, 2005) of CAPACITY environments each: one of failures,
and one of all requests, in which a request weighs 1 and as much again for each second that it takes. Of what is
counted, whatever has more than 1/CAPACITY of all weight is there, however many environments there are, and no
weight is too low by more than that. There are two windows of WINDOW seconds: the one under way, and the one before.

Failures are all counted. Of other requests, one of EVERY is counted for all of them when there are many, so a few
slow ones among them may be missed; the exchange counts down `skip` for those that are left out, without a call.
"""

import heapq
from typing import Final

from edge.rules.traffic.top_records import SiteLoad, TopReport

CAPACITY: Final = 200
"Environments in each sketch."
WINDOW: Final = 60.0
BUSY: Final = 256
"Requests within BUSY_SECONDS from which on not each is counted."
BUSY_SECONDS: Final = 2.0
EVERY: Final = 31
"""One of so many is counted when there are many: it takes a microsecond. A prime number, because requests may come
in a rhythm, such as a page and its images."""
STEP: Final = 19
"""Of EVERY successive requests, the one that is counted is so much further on than of those before. All places have
their turn; as EVERY divided by the golden ratio it also spreads few samples evenly, whatever their rhythm."""
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


class TopSites:
    """The sketches of one worker. Times are of a clock that only goes forward, in seconds."""

    __slots__ = ("_before", "_began", "_counted", "_every", "_now", "_place", "_since", "_window_at", "skip")

    def __init__(self, now: float) -> None:
        self.skip = 0
        """Requests that are left out before the next one is counted. While it is above 0, a finished request that
        has not failed lowers it by one; any other is given to `record`."""
        self._every = 1
        "Requests for which one is counted: 1 or EVERY."
        self._place = 0
        "Which one of EVERY requests is counted."
        self._counted = 0
        "Requests that were counted or left out since `_since`, without failures."
        self._since = self._window_at = self._began = now
        self._now = _new_window()
        self._before: tuple[SpaceSaving, SpaceSaving] | None = None

    def record(self, key: tuple[str, str], status: int, ms: float, now: float) -> None:
        """Count a finished request of a site and environment (`key`), which took `ms` milliseconds."""
        if now - self._window_at >= WINDOW:
            self._next_window(now)
        if status >= LEAST_FAILURE:
            self._now[0].add(key, 1.0 + ms / 1000, 1.0, 1.0, ms / 1000)
            self._now[1].add(key, 1.0, 1.0, 1.0, ms / 1000)
            return
        weight = float(self._every)
        seconds = weight * ms / 1000
        self._now[0].add(key, weight + seconds, weight, 0.0, seconds)
        self._counted += self._every
        if self._counted >= BUSY:
            self._adapt(now)
        if self._every > 1:
            place = (self._place + STEP) % EVERY
            self.skip = EVERY - 1 + place - self._place
            self._place = place

    def _adapt(self, now: float) -> None:
        """Decide whether each request is counted from now on."""
        self._every = EVERY if self._counted >= BUSY and now - self._since < BUSY_SECONDS else 1
        self._counted, self._since = 0, now

    def _next_window(self, now: float) -> None:
        # A window without requests for long is no measure of the time before it.
        recent = now - self._window_at < 2 * WINDOW
        self._before, self._began = (self._now, self._window_at) if recent else (None, now)
        self._now, self._window_at = _new_window(), now

    def report(self, now: float) -> TopReport:
        """The heaviest of both windows."""
        if now - self._since >= BUSY_SECONDS:  # few requests may have come since they were many
            self._adapt(now)
            self.skip = 0
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
        """The sums of both windows, by environment."""
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
