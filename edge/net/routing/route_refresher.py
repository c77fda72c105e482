"""Asks the core API again for routes that have changed and are in use, as `RefreshSchedule` allows."""

import asyncio
from collections.abc import Callable

from edge.rules.routing.refresh_schedule import RefreshSchedule
from edge.rules.routing.route_table import RouteTable

_TAKEN_AT_ONCE = 100
"In one turn of the loop; those that somebody else was faster to ask for cost no question."


class RouteRefresher:
    """Of one worker. `ask` begins a question about a hostname, and returns False when one is on its way already."""

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
        "Of the timer."

    def __len__(self) -> int:
        return len(self._schedule)

    def changed(self, hostname: str, now: float) -> None:
        """This route is stale and was in use lately."""
        self._wait(self._schedule.add(hostname, now, self._rand()), now)

    def used(self, hostname: str, now: float) -> None:
        """This route is stale and served a request just now. A dict look-up when that was told before."""
        if self._schedule.add_first(hostname, now) <= now:
            self._ask_some()

    def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, deadline: float, now: float) -> None:
        if self._timer is not None:
            if self._due <= deadline:
                return
            self._timer.cancel()
        self._due = deadline
        self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - now), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._ask_some()

    def _ask_some(self) -> None:
        schedule, now = self._schedule, self._clock()
        for _ in range(_TAKEN_AT_ONCE):
            hostname = schedule.take(now)
            if hostname is None:
                break
            route = self._table.peek(hostname)
            if route is None or now < route.fresh_until:
                continue
            if self._ask(hostname):
                schedule.asked(hostname, now)
            else:  # that question may be from before the change
                schedule.add_later(hostname, now)
        deadline = schedule.next_at()
        if deadline is not None:
            self._wait(deadline, now)
