"""The guard of a file of routes: when its content is taken over, if hostnames are missing that it had before.

A file is edited by hand, written by a template that found no data, or rewritten in place by a program that is not
finished: for a moment, or until it is noticed, healthy sites are missing. So hostnames are removed only when they
have been missing for a while: `settle` seconds for some of them, `removal_hold` for all or more than half. Content
that only adds or changes routes is taken over at once, and a content is never taken over in parts. Pure; `now` is
of any clock that only goes forward.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.rules.route_sets.route_set import RouteSetSummary

SETTLE = 1.0
"Seconds; a program that writes a file in place pauses for less."
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision about a content that was read."""

    due: float
    "Time at which it is taken over, if the file is the same then. NEVER = not before it has a hostname."
    added: int = 0
    "Hostnames that are new."
    changed: int = 0
    "Hostnames whose destination differs."
    lost: int = 0
    "Hostnames that are missing, or have no backend any more."
    large: bool = False
    "Whether all or more than half of the hostnames are lost."
    first: bool = False
    "Whether no content is in use yet."

    @property
    def differs(self) -> bool:
        """Whether it differs from the content in use."""
        return bool(self.first or self.added or self.changed or self.lost)


class RouteFileGuard:
    """The guard of one file. It records since when hostnames in use have been missing."""

    def __init__(self, *, settle: float = SETTLE) -> None:
        self._settle = settle
        self._lost_since: dict[str, float] = {}

    @property
    def lost_since(self) -> Mapping[str, float]:
        """The hostnames that are missing, and since when."""
        return self._lost_since

    def forget(self) -> None:
        """Forget what is missing: the file cannot be read or decoded, so it does not show that a hostname was
        removed."""
        self._lost_since = {}

    def judge(self, holds: RouteSetSummary | None, read: RouteSetSummary, now: float, hold: float) -> Judgement:
        """Decide when a content is taken over. `holds`: the set in use, None = none yet. `read`: the content of the
        file from `now` on. `hold`: seconds for which a large loss is held back. Records what is missing, and since
        when."""
        if holds is None:
            return Judgement(now if read.destinations else NEVER, added=len(read.destinations), first=True)
        lost = holds.lost_in(read)
        self._lost_since = {hostname: self._lost_since.get(hostname, now) for hostname in lost}
        since = sorted(self._lost_since.values())
        is_empty = len(read.destinations) == len(read.idle)
        # So many hostnames may be lost within `hold` seconds; none, if that would leave none.
        may_be_recent = 0 if is_empty else len(holds.destinations) // 2
        due = now
        if lost:
            due = max(now, since[-1] + min(self._settle, hold))
        if len(since) > may_be_recent:
            due = max(due, since[-1 - may_be_recent] + hold)
        added, changed = holds.added_in(read), holds.changed_in(read)
        return Judgement(due, added, changed, len(lost), len(since) > may_be_recent)


class RouteFileState:
    """The state of a file of routes, for metrics, health and messages."""

    __slots__ = ("good", "held_back", "hostnames", "is_read", "looks", "missing", "problem")

    def __init__(self) -> None:
        self.reset(is_read=False)

    def reset(self, *, is_read: bool) -> None:
        """Begin with another file, or none."""
        self.is_read = is_read
        "Whether routes come from a file."
        self.looks = 0
        "Number of times that the file was looked at."
        self.good = True
        "Whether it could be used when it was last looked at."
        self.hostnames = 0
        "Hostnames in use."
        self.held_back = 0
        "Hostnames in use that are missing from the file, or have no backend in it."
        self.missing: Mapping[str, float] = {}
        "These hostnames and patterns, and since when, on the clock of the guard."
        self.problem = ""
        "Why the file cannot be used; empty = it can."
