"""What the platform tells without being asked: "something of this has changed".

    event: invalidate
    data: {"hostname": …} or {"environment": …, "site": …} or {"site": …} or {"server": …} or {"all": true}

A change says nothing about what is true now: what it names becomes stale, and is asked for again.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from edge.rules.routing.change_records import Change, ChangeData

KINDS: Final = ("hostname", "environment", "site", "server", "all")
"What may change; an environment is named `site/environment`."
MOST_REMEMBERED: Final = 10_000
"Changes that are told apart; beyond it everything has changed."
LONGEST_NAME: Final = 520
"""Characters of a name: two of 255, and a slash. A longer one is not understood: what bounds one change bounds a
message of many."""


EVERYTHING: Final = Change("all", "")


class StreamState:
    """How the stream of changes fares."""

    __slots__ = ("connected", "events", "gaps", "heard_at")

    def __init__(self) -> None:
        self.connected = False
        self.heard_at = -1.0
        "Last sign of life, on the reader's clock; -1 = none ever."
        self.events = 0
        self.gaps = 0
        "Times that everything became stale, because changes may have been missed."


_decoder = msgspec.json.Decoder(ChangeData)


def change_in(data: bytes) -> Change:
    """The change that an event tells. What is not understood may mean anything, so it means everything."""
    try:
        return understood(_change_of(_decoder.decode(data)))
    except msgspec.MsgspecError:
        return EVERYTHING


def understood(change: Change) -> Change:
    """The same, or everything if it is of another version or of no use: who tells it may mean anything."""
    return change if change.kind in KINDS and len(change.name) <= LONGEST_NAME else EVERYTHING


def _change_of(said: ChangeData) -> Change:
    if said.hostname:
        return Change("hostname", said.hostname.lower().rstrip("."))
    if said.site and said.environment:
        return Change("environment", f"{said.site}/{said.environment}")
    if said.site:
        return Change("site", said.site)
    return Change("server", said.server) if said.server else EVERYTHING


class LastChanges:
    """When what has changed last. Not for single hostnames."""

    __slots__ = ("_everything", "_limit", "_others")

    def __init__(self, limit: int = MOST_REMEMBERED) -> None:
        self._limit = limit
        self._everything = -1.0
        self._others: dict[Change, float] = {}

    def note(self, change: Change, now: float) -> None:
        """This has changed just now."""
        if change.kind == "all" or (len(self._others) >= self._limit and change not in self._others):
            self._everything = now
            self._others.clear()
        else:
            self._others[change] = now

    def of(self, concerned_by: Iterable[Change]) -> float:
        """When something changed last of what any of these concerns; -1 = nothing has."""
        changed, others = self._everything, self._others
        if others:
            for change in concerned_by:
                changed = max(changed, others.get(change, -1.0))
        return changed
