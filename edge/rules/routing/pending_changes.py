"""Changes that wait to be applied or passed on: each once, however often it was told, and never too many.

A change says nothing about what is true now, so the same one told again before it was taken adds nothing, and one
that is told all the time is taken once in a second. Beyond a bound they are not told apart any more: everything has
changed. What is delayed is never lost.
"""

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heappop, heappush

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, MOST_REMEMBERED


class PendingChanges:
    """In the order in which they were first told; `EVERYTHING` goes before the others."""

    __slots__ = ("_interval", "_limit", "_resting", "_resting_until", "_taken", "_waiting", "overflows")

    def __init__(self, *, limit: int = MOST_REMEMBERED, interval: float = 1.0) -> None:
        """`limit`: changes that are told apart. `interval`: least seconds from one time that a change is taken to
        the next."""
        self._limit = limit
        self._interval = interval
        self._waiting: OrderedDict[Change, None] = OrderedDict()
        self._taken: OrderedDict[Change, float] = OrderedDict()
        "When those were that were taken last, the first of them first."
        self._resting: set[Change] = set()
        "Told again too soon after they were taken."
        self._resting_until: list[tuple[float, str, Change]] = []
        "The same, the earliest first (a heap)."
        self.overflows = 0
        "Changes that became part of `EVERYTHING`, because too many others waited."

    def __len__(self) -> int:
        return len(self._waiting) + len(self._resting)

    def add(self, changes: Iterable[Change]) -> None:
        """These have changed. Less than a microsecond each."""
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
                self._let_wait(change)

    def take(self, now: float) -> Change | None:
        """The next one, which waits no longer; None = nothing is due now (see `due_at`)."""
        self._forget_taken(now)
        while self._resting_until and self._resting_until[0][0] <= now:
            _, _, change = heappop(self._resting_until)
            self._resting.discard(change)
            self._let_wait(change)
        if not self._waiting:
            return None
        change, _ = self._waiting.popitem(last=False)
        self._taken[change] = now
        return change

    def take_all(self, now: float) -> list[Change]:
        """All that are due now."""
        taken = []
        while (change := self.take(now)) is not None:
            taken.append(change)
        return taken

    def due_at(self, now: float) -> float | None:
        """When there will be something to take; None = nothing waits."""
        if self._waiting:
            return now
        return max(now, self._resting_until[0][0]) if self._resting_until else None

    def _let_wait(self, change: Change) -> None:
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
                if change.kind == "all":  # the one whose interval matters most
                    taken.move_to_end(change)
                    continue
            del taken[change]
