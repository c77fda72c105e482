"""Changes that wait to be applied or relayed: each once, and a bounded number.

A change does not say what is true now, so a repeated one adds nothing while the first waits, and one that is
repeated all the time is taken once per second. Beyond the bound, changes are merged into a change of everything. A
change may be delayed, but never lost.
"""

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, MOST_REMEMBERED


class PendingChanges:
    """The queue, in the order of arrival; `EVERYTHING` goes before the others."""

    __slots__ = ("_interval", "_limit", "_resting", "_resting_until", "_taken", "_waiting", "overflows")

    def __init__(self, *, limit: int = MOST_REMEMBERED, interval: float = 1.0) -> None:
        """`limit`: changes that are kept one by one. `interval`: minimum seconds between two times that the same
        change is taken."""
        self._limit = limit
        self._interval = interval
        self._waiting: OrderedDict[Change, None] = OrderedDict()
        self._taken: OrderedDict[Change, float] = OrderedDict()
        "Times at which changes were last taken, the earliest first."
        self._resting: set[Change] = set()
        "Changes that arrived again within `interval` after they were taken."
        self._resting_until: list[tuple[float, str, Change]] = []
        "The same changes with the time at which they may be taken: a heap."
        self.overflows = 0
        "Changes that became part of `EVERYTHING`, because too many others were waiting."

    def __len__(self) -> int:
        return len(self._waiting) + len(self._resting)

    def add(self, changes: Iterable[Change]) -> None:
        """Add changes. Less than a microsecond each."""
        waiting, resting, taken = self._waiting, self._resting, self._taken
        for change in changes:
            if change in waiting or change in resting:
                continue
            if change.kind != "all" and len(waiting) + len(resting) >= self._limit:
                self.overflows += 1
                self.add([EVERYTHING])
            elif change in taken:
                resting.add(change)
                heappush(self._resting_until, (taken[change] + self._interval, change.name, change))
            else:
                self._append(change)

    def take(self, now: float) -> Change | None:
        """Take the next change; None = none is due now (see `due_at`)."""
        self._forget_taken(now)
        while self._resting_until and self._resting_until[0][0] <= now:
            _, _, change = heappop(self._resting_until)
            self._resting.discard(change)
            self._append(change)
        if not self._waiting:
            return None
        change, _ = self._waiting.popitem(last=False)
        self._taken[change] = now
        return change

    def take_all(self, now: float) -> list[Change]:
        """Take all changes that are due now."""
        taken = []
        while (change := self.take(now)) is not None:
            taken.append(change)
        return taken

    def due_at(self, now: float) -> float | None:
        """Time at which the next change can be taken; None = none waits."""
        if self._waiting:
            return now
        return max(now, self._resting_until[0][0]) if self._resting_until else None

    def _append(self, change: Change) -> None:
        self._waiting[change] = None
        if change.kind == "all":
            self._waiting.move_to_end(change, last=False)

    def _forget_taken(self, now: float) -> None:
        taken = self._taken
        while taken:
            change, at = next(iter(taken.items()))
            if at + self._interval > now:
                if len(taken) <= self._limit:
                    break
                if change.kind == "all":  # its interval matters most
                    taken.move_to_end(change)
                    continue
            del taken[change]
