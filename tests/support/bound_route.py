"""A route as the table holds it."""

from edge.rules.balancing.environments import Environment
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.routes import Route


def bound(response: RouteResponse, environment: Environment) -> Route:
    """A route that was accepted for this environment."""
    route = Route(response)
    route.bind(environment, None)
    return route
