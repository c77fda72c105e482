"""Explanations of hostnames: the route, and probability, condition and demerits of each backend."""

import msgspec
import pytest

from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.picker import bias_table, pick
from edge.rules.balancing.retries import RetryBudget
from edge.rules.explain import explain, explain_demerits
from edge.rules.explain_records import ExplainedBackend, ExplainedRoute
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Lifetime, Route
from edge.rules.settings import DemeritSettings, RetrySettings
from tests.support.bound_route import bound
from tests.support.demerit_fleet import ERRORS, Fleet

NOW = 1000.0
BIAS = bias_table(16.0)
A = Backend("a", "10.0.0.1", 8000, server="srv-1")
B = Backend("b", "10.0.0.2", 8000, state="asleep")
SPARE = Backend("s", "fd00::7", 8000, role="standby")
LEAVING = Backend("d", "10.0.0.4", 8000, state="draining")


def a_route(*backends: Backend) -> Route:
    environment = Environment(
        "acme", "live", demerits=Demerits(DemeritSettings()), budget=RetryBudget(RetrySettings(), 0.0)
    )
    route = bound(RouteResponse("shop.test", "acme", "live", 7, backends), environment)
    route.renew(Lifetime(60.0, 600.0, 86400.0), NOW - 10.0)
    return route


def book_of(route: Route) -> Demerits:
    assert route.environment is not None
    return route.environment.demerits


def explained(route: Route, now: float = NOW) -> ExplainedRoute:
    return explain("shop.test", route, BIAS, now)


def by_id(route: Route, now: float = NOW) -> dict[str, ExplainedBackend]:
    return {backend.id: backend for backend in explained(route, now).backends}


def chances(route: Route) -> dict[str, float]:
    return {name: backend.probability for name, backend in by_id(route).items()}


def test_what_is_known_of_a_hostname() -> None:
    result = explained(a_route(A))
    assert (result.hostname, result.known, result.freshness) == ("shop.test", True, "fresh")
    assert (result.age, result.fresh_for, result.usable_for) == (10.0, 50.0, 86450.0)
    assert (result.site, result.environment, result.generation) == ("acme", "live", 7)
    assert (result.maintenance, result.redirect, result.last_error) == (False, None, None)


@pytest.mark.parametrize(
    ("later", "freshness"), [(0, "fresh"), (50, "stale"), (650, "expired"), (86450, "unknown")]
)
def test_freshness_is_named_and_never_negative(later: float, freshness: str) -> None:
    result = explained(a_route(A), NOW + later)
    assert result.freshness == freshness
    assert result.fresh_for >= 0.0
    assert result.usable_for >= 0.0


def test_a_hostname_that_does_not_exist() -> None:
    route = Route(None)
    route.renew(Lifetime(10.0, 0.0, 0.0), NOW)
    result = explained(route)
    assert (result.known, result.site, result.generation) == (False, "", 0)
    assert result.backends == []


def test_probabilities_sum_to_one() -> None:
    route = a_route(A, B, Backend("c", "10.0.0.3", 8000), SPARE, LEAVING)
    route.active[0].state.in_flight = 1
    book_of(route).record_failure(route.active[1].state, Cause.GATEWAY_ERROR, NOW)
    probability = chances(route)
    assert sum(probability.values()) == pytest.approx(1.0)
    assert probability["c"] > probability["a"] > 0.0
    assert probability["b"] < 1e-5, "it is asleep"


def test_standby_and_draining_backends_are_listed_with_probability_0() -> None:
    probability = chances(a_route(A, SPARE, LEAVING))
    assert probability == {"a": 1.0, "s": 0.0, "d": 0.0}


def test_a_draining_backend() -> None:
    backend = by_id(a_route(A, LEAVING))["d"]
    assert (backend.state, backend.address, backend.weight) == ("draining", "10.0.0.4:8000", 0.0)


