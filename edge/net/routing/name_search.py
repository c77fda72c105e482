"""Looks for a hostname, a backend, a server or an environment in a worker's routes, for an operator's command.

A worker may know 100,000 routes, so it looks in steps, and requests have their turn between them. Compact routes
are bytes: only those that contain the name are decoded.
"""

from collections.abc import Iterator
from typing import Final

from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.pushed_routes import PushedRoutes, in_batches
from edge.rules.explain_records import KnownName
from edge.rules.nearest_names import NearestNames
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_table import RouteTable

AT_ONCE: Final = 500
"Routes in one turn of the loop: less than a millisecond."
MOST_SAME: Final = 5
"Backends of the same id in different environments that are suggested."


async def search_name(
    table: RouteTable,
    compact: CompactRoutes,
    pushed: PushedRoutes,
    kind: str,
    name: str,
    *,
    at_once: int = AT_ONCE,
) -> KnownName:
    """Whether a route has this hostname, or this backend, server or environment (named as in `Drains`); if not, the
    nearest names."""
    nearest, same, bare = NearestNames(name), dict[str, None](), name.rpartition("/")[2]
    async for batch in in_batches(table.hostnames(), at_once):
        for hostname in batch:
            route = table.peek(hostname)
            names = names_in(kind, route.response) if route is not None and route.response is not None else []
            if name in names:
                return KnownName(True, [])
            if kind == "backend" and len(same) < MOST_SAME:
                same.update((full, None) for full in names if full.rpartition("/")[2] == bare)
            nearest.look_at(names)
    mark = name.partition("/")[0] if kind == "environment" else bare
    responses: Iterator[RouteResponse | None]
    for responses in (compact.containing(mark), pushed.containing(mark)):
        async for found in in_batches(responses, at_once):
            if any(response is not None and name in names_in(kind, response) for response in found):
                return KnownName(True, [])
    return KnownName(False, list(same)[:MOST_SAME] or nearest.nearest)


def names_in(kind: str, response: RouteResponse) -> list[str]:
    """The names of this kind in a route."""
    environment = response.environment_key
    if kind == "hostname":
        return [response.hostname]
    if kind == "environment":
        return [environment]
    if kind == "server":
        return [backend.server for backend in response.backends if backend.server]
    return [f"{environment}/{backend.id}" for backend in response.backends]
