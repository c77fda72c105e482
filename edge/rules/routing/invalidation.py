"""Invalidations: events of the platform, which say that something about some routes has changed.

    event: invalidate
    data: {"hostname": …} or {"environment": …, "site": …} or {"site": …} or {"server": …} or {"all": true}
          or {"certificate": …}, a hostname or a wildcard

An event does not say what is true now: the routes that it names become stale, and are looked up again. So do
certificates.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from edge.rules.routing.change_records import Change, ChangeData

KINDS: Final = ("hostname", "environment", "site", "server", "certificate", "all")
"Kinds of changes; an environment is named `site/environment`."
MOST_REMEMBERED: Final = 10_000
"Changes that are recorded one by one; beyond that everything counts as changed."
LONGEST_NAME: Final = 520
"""Characters of a name: two of 255, and a slash. An event with a longer one counts as a change of everything. The
bound of one change also bounds a message of many."""

EVERYTHING: Final = Change("all", "")


class StreamState:
    """The state of the change stream, for metrics and health."""

    __slots__ = ("connected", "events", "gaps", "last_message_at")

    def __init__(self) -> None:
        self.connected = False
        self.last_message_at = -1.0
        "Time of the last event or heartbeat, on the reader's clock; -1 = never."
        self.events = 0
        "Events received."
        self.gaps = 0
        "Times that all routes became stale, because events may have been missed."


_decoder = msgspec.json.Decoder(ChangeData)


def change_in(data: bytes) -> Change:
    """Decode the data of an event. What cannot be understood counts as a change of everything."""
    try:
        return understood(_change_of(_decoder.decode(data)))
    except msgspec.MsgspecError:
        return EVERYTHING


def understood(change: Change) -> Change:
    """Return the change, or EVERYTHING if its kind is unknown or its name is too long: it may be of another
    version."""
    return change if change.kind in KINDS and len(change.name) <= LONGEST_NAME else EVERYTHING


def _change_of(data: ChangeData) -> Change:
    if data.certificate:
        named = data.hostname or data.site or data.environment or data.server
        return EVERYTHING if named else Change("certificate", data.certificate.lower().rstrip("."))
    if data.hostname:
        return Change("hostname", data.hostname.lower().rstrip("."))
    if data.site and data.environment:
        return Change("environment", f"{data.site}/{data.environment}")
    if data.site:
        return Change("site", data.site)
    return Change("server", data.server) if data.server else EVERYTHING


class LastChanges:
    """Times of the last changes, of sites, environments, servers and everything; not of single hostnames."""

    __slots__ = ("_by_change", "_everything", "_limit")

    def __init__(self, limit: int = MOST_REMEMBERED) -> None:
        self._limit = limit
        self._everything = -1.0
        self._by_change: dict[Change, float] = {}

    def note(self, change: Change, now: float) -> None:
        """Record a change."""
        if change.kind == "all" or (len(self._by_change) >= self._limit and change not in self._by_change):
            self._everything = now
            self._by_change.clear()
        else:
            self._by_change[change] = now

    def of(self, changes: Iterable[Change]) -> float:
        """Time of the last of these changes that was recorded; -1 = none was."""
        changed, by_change = self._everything, self._by_change
        if by_change:
            for change in changes:
                changed = max(changed, by_change.get(change, -1.0))
        return changed
