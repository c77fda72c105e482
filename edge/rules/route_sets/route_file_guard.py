"""When what a file of routes says is taken over, if it no longer names hostnames that it named before.

A file is rewritten by hand, by a template that found no data, or in place by a program that is not done yet: for a
moment, or until somebody notices, sites are missing that are well. So hostnames are gone when the file has said
so for a while: `settle` seconds for some of them, `removal_hold` for all or more than half. What a file adds or
changes without that is taken over at once, and a content never in parts. Pure; `now` is any clock.
"""

from dataclasses import dataclass

from edge.rules.route_sets.route_set import RouteSetSummary

SETTLE = 1.0
"Seconds. A program that writes a file in place is silent for less."
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of what was read."""

    due: float
    "When it is taken over, if the file still says so then. NEVER = not before it names a hostname."
    added: int = 0
    changed: int = 0
    "Hostnames whose requests go elsewhere."
    lost: int = 0
    "Hostnames that it no longer names, or names without any backend."
    large: bool = False
    "Whether all or more than half of the hostnames are lost."
    first: bool = False
    "Whether nothing holds yet."

    @property
    def differs(self) -> bool:
        """Whether it says anything else than what holds."""
        return bool(self.first or self.added or self.changed or self.lost)


class RouteFileGuard:
    """Of one file: since when it has been without hostnames that hold."""

    def __init__(self, *, settle: float = SETTLE) -> None:
        self._settle = settle
        self._lost_since: dict[str, float] = {}

    def forget(self) -> None:
        """The file cannot be read or understood, so it does not say any more that a hostname is gone."""
        self._lost_since.clear()

    def judge(self, holds: RouteSetSummary | None, read: RouteSetSummary, now: float, hold: float) -> Judgement:
        """`holds`: what the workers have, None = nothing yet. `read`: what the file says from `now` on. `hold`:
        seconds for which a large loss is held back. Remembers what is lost, and since when."""
        if holds is None:
            return Judgement(now if read.said else NEVER, added=len(read.said), first=True)
        lost = holds.lost_in(read)
        self._lost_since = {hostname: self._lost_since.get(hostname, now) for hostname in lost}
        since = sorted(self._lost_since.values())
        is_empty = len(read.said) == len(read.idle)
        # Of all hostnames so many may be lost in `hold` seconds; none, when that leaves none.
        may_be_recent = 0 if is_empty else len(holds.said) // 2
        due = now
        if lost:
            due = max(now, since[-1] + min(self._settle, hold))
        if len(since) > may_be_recent:
            due = max(due, since[-1 - may_be_recent] + hold)
        added, changed = holds.added_in(read), holds.changed_in(read)
        return Judgement(due, added, changed, len(lost), len(since) > may_be_recent)


class RouteFileState:
    """How a file of routes fares, for who tells others."""

    __slots__ = ("good", "held_back", "hostnames", "is_read", "looks")

    def __init__(self) -> None:
        self.reset(is_read=False)

    def reset(self, *, is_read: bool) -> None:
        """Another file, or none."""
        self.is_read = is_read
        "Routes come from a file."
        self.looks = 0
        "How often it was looked at."
        self.good = True
        "It could be used when it was last looked at."
        self.hostnames = 0
        "Those that hold."
        self.held_back = 0
        "Those of them that it no longer names, or names without any backend."
