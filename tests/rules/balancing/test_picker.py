"""The choice of a backend: probabilities, and the order of last resorts."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import log
from random import Random
from time import thread_time
from timeit import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.balancing.backend_state import BackendState, Candidate, Probation, Why
from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.picker import (
    BIAS_TABLE_SIZE,
    bias_table,
    effective_weight,
    first_pick,
    pick,
    probe_target,
)
from edge.rules.balancing.retries import RetryBudget
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Route
from edge.rules.settings import DemeritSettings, RetrySettings
from tests.support.bound_route import bound

NOW = 1000.0
CROWD = bias_table(16.0)


def a_route(active: Sequence[str], standby: Sequence[str] = ()) -> Route:
    """A route to backends with these ids, of which nothing is known."""
    backends = [Backend(name, "10.0.0.1", 8000) for name in active]
    backends += [Backend(name, "10.0.0.1", 8000, role="standby") for name in standby]
    environment = Environment(
        "acme", "live", demerits=Demerits(DemeritSettings()), budget=RetryBudget(RetrySettings(), 0.0)
    )
    return bound(RouteResponse("shop.test", "acme", "live", 1, tuple(backends)), environment)


def draw(candidates: Sequence[Candidate], rand: float, bias: Sequence[float]) -> Candidate | None:
    return Demerits(DemeritSettings()).draw(candidates, NOW, rand, bias)


def fleet_of(size: int) -> Route:
    return a_route([f"b{n}" for n in range(size)])


def state(route: Route, name: str) -> BackendState:
    return next(c.state for c in (*route.active, *route.standby) if c.backend.id == name)


def resting(route: Route, **seconds: float) -> Route:
    for name, rest in seconds.items():
        state(route, name).until = NOW + rest
    return route


def on_probation(route: Route, *names: str, error: float = 0.0) -> Route:
    for name in names:
        bad = state(route, name)
        bad.probation, bad.weight, bad.error = Probation(Why.SLOW, NOW, 0.5), 0.0, error
    return route


def down(route: Route, **reconnects_in: float) -> Route:
    for name, seconds in reconnects_in.items():
        lost = state(route, name)
        lost.down_since, lost.weight, lost.until = NOW - 1.0, 0.0, NOW + seconds
    return route


def picked(route: Route, *tried: str, limit: int = 3, rand: float = 0.0, last: bool = False) -> str | None:
    places = [f"{name}@10.0.0.1:8000" for name in tried]
    found = pick(route, places, last=last, demerited=limit, now=NOW, rand=rand, bias=CROWD)
    return None if found is None else found.backend.id


def all_picked(route: Route, *tried: str, limit: int = 3, last: bool = False) -> set[str | None]:
    """All candidates that can be drawn."""
    return {picked(route, *tried, limit=limit, rand=n / 200, last=last) for n in range(200)}


def drawn(candidates: Sequence[Candidate], times: int, bias: Sequence[float] = CROWD) -> list[int]:
    """How often each candidate is drawn."""
    dice = Random(7)
    counts = Counter(draw(candidates, dice.random(), bias) for _ in range(times))
    return [counts[candidate] for candidate in candidates]


# One draw


def test_frequencies_follow_the_weights() -> None:
    candidates = fleet_of(5).active
    weights = [1.0, 0.5, 0.25, 0.1, 1.0]
    for candidate, weight in zip(candidates, weights, strict=True):
        candidate.state.weight = weight
    times = 20_000
    expected = [times * weight / sum(weights) for weight in weights]
    chi_square = sum((seen - e) ** 2 / e for seen, e in zip(drawn(candidates, times), expected, strict=True))
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


def test_without_demerits_and_traffic_all_are_equally_likely() -> None:
    counts = drawn(fleet_of(30).active, 6_000)
    assert sum((seen - 200) ** 2 / 200 for seen in counts) < 58.3  # 29 degrees of freedom, p = 0.001


def test_the_chance_falls_with_the_sixteenth_power_of_the_requests_in_flight() -> None:
    candidates = fleet_of(2).active
    candidates[1].state.in_flight = 1
    assert effective_weight(candidates[0].state, CROWD) / effective_weight(
        candidates[1].state, CROWD
    ) == pytest.approx(65536.0)
    candidates[0].state.in_flight = 2
    assert effective_weight(candidates[1].state, CROWD) / effective_weight(
        candidates[0].state, CROWD
    ) == pytest.approx(1.5**16)
    busy, busier = drawn(candidates, 20_000)[::-1]
    assert busy / (busy + busier) == pytest.approx(1.5**16 / (1 + 1.5**16), abs=0.01)


def test_requests_in_flight_beyond_the_table_count_as_its_end() -> None:
    candidates = fleet_of(2).active
    candidates[0].state.in_flight = BIAS_TABLE_SIZE
    candidates[1].state.in_flight = 10 * BIAS_TABLE_SIZE
    assert (
        effective_weight(candidates[0].state, CROWD)
        == effective_weight(candidates[1].state, CROWD)
        == CROWD[-1]
        > 0.0
    )
    assert min(drawn(candidates, 1000)) > 400


def test_power_zero_ignores_requests_in_flight() -> None:
    assert set(bias_table(0.0)) == {1.0}


def test_a_busy_good_backend_yields_to_an_idle_bad_one() -> None:
    candidates = fleet_of(2).active
    candidates[0].state.in_flight = 9
    candidates[1].state.weight = 0.001
    assert drawn(candidates, 100) == [0, 100]


def test_the_limits_of_the_random_number() -> None:
    candidates = fleet_of(3).active
    assert draw(candidates, 0.0, CROWD) is candidates[0]
    assert draw(candidates, 1.0 - 2**-53, CROWD) is candidates[2]


def test_one_candidate_needs_no_random_number() -> None:
    route = fleet_of(1)
    route.active[0].state.weight = 1e-300
    assert draw(route.active, 0.999, CROWD) is route.active[0]
    assert picked(route, rand=0.999) == "b0"


@settings(max_examples=30, deadline=None)
@given(
    loads=st.lists(st.tuples(st.floats(1e-12, 1.0), st.integers(0, 2000)), min_size=1, max_size=30),
    rand=st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_candidate_is_always_drawn(loads: list[tuple[float, int]], rand: float) -> None:
    route = fleet_of(len(loads))
    for candidate, (weight, busy) in zip(route.active, loads, strict=True):
        candidate.state.weight, candidate.state.in_flight = weight, busy
    assert draw(route.active, rand, CROWD) in route.active


def large(busy: Callable[[int], int], weight: Callable[[int], float] = lambda n: 1.0) -> Route:
    route = fleet_of(100)
    environment = route.environment
    assert environment is not None
    environment.demerits.weigh(route.states, NOW)
    for n, candidate in enumerate(route.active):
        candidate.state.in_flight, candidate.state.weight = busy(n), weight(n)
    return route


@pytest.mark.parametrize(
    ("busy", "weight"),
    [
        (lambda n: 0, lambda n: 1.0),
        (lambda n: n % 2, lambda n: 1.0),
        (lambda n: 3 + n % 2, lambda n: (1.0, 0.5, 0.0)[n % 3]),
        (lambda n: 0 if n == 7 else 2, lambda n: 1.0),
    ],
    ids=["idle", "half are busy", "all are busy", "one is idle"],
)
def test_of_many_one_is_drawn_with_the_same_probabilities(
    busy: Callable[[int], int], weight: Callable[[int], float]
) -> None:
    """Chi-squared, 99 degrees of freedom: 149 is exceeded once in a thousand."""
    route, dice, times = large(busy, weight), Random(7), 20_000
    pulls = [effective_weight(c.state, CROWD) for c in route.active]
    counts = Counter(first_pick(route, NOW, dice.random(), CROWD) for _ in range(times))
    expected = [times * p / sum(pulls) for p in pulls]
    assert not any(counts[c] for c, p in zip(route.active, pulls, strict=True) if not p)
    rest = [(counts[c], e) for c, e in zip(route.active, expected, strict=True) if e >= 5]
    assert sum((seen - e) ** 2 / e for seen, e in rest) < 149


def test_of_many_that_rest_none_is_drawn() -> None:
    route = large(lambda n: 0)
    for candidate in route.active:
        candidate.state.until = NOW + 1.0
    assert first_pick(route, NOW, 0.5, CROWD) is None
    route.active[42].state.until = NOW
    assert first_pick(route, NOW, 0.5, CROWD) is route.active[42]


def test_of_many_those_tried_are_left_out_and_the_others_are_as_likely_as_before() -> None:
    route, dice, times = large(lambda n: n % 2, lambda n: 1.0), Random(7), 20_000
    tried = [c.endpoint for c in route.active[:40:2]]

    def again() -> Candidate | None:
        return pick(route, tried, last=False, demerited=3, now=NOW, rand=dice.random(), bias=CROWD)

    counts = Counter(again() for _ in range(times))
    left = [c for c in route.active if c.endpoint not in tried]
    pulls = [effective_weight(c.state, CROWD) for c in left]
    expected = [times * p / sum(pulls) for p in pulls]
    rest = [(counts[c], e) for c, e in zip(left, expected, strict=True) if e >= 5]
    assert sum(counts[c] for c in left) == times
    assert sum((seen - e) ** 2 / e for seen, e in rest) < 149


def test_of_many_the_last_attempt_goes_to_a_slow_one_when_the_others_were_full() -> None:
    route = large(lambda n: 0)
    environment = route.environment
    assert environment is not None
    for candidate in route.active:
        candidate.state.mean, candidate.state.samples = log(0.1), 50
    unhealthy = on_probation(route, route.active[70].backend.id)
    state(route, route.active[70].backend.id).mean = log(3.0)
    environment.demerits.weigh(route.states, NOW + 1.0)
    tried = [route.active[0].endpoint, route.active[1].endpoint]
    found = pick(unhealthy, tried, last=True, demerited=3, now=NOW + 1.0, rand=0.5, bias=CROWD)
    assert found is route.active[70]
    found = pick(unhealthy, tried, last=False, demerited=3, now=NOW + 1.0, rand=0.5, bias=CROWD)
    assert found is not route.active[70]


# Which backends take part in the draw


def test_no_backend_is_tried_twice() -> None:
    route = fleet_of(3)
    assert all_picked(route) == {"b0", "b1", "b2"}
    assert all_picked(route, "b1") == {"b0", "b2"}
    assert all_picked(route, "b1", "b0") == {"b2"}
    assert all_picked(route, "b1", "b0", "b2") == {None}


def test_a_moved_container_is_another_endpoint() -> None:
    route = fleet_of(1)
    found = pick(route, ["b0@10.9.9.9:8000"], last=False, demerited=3, now=NOW, rand=0.0, bias=CROWD)
    assert found is route.active[0]


def test_an_empty_route_has_no_backend_to_pick() -> None:
    assert picked(a_route([])) is None


def test_a_resting_backend_is_passed_over() -> None:
    assert all_picked(resting(fleet_of(3), b1=0.5)) == {"b0", "b2"}
    assert all_picked(resting(fleet_of(3), b1=0.0)) == {"b0", "b1", "b2"}


def test_when_all_rest_the_first_to_end_its_rest_is_picked() -> None:
    route = resting(fleet_of(3), b0=3.0, b1=1.0, b2=2.0)
    assert all_picked(route) == {"b1"}
    assert all_picked(route, "b1") == {"b2"}
    assert all_picked(route, "b1", "b2") == {"b0"}
    assert all_picked(route, "b1", "b2", "b0") == {None}


def test_standby_is_used_when_no_active_backend_is_left() -> None:
    route = a_route(["a", "b"], standby=["s"])
    assert all_picked(route) == {"a", "b"}
    assert all_picked(route, "a") == {"b"}
    assert all_picked(route, "a", "b") == {"s"}
    assert all_picked(resting(route, a=1.0, b=1.0)) == {"s"}
    assert all_picked(resting(route, s=0.5)) == {"s"}


def test_a_route_of_standby_backends_only() -> None:
    assert all_picked(a_route([], standby=["s"])) == {"s"}


# Probation, and down


def test_on_probation_a_backend_gets_no_request_while_others_are_left() -> None:
    route = on_probation(fleet_of(4), "b0")
    assert all_picked(route) == {"b1", "b2", "b3"}
    assert all_picked(route, "b3", "b2") == {"b1"}
    assert all_picked(route, "b3", "b2", "b1") == {"b0"}


def test_a_slow_backend_goes_before_resting_and_standby_ones() -> None:
    route = resting(on_probation(fleet_of(3), "b0"), b1=5.0)
    assert all_picked(route, "b2") == {"b0"}
    assert all_picked(route, "b2", "b0") == {"b1"}
    assert all_picked(on_probation(a_route(["a", "b"], standby=["s"]), "b"), "a") == {"b"}


def test_the_last_attempt_goes_to_a_slow_one_when_the_others_were_full() -> None:
    route = on_probation(fleet_of(6), "b0")
    assert all_picked(route, "b1", "b2", "b3", last=True) == {"b0"}
    assert all_picked(fleet_of(6), "b1", "b2", "b3", last=True) == {"b0", "b4", "b5"}


def test_a_failing_backend_is_not_picked_even_as_the_last_one_left() -> None:
    route = on_probation(fleet_of(2), "b0", error=0.5)
    assert all_picked(route, "b1") == {None}
    assert all_picked(on_probation(a_route(["a"], standby=["s"]), "a", error=0.9)) == {"s"}


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_at_most_so_many_of_those_on_probation_are_tried(limit: int) -> None:
    route = on_probation(fleet_of(6), *(f"b{n}" for n in range(1, 6)))
    tried = ["b0"]
    while (found := picked(route, *tried, limit=limit)) is not None:
        tried.append(found)
    assert len(tried) == 1 + limit


def test_the_limit_is_not_for_the_others() -> None:
    route = on_probation(fleet_of(4), "b0", "b1")
    assert all_picked(route, "b0", "b1", limit=1) == {"b2", "b3"}
    assert all_picked(resting(route, b2=1.0, b3=2.0), "b0", "b1", limit=1) == {"b2"}
    assert all_picked(on_probation(a_route(["a", "b"], standby=["s"]), "a", "b"), "a", limit=1) == {"s"}


def test_in_a_panic_probation_is_ignored() -> None:
    """Then their weights are above zero (see Demerits.weigh)."""
    route = on_probation(fleet_of(2), "b0", "b1")
    for candidate in route.active:
        candidate.state.weight = 0.1
    assert all_picked(route) == {"b0", "b1"}


def test_a_backend_that_is_down_is_the_last_resort() -> None:
    route = down(fleet_of(3), b0=3.0)
    assert all_picked(route) == {"b1", "b2"}
    assert all_picked(route, "b1", "b2") == {"b0"}
    tried = [candidate.endpoint for candidate in route.active[1:]]
    assert pick(route, tried, last=False, last_resort=False, demerited=3, now=NOW, rand=0.5, bias=CROWD) is None
    assert all_picked(resting(route, b1=1.0), "b2") == {"b1"}
    assert all_picked(down(route, b1=1.0, b2=2.0)) == {"b1"}, "the one that is connected to next"
    assert all_picked(route, "b1") == {"b2"}


# Probes


def test_a_probe_goes_to_the_backend_whose_probe_is_due() -> None:
    route = on_probation(fleet_of(3), "b1", "b2")
    bad = state(route, "b1").probation
    assert bad is not None
    assert probe_target(route, NOW + 0.9, safe=True) is None
    assert probe_target(route, NOW + 1.0, safe=True) is route.active[1]
    bad.probing = True
    assert probe_target(route, NOW + 1.0, safe=True) is route.active[2]
    down(route, b2=1.0)
    assert probe_target(route, NOW + 1.0, safe=True) is None, "the connects in the background come first"


def test_an_unsafe_request_probes_when_no_safe_one_came_for_long() -> None:
    route = on_probation(fleet_of(2), "b1")
    assert probe_target(route, NOW + 30.9, safe=False) is None
    assert probe_target(route, NOW + 31.0, safe=False) is route.active[1]
    new = state(route, "b1")
    new.probation = Probation(Why.NEW, NOW, 0.5)
    assert probe_target(route, NOW, safe=False) is route.active[1], "it has nothing against it"


# Speed


@pytest.mark.parametrize(("size", "most"), [(30, 50.0), (1000, 400.0)])
def test_a_pick_is_a_matter_of_microseconds(size: int, most: float) -> None:
    """Of CPU time. First 4 for 30 candidates, 3 for 1,000; again 14 and 5. The bounds are for slow machines."""
    route, dice, loops = fleet_of(size), Random(7), 500
    environment = route.environment
    assert environment is not None
    environment.demerits.weigh(route.states, NOW)
    tried = [c.endpoint for c in route.active[:2]]

    def again() -> Candidate | None:
        return pick(route, tried, last=False, demerited=3, now=NOW, rand=dice.random(), bias=CROWD)

    for name, picking in (("first", lambda: first_pick(route, NOW, dice.random(), CROWD)), ("again", again)):
        microseconds = min(repeat(picking, number=loops, repeat=5, timer=thread_time)) / loops * 1e6
        assert microseconds < most, name
