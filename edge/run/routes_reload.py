"""A reload's part in a file of routes: the admin process takes over what it says now."""

from collections.abc import Callable

from edge.run.children import Child
from edge.run.orders import RoutesTaken, TakeRoutes

PATIENCE = 60.0
"Seconds for the admin process to read the file: 100,000 hostnames take it some ten."


def take_routes(
    admin: Child | None, number: int, wait: Callable[[Callable[[], bool], float], bool]
) -> tuple[bool, list[str]]:
    """Whether the file can be used, and in words what is different or what is wrong with it.

    `number`: of this order. `wait` returns when a condition holds, or after so many seconds."""
    if admin is None or not admin.tell(TakeRoutes(number)):
        return False, ["there is no admin process that could read the file of routes"]

    def answer() -> RoutesTaken | None:
        taken = admin.routes_taken
        return taken if taken is not None and taken.number == number else None

    wait(lambda: answer() is not None or not admin.alive, PATIENCE)
    taken = answer()
    if taken is None:
        return False, ["the admin process did not read the file of routes in time"]
    return taken.done, taken.words
