"""Which environments the status page shows, and how they are described."""

import pytest

from edge.rules.balancing.backend_state import Probation, Why
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.environment_status import (
    MOST_CONTAINERS,
    MOST_IN_TROUBLE,
    MOST_SHOWN,
    EnvironmentRanking,
    RequestRates,
    environment_status,
    is_in_trouble,
)
from edge.rules.environment_status_records import EnvironmentStatus
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Route
from edge.rules.settings import DemeritSettings, RetrySettings
from tests.support.bound_route import bound

NOW = 1000.0


def known() -> Environments:
    return Environments(DemeritSettings(), RetrySettings())


def some(count: int) -> list[Environment]:
    environments = known()
    return [environments.get(f"site-{number}", "live", 0.0) for number in range(count)]


def a_route(*backends: Backend, **changes: object) -> Route:
    response = RouteResponse("shop.test", "acme", "live", 7, backends, **changes)  # type: ignore[arg-type]
    return bound(response, known().get("acme", "live", 0.0))


def described(route: Route, drains: Drains | None = None) -> EnvironmentStatus:
    return environment_status("shop.test", route, hostnames=2, rate=12.345, drains=drains or Drains(), now=NOW)


def test_the_busiest_since_the_last_look_are_chosen() -> None:
    environments = some(100)
    first = EnvironmentRanking()
    first.look_at(environments)
    assert (first.total, first.in_trouble, len(first.chosen)) == (100, 0, MOST_SHOWN)
    for number, environment in enumerate(environments):
        environment.requests += number
    second = EnvironmentRanking(first)
    second.look_at(environments[:50])
    second.look_at(environments[50:])
    assert {e.site for e in second.chosen} == {f"site-{number}" for number in range(70, 100)}


def test_those_in_trouble_come_first_and_leave_room_for_others() -> None:
    environments = some(100)
    for environment in environments[:50]:
        environment.demerits.state_of("b", "b@1").down_since = 1.0
    ranking = EnvironmentRanking(down={id(environment) for environment in environments[:50]})
    ranking.look_at(environments)
    assert ranking.in_trouble == 50
    troubled = [environment for environment in ranking.chosen if is_in_trouble(environment)]
    assert (len(troubled), len(ranking.chosen)) == (MOST_IN_TROUBLE, MOST_SHOWN)


def test_rates_are_smoothed_and_begin_at_the_second_look() -> None:
    [environment], rates = some(1), RequestRates()
    assert rates.rates([environment], 0.0) == [0.0]
    environment.requests += 100
    assert rates.rates([environment], 1.0) == [100.0]
    assert rates.rates([environment], 2.0) == [60.0]
    assert rates.rates([], 3.0) == []
    assert rates.rates([environment], 4.0) == [0.0], "it was forgotten"


def test_what_is_said_of_an_environment() -> None:
    route = a_route(Backend("a", "10.0.0.1", 1, "srv-1"), Backend("b", "10.0.0.2", 1, "srv-2"))
    route.active[0].state.in_flight = 7
    status = described(route)
    assert (status.site, status.environment, status.hostname, status.hostnames) == ("acme", "live", "shop.test", 2)
    assert (status.rate, status.in_trouble, status.drained) == (12.35, False, False)
    assert [(c.id, c.condition, c.share, c.in_flight) for c in status.containers] == [
        ("a", "healthy", 0.5, 7),
        ("b", "healthy", 0.5, 0),
    ], "requests in flight do not make the share jump"


def test_it_changes_nothing() -> None:
    route = a_route(Backend("a", "10.0.0.1", 1), Backend("b", "10.0.0.2", 1))
    assert route.environment is not None
    weighed_at = route.environment.demerits.weighed_at
    described(route)
    assert route.environment.demerits.weighed_at == weighed_at


@pytest.mark.parametrize("what", ["down", "probation", "full", "drained"])
def test_why_a_container_gets_less(what: str) -> None:
    route, drains = a_route(Backend("a", "10.0.0.1", 1), Backend("b", "10.0.0.2", 1)), Drains()
    state = route.active[0].state
    if what == "down":
        state.down_since, state.weight = NOW - 5.0, 0.0
        state.note_failed_attempt(Cause.CONNECT_TIMEOUT, NOW - 1.0)
    elif what == "probation":
        state.probation, state.weight = Probation(Why.SLOW, NOW, 0.5), 0.0
    elif what == "full":
        state.until = NOW + 2.0
    else:
        drains.set("environment", "acme/live", NOW + 60.0)
        route.arrange(drains)
    status = described(route, drains)
    found = {c.id: c for c in status.containers}["a"]
    expected = {
        "down": ("down", "connect timeout"),
        "probation": ("probation", "slow"),
        "full": ("healthy", "full"),
        "drained": ("drained", ""),
    }
    assert (found.condition, found.why) == expected[what]
    assert found.share == 0.0
    assert status.drained is (what == "drained")


def test_only_so_many_containers_are_described() -> None:
    route = a_route(*(Backend(f"b{number}", "10.0.0.1", number + 1) for number in range(100)))
    assert len(described(route).containers) == MOST_CONTAINERS
