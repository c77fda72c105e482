"""Finds the environments with most requests, most failures and most time, in bounded memory.

Two sketches (Space-Saving: Metwally, Agrawal and El Abbadi, 2005) of CAPACITY environments each: one of failures,
and one of all requests, in which a request weighs 1 and as much again for each second that it takes. Whatever has
more than 1/CAPACITY of all weight is there, however many environments there are, and no weight is too low by more
than that. There are two windows of WINDOW seconds: the one under way, and the one before it.

Finished requests are collected in a batch, to which the exchange adds them without a call. When there are many, a
sample of each batch is looked at, whose members stand for those that are left out; of failures, another one.
"""

import heapq
from typing import Final

from edge.rules.traffic.top_records import SiteLoad, TopReport

CAPACITY: Final = 200
"Environments in each sketch."
WINDOW: Final = 60.0
BATCH: Final = 256
"Requests in a full batch."
BUSY: Final = 2.0
"Seconds: of a batch that is full within less, a sample is looked at; of others, all requests."
EVERY: Final = 31
"""One of so many is in a sample: some microseconds for each. A prime number, because requests may come in a rhythm,
such as a page and its images."""
FEW: Final = 16
"So few failures in a batch are all looked at."
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


Finished = tuple[tuple[str, str], int, float, float]
"A finished request: site and environment, status, milliseconds that it took, and when it ended."


class TopSites:
    """The sketches of one worker. Times are of a clock that only goes forward, in seconds."""

    __slots__ = ("_before", "_began", "_first", "_now", "_window_at", "batch")

    def __init__(self, now: float) -> None:
        self.batch: list[Finished] = []
        "Requests that are not counted yet. Who adds one calls `count_batch` when there are BATCH."
        self._first = 0
        "Index of the first one in the next sample."
        self._window_at = self._began = now
        self._now = _new_window()
        self._before: tuple[SpaceSaving, SpaceSaving] | None = None

    def count_batch(self) -> None:
        """Count the requests of the batch."""
        batch, self.batch = self.batch, []
        is_busy = len(batch) >= BATCH and batch[-1][3] - batch[0][3] < BUSY
        failures = [request for request in batch if request[1] >= LEAST_FAILURE]
        others = [request for request in batch if request[1] < LEAST_FAILURE] if failures else batch
        self._count(others, failed=False, every=EVERY if is_busy else 1)
        self._count(failures, failed=True, every=EVERY if is_busy and len(failures) > FEW else 1)

    def _count(self, requests: list[Finished], *, failed: bool, every: int) -> None:
        """Count one of `every` so many requests for all of them. Each is as likely to be that one."""
        self._first = (self._first + 1) % EVERY
        weight = float(every)
        for key, _, ms, ended in requests[self._first % every :: every]:
            if ended - self._window_at >= WINDOW:
                self._next_window(ended)
            seconds, failures = weight * ms / 1000, weight if failed else 0.0
            self._now[0].add(key, weight + seconds, weight, failures, seconds)
            if failed:
                self._now[1].add(key, failures, weight, failures, seconds)

    def _next_window(self, now: float) -> None:
        # A window without requests for long is no measure of the time before it.
        recent = now - self._window_at < 2 * WINDOW
        self._before, self._began = (self._now, self._window_at) if recent else (None, now)
        self._now, self._window_at = _new_window(), now

    def report(self, now: float) -> TopReport:
        """The heaviest of both windows."""
        self.count_batch()
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
