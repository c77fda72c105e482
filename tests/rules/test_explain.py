"""Explanations of hostnames: the route, and probability, condition and demerits of each backend."""

import msgspec
import pytest

from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.picker import bias_table, pick
from edge.rules.balancing.retries import RetryBudget
from edge.rules.explain import explain, explain_demerits, explain_without_route
from edge.rules.explain_records import ExplainedBackend, ExplainedRoute
from edge.rules.outcomes import Cause
from edge.rules.routing.lookup_failures import LookupFailure, LookupState
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Lifetime, RejectedResponse, Route
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


# drains, failures, lookups


def test_drained_backends_stay_in_sight_with_who_and_until_when() -> None:
    route, drains = a_route(A, B, LEAVING), Drains()
    drains.set("backend", "acme/live/a", NOW + 60.0, "alice")
    drains.set("server", "srv-1", NOW + 90.0, "bob")
    route.active[0].state.in_flight = 3
    route.arrange(drains)
    found = {b.id: b for b in explain("shop.test", route, BIAS, NOW, drains=drains).backends}
    assert (found["a"].condition, found["a"].probability, found["a"].in_flight) == ("drained", 0.0, 3)
    assert [(d.kind, d.name, d.by, d.ends_in) for d in found["a"].drains] == [
        ("backend", "acme/live/a", "alice", 60.0),
        ("server", "srv-1", "bob", 90.0),
    ]
    assert (found["b"].condition, found["b"].drains) == ("cold", [])
    assert (found["d"].condition, found["d"].drains) == ("draining", [])


def test_a_drained_environment() -> None:
    route, drains = a_route(A, B), Drains()
    drains.set("environment", "acme/live", NOW + 60.0, "alice")
    route.arrange(drains)
    result = explain("shop.test", route, BIAS, NOW, drains=drains)
    assert result.drained
    assert [b.condition for b in result.backends] == ["drained", "drained"]


def test_a_draining_backend_on_a_unix_socket_has_its_path() -> None:
    leaving = Backend("u", "unix:/run/u.sock", state="draining")
    assert by_id(a_route(A, leaving))["u"].address == "unix:/run/u.sock"


def test_refusals_and_failed_connects_are_counted_by_cause() -> None:
    route = a_route(A)
    state = route.active[0].state
    for now in (NOW - 9.0, NOW - 3.0):
        state.note_failed_attempt(Cause.REFUSED, now)
    state.note_failed_attempt(Cause.CONNECT_FAILED, NOW - 1.0)
    failures = [(f.cause, f.count, f.age) for f in by_id(route)["a"].failures]
    assert failures == [("connect_failed", 1, 1.0), ("refused", 2, 3.0)]
    state.forget()
    assert by_id(route)["a"].failures == []


def test_the_failed_lookup_of_a_known_hostname() -> None:
    route = a_route(A)
    route.record_failed_lookup("status 500", NOW - 2.0, 5.0)
    failed = explained(route).failed_lookup
    assert failed is not None
    assert (failed.error, failed.age, failed.again_in) == ("status 500", 2.0, 3.0)
    open_circuit = explain("shop.test", route, BIAS, NOW, lookups=LookupState(circuit_open=True, wait=4.0))
    assert open_circuit.circuit_open
    assert open_circuit.failed_lookup is not None
    assert open_circuit.failed_lookup.again_in == 4.0
    route.renew(Lifetime(60.0, 600.0, 86400.0), NOW)
    assert explained(route).failed_lookup is None


def test_a_response_that_was_not_accepted() -> None:
    route = a_route(A)
    route.record_failed_lookup("lower generation", NOW - 2.0, 5.0)
    route.rejected = RejectedResponse("lower_generation", 4, NOW - 40.0, NOW + 20.0)
    result = explained(route)
    assert result.failed_lookup is None
    assert result.rejection is not None
    rejection = result.rejection
    assert (rejection.reason, rejection.generation, rejection.since) == ("lower_generation", 4, 40.0)
    assert (rejection.age, rejection.accepted_in) == (2.0, 20.0)
    route.record_failed_lookup("status 500", NOW, 5.0)
    assert explained(route).rejection is None


def test_faults_in_the_response_are_listed() -> None:
    route = a_route(A)
    route.remarks = ("backend 'x' is bad",)
    assert explained(route).remarks == ["backend 'x' is bad"]


def test_a_hostname_without_a_route() -> None:
    assert explain_without_route("shop.test", LookupState(), NOW) is None
    failure = LookupFailure(NOW - 3.0, "status 500", False, 0.0)
    result = explain_without_route("shop.test", LookupState(failure, circuit_open=True, wait=1.5), NOW)
    assert result is not None
    assert (result.known, result.freshness, result.backends) == (False, "none", [])
    assert result.failed_lookup is not None
    assert (result.failed_lookup.error, result.failed_lookup.age) == ("status 500", 3.0)
    assert (result.failed_lookup.again_in, result.circuit_open) == (1.5, True)
    waiting = explain_without_route("shop.test", LookupState(is_under_way=True), NOW)
    assert waiting is not None
    assert (waiting.looking_up, waiting.failed_lookup) == (True, None)
