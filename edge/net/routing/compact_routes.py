"""Routes that are kept compact, beside the table: what other processes learned, and what the table had no room for.

    other workers, the file, other edges ──learn──► shelf ──recall──► table   (at the first request)
                        told, saved ◄──untold─── shelf ◄──shelve─── table   (least used, when it is full)

A record (`route_records.py`) takes 800 bytes, a route in the table 5,000. Times in records are wall-clock time: the
monotonic clock of one process means nothing to another.
"""

import logging
from collections.abc import Callable, Iterator
from itertools import islice

from edge.net.redis.redis_routes import RedisRoutes
from edge.rules.balancing.environments import Environments
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import LONGEST
from edge.rules.routing.invalidation import LastChanges
from edge.rules.routing.route_records import Record, record_of, route_in
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy, InvalidAnswer, checked
from edge.rules.routing.routes import Route, Source
from edge.rules.routing.saved_route import SavedRoute

TOLD_AGAIN = 3600.0
"Seconds after which others are told that a route was confirmed, though nothing of it has changed."
CLOCKS_DIFFER = 1.0
"Seconds by which the clocks of two edges may differ."
MAX_UNTOLD = 100_000
"Routes that wait to be told to the others; more are not told."

log = logging.getLogger("styx.resolver")


class CompactRoutes:
    """Of one worker; at most `routes.capacity` records."""

    def __init__(
        self,
        table: RouteTable,
        environments: Environments,
        shared: RedisRoutes | None,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        policy: BackendPolicy,
    ) -> None:
        self.policy = policy
        "Where backends may be."
        self._table = table
        self._environments = environments
        self._shared = shared
        self._clock = clock
        self._wall = wall
        self._records: dict[str, Record] = {}
        "By hostname; the one that came last is the last."
        table.demote = self._shelve
        self.keeps = True
        "Whether any are kept here, and told to others: not while each worker has all of them anyway."
        self._untold: dict[str, None] = {}
        "Hostnames, in their order. (Not their routes: those that the table gives up meanwhile take no room.)"
        self._born = clock()
        self.doubted = LastChanges()
        "Records from before are stale: something of them has changed since."
        self._doubted_hostnames: dict[str, float] = {}
        "The same for hostnames with a record."
        self.revoked = LastChanges()
        "Of records from before, the core API is asked first: an operator wished it."

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._records

    def close(self) -> None:
        """Keep nothing more, and forget what is here."""
        self.keeps = False
        self._records.clear()
        self._doubted_hostnames.clear()
        self._untold.clear()

    def keep(self, record: Record) -> None:
        """Take a record; beyond `routes.capacity` the oldest is forgotten."""
        if not self.keeps:
            return
        self._records.pop(record.hostname, None)
        self._records[record.hostname] = record
        if len(self._records) > self._table.capacity:
            self._drop(next(iter(self._records)))

    def doubt(self, hostname: str, now: float) -> None:
        """It has changed: its record is stale. Not recalled: what a flood of changes names is not in use."""
        if hostname in self._records:
            self._doubted_hostnames[hostname] = now

    def _drop(self, hostname: str) -> Record | None:
        self._doubted_hostnames.pop(hostname, None)
        return self._records.pop(hostname, None)

    def recall(self, hostname: str) -> Route | None:
        """Take this from here into the table. None = nothing of use."""
        published_at = self._doubted_hostnames.get(hostname, -1.0)
        record = self._drop(hostname)
        said = None if record is None else _decoded(record)
        if record is None or said is None:
            return None
        now = self._clock()
        doubted_at = max(published_at, self._doubted_at(said))
        taken_at, *until = self._times(record, said, now, doubted_at)
        answer = said.answer
        if answer is None:
            self._table.adopt(hostname, None, taken_at=taken_at, until=(until[0],) * 3, now=now)
            return None
        if until[2] <= now:
            return None
        try:
            # Perhaps by an earlier version or by another edge, which allow other backends.
            answer, _ = checked(answer, hostname, self.policy)
        except InvalidAnswer as error:
            log.warning(
                "saved route not used", extra={"code": error.code, "hostname": hostname, "reason": str(error)}
            )
            return None
        route = self._table.adopt(
            hostname,
            answer,
            etag=said.etag,
            taken_at=taken_at,
            until=(until[0], until[1], until[2]),
            now=now,
            overrides=said.overrides,
        )
        route.doubted_at = max(route.doubted_at, doubted_at)
        if taken_at < self.revoked.of(answer.concerned_by()):
            route.takes_any = True
        return route

    def listed(self, start: int, site: str) -> Iterator[tuple[str, Route | None]]:
        """What is here, from this place on, in the order in which it came. None = it is not of this site ("" = of
        any), or nothing of use. While it is read, nothing may be put here."""
        now, mark = self._clock(), site.encode()
        for record in islice(self._records.values(), start, None):
            said = _decoded(record) if mark in record.data else None
            if said is None or said.answer is None:
                yield record.hostname, None
                continue
            route = Route(said.answer, said.etag)
            doubted_at = max(self._doubted_hostnames.get(record.hostname, -1.0), self._doubted_at(said))
            times = self._times(record, said, now, doubted_at)
            route.taken_at, route.fresh_until, route.expired_at, route.gone_at = times
            route.source = Source.TOLD
            yield record.hostname, route

    def _doubted_at(self, said: SavedRoute) -> float:
        """When something of it changed last. What changed before we were here may have been told to nobody."""
        return max(self._born, self.doubted.of(_concerned_by(said)))

    def _times(
        self, record: Record, said: SavedRoute, now: float, doubted_at: float
    ) -> tuple[float, float, float, float]:
        """On our clock: when it was confirmed, and until when it is fresh, stale and expired."""
        ahead = self._ahead
        taken_at = min(now, record.confirmed - ahead)
        # Whoever wrote it may have had a wrong clock: what was confirmed in the future is stale, and nothing holds
        # for longer than an answer of the core API could.
        fresh_until, expired_at, gone_at = (
            min(at - ahead, now + number * LONGEST)
            for number, at in enumerate((said.fresh, said.expired, said.gone), 1)
        )
        if record.confirmed - ahead > now + CLOCKS_DIFFER:
            fresh_until = min(fresh_until, now)
        if taken_at < doubted_at:
            fresh_until = min(fresh_until, doubted_at)
        if taken_at < self.revoked.of(_concerned_by(said)):
            fresh_until = expired_at = min(fresh_until, now)
        return taken_at, fresh_until, expired_at, gone_at

    def _shelve(self, hostname: str, route: Route) -> None:
        """The table has no room for it: nobody has asked for it for longer than for the others."""
        record = self._recorded(hostname, route) if self.keeps else None
        if record is not None:
            self.keep(record)
        environment = route.environment
        environment = route.environment
        if environment is None or environment.in_flight or route.answer is None:
            return
        if not self._table.index.count(Change("environment", route.answer.environment_key)):
            self._environments.forget(environment)

    # what others are told

    def to_tell(self, hostname: str, route: Route, now: float) -> None:
        """The core API has said or confirmed this: the other workers, and edges, shall know."""
        if not self.keeps:
            return
        self._drop(hostname)  # others may have told it meanwhile; the table knows better
        if self._table.is_full(route.answer):
            return
        if route.published_at < 0.0 or now - route.published_at >= TOLD_AGAIN:
            route.published_at = now
            if len(self._untold) < MAX_UNTOLD:
                self._untold[hostname] = None
            if self._shared is not None and route.answer is not None:
                record = self._recorded(hostname, route)
                if record is not None:
                    self._shared.put(record, route.gone_at + self._ahead)

    def take_untold(self, most: int, size: int) -> list[bytes]:
        """Records of hostnames that were learned here and are not told yet, at most so many, and no more once they
        have so many bytes; they are told then."""
        told: list[bytes] = []
        for hostname in list(islice(self._untold, most)):
            if size <= 0:
                break
            del self._untold[hostname]
            route = self._table.get(hostname)
            record = self._records.get(hostname) if route is None else self._recorded(hostname, route)
            if record is not None:
                told.append(record.data)
                size -= len(record.data)
        return told

    @property
    def _ahead(self) -> float:
        """Of the clock on the wall before ours, seconds."""
        return self._wall() - self._clock()

    def _recorded(self, hostname: str, route: Route) -> Record | None:
        """None = it cannot be written down: the core API may say what fits into no record."""
        ahead = self._ahead
        until = (route.fresh_until + ahead, route.expired_at + ahead, route.gone_at + ahead)
        try:
            return record_of(
                hostname, route.taken_at + ahead, SavedRoute(*until, route.etag, route.answer, route.overrides)
            )
        except ValueError as error:
            log.error(
                "route not kept", extra={"code": "route_not_encodable", "hostname": hostname, "error": str(error)}
            )
            return None


def _concerned_by(said: SavedRoute) -> tuple[Change, ...]:
    return () if said.answer is None else tuple(said.answer.concerned_by())


def _decoded(record: Record) -> SavedRoute | None:
    try:
        return route_in(record.data)
    except ValueError as error:
        log.error(
            "saved route unreadable",
            extra={"code": "saved_route_unreadable", "hostname": record.hostname, "error": str(error)},
        )
        return None
