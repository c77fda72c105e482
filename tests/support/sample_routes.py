"""Routes, and tables of routes, for the tests of the rules about them."""

from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.balancing.retries import RetryBudget
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable, Stored
from edge.rules.routing.routes import Route
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings

B1, B2 = Backend("b1", "10.0.0.1", 8000), Backend("b2", "10.0.0.2", 8000)
FOREVER = "max-age=3600"


def an_environment() -> Environment:
    return Environment(
        "acme", "live", demerits=Demerits(DemeritSettings()), budget=RetryBudget(RetrySettings(), 0.0)
    )


def a_response(
    *backends: Backend, generation: int = 1, environment: str = "live", site: str = "acme"
) -> RouteResponse:
    return RouteResponse("shop.test", site, environment, generation, backends)


def a_route(*backends: Backend, generation: int = 1, environment: str = "live", site: str = "acme") -> Route:
    answer = a_response(*backends, generation=generation, environment=environment, site=site)
    route = Route(answer, '"etag"')
    route.bind(an_environment(), None)
    return route


def nowhere() -> Route:
    """The response 404."""
    return Route(None)


def a_table(**settings: object) -> RouteTable:
    return RouteTable(
        RouteSettings(**settings),  # type: ignore[arg-type]
        Environments(DemeritSettings(), RetrySettings()),
    )


def store(table: RouteTable, answer: RouteResponse | None, now: float = 0.0, *, host: str = "shop.test") -> Stored:
    return table.put(host, answer, etag='"etag"', cache_control=FOREVER, now=now, rand=0.0)


def put(table: RouteTable, answer: RouteResponse | None, now: float = 0.0, *, host: str = "shop.test") -> Route:
    """The route that holds then."""
    return store(table, answer, now, host=host).route


def takes(table: RouteTable, answer: RouteResponse | None, now: float = 0.0, *, host: str = "shop.test") -> bool:
    """Whether the response holds then."""
    before = table.get(host)
    stored = store(table, answer, now, host=host)
    assert table.get(host) is stored.route
    assert (stored.route is not before) == (stored.rejection is None)
    return stored.rejection is None and stored.route.response == answer
