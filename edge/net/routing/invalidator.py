"""Applies changes that the platform, another edge or an operator reports to the routes of one worker.

    changed ──► pending ──► slices ──► stale ──► in use ──► refresher ──► lookup at the core API
                each once    1 ms each       └──► at its next request ──┘   at a bounded rate

Requests are not delayed, however many changes are reported and whatever they concern: the queue of changes is
bounded, routes are found by an index, marking them takes a bounded share of the loop, and the lookups that follow
are spread over time. A stale route is served meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.route_refresher import RouteRefresher
from edge.net.time_slices import TimeSlices
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import KINDS
from edge.rules.routing.pending_changes import PendingChanges
from edge.rules.routing.route_table import RouteTable

IN_USE = 60.0
"Seconds: a changed route with a request within them is looked up again, others at their next request."


class CertificateChanges(Protocol):
    """The interface through which a worker's certificates learn of changes."""

    def changed(self, name: str) -> None:
        """Something about the certificate of this name, or wildcard, has changed."""

    def all_changed(self) -> None:
        """Everything may have changed."""

    def invalidate(self, name: str) -> bool:
        """Ask for this name before its next use. Returns whether anything was known."""


class RouteInvalidator:
    """Marks routes stale when something of them has changed, and expired when an operator invalidates them. Changes
    of certificates are passed on."""

    def __init__(
        self,
        table: RouteTable,
        compact_routes: CompactRoutes,
        refresher: RouteRefresher,
        *,
        clock: Callable[[], float],
        pending: PendingChanges | None = None,
        slices: TimeSlices | None = None,
    ) -> None:
        self.certificates: CertificateChanges | None = None
        "None = no listener has TLS."
        self._table = table
        self._compact_routes = compact_routes
        self._refresher = refresher
        self._clock = clock
        self._pending = PendingChanges() if pending is None else pending
        self._slices = TimeSlices() if slices is None else slices
        self._commands: dict[Change, asyncio.Future[int]] = {}
        "Invalidations by operators that wait to be executed."
        self._working = False
        "Whether work is scheduled in the slices."
        self._timer: asyncio.TimerHandle | None = None
        "For a pending change that may not be applied yet."

    def changed(self, changes: Iterable[Change]) -> None:
        """Apply these changes soon: routes concerned become stale, and those in use are looked up again."""
        self._pending.add(changes)
        self._start_work()

    async def invalidate(self, change: Change) -> int:
        """An operator's command: expire all routes concerned, so that each is looked up before it serves a request.

        Returns the number of hostnames concerned, without compact routes. The same command, given again before it
        is executed, is executed once. Raises ValueError for a change of an unknown kind.
        """
        if change.kind not in KINDS:
            raise ValueError(f"{change.kind} is none of {', '.join(KINDS)}")
        if change.kind == "certificate":
            return int(self.certificates is not None and self.certificates.invalidate(_canonical(change.name)))
        if change.kind == "hostname":
            self._compact_routes.promote(change.name)
            return int(self._table.invalidate(change.name))
        waiting = self._commands.get(change)
        if waiting is None:
            waiting = self._commands[change] = asyncio.get_running_loop().create_future()
            self._start_work()
        return await asyncio.shield(waiting)

    def close(self) -> None:
        """Stop; pending changes are dropped, and waiting commands are cancelled."""
        self._slices.close()
        self._refresher.close()
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._commands.values():
            waiting.cancel()

    def _start_work(self) -> None:
        if not self._working:
            self._working = True
            self._slices.add(self._work())

    def _work(self) -> Iterator[None]:
        """Execute commands and apply changes, one after the other. Duplicates that wait are done once."""
        try:
            while True:
                if self._commands:
                    command = next(iter(self._commands))
                    yield from self._execute(command, self._commands.pop(command))
                elif (change := self._pending.take(self._clock())) is not None:
                    yield from self._apply(change)
                else:
                    break
        finally:
            self._working = False
        self._set_timer()

    def _set_timer(self) -> None:
        now = self._clock()
        due_at = self._pending.due_at(now)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if due_at is not None:
            self._timer = asyncio.get_running_loop().call_later(due_at - now, self._start_work)

    def _apply(self, change: Change) -> Iterator[None]:
        now, name, certificates = self._clock(), change.name, self.certificates
        if change.kind == "certificate":
            if certificates is not None:
                certificates.changed(_canonical(name))
            return
        if change.kind == "all" and certificates is not None:
            certificates.all_changed()
        if change.kind == "hostname":
            self._table.forget_unknown_host(name)
            self._compact_routes.mark_stale(name, now)
            concerned = [name]
        else:
            self._compact_routes.doubted.note(change, now)
            concerned = self._concerned(change)
        yield
        # Whether a change of everything concerns a certain route is unknown: routes are looked up at their next
        # request.
        in_use_since = now - IN_USE if change.kind != "all" else float("inf")
        peek, refresher = self._table.peek, self._refresher
        for hostname in concerned:
            route = peek(hostname)
            if route is not None:
                route.mark_stale(now)
                if route.used_at > in_use_since:
                    refresher.changed(hostname, now)
            yield

    def _execute(self, change: Change, waiting: "asyncio.Future[int]") -> Iterator[None]:
        try:
            if change.kind == "all" and self.certificates is not None:
                self.certificates.all_changed()
            self._compact_routes.revoked.note(change, self._clock())
            count = self._table.forget_unknown_hosts() if change.kind == "all" else 0
            for hostname in self._concerned(change):
                count += self._table.invalidate(hostname)
                yield
            if not waiting.done():
                waiting.set_result(count)
        finally:
            waiting.cancel()  # a failed command must not leave its callers waiting

    def _concerned(self, change: Change) -> list[str]:
        return self._table.hostnames() if change.kind == "all" else self._table.index.hostnames(change)


def _canonical(name: str) -> str:
    """The name of a certificate as tables have it."""
    return name.lower().removesuffix(".")
