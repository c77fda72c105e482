"""Which backend gets this attempt: one draw, weighted by demerits and by how busy each one is.

    p ~ e^-demerits / (1 + in flight)^16

In sparse traffic nothing is in flight and this is "at random, weighted by demerits". Under load it becomes
least-connections on the worker's own exact counts, with ties drawn by weight. A scan of all candidates does
not herd, because the counts are exact and local (Vargaftik, Keslassy, Orda, "LSQ", 2020), and it has no
weight of zero to get stuck on. O(n): about a microsecond for three candidates, four for thirty. Of many it is drawn
by weight alone, and the draw accepted by how busy that one is: the same probabilities, in a few microseconds, for
further attempts as well.
"""

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

from edge.rules.balancing.backend_state import MANY, BackendState
from edge.rules.routing.routes import Candidate, Route

CROWD_SIZE = 1024
DRAWS = 8
"Of one among many, before all are looked at."
MASK = (1 << 64) - 1
FAILING = 0.5
"Error ratio from which a backend on probation is not asked even as the last one left."


def crowd_table(power: float) -> tuple[float, ...]:
    """(1 + n)^-power for n requests in flight; the last entry stands for all beyond."""
    return tuple((1.0 + n) ** -power for n in range(CROWD_SIZE))


def effective_weight(standing: BackendState, crowd: Sequence[float]) -> float:
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
    return candidates[bisect(marks, rand * total, hi=len(candidates) - 1)]


def first_pick(route: Route, now: float, rand: float, crowd: Sequence[float]) -> Candidate | None:
    """What `pick` gives for a first attempt while an active backend is awake, else None. In one pass, for it is
    on the way of every request."""
    candidates = route.active
    if len(candidates) > MANY:
        found = _one_of_many(route, (), now, rand, crowd)
        if found is not None:
            return found
    total = 0.0
    marks: list[float] = []
    for candidate in candidates:
        standing = candidate.standing
        if standing.until <= now:
            n = standing.in_flight
            total += standing.weight * (crowd[n] if n < CROWD_SIZE else crowd[-1])
        marks.append(total)
    return candidates[bisect(marks, rand * total, 0, len(marks) - 1)] if total else None


def _one_of_many(
    route: Route, tried: Sequence[str], now: float, rand: float, crowd: Sequence[float]
) -> Candidate | None:
    """An active one, by rejection (von Neumann, 1951): p ~ weight for the draw, times (1 + in flight)^-16 for
    accepting it, relative to the least busy one as of the last weighing. None after many rejections: then look at
    all."""
    assert route.environment is not None
    book, candidates = route.environment.book, route.active
    if route.marked_at != book.weighed_at:
        route.marked_at = book.weighed_at
        route.marks = list(accumulate(c.standing.weight for c in candidates))
        route.least = crowd[min(*(c.standing.in_flight for c in candidates), CROWD_SIZE - 1)]
    marks, least, state = route.marks, route.least, int(rand * 2.0**53)
    for _ in range(DRAWS):
        state, drawn = _mixed(state)
        state, accepted = _mixed(state)
        candidate = candidates[bisect(marks, drawn * marks[-1], hi=len(candidates) - 1)]
        standing = candidate.standing
        if (
            standing.until <= now
            and standing.weight
            and candidate.endpoint not in tried
            and accepted * least <= crowd[min(standing.in_flight, CROWD_SIZE - 1)]
        ):
            return candidate
    return None


def _mixed(state: int) -> tuple[int, float]:
    """The next of a sequence of dice (SplitMix64: Steele, Lea, Flood, 2014)."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, (z >> 11) * 2.0**-53


def pick(
    route: Route,
    tried: Sequence[str],
    *,
    last: bool,
    last_resort: bool = True,
    demerited: int,
    now: float,
    rand: float,
    crowd: Sequence[float],
) -> Candidate | None:
    """The backend for the next attempt, or None when there is none left to try.

    Active ones before standby ones; in each group those that are well and do not rest. Then those on probation
    for being slow, for slow is better than not at all, but at most `demerited` of them; the `last` attempt goes to
    them first, when all the others asked so far were full. Then whoever rests for the shortest time; and, as the
    `last_resort`, one that is down, the one that is connected to next: nobody shall wait for a connect while there
    is another. One on probation for failing is never asked. `tried` names places; the weights must be up to date.
    """
    environment = route.environment
    if len(route.active) > MANY and environment is not None and not (last and environment.book.on_probation):
        found = _one_of_many(route, tried, now, rand, crowd)
        if found is not None:
            return found
    for group in (route.active, route.standby):
        fresh = [c for c in group if c.endpoint not in tried] if tried else group
        slow = _slow(group, tried, demerited)
        awake = [c for c in fresh if c.standing.until <= now and c.standing.weight]
        if awake and not (last and slow):
            return draw(awake, rand, crowd)
        if slow:
            return min(slow, key=lambda c: c.standing.in_flight)
    left = [c for c in (*route.active, *route.standby) if c.endpoint not in tried]
    resting = [c for c in left if c.standing.weight]
    if not resting and (last_resort or all(s.down_since for s in route.standings)):
        resting = [c for c in left if c.standing.down_since]
    return min(resting, key=lambda c: c.standing.until) if resting else None


def _slow(group: Sequence[Candidate], tried: Sequence[str], demerited: int) -> list[Candidate]:
    """Those on probation that answer, if late: while probation holds, and not too many of them."""
    unhealthy = [c for c in group if c.standing.probation is not None and not c.standing.weight]
    left = [c for c in unhealthy if c.endpoint not in tried]
    if len(unhealthy) - len(left) >= demerited:
        return []
    return [c for c in left if not c.standing.down_since and c.standing.error < FAILING]


def probe_target(route: Route, now: float, *, safe: bool) -> Candidate | None:
    """Who is to be probed now, if anybody. `safe`: by a copy of a request that may be sent twice; otherwise by
    the request itself, which only those get that have waited in vain for such a copy."""
    for candidate in (*route.active, *route.standby):
        probation = candidate.standing.probation
        if probation is None or probation.probing or candidate.standing.down_since:
            continue
        if now >= (probation.due if safe else probation.overdue_at):
            return candidate
    return None
