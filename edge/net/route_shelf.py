"""Routes that are kept compact, beside the table: what other processes learned, and what the table had no room for.

    other workers, the file, other edges ──learn──► shelf ──recall──► table   (at the first request)
                        told, saved ◄──untold─── shelf ◄──shelve─── table   (least used, when it is full)

A record (`rules/route_records.py`) is eight hundred bytes, a route in the table five thousand. Times in records
are of the clock on the wall, for a clock of a process means nothing to another one.
"""

import logging
from collections.abc import Callable

from edge.net.shared_routes import SharedRoutes
from edge.rules.changes import LastChanges
from edge.rules.environments import Environments
from edge.rules.route_records import Record, SavedRoute, record_of, route_in
from edge.rules.route_table import RouteTable
from edge.rules.routes import Route

TOLD_AGAIN = 3600.0
"Seconds after which others are told that a route was confirmed, though nothing of it has changed."
MAX_UNTOLD = 100_000
"Routes that wait to be told to the others; more are not told."

log = logging.getLogger("styx.resolver")


class RouteShelf:
    """Of one worker; at most `routes.capacity` records."""

    def __init__(
        self,
        table: RouteTable,
        environments: Environments,
        shared: SharedRoutes | None,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._table = table
        self._environments = environments
        self._shared = shared
        self._clock = clock
        self._wall = wall
        self._records: dict[str, Record] = {}
        "By hostname; the one that came last is the last."
        table.shelve = self._shelve
        self._untold: dict[str, Route] = {}
        self._born = clock()
        self.doubted = LastChanges()
        "Records from before are stale: something of them has changed since."
        self.revoked = LastChanges()
        "Of records from before, the core API is asked first: an operator wished it."

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._records

    def keep(self, record: Record) -> None:
        """Take a record; beyond `routes.capacity` the oldest is forgotten."""
        self._records.pop(record.hostname, None)
        self._records[record.hostname] = record
        if len(self._records) > self._table.capacity:
            del self._records[next(iter(self._records))]

    def recall(self, hostname: str) -> Route | None:
        """Take this from here into the table. None = nothing of use."""
        record = self._records.pop(hostname, None)
        if record is None:
            return None
        try:
            said = route_in(record.data)
        except ValueError as error:
            log.error("%s: %s", hostname, error)
            return None
        now, ahead = self._clock(), self._ahead
        taken_at = min(now, record.confirmed - ahead)
        fresh_until, expired_at, gone_at = (at - ahead for at in (said.fresh, said.expired, said.gone))
        concerned_by = () if said.answer is None else tuple(said.answer.concerned_by())
        # What changed before we were here may have been told to nobody.
        if taken_at < max(self._born, self.doubted.of(concerned_by)):
            fresh_until = min(fresh_until, now)
        if taken_at < self.revoked.of(concerned_by):
            fresh_until = expired_at = min(fresh_until, now)
        if said.answer is None:
            self._table.adopt(hostname, Route(None, None, None), taken_at=taken_at, until=(fresh_until,) * 3)
            return None
        if gone_at <= now:
            return None
        environment = self._environments.get(said.answer.site, said.answer.environment, now)
        route = Route(said.answer, environment, said.etag)
        until = (fresh_until, expired_at, gone_at)
        return self._table.adopt(hostname, route, taken_at=taken_at, until=until)

    def _shelve(self, hostname: str, route: Route) -> None:
        """The table has no room for it: nobody has asked for it for longer than for the others."""
        self.keep(self._recorded(hostname, route))
        environment = route.environment
        if environment is not None:
            environment.hostnames.discard(hostname)
            if not environment.hostnames and not environment.in_flight:
                self._environments.forget(environment)

    # what others are told

    def to_tell(self, hostname: str, route: Route, now: float) -> None:
        """The core API has said or confirmed this: the other workers, and edges, shall know."""
        if route.told_at < 0.0 or now - route.told_at >= TOLD_AGAIN:
            route.told_at = now
            if len(self._untold) < MAX_UNTOLD:
                self._untold[hostname] = route
            if self._shared is not None and route.answer is not None:
                self._shared.put(self._recorded(hostname, route), route.gone_at + self._ahead)

    def untold(self) -> list[bytes]:
        """Records of what was learned here since the last call."""
        told = [self._recorded(hostname, route).data for hostname, route in self._untold.items()]
        self._untold.clear()
        return told

    @property
    def _ahead(self) -> float:
        """Of the clock on the wall before ours, seconds."""
        return self._wall() - self._clock()

    def _recorded(self, hostname: str, route: Route) -> Record:
        ahead = self._ahead
        until = (route.fresh_until + ahead, route.expired_at + ahead, route.gone_at + ahead)
        return record_of(hostname, route.taken_at + ahead, SavedRoute(*until, route.etag, route.answer))
