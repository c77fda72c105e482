"""The list of routes, page by page."""

import pytest

from edge.rules.balancing.environments import Environments
from edge.rules.explain import RouteFilter, list_routes
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Route
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings

NOW = 1000.0


@pytest.fixture
def table() -> RouteTable:
    """Ten hostnames of two sites; those of `odd` are stale."""
    table = RouteTable(RouteSettings(jitter=0.0), Environments(DemeritSettings(), RetrySettings()))
    for n in range(10):
        site = ("even", "odd")[n % 2]
        response = RouteResponse(f"{n}.test", site, "live", 1, (Backend("b", "10.0.0.1", 80),))
        taken = NOW - (100.0 if n % 2 else 10.0)
        table.put(f"{n}.test", response, cache_control="max-age=60", now=taken, rand=0.0)
    return table


def names(table: RouteTable, wanted: RouteFilter | None = None, start: int = 0, most: int = 100) -> list[str]:
    page = list_routes(table, nothing, wanted or RouteFilter(), start=start, most=most, now=NOW)
    return [r.hostname for r in page.routes]


def nothing(start: int, site: str) -> list[tuple[str, Route | None]]:
    return []


def test_in_the_order_in_which_they_came(table: RouteTable) -> None:
    table.get("0.test")
    table.peek("1.test")
    assert names(table) == [f"{n}.test" for n in range(10)]


def test_filters(table: RouteTable) -> None:
    odd = [f"{n}.test" for n in range(1, 10, 2)]
    assert names(table, RouteFilter(site="odd")) == odd
    assert names(table, RouteFilter(freshness="stale")) == odd
    assert names(table, RouteFilter(site="even", freshness="stale")) == []


def test_page_by_page(table: RouteTable) -> None:
    found: list[str] = []
    start: int | None = 0
    pages = 0
    while start is not None:
        page = list_routes(table, nothing, RouteFilter(site="odd"), start=start, most=1, now=NOW, looks=4)
        assert len(page.routes) <= 1
        found += [route.hostname for route in page.routes]
        start = page.next
        pages += 1
    assert found == [f"{n}.test" for n in range(1, 10, 2)]
    assert pages < 12


def test_one_entry(table: RouteTable) -> None:
    [route] = list_routes(table, nothing, RouteFilter(), start=0, most=1, now=NOW).routes
    assert (route.hostname, route.site, route.environment, route.backends) == ("0.test", "even", "live", 1)
    assert (route.freshness, route.age, route.next_lookup) == ("fresh", 10.0, 44.0)
    assert (route.source, route.last_error) == ("the core API", None)
