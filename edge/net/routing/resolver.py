"""Resolves hostnames to routes: from the table, or by one lookup at the core API for all requests that wait.

The fast path is `RouteTable.get` and one comparison, done by the exchange itself. All asynchronous work of lookups
is here. Routes that other processes learned are stored beside the table (`compact_routes.py`), and are decoded at
the first request for their hostname.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from edge.net.fair_timeout import FairTimeout
from edge.net.redis.redis_routes import RedisRoutes
from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.core_api import CoreApiError, LookupResult
from edge.net.routing.invalidator import RouteInvalidator
from edge.net.routing.lookup_admission import LookupAdmission, LookupTask, route_of
from edge.net.routing.lookup_circuit import LookupCircuit
from edge.net.routing.lookups.lookup_problems import LookupProblems
from edge.net.routing.lookups.lookup_shares import LookupShares
from edge.net.routing.lookups.lookup_wait import deliver_in_time
from edge.net.routing.route_refresher import RouteRefresher
from edge.net.routing.route_source import RouteSource
from edge.net.time_slices import TimeSlices
from edge.rules.balancing.circuit_breaker import FAILURES
from edge.rules.balancing.environments import Environments
from edge.rules.limits.lookup_queue import Done
from edge.rules.limits.unknown_host_limit import LookupPriority, UnknownHostLimit
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import Freshness
from edge.rules.routing.invalidation import understood
from edge.rules.routing.lookup_failures import LookupFailures, LookupState
from edge.rules.routing.pending_changes import PendingChanges
from edge.rules.routing.removal_guard import MASS_WINDOW
from edge.rules.routing.route_records import Record
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_table import Rejection, RouteTable, Stored, is_news
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.routing.routes import Route
from edge.rules.settings import CoreApiSettings

PAUSE_AFTER_FAILURE = 2.0
"Seconds after a failed lookup before a known hostname is looked up again, and up to twice as many."
FORCED_PAUSE = 1.0
FORCED_BURST = 5
"Failing backends can cause a burst of lookups of one hostname, and then one in each pause (seconds)."
MAX_WAITING, MAX_UNKNOWN_WAITING = 20_000, 10_000
"Lookups that may be under way when one of a known hostname begins, and when one of an unknown hostname begins."
AGAIN_AFTER = 0.1
"Seconds, with 50 % jitter to both sides, after which a failed request to the core API is retried once."
HANGING = "the core API hangs"
"The message with which a lookup is cancelled."
MAX_DISCOVERED = 1000
"Changes that may wait to be published to other edges; beyond it, everything has changed."

log = logging.getLogger("styx.resolver")


class RouteResolver:
    """The resolver of one worker."""

    def __init__(
        self,
        settings: CoreApiSettings,
        *,
        table: RouteTable,
        environments: Environments,
        core_api: RouteSource,
        unknown_host_limit: UnknownHostLimit,
        clock: Callable[[], float],
        rand: Callable[[], float],
        wall: Callable[[], float] = time.time,
        shared: RedisRoutes | None = None,
        policy: BackendPolicy | None = None,
        slices: TimeSlices | None = None,
    ) -> None:
        self.table = table
        self.environments = environments
        self.core_api = core_api
        self.exists: Callable[[str], bool] = lambda hostname: False
        "Whether a pushed source has this hostname, which then is no unknown host. False for an asked source."
        self._settings = settings
        self._clock, self._rand = clock, rand
        self.policy = policy or BackendPolicy()
        "The addresses that backends may have."
        self.compact_routes = CompactRoutes(table, environments, shared, clock=clock, wall=wall, policy=self.policy)
        self._lookups: dict[str, LookupTask] = {}
        self._asked: set[str] = set()  # those that have had a slot
        self.lookups = LookupAdmission(
            unknown_host_limit,
            clock=clock,
            timeout=settings.timeout,
            look_up=self._ask_once,
            resolve_known=self._resolve_known,
            is_rejected=lambda hostname: self._failures.is_rejected(hostname),
        )
        self._shared = shared
        self.refresher = RouteRefresher(table, ask=self._ask_for_changed, clock=clock, rand=rand)
        self.invalidator = RouteInvalidator(table, self.compact_routes, self.refresher, clock=clock, slices=slices)
        self.discovered = PendingChanges(limit=MAX_DISCOVERED)
        "Changes found by lookups that no change stream had reported, and not published to other edges yet."
        self._slots = LookupShares(settings.concurrency)
        self._silent_since = 0.0
        "When the core API last responded, or when the first of the present lookups began."
        self._hang_check: asyncio.TimerHandle | None = None
        self._circuit = LookupCircuit(table, self._lookups, start=self._start_lookup, clock=clock, rand=rand)
        self._failures = LookupFailures()
        "The failed lookups of hostnames without a route."
        self._problems = LookupProblems(clock)
        self.not_accepted = dict.fromkeys(Rejection, 0)
        "Responses that did not replace a known route, by reason."

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Apply these settings to new lookups; those under way keep the old ones."""
        if settings.concurrency != self._settings.concurrency:
            self._slots = LookupShares(settings.concurrency)
        self._settings = settings
        self.lookups.timeout = settings.timeout
        self.core_api.reconfigure(settings)

    def replace_source(self, source: RouteSource) -> None:
        """Use this source for new lookups. The old one finishes its lookups, and is closed after the timeout."""
        before, self.core_api = self.core_api, source
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.timeout, lambda: loop.create_task(before.close()))

    def renew_token(self) -> None:
        """Read the core API's token again, after its file has changed."""
        self.core_api.reconfigure(self._settings)

    def resolve(
        self, hostname: str, done: Done, client: str = "", refused: Callable[[], None] | None = None
    ) -> None:
        """Look up the route of this hostname.

        `done` receives the route that is valid now, or None if the lookup failed and no route is known. If there is
        no such hostname, `client` is charged for the lookup. If it has asked for too many of those, `refused` is
        called instead, but never for a known hostname.
        """
        refused, done = refused or partial(done, None), partial(self._deliver, done)
        if self._failures.is_paused(hostname, self._clock()):
            done(None)
        elif not self._resolve_known(hostname, done):
            self.lookups.submit(hostname, client, done, refused)

    def _deliver(self, done: Done, route: Route | None) -> None:
        if route is not None:
            route.used_at = self._clock()
        done(route)

    def resolve_again(self, hostname: str, done: Done) -> None:
        """The same for a request whose backends failed: it waits for the whole lookup."""
        done = partial(self._deliver, done)
        if not self._resolve_known(hostname, done, patient=True):
            self.lookups.submit(hostname, "", done, partial(done, None))

    def _resolve_known(self, hostname: str, done: Done, *, patient: bool = False) -> bool:
        """Resolve a hostname that is known, or whose lookup is under way. Returns False if it is neither."""
        saved, now = self.compact_routes.promote(hostname), self._clock()
        if saved is not None and now < saved.expired_at:
            self.refresh(hostname, saved, now)
            done(saved)
            return True
        if hostname not in self._lookups and self.table.peek(hostname) is None and not self.exists(hostname):
            return False
        task, route = self._ask_once(hostname), self._usable(hostname)
        if task is None or (route is not None and route.last_error is not None and not patient):
            done(route)
        elif route is None or patient:
            task.add_done_callback(lambda task: done(route_of(task)))
        else:
            deliver_in_time(task, done, partial(self._usable, hostname), self._settings.timeout, self._clock)
        return True

    def refresh(self, hostname: str, route: Route, now: float) -> None:
        """Look up a stale route in the background; cheap enough for every stale hit. Changed routes are looked up
        at a bounded rate, because in a flood of changes every hit is stale."""
        if hostname not in self._lookups and now >= route.no_lookup_before:
            if route.fresh_until <= route.changed_at:
                self.refresher.used(hostname, now)
            else:
                self._ask_once(hostname)

    def can_claim_lookup(self, hostname: str, route: Route, now: float) -> bool:
        """Whether `claim_lookup` would succeed now."""
        # GCRA, the leaky bucket in one number (ITU-T I.371).
        return hostname in self._lookups or route.forced_due - now <= (FORCED_BURST - 1) * FORCED_PAUSE

    def claim_lookup(self, hostname: str, route: Route, now: float) -> bool:
        """Claim a lookup ahead of time, because a backend fails, or join one under way. Returns False when backends
        of this hostname have caused too many lookups; otherwise the lookup is charged."""
        if hostname in self._lookups:
            return True
        if not self.can_claim_lookup(hostname, route, now):
            return False
        route.forced_due = max(route.forced_due, now) + FORCED_PAUSE
        return True

    def refresh_in_background(self, hostname: str) -> None:
        """Look up a hostname in the background, however fresh its route: a backend was not at its endpoint."""
        self._ask_once(hostname)

    @property
    def lookups_under_way(self) -> int:
        """Lookups under way, with those that wait for a slot or for admission."""
        return len(self._lookups) + self.lookups.waiting

    def known_route(self, hostname: str) -> Route | None:
        """The route that is known, from the table or the compact routes, without a lookup."""
        self.compact_routes.promote(hostname)
        return self.table.get(hostname)

    def lookup_state(self, hostname: str) -> LookupState:
        """The state of the lookups of this hostname."""
        now, failure = self._clock(), self._failures.get(hostname)
        paused = failure.at + failure.pause - now if failure is not None else 0.0
        if failure is None and self._circuit.is_open and hostname not in self.table:
            failure = self._failures.latest
        return LookupState(
            failure,
            is_under_way=hostname in self._lookups or self.lookups.is_waiting(hostname),
            circuit_open=self._circuit.is_open,
            wait=max(0.0, paused, self._circuit.wait(now)),
        )

    def learn(self, found: Iterable[Record]) -> None:
        """Store records that another worker, or an earlier one, received. Takes microseconds for each."""
        table = self.table
        for record in found:
            self.compact_routes.keep(record)
            if record.hostname in table:
                self.compact_routes.promote(record.hostname)

    def _ask_for_changed(self, hostname: str) -> bool:
        if hostname in self._lookups:
            return False
        self._ask_once(hostname)
        return True

    async def close(self) -> None:
        """Cancel all lookups, and close the source and the connection to Redis."""
        self.lookups.close()
        self.invalidator.close()
        if self._hang_check is not None:
            self._hang_check.cancel()
        for task in list(self._lookups.values()):
            task.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)
        await self.core_api.close()
        if self._shared is not None:
            await self._shared.close()

    def _ask_once(self, hostname: str, priority: LookupPriority = LookupPriority.KNOWN) -> LookupTask | None:
        task = self._lookups.get(hostname)
        if task is None:
            most = MAX_WAITING if self.table.peek(hostname) is not None else MAX_UNKNOWN_WAITING
            if len(self._lookups) >= most or not self._circuit.claim_lookup(hostname):
                return None
            task = self._start_lookup(hostname, priority)
        return task

    def _start_lookup(self, hostname: str, priority: LookupPriority = LookupPriority.KNOWN) -> LookupTask:
        loop = asyncio.get_running_loop()
        if not self._lookups:
            self._silent_since = self._clock()
        if self._hang_check is None:
            self._hang_check = loop.call_later(self._settings.timeout / 8, self._check_hang)
        task = loop.create_task(self._ask(hostname, priority), name=f"look up {hostname}")
        self._lookups[hostname] = task
        task.add_done_callback(lambda _: self._ended(hostname))
        return task

    def _ended(self, hostname: str) -> None:
        self._lookups.pop(hostname, None)
        self._asked.discard(hostname)

    def _check_hang(self) -> None:
        """Cancel all lookups if the core API was silent for half of the timeout: requests need not wait longer."""
        self._hang_check = None
        if not self._lookups:
            return
        silent = (self._clock() - self._silent_since) / self._settings.timeout
        if len(self._lookups) >= FAILURES:
            if silent >= 0.5:
                for task in list(self._lookups.values()):
                    task.cancel(HANGING)
            elif silent >= 0.25:  # perhaps only for the hostnames that it is asked for
                self._circuit.ask_witnesses()
        self._hang_check = asyncio.get_running_loop().call_later(self._settings.timeout / 8, self._check_hang)

    async def _ask(self, hostname: str, priority: LookupPriority) -> Route | None:
        """One lookup with its deadline, which includes the wait for a slot. Raises nothing but CancelledError."""
        known, began = self.table.peek(hostname), self._clock()
        etag = known.validator if known is not None else None
        time_limit = self._settings.timeout / 2 if self._circuit.is_open else self._settings.timeout
        if known is None and self._shared is not None and self.compact_routes.is_enabled:
            route = await self._from_redis(hostname)
            if route is not None:
                return route
        try:
            async with FairTimeout(time_limit):
                result = await self._ask_source(hostname, etag, priority)
        except TimeoutError:
            return self._no_response(hostname, f"no response within {time_limit:g} s")
        except asyncio.CancelledError as error:
            if HANGING not in error.args:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return self._no_response(hostname, f"no response to any lookup for {self._settings.timeout / 2:g} s")
        except CoreApiError as error:
            if not error.service_failed:
                self._record_response()
            return self._failed(hostname, error)
        except Exception as error:  # a fault of styx must not leave requests waiting
            log.exception(
                "route lookup failed with an internal error",
                extra={"code": "route_lookup_failed", "hostname": hostname},
            )
            return self._failed(hostname, CoreApiError(f"{type(error).__name__}: {error}", service_failed=False))
        self._record_response()
        return self._apply_result(hostname, result, began)

    def _no_response(self, hostname: str, message: str) -> Route | None:
        if hostname in self._asked:
            self.core_api.timed_out()
        else:
            message += ", and no free slot of core_api.concurrency"
        return self._failed(hostname, CoreApiError(message))

    def _record_response(self) -> None:
        """Record that the core API has responded; the circuit closes."""
        self._silent_since = self._clock()
        if self._circuit.record_response():
            log.warning("core API circuit closed", extra={"code": "core_api_circuit_closed"})

    def _apply_result(self, hostname: str, result: LookupResult, began: float) -> Route | None:
        """Apply the result of a lookup that began at `began`. Returns the route that is valid now."""
        now, known = self._clock(), self.table.peek(hostname)
        self._failures.forget(hostname)
        for remark in result.remarks:
            self._problems.record(hostname, remark.code, remark.words)
        if result.not_modified:
            if known is None or known.etag != result.etag:  # evicted or replaced during the lookup
                return known
            self.table.renew(known, result.cache_control, now, self._rand())
            if known.changed_at > began:
                known.mark_stale(known.changed_at)
            self.compact_routes.publish(hostname, known, now)
            return known
        stored = self.table.put(
            hostname,
            result.route,
            etag=result.etag,
            cache_control=result.cache_control,
            now=now,
            rand=self._rand(),
            deliberate=result.deliberate,
        )
        held = stored.route
        if held.changed_at > began:  # it changed during the lookup: the result may be from before
            held.mark_stale(held.changed_at)
        if stored.rejection is not None:
            self._not_accepted(hostname, stored)
            return held
        held.source, held.remarks = result.source, tuple(remark.words for remark in result.remarks)
        if held.response is not None and held.response.backends and held.environment is not None:
            held.environment.demerits.keep_only(backend.id for backend in held.response.backends)
        if known is None or known.response is None:
            if held.response is not None:
                self.compact_routes.publish(hostname, held, now)
        elif held.response is None or held.response.use < known.response.use:
            # A removal is shared once it is certain that it is not one of many (see `RemovalGuard`).
            asyncio.get_running_loop().call_later(
                MASS_WINDOW, self._share_removal, hostname, held.response, is_news(known, held, began)
            )
        else:
            self._share(hostname, held, is_news=is_news(known, held, began))
        return held

    def _share(self, hostname: str, route: Route, *, is_news: bool) -> None:
        if is_news and route.response is not None:
            self.discovered.add([understood(Change("environment", route.response.environment_key))])
        self.compact_routes.publish(hostname, route, self._clock())

    def _share_removal(self, hostname: str, removed: RouteResponse | None, is_news: bool) -> None:
        route = self.table.get(hostname)
        if route is not None and route.response == removed:  # not undone
            self._share(hostname, route, is_news=is_news)

    def _not_accepted(self, hostname: str, stored: Stored) -> None:
        rejection = stored.rejection
        assert rejection is not None
        self.not_accepted[rejection] += 1
        if stored.restored:
            log.error(
                "mass removal of backends held back",
                extra={"code": "mass_removal_held_back", "restored": len(stored.restored)},
            )
        self._problems.record(hostname, rejection.value, stored.route.last_error or "")

    async def _from_redis(self, hostname: str) -> Route | None:
        """The route that another edge has shared in Redis, if it may be served. The next request looks it up."""
        assert self._shared is not None
        record = await self._shared.get(hostname)
        if record is None:
            return None
        self.compact_routes.keep(record)
        route = self.compact_routes.promote(hostname)
        return route if route is not None and self._clock() < route.expired_at else None

    async def _ask_source(self, hostname: str, etag: str | None, priority: LookupPriority) -> LookupResult:
        """Ask the source, and retry once after a moment if that fails. Raises CoreApiError."""
        try:
            return await self._ask_with_slot(hostname, etag, priority)
        except CoreApiError as error:
            self._silent_since = self._clock()
            if self._circuit.is_open or not error.service_failed:
                raise
        await asyncio.sleep(AGAIN_AFTER * (0.5 + self._rand()))
        return await self._ask_with_slot(hostname, etag, priority)

    async def _ask_with_slot(self, hostname: str, etag: str | None, priority: LookupPriority) -> LookupResult:
        async with self._slots.slot(self.table.owner_of(hostname), priority):
            self._asked.add(hostname)
            return await self.core_api.ask(hostname, etag)

    def _failed(self, hostname: str, error: CoreApiError) -> Route | None:
        """Record a failed lookup. Returns the route that is used in spite of it, or None."""
        now, is_known = self._clock(), self.table.peek(hostname) is not None
        self._problems.record(hostname, error.code, str(error))
        pause = PAUSE_AFTER_FAILURE * (1.0 + self._rand())
        rejected = not error.service_failed
        if not is_known:
            self._failures.record(hostname, str(error), now, rejected=rejected, longest_pause=pause)
        if not rejected:
            self._failures.record_of_service(str(error), now)
            if self._circuit.record_failure(hostname, connected=error.connected):
                log.error("core API circuit open", extra={"code": "core_api_circuit_open"})
        route = self._usable(hostname)
        if route is not None:
            route.record_failed_lookup(str(error), now, pause)
        return route

    def _usable(self, hostname: str) -> Route | None:
        route = self.table.get(hostname)
        return None if route is None or route.freshness(self._clock()) is Freshness.GONE else route
