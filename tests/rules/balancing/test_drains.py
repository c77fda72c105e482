"""Drains by an operator, and their effect on routes."""

import pytest

from edge.rules.balancing.drains import MOST, Drains, TooManyDrains
from edge.rules.balancing.environments import Environments
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings
from tests.support.bound_route import bound


def route(hostname="a.test", site="acme"):
    environments = Environments(DemeritSettings(), RetrySettings())
    backends = (
        Backend("b1", "10.0.0.1", 1, "srv-1"),
        Backend("b2", "10.0.0.2", 1, "srv-2"),
        Backend("b3", "10.0.0.2", 2, "srv-2", role="standby"),
    )
    answer = RouteResponse(hostname, site, "live", 1, backends)
    return bound(answer, environments.get(site, "live", 0.0))


def left(drains):
    one = route()
    one.arrange(drains)
    assert len(one.states) == len(one.active) + len(one.standby)
    return [candidate.backend.id for candidate in (*one.active, *one.standby)]


@pytest.mark.parametrize(
    ("kind", "name", "names"),
    [
        ("backend", "acme/live/b1", ["b2", "b3"]),
        ("backend", "b1", ["b1", "b2", "b3"]),
        ("backend", "other/live/b1", ["b1", "b2", "b3"]),
        ("server", "srv-2", ["b1"]),
        ("environment", "acme/live", []),
        ("environment", "acme/dev", ["b1", "b2", "b3"]),
        ("server", "b1", ["b1", "b2", "b3"]),
    ],
)
def test_which_backends_get_no_new_requests(kind, name, names):
    drains = Drains()
    drains.set(kind, name, 10.0)
    assert left(drains) == names
    drains.set(kind, name, None)
    assert left(drains) == ["b1", "b2", "b3"]
    assert len(drains) == 0


def test_each_ends_by_itself():
    drains = Drains()
    drains.set("backend", "acme/live/b1", 10.0, "alice")
    drains.set("server", "srv-2", 20.0)
    assert drains.expire(9.9) == 10.0
    assert drains.left(5.0) == [
        ("backend", "acme/live/b1", 5.0, "alice"),
        ("server", "srv-2", 15.0, ""),
    ]
    assert drains.expire(10.0) == 20.0
    assert left(drains) == ["b1"]
    assert drains.expire(20.0) is None
    assert left(drains) == ["b1", "b2", "b3"]


def test_bounds():
    drains = Drains()
    with pytest.raises(ValueError, match="planet is none of backend, server, environment"):
        drains.set("planet", "earth", 1.0)
    for number in range(MOST):
        drains.set("backend", str(number), 1.0)
    drains.set("backend", "0", 2.0)
    with pytest.raises(TooManyDrains, match="1000 drains"):
        drains.set("backend", "one more", 1.0)


@pytest.fixture
def table():
    table = RouteTable(RouteSettings(), Environments(DemeritSettings(), RetrySettings()))
    for hostname, site in (("a.test", "acme"), ("b.test", "acme"), ("c.test", "other")):
        table.put(hostname, route(hostname, site).response, cache_control=None, now=0.0, rand=0.0)
    return table


def test_a_route_that_is_accepted_during_a_drain(table):
    table.drains.set("server", "srv-2", 10.0)
    held = table.put("d.test", route("d.test").response, cache_control=None, now=0.0, rand=0.0).route
    assert [candidate.backend.id for candidate in held.active] == ["b1"]


def test_the_drains_of_a_backend():
    drains = Drains()
    assert drains.of_backend("b1", "srv-1", "acme/live") == []
    drains.set("backend", "acme/live/b1", 10.0, "alice")
    drains.set("environment", "acme/live", 20.0, "bob")
    drains.set("server", "srv-2", 30.0)
    found = drains.of_backend("b1", "srv-1", "acme/live")
    assert [(drain.kind, drain.until, drain.by) for drain in found] == [
        ("backend", 10.0, "alice"),
        ("environment", 20.0, "bob"),
    ]
    assert drains.has("server", "srv-2")
    assert not drains.has("backend", "srv-2")


@pytest.mark.parametrize(
    ("drained", "expected"),
    [
        ([], False),
        ([("server", "srv-1")], False),
        ([("server", "srv-1"), ("server", "srv-2")], True),
        ([("environment", "acme/live")], True),
        ([("environment", "other/live")], False),
    ],
)
def test_whether_drains_leave_a_route_nothing(drained, expected):
    drains, one = Drains(), route()
    for kind, name in drained:
        drains.set(kind, name, 10.0)
    one.arrange(drains)
    assert one.is_drained(drains) is expected


def test_a_route_that_the_core_api_drains_is_not_drained_by_an_operator():
    environments, drains = Environments(DemeritSettings(), RetrySettings()), Drains()
    leaving = Backend("b1", "10.0.0.1", 1, "srv-1", state="draining")
    one = bound(RouteResponse("a.test", "acme", "live", 1, (leaving,)), environments.get("acme", "live", 0.0))
    drains.set("environment", "acme/live", 10.0)
    one.arrange(drains)
    assert not one.states
    assert not one.is_drained(drains), "without the drain there would be no backend either"
