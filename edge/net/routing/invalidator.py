"""What the platform, another edge or an operator tells to have changed, as one worker takes it.

    changed ──► pending ──► slices ──► stale ──► in use ──► refresher ──► the core API is asked
                each once    1 ms each       └──► at its next request ──┘   so many times a second

However many changes are told, and whatever they concern, requests go on: changes wait in a bounded place, routes
are found by an index, marking them takes a bounded share of the loop, and the questions that follow are spread.
A stale route is served meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.route_refresher import RouteRefresher
from edge.net.time_slices import TimeSlices
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import KINDS
from edge.rules.routing.pending_changes import PendingChanges
from edge.rules.routing.route_table import RouteTable

IN_USE = 60.0
"Seconds: a route with a request within them is asked for when it has changed, others at their next request."


class RouteInvalidator:
    """Makes routes stale when something of them has changed, and expires them when an operator says so."""

    def __init__(
        self,
        table: RouteTable,
        shelf: CompactRoutes,
        refresher: RouteRefresher,
        *,
        clock: Callable[[], float],
        pending: PendingChanges | None = None,
        slices: TimeSlices | None = None,
    ) -> None:
        self._table = table
        self._shelf = shelf
        self._refresher = refresher
        self._clock = clock
        self._pending = PendingChanges() if pending is None else pending
        self._slices = TimeSlices() if slices is None else slices
        self._orders: dict[Change, asyncio.Future[int]] = {}
        "Of operators, less the one that is being carried out."
        self._working = False
        "Whether there is a work in the slices."
        self._later: asyncio.TimerHandle | None = None
        "For a change that is not due yet."

    def changed(self, changes: Iterable[Change]) -> None:
        """Something of these has changed: what is known of them is stale, and what is in use is asked for, soon."""
        self._pending.add(changes)
        self._go_on()

    async def invalidate(self, change: Change) -> int:
        """An operator's order: of what this concerns the core API is asked before the next request is served.

        Returns how many hostnames that are, without those that are kept compact. The same order, given again before
        it is carried out, is one. Raises ValueError for a change of no known kind.
        """
        if change.kind not in KINDS:
            raise ValueError(f"{change.kind} is none of {', '.join(KINDS)}")
        if change.kind == "hostname":
            self._shelf.recall(change.name)
            return int(self._table.invalidate(change.name))
        order = self._orders.get(change)
        if order is None:
            order = self._orders[change] = asyncio.get_running_loop().create_future()
            self._go_on()
        return await asyncio.shield(order)

    def close(self) -> None:
        """Leave undone what is left."""
        self._slices.close()
        self._refresher.close()
        if self._later is not None:
            self._later.cancel()
        for order in self._orders.values():
            order.cancel()

    def _go_on(self) -> None:
        if not self._working:
            self._working = True
            self._slices.add(self._work())

    def _work(self) -> Iterator[None]:
        """One after the other; what is told again before its turn is done once."""
        try:
            while True:
                if self._orders:
                    order = next(iter(self._orders))
                    yield from self._carry_out(order, self._orders.pop(order))
                elif (change := self._pending.take(self._clock())) is not None:
                    yield from self._apply(change)
                else:
                    break
        finally:
            self._working = False
        self._wait_for_the_rest()

    def _wait_for_the_rest(self) -> None:
        now = self._clock()
        due_at = self._pending.due_at(now)
        if self._later is not None:
            self._later.cancel()
        self._later = None
        if due_at is not None:
            self._later = asyncio.get_running_loop().call_later(due_at - now, self._go_on)

    def _apply(self, change: Change) -> Iterator[None]:
        now, name = self._clock(), change.name
        if change.kind == "hostname":
            self._table.forget_absent(name)
            self._shelf.doubt(name, now)
            concerned = [name]
        else:
            self._shelf.doubted.note(change, now)
            concerned = self._concerned(change)
        yield
        # What everything means for each of them nobody knows: those are asked for at their next request.
        in_use_since = now - IN_USE if change.kind != "all" else float("inf")
        peek, refresher = self._table.peek, self._refresher
        for hostname in concerned:
            route = peek(hostname)
            if route is not None:
                route.doubt(now)
                if route.used_at > in_use_since:
                    refresher.changed(hostname, now)
            yield

    def _carry_out(self, change: Change, order: "asyncio.Future[int]") -> Iterator[None]:
        try:
            self._shelf.revoked.note(change, self._clock())
            hits = self._table.forget_all_absent() if change.kind == "all" else 0
            for hostname in self._concerned(change):
                hits += self._table.invalidate(hostname)
                yield
            if not order.done():
                order.set_result(hits)
        finally:
            order.cancel()  # whoever waits shall not wait for ever

    def _concerned(self, change: Change) -> list[str]:
        return self._table.hostnames() if change.kind == "all" else self._table.index.hostnames(change)
