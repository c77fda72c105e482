"""Which backend gets this attempt: one draw, weighted by demerits and by how busy each one is.

    p ~ e^-demerits / (1 + in flight)^8

In sparse traffic nothing is in flight and this is "at random, weighted by demerits". Under load it becomes
least-connections on the worker's own exact counts, with ties drawn by weight. A scan of all candidates does
not herd, because the counts are exact and local (Vargaftik, Keslassy, Orda, "LSQ", 2020), and it has no
weight of zero to get stuck on. O(n): about a microsecond for three candidates, five for thirty.
"""

from bisect import bisect
from collections.abc import Sequence

from edge.rules.demerits import CLEARLY_BAD, Standing
from edge.rules.routes import Candidate, Route

CROWD_SIZE = 1024


def crowd_table(power: float) -> tuple[float, ...]:
    """(1 + n)^-power for n requests in flight; the last entry stands for all beyond."""
    return tuple((1.0 + n) ** -power for n in range(CROWD_SIZE))


def pull(standing: Standing, crowd: Sequence[float]) -> float:
    """How strongly this backend draws the next request, relative to the others."""
    n = standing.in_flight
    return standing.weight * (crowd[n] if n < CROWD_SIZE else crowd[-1])


def draw(candidates: Sequence[Candidate], rand: float, crowd: Sequence[float]) -> Candidate:
    """One of these (at least one), at random by weight. `rand` is uniform in [0, 1)."""
    if len(candidates) == 1:
        return candidates[0]
    total = 0.0
    marks: list[float] = []
    for candidate in candidates:
        standing = candidate.standing
        n = standing.in_flight
        total += standing.weight * (crowd[n] if n < CROWD_SIZE else crowd[-1])
        marks.append(total)
    if not total:  # all are on trial: whoever it is
        return candidates[int(rand * len(candidates))]
    return candidates[bisect(marks, rand * total, hi=len(candidates) - 1)]


def first_pick(route: Route, now: float, rand: float, crowd: Sequence[float]) -> Candidate | None:
    """What `pick` gives for a first attempt while an active backend is awake, else None. In one pass, for it is
    on the way of every request."""
    candidates = route.active
    total = 0.0
    marks: list[float] = []
    for candidate in candidates:
        standing = candidate.standing
        if standing.until <= now:
            n = standing.in_flight
            total += standing.weight * (crowd[n] if n < CROWD_SIZE else crowd[-1])
        marks.append(total)
    return candidates[bisect(marks, rand * total, hi=len(candidates) - 1)] if total else None


def pick(
    route: Route,
    tried: Sequence[str],
    *,
    demerited: int,
    now: float,
    rand: float,
    crowd: Sequence[float],
) -> Candidate | None:
    """The backend for the next attempt, or None when there is none left to try.

    Active ones before standby ones; among them first those that do not rest; after a failed attempt first
    those without grave demerits, then at most `demerited` of the others. `tried` names places. The weights
    must be up to date.
    """
    resting: list[Candidate] = []
    for group in (route.active, route.standby):
        fresh = _left_to_try(group, tried, demerited) if tried else group
        awake = [c for c in fresh if c.standing.until <= now]
        if awake:
            return draw(_well(awake) or awake, rand, crowd)
        resting += fresh
    return min(resting, key=lambda c: c.standing.until) if resting else None


def _well(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in candidates if c.standing.points < CLEARLY_BAD]


def _left_to_try(group: Sequence[Candidate], tried: Sequence[str], demerited: int) -> Sequence[Candidate]:
    fresh = [c for c in group if c.place not in tried]
    bad_tries = sum(c.place in tried and c.standing.points >= CLEARLY_BAD for c in group)
    return fresh if bad_tries < demerited else _well(fresh)