def test_a_backend_that_rests_is_not_drawn() -> None:
    route = a_route(A, B)
    book_of(route).record_refusal(route.active[0].state, 3.0, NOW)
    assert chances(route) == {"a": 0.0, "b": 1.0}
    assert by_id(route)["a"].rests_for == 3.0
    assert by_id(route, NOW + 5.0)["a"].rests_for == 0.0


def test_standby_backends_are_drawn_when_the_active_ones_rest() -> None:
    route = a_route(A, B, SPARE)
    for candidate in route.active:
        candidate.state.until = NOW + 1.0
    assert chances(route) == {"a": 0.0, "b": 0.0, "s": 1.0}


def test_when_all_rest_the_last_resort_is_shown() -> None:
    route = a_route(A, B, SPARE)
    for candidate, rest in zip((*route.active, *route.standby), (3.0, 1.0, 2.0), strict=True):
        candidate.state.until = NOW + rest
    assert chances(route) == {"a": 0.0, "b": 1.0, "s": 0.0}
    picked = pick(route, (), last=False, demerited=3, now=NOW, rand=0.5, bias=BIAS)
    assert picked is not None
    assert picked.backend.id == "b"


def test_weights_are_those_of_now_with_their_reasons() -> None:
    route = a_route(A, B)
    demerits, state = book_of(route), route.active[0].state
    for _ in range(3):
        demerits.record_failure(state, Cause.CLOSED_EARLY, NOW - 2.0)
    backend = by_id(route)["a"]
    (demerit,) = backend.demerits
    assert (demerit.cause, demerit.age) == ("closed_early", 2.0)
    assert backend.weight == 0.0
    assert backend.error_ratio == pytest.approx(0.578, abs=0.001)
    assert by_id(route, NOW + 100.0)["a"].demerits == []


def test_statistics_of_a_backend() -> None:
    route = a_route(A, B)
    book_of(route).record_response(route.active[0].state, 0.2, NOW)
    route.active[0].state.in_flight = 2
    known, unknown = by_id(route)["a"], by_id(route)["b"]
    assert (known.server, known.role, known.state, known.in_flight) == ("srv-1", "active", "running", 2)
    assert (known.samples, known.typical_ms) == (1, pytest.approx(200.0))
    assert (unknown.state, unknown.samples, unknown.typical_ms) == ("asleep", 0, None)


def test_an_explanation_can_be_sent() -> None:
    route = a_route(A, SPARE, LEAVING)
    sent = msgspec.json.encode(explained(route))
    assert msgspec.json.decode(sent, type=ExplainedRoute) == explained(route)


def test_when_the_next_connect_check_is_made() -> None:
    route = a_route(*(Backend(name, "10.0.0.9", 8000) for name in ("lost", "given-up", "healthy")))
    lost, given_up, _ = route.states
    for state in (lost, given_up):
        book_of(route).goes_down(state, NOW - 10.0)
        state.until = NOW + 2.0
    book_of(route).connect_at_next_request(given_up)
    assert [b.condition for b in explained(route).backends] == ["down", "down", "healthy"]
    assert by_id(route)["lost"].next_probe == pytest.approx(2.0)
    assert by_id(route)["given-up"].next_probe is None, "no time is known: that is up to the next request"


def test_demerits_are_sorted_by_weight() -> None:
    fleet = Fleet(3)
    fleet.answer([0.05, 0.05, 0.3], times=40)
    fleet.fail(2, times=20)
    demerits = explain_demerits(fleet.all[2], fleet.now + 1.0)
    assert {d.cause for d in demerits} == {"slower than its neighbours", ERRORS.value}
    assert demerits == sorted(demerits, key=lambda d: -d.points)
    assert sum(d.points for d in demerits) == pytest.approx(fleet.all[2].points)
    assert [d.age for d in demerits if d.cause == ERRORS.value] == pytest.approx([1.0])
    assert explain_demerits(fleet.all[0], fleet.now) == []
