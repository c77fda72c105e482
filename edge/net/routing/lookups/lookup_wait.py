"""How long a request waits for the lookup of a route that is known, but expired.

The core API may hang for a hostname, or for all, long after `stale-while-revalidate` has passed. If each request
waited for a lookup that fails in the end, a site whose containers work would take seconds for each response. So a
request waits for `EXPIRED_WAIT` of the timeout, and for nothing when the last lookup has failed: then the known
route is used, and replaced when a lookup succeeds.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from edge.net.routing.lookup_admission import LookupTask, route_of
from edge.rules.limits.lookup_queue import Done
from edge.rules.routing.routes import Route

EXPIRED_WAIT: Final = 0.05
"Part of `core_api.timeout` for which a request waits for the lookup of an expired route that could be used."


def deliver_in_time(
    task: LookupTask, done: Done, usable: Callable[[], Route | None], timeout: float, clock: Callable[[], float]
) -> None:
    """Have `done` called with the result of the lookup, or with the route that is usable without it when it takes
    longer than `EXPIRED_WAIT` of its timeout. No further request then waits for this lookup.

    It is called once only. Both may be due in one turn of a busy loop, and the callback of a lookup that has ended
    can be removed no more; a request that is continued twice would be sent to two backends, whose responses mingle.
    """
    waits = True

    def give_up_waiting() -> None:
        nonlocal waits
        waits = False
        task.remove_done_callback(deliver)
        route = usable()
        if route is not None:
            route.no_lookup_before = max(route.no_lookup_before, clock() + timeout)
        done(route)

    def deliver(task: LookupTask) -> None:
        timer.cancel()
        if waits:
            done(route_of(task))

    timer = asyncio.get_running_loop().call_later(EXPIRED_WAIT * timeout, give_up_waiting)
    task.add_done_callback(deliver)
