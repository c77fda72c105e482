"""Looks up routes again that have changed and are in use, at the rate that `RefreshSchedule` allows."""

import asyncio
from collections.abc import Callable

from edge.rules.routing.refresh_schedule import RefreshSchedule
from edge.rules.routing.route_table import RouteTable

_BATCH = 100
"Hostnames taken from the schedule in one turn of the loop. Those that were looked up meanwhile cost no lookup."


class RouteRefresher:
    """The refresher of one worker.

    `ask` begins a lookup of a hostname, and returns False when one is under way already.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        ask: Callable[[str], bool],
        clock: Callable[[], float],
        rand: Callable[[], float],
        schedule: RefreshSchedule | None = None,
    ) -> None:
        self._table = table
        self._ask = ask
        self._clock = clock
        self._rand = rand
        self._schedule = RefreshSchedule() if schedule is None else schedule
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        "When the timer ends."

    def __len__(self) -> int:
        return len(self._schedule)

    def changed(self, hostname: str, now: float) -> None:
        """Schedule a route that has become stale and was used lately."""
        self._set_timer(self._schedule.add(hostname, now, self._rand()), now)

    def used(self, hostname: str, now: float) -> None:
        """Schedule a stale route that has just served a request. If it is scheduled, this costs a dict lookup."""
        if self._schedule.add_first(hostname, now) <= now:
            self._look_up_some()

    def close(self) -> None:
        """Begin no more lookups."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, deadline: float, now: float) -> None:
        if self._timer is not None:
            if self._due <= deadline:
                return
            self._timer.cancel()
        self._due = deadline
        self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - now), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._look_up_some()

    def _look_up_some(self) -> None:
        schedule, now = self._schedule, self._clock()
        for _ in range(_BATCH):
            hostname = schedule.take(now)
            if hostname is None:
                break
            route = self._table.peek(hostname)
            if route is None or now < route.fresh_until:
                continue
            if self._ask(hostname):
                schedule.record_lookup(hostname, now)
            else:  # the lookup under way may have begun before the change
                schedule.add_later(hostname, now)
        deadline = schedule.next_at()
        if deadline is not None:
            self._set_timer(deadline, now)
