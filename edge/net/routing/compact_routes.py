"""Stores routes as bytes, beside the route table: those of other processes, and those that the table demoted.

    other workers, files, other edges ──keep─────────────► compact routes ──promote──► table  (at the first request)
  other workers, routes.directory ◄─take_unpublished── compact routes ◄──demote─── table   (least used, when full)

A record (`route_records.py`) takes 800 bytes, a route in the table 5,000. Times in records are wall-clock time,
because the monotonic clock of one process has no meaning in another.
"""

import logging
from collections.abc import Callable, Iterator
from itertools import islice

from edge.net.redis.redis_routes import RedisRoutes
from edge.rules.balancing.environments import Environments
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import LONGEST
from edge.rules.routing.invalidation import LastChanges
from edge.rules.routing.route_records import LARGE, LARGE_EACH, Record, record_of, route_in
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy, InvalidResponse, checked
from edge.rules.routing.routes import ANOTHER_PROCESS, Route
from edge.rules.routing.saved_route import SavedRoute

SHARE_AGAIN_AFTER = 3600.0
"Seconds after which a confirmed route is shared again although nothing of it has changed."
CLOCKS_DIFFER = 1.0
"Seconds by which the clocks of two edges may differ."
MAX_UNPUBLISHED = 100_000
"Routes that may wait to be shared; those beyond it are not shared."

log = logging.getLogger("styx.resolver")


