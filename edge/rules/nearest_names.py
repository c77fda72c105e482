"""Finds the known names that are most similar to a misspelled one, for messages: `did you mean`.

Two steps, because there may be 100,000 names: the shared pairs of letters choose a few, and the ratio of `difflib`
compares those. Feeding names costs a microsecond for each.
"""

import heapq
from collections.abc import Iterable
from difflib import SequenceMatcher

MOST_COMPARED = 50
"Names that are compared in the second step."
ALIKE = 0.5
"Least ratio (`SequenceMatcher.ratio`) of a name that is suggested."


class NearestNames:
    """Collects the known names most like `name`. Feed it with `look_at`, in any number of steps."""

    def __init__(self, name: str, most: int = 3) -> None:
        self.name = name
        self._most = most
        low = name.lower()
        self._pairs = {low[at : at + 2] for at in range(len(low) - 1)} or {low}
        self._best: list[tuple[float, str]] = []
        "A heap, the least alike first."
        self._names: set[str] = set()

    def look_at(self, names: Iterable[str]) -> None:
        """Compare these names."""
        best, pairs = self._best, self._pairs
        for name in names:
            low = name.lower()
            shared = 2.0 * sum(pair in low for pair in pairs) / (len(pairs) + max(1, len(low) - 1))
            if (len(best) == MOST_COMPARED and shared <= best[0][0]) or name in self._names:
                continue
            self._names.add(name)
            if len(best) < MOST_COMPARED:
                heapq.heappush(best, (shared, name))
            else:
                self._names.discard(heapq.heapreplace(best, (shared, name))[1])

    @property
    def nearest(self) -> list[str]:
        """The most similar names, the best first."""
        low = self.name.lower()
        ratios = [(SequenceMatcher(None, low, name.lower()).ratio(), name) for _, name in self._best]
        alike = sorted((-ratio, name) for ratio, name in ratios if ratio >= ALIKE)
        return [name for _, name in alike[: self._most]]


def nearest_names(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """The names most like `name`, the best first; none when none is like it."""
    search = NearestNames(name, most)
    search.look_at(names)
    return search.nearest
