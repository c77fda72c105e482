"""Whether a name is in the routes of a worker: in the table, in the compact routes, in a pushed set."""

import pytest

from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.name_search import search_name
from edge.net.routing.pushed_routes import PushedRoutes
from edge.rules.balancing.environments import Environments
from edge.rules.route_sets.route_file import destinations_in
from edge.rules.route_sets.route_set import NO_ROUTES, digest_of, route_set
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings

FILE = """
routes:
  - hostnames: [file.test]
    site: filed
    backends: [{address: "10.0.0.9:80"}]
"""


class Case:
    """Twenty sites, of which the table holds five and the compact routes the others."""

    def __init__(self, ready=5):
        environments = Environments(DemeritSettings(), RetrySettings())
        self.table = RouteTable(RouteSettings(ready=ready), environments)
        self.compact = CompactRoutes(
            self.table, environments, None, clock=lambda: 10.0, wall=lambda: 1e9, policy=BackendPolicy()
        )
        self.pushed = PushedRoutes(self.table, lambda: 10.0)
        for number in range(20):
            backends = (Backend("c1", "10.0.0.1", 1, f"srv-{number}"), Backend(f"only-{number}", "10.0.0.2", 1))
            response = RouteResponse(f"{number}.test", f"site-{number}", "live", 1, backends)
            self.table.put(response.hostname, response, cache_control=None, now=10.0, rand=0.0)

    async def search(self, kind, name):
        return await search_name(self.table, self.compact, self.pushed, kind, name, at_once=3)


@pytest.mark.parametrize("number", [0, 7, 19])
async def test_names_are_found_wherever_the_route_is(number):
    case = Case()
    assert len(case.table) == 5
    assert len(case.compact) == 15
    for kind, name in (
        ("hostname", f"{number}.test"),
        ("environment", f"site-{number}/live"),
        ("server", f"srv-{number}"),
        ("backend", f"site-{number}/live/only-{number}"),
    ):
        assert (await case.search(kind, name)).known, (kind, name)
    assert len(case.compact) == 15, "nothing was moved"


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [
        ("hostname", "site-19.test", "19.test"),
        ("environment", "site-19/dev", "site-19/live"),
        ("server", "srv19", "srv-19"),
        ("backend", "site-19/live/onyl-19", "site-19/live/only-19"),
        ("backend", "only-19", "site-19/live/only-19"),
    ],
)
async def test_the_nearest_names(kind, name, nearest):
    known = await Case().search(kind, name)
    assert not known.known
    assert known.nearest[0] == nearest


async def test_an_id_that_several_environments_have_is_suggested_with_each():
    known = await Case(ready=20).search("backend", "c1")
    assert known.nearest == [f"site-{number}/live/c1" for number in range(5)]
    assert not (await Case(ready=20).search("backend", "site-1/dev/c1")).known


async def test_a_pushed_set_is_looked_through():
    case = Case()
    routes, _ = route_set(
        destinations_in(FILE, name="x", may_be_empty=False), NO_ROUTES, version=1, source="x", digest=digest_of(b"")
    )
    await case.pushed.replace(1, routes.parts)
    assert (await case.search("environment", "filed/live")).known
    assert not (await case.search("environment", "filed/dev")).known
