"""Selects the requests that the page draws: all that did not succeed at the first attempt, and a sample of the
others. Bounded."""

from collections import deque
from math import ceil
from typing import Final, NamedTuple

from edge.demo.page.demo_records import Dot

MOST_OK: Final = 24
"Dots of requests that succeeded at once, for each snapshot; five snapshots a second."
MOST_OTHERS: Final = 40
WINDOW: Final = 5
"Snapshots by whose busiest the sample is chosen, so that it does not flicker."


class EndedRequest(NamedTuple):
    """One request of the load, when it has ended."""

    at: float
    "Loop time."
    outcome: str
    site: str
    container: str
    request_id: str
    seconds: float
    what: str
    "Status and error, in words."


class RequestDots:
    """The requests since the last snapshot that are drawn."""

    def __init__(self, most_ok: int = MOST_OK, most_others: int = MOST_OTHERS) -> None:
        self._most_ok = most_ok
        self._ok: list[EndedRequest] = []
        self._others: deque[EndedRequest] = deque(maxlen=most_others)
        self._counted = 0
        self._last_counts: deque[int] = deque(maxlen=WINDOW)
        self.drawn_each = 1
        "One of so many requests that succeeded at once is drawn."

    def add(self, ended: EndedRequest) -> None:
        """Take in a request; most of many that succeeded are counted only."""
        if ended.outcome != "ok":
            self._others.append(ended)
            return
        self._counted += 1
        if self._counted % self.drawn_each == 0 and len(self._ok) < self._most_ok:
            self._ok.append(ended)

    def take(self, now: float, refused_by: dict[str, list[str]]) -> list[Dot]:
        """The dots since the last call; then begin anew. `refused_by`: by request id, who refused it."""
        dots = [
            Dot(
                max(0, round(1000 * (now - ended.at))),
                ended.outcome,
                ended.site,
                ended.container,
                refused_by.get(ended.request_id, []),
            )
            for ended in (*self._ok, *self._others)
        ]
        self._last_counts.append(self._counted)
        self.drawn_each = max(1, ceil(max(self._last_counts) / self._most_ok))
        self._ok.clear()
        self._others.clear()
        self._counted = 0
        return dots
