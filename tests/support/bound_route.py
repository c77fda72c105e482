"""A route as the table holds it."""

from edge.rules.environments import Environment
from edge.rules.route_response import RouteAnswer
from edge.rules.routes import Route


def bound(answer: RouteAnswer, environment: Environment) -> Route:
    """A route that was accepted for this environment."""
    route = Route(answer)
    route.bind(environment, None)
    return route
