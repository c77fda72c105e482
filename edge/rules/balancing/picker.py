"""The choice of a backend for an attempt: which ones take part in the draw, and the draw from very many.

    p ~ e^-demerits / (1 + in flight)^16        the draw itself: `Demerits.draw`

The exponent is `demerits.active_request_bias`. With sparse traffic nothing is in flight, and the draw is random by
demerits alone. Under load it becomes least-connections on the worker's own exact counts, with ties drawn by weight.
A scan of all candidates does not herd, because the counts are exact and local (Vargaftik, Keslassy, Orda, "LSQ",
2020), and no weight is stuck at zero. It is O(n): about a microsecond for three candidates, four for thirty. In a
large environment (more than `MANY` backends) a backend is drawn by weight alone, and the draw is accepted by its
requests in flight: the probabilities are the same, in a few microseconds, for retries as well.
"""

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from edge.rules.balancing.backend_state import MANY, BackendState, Candidate
from edge.rules.routing.routes import Route

BIAS_TABLE_SIZE: Final = 1024
DRAWS: Final = 8
"Draws from a large environment before all candidates are scanned."
MASK: Final = (1 << 64) - 1
FAILING: Final = 0.5
"Error ratio from which a backend on probation gets no request, even if no other is left."


def bias_table(power: float) -> tuple[float, ...]:
    """Return (1 + n)^-power for n requests in flight; the last entry is for all larger n."""
    return tuple((1.0 + n) ** -power for n in range(BIAS_TABLE_SIZE))


def effective_weight(state: BackendState, bias: Sequence[float]) -> float:
    """The chance of this backend to be drawn, relative to the others. `bias`: see `bias_table`."""
    n = state.in_flight
    return state.weight * (bias[n] if n < BIAS_TABLE_SIZE else bias[-1])


def first_pick(route: Route, now: float, rand: float, bias: Sequence[float]) -> Candidate | None:
    """The same as `pick` for a first attempt while an active backend is available, else None. (An exchange whose
    environment is not large calls `Demerits.draw` itself.)"""
    assert route.environment is not None
    found = _one_of_many(route, (), now, rand, bias) if len(route.active) > MANY else None
    return found or route.environment.demerits.draw(route.active, now, rand, bias)


def _one_of_many(
    route: Route, tried: Sequence[str], now: float, rand: float, bias: Sequence[float]
) -> Candidate | None:
    """Draw an active candidate by rejection sampling (von Neumann, 1951): the draw has p ~ weight, the acceptance
    (1 + in flight)^-16 relative to the least busy candidate as of the last weighing. Returns None after `DRAWS`
    rejections: then all candidates are scanned."""
    assert route.environment is not None
    demerits, candidates = route.environment.demerits, route.active
    if route.marked_at != demerits.weighed_at:
        route.marked_at = demerits.weighed_at
        route.marks = list(accumulate(c.state.weight for c in candidates))
        route.least = bias[min(*(c.state.in_flight for c in candidates), BIAS_TABLE_SIZE - 1)]
    marks, least, seed = route.marks, route.least, int(rand * 2.0**53)
    for _ in range(DRAWS):
        seed, drawn = _next_random(seed)
        seed, accepted = _next_random(seed)
        candidate = candidates[bisect(marks, drawn * marks[-1], hi=len(candidates) - 1)]
        state = candidate.state
        if (
            state.until <= now
            and state.weight
            and candidate.endpoint not in tried
            and accepted * least <= bias[min(state.in_flight, BIAS_TABLE_SIZE - 1)]
        ):
            return candidate
    return None


def _next_random(state: int) -> tuple[int, float]:
    """The next state and number in [0, 1) of SplitMix64 (Steele, Lea, Flood, 2014)."""
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
    bias: Sequence[float],
) -> Candidate | None:
    """The backend for the next attempt, or None when none is left to try.

    Active backends come before standby ones. Within each group the order is:

    1. those that are healthy and do not rest;
    2. those on probation for being slow, at most `demerited` of them. The `last` attempt goes to them first, when
       all the others tried so far were full.

    After both groups comes the backend whose rest ends first, and then, if `last_resort`, the backend that is down
    and is connected to next: no request shall wait for a connect while another backend is left. A backend on
    probation for failing gets no request. `tried` holds endpoints. The weights must be up to date.
    """
    environment = route.environment
    if environment is None:
        return None
    if len(route.active) > MANY and not (last and environment.demerits.on_probation):
        found = _one_of_many(route, tried, now, rand, bias)
        if found is not None:
            return found
    for group in (route.active, route.standby):
        fresh = [c for c in group if c.endpoint not in tried] if tried else group
        slow = _slow(group, tried, demerited)
        drawn = None if last and slow else environment.demerits.draw(fresh, now, rand, bias)
        if drawn is not None:
            return drawn
        if slow:
            return min(slow, key=lambda c: c.state.in_flight)
    left = [c for c in (*route.active, *route.standby) if c.endpoint not in tried]
    resting = [c for c in left if c.state.weight]
    if not resting and (last_resort or all(s.down_since for s in route.states)):
        resting = [c for c in left if c.state.down_since]
    return min(resting, key=lambda c: c.state.until) if resting else None


def _slow(group: Sequence[Candidate], tried: Sequence[str], demerited: int) -> list[Candidate]:
    """Backends on probation that respond, slowly; none when `demerited` of them were tried already."""
    unhealthy = [c for c in group if c.state.probation is not None and not c.state.weight]
    left = [c for c in unhealthy if c.endpoint not in tried]
    if len(unhealthy) - len(left) >= demerited:
        return []
    return [c for c in left if not c.state.down_since and c.state.error < FAILING]


def probe_target(route: Route, now: float, *, safe: bool) -> Candidate | None:
    """The backend to probe now, or None. `safe`: the probe is a copy of a request that may be sent twice; otherwise
    it is the request itself, which is used only when no such copy has come for `UNPROBED_TIMEOUT` seconds."""
    for candidate in (*route.active, *route.standby):
        probation = candidate.state.probation
        if probation is None or probation.probing or candidate.state.down_since:
            continue
        if now >= (probation.due if safe else probation.overdue_at):
            return candidate
    return None