class CompactRoutes:
    """The compact routes of one worker: at most `routes.capacity` records."""

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
        "The addresses that backends may have."
        self._table = table
        self._environments = environments
        self._shared = shared
        self._clock = clock
        self._wall = wall
        self._records: dict[str, Record] = {}
        "By hostname, in the order of arrival."
        self._large = 0
        "Bytes of the large ones."
        table.demote = self._store_demoted
        self.is_enabled = True
        "Whether routes are stored here and shared. False while a pushed source gives each worker all of them."
        self._unpublished: dict[str, None] = {}
        "Hostnames whose routes wait to be shared, in order. (Not the routes: the table may demote them meanwhile.)"
        self._started_at = clock()
        self.doubted = LastChanges()
        "The last changes: records confirmed before them are stale."
        self._doubted_hostnames: dict[str, float] = {}
        "When a hostname with a record changed last, on `clock`."
        self.revoked = LastChanges()
        "The last invalidations by operators: records confirmed before them are expired, and looked up first."

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._records

    def close(self) -> None:
        """Store no more routes, and remove all records."""
        self.is_enabled = False
        self._records.clear()
        self._large = 0
        self._doubted_hostnames.clear()
        self._unpublished.clear()

    def keep(self, record: Record) -> None:
        """Store a record; beyond `routes.capacity` the oldest is removed. A large one is stored only while there
        are few of those (`route_records.LARGE_EACH`)."""
        if not self.is_enabled:
            return
        self._remove(record.hostname)
        large = self._large + _size_if_large(record)
        if large > max(self._large, self._table.capacity * LARGE_EACH):
            return
        self._records[record.hostname] = record
        self._large = large
        if len(self._records) > self._table.capacity:
            self._drop(next(iter(self._records)))

    def mark_stale(self, hostname: str, now: float) -> None:
        """Mark the record of a changed hostname stale.

        It is not recalled, because most hostnames that a flood of changes names are not in use.
        """
        if hostname in self._records:
            self._doubted_hostnames[hostname] = now

    def _drop(self, hostname: str) -> Record | None:
        self._doubted_hostnames.pop(hostname, None)
        return self._remove(hostname)

    def _remove(self, hostname: str) -> Record | None:
        record = self._records.pop(hostname, None)
        if record is not None:
            self._large -= _size_if_large(record)
        return record

    def promote(self, hostname: str) -> Route | None:
        """Move the route of this hostname into the table. Returns None if there is no usable record."""
        published_at = self._doubted_hostnames.get(hostname, -1.0)
        record = self._drop(hostname)
        saved = None if record is None else _decoded(record)
        if record is None or saved is None:
            return None
        now = self._clock()
        changed_at = max(published_at, self._doubted_at(saved))
        taken_at, *until = self._times(record, saved, now, changed_at)
        response = saved.response
        if response is None:
            self._table.adopt(hostname, None, taken_at=taken_at, until=(until[0],) * 3, now=now)
            return None
        if until[2] <= now:
            return None
        try:
            # The record may be from an earlier version or from another edge, which allow other backends.
            response, _ = checked(response, hostname, self.policy)
        except InvalidResponse as error:
            log.warning(
                "saved route not used", extra={"code": error.code, "hostname": hostname, "reason": str(error)}
            )
            return None
        route = self._table.adopt(
            hostname,
            response,
            etag=saved.etag,
            taken_at=taken_at,
            until=(until[0], until[1], until[2]),
            now=now,
            overrides=saved.overrides,
        )
        route.changed_at = max(route.changed_at, changed_at)
        if taken_at < self.revoked.of(response.concerned_by()):
            route.accepts_any = True
        return route

    def listed(self, start: int, site: str) -> Iterator[tuple[str, Route | None]]:
        """Hostnames and routes from index `start` on, in the order of arrival.

        The route is None if it is not of `site` ("" = of any site), or if the record is not usable. Records must
        not be added or removed while the iterator is read.
        """
        now, mark = self._clock(), site.encode()
        for record in islice(self._records.values(), start, None):
            saved = _decoded(record) if mark in record.data else None
            if saved is None or saved.response is None:
                yield record.hostname, None
                continue
            route = Route(saved.response, saved.etag)
            changed_at = max(self._doubted_hostnames.get(record.hostname, -1.0), self._doubted_at(saved))
            times = self._times(record, saved, now, changed_at)
            route.taken_at, route.fresh_until, route.expired_at, route.gone_at = times
            route.source = ANOTHER_PROCESS
            yield record.hostname, route

    def containing(self, mark: str) -> Iterator[RouteResponse | None]:
        """The responses in the records of now, each None unless the record contains the text `mark`."""
        encoded = mark.encode()
        for record in list(self._records.values()):
            saved = _decoded(record) if encoded in record.data else None
            yield None if saved is None else saved.response

    def _doubted_at(self, saved: SavedRoute) -> float:
        """When something of this route changed last.

        Changes before the start of this process may have been missed, so that is the earliest time.
        """
        return max(self._started_at, self.doubted.of(_concerned_by(saved)))

    def _times(
        self, record: Record, saved: SavedRoute, now: float, changed_at: float
    ) -> tuple[float, float, float, float]:
        """On `clock`: when the record was confirmed, and until when it is fresh, stale and expired."""
        ahead = self._ahead
        taken_at = min(now, record.confirmed - ahead)
        # The writer may have had a wrong clock: a record confirmed in the future is stale, and no record is valid
        # for longer than a response of the core API could be.
        fresh_until, expired_at, gone_at = (
            min(at - ahead, now + number * LONGEST)
            for number, at in enumerate((saved.fresh, saved.expired, saved.gone), 1)
        )
        if record.confirmed - ahead > now + CLOCKS_DIFFER:
            fresh_until = min(fresh_until, now)
        if taken_at < changed_at:
            fresh_until = min(fresh_until, changed_at)
        if taken_at < self.revoked.of(_concerned_by(saved)):
            fresh_until = expired_at = min(fresh_until, now)
        return taken_at, fresh_until, expired_at, gone_at

    def _store_demoted(self, hostname: str, route: Route) -> None:
        """Store the least recently used route of a full table."""
        record = self._encoded(hostname, route) if self.is_enabled else None
        if record is not None:
            self.keep(record)
        environment = route.environment
        if environment is None or environment.in_flight or route.response is None:
            return
        if not self._table.index.count(Change("environment", route.response.environment_key)):
            self._environments.forget(environment)

    # sharing with other workers and edges

    def publish(self, hostname: str, route: Route, now: float) -> None:
        """Share a route that the core API has returned or confirmed with the other workers and edges."""
        if not self.is_enabled:
            return
        self._drop(hostname)  # a record received meanwhile: the route in the table is newer
        if self._table.is_full(route.response):
            return
        if route.published_at < 0.0 or now - route.published_at >= SHARE_AGAIN_AFTER:
            route.published_at = now
            if len(self._unpublished) < MAX_UNPUBLISHED:
                self._unpublished[hostname] = None
            if self._shared is not None and route.response is not None:
                record = self._encoded(hostname, route)
                if record is not None:
                    self._shared.put(record, route.gone_at + self._ahead)

    def take_unpublished(self, most: int, size: int) -> list[bytes]:
        """Records of routes that were learned here and are not shared yet; afterwards they count as shared.

        `most`: hostnames. `size`: bytes; no further record is taken once the records have as many.
        """
        taken: list[bytes] = []
        for hostname in list(islice(self._unpublished, most)):
            if size <= 0:
                break
            del self._unpublished[hostname]
            route = self._table.get(hostname)
            record = self._records.get(hostname) if route is None else self._encoded(hostname, route)
            if record is not None:
                taken.append(record.data)
                size -= len(record.data)
        return taken

    @property
    def _ahead(self) -> float:
        """Seconds by which the wall clock is ahead of `clock`."""
        return self._wall() - self._clock()

    def _encoded(self, hostname: str, route: Route) -> Record | None:
        """The record of a route. None if it cannot be encoded: the core API may send numbers that are too large."""
        ahead = self._ahead
        until = (route.fresh_until + ahead, route.expired_at + ahead, route.gone_at + ahead)
        try:
            return record_of(
                hostname, route.taken_at + ahead, SavedRoute(*until, route.etag, route.response, route.overrides)
            )
        except ValueError as error:
            log.error(
                "route not stored", extra={"code": "route_not_encodable", "hostname": hostname, "error": str(error)}
            )
            return None


def _size_if_large(record: Record) -> int:
    return len(record.data) if len(record.data) > LARGE else 0


def _concerned_by(saved: SavedRoute) -> tuple[Change, ...]:
    return () if saved.response is None else tuple(saved.response.concerned_by())


def _decoded(record: Record) -> SavedRoute | None:
    try:
        return route_in(record.data)
    except ValueError as error:
        log.error(
            "saved route unreadable",
            extra={"code": "saved_route_unreadable", "hostname": record.hostname, "error": str(error)},
        )
        return None
