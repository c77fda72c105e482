"""From a hostname to its route: the table first, then the core API, asked once however many wait.

The fast path is `RouteTable.get` and one comparison, done by the exchange itself. All that is asynchronous
about lookups is here. What other processes learned lies beside the table (`compact_routes.py`), not decoded until
somebody asks for that hostname.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from cachetools import LRUCache

from edge.net.redis.redis_routes import RedisRoutes
from edge.net.routing.compact_routes import CompactRoutes
from edge.net.routing.core_api import CoreAnswer, CoreApiError
from edge.net.routing.invalidator import RouteInvalidator
from edge.net.routing.lookup_admission import LookupAdmission, LookupTask, route_of
from edge.net.routing.priority_semaphore import PrioritySemaphore
from edge.net.routing.route_refresher import RouteRefresher
from edge.net.routing.route_source import RouteSource
from edge.net.time_slices import TimeSlices
from edge.rules.balancing.circuit_breaker import FAILURES, CircuitBreaker
from edge.rules.balancing.environments import Environments
from edge.rules.event_rate_limit import EventBudget
from edge.rules.limits.lookup_queue import Done
from edge.rules.limits.unknown_host_limit import LookupPriority, UnknownHostLimit
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import understood
from edge.rules.routing.pending_changes import PendingChanges
from edge.rules.routing.removal_guard import MASS_WINDOW
from edge.rules.routing.route_records import Record
from edge.rules.routing.route_table import Rejection, RouteTable, Stored
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.routing.routes import Freshness, Route
from edge.rules.settings import CoreApiSettings

PAUSE_AFTER_FAILURE = 2.0
"Seconds, and up to twice as many, before a known hostname is asked for again after a failure."
FORCED_PAUSE = 1.0
FORCED_BURST = 5
"Failing backends can cause so many questions about one hostname at once, and then one every pause (seconds)."
MAX_WAITING, MAX_UNKNOWN_WAITING = 20_000, 10_000
"Questions that may wait for their turn, and how many may when one about an unknown hostname joins them."
MOST_REJECTED = 10_000
"Hostnames remembered of which the core API says nothing that can be used."
AGAIN_AFTER = 0.1
"Seconds, more or less, after which a question that failed is asked once more."
HANGS = "the core API hangs"
"Why a question is given up."
MAX_DISCOVERED = 1000
"Changes that wait to be told to other edges; beyond it, everything has changed."

log = logging.getLogger("styx.resolver")


class RouteResolver:
    """Answers "where is this hostname?" for one worker."""

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
        "Whether the source says by itself that there is such a hostname: one that is pushed knows them all."
        self._settings = settings
        self._clock, self._rand = clock, rand
        self.policy = policy or BackendPolicy()
        "Where backends may be."
        self.compact_routes = CompactRoutes(table, environments, shared, clock=clock, wall=wall, policy=self.policy)
        self._asking: dict[str, LookupTask] = {}
        self.lookups = LookupAdmission(
            unknown_host_limit,
            clock=clock,
            timeout=settings.timeout,
            look_up=self._ask_once,
            resolve_known=self._resolve_known,
            is_rejected=lambda hostname: hostname in self._rejected,
        )
        self._shared = shared
        self.refresher = RouteRefresher(table, ask=self._ask_for_changed, clock=clock, rand=rand)
        self.invalidator = RouteInvalidator(table, self.compact_routes, self.refresher, clock=clock, slices=slices)
        self.discovered = PendingChanges(limit=MAX_DISCOVERED)
        "What was found to have changed though nobody had told it, since the others were last told."
        self._slots = PrioritySemaphore(settings.concurrency)
        self._quiet_since = 0.0
        "When the core API last said anything, or when there began to be something to say."
        self._looking: asyncio.TimerHandle | None = None
        self._breaker = CircuitBreaker()
        self._rejected: LRUCache[str, tuple[float, float]] = LRUCache(MOST_REJECTED)
        """Hostnames without a route of which the core API said nothing that can be used: when last, and for how
        long they are not asked for after it."""
        self._events = EventBudget()
        self.not_accepted = dict.fromkeys(Rejection, 0)
        "Answers that did not replace a known route, by why."

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Ask by these settings from now on; who waits, waits by the old ones."""
        if settings.concurrency != self._settings.concurrency:
            self._slots = PrioritySemaphore(settings.concurrency)
        self._settings = settings
        self.lookups.timeout = settings.timeout
        self.core_api.reconfigure(settings)

    def ask_instead(self, source: RouteSource) -> None:
        """From now on; who waits is answered by the one before, which is closed in a while."""
        before, self.core_api = self.core_api, source
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.timeout, lambda: loop.create_task(before.close()))

    def renew_token(self) -> None:
        """The file of the core API's token has changed."""
        self.core_api.reconfigure(self._settings)

    def resolve(
        self, hostname: str, done: Done, client: str = "", refused: Callable[[], None] | None = None
    ) -> None:
        """Ask the core API. `done` gets the route that holds now, or None: could not ask, and nothing known. If
        there is no such hostname, `client` is charged for the question. If it has named too many of those,
        `refused` is called instead, but never for a hostname that is known."""
        refused, done = refused or partial(done, None), partial(self._used, done)
        if self._rejected and self._rests(hostname):
            done(None)
        elif not self._resolve_known(hostname, done):
            self.lookups.submit(hostname, client, done, refused)

    def _used(self, done: Done, route: Route | None) -> None:
        if route is not None:
            route.used_at = self._clock()
        done(route)

    def _resolve_known(self, hostname: str, done: Done) -> bool:
        """Resolve a hostname that is known, or asked for already. Returns False if it is neither."""
        saved, now = self.compact_routes.recall(hostname), self._clock()
        if saved is not None and now < saved.expired_at:
            self.refresh(hostname, saved, now)
            done(saved)
            return True
        if hostname not in self._asking and self.table.peek(hostname) is None and not self.exists(hostname):
            return False
        task = self._ask_once(hostname)
        if task is None:
            done(self._usable(hostname))
        else:
            task.add_done_callback(lambda task: done(route_of(task)))
        return True

    def refresh(self, hostname: str, route: Route, now: float) -> None:
        """Ask in the background; the caller goes on with what it has. Cheap to call for every stale hit. What has
        changed is asked for at a bounded rate: in a flood of changes every hit is one."""
        if hostname not in self._asking and now >= route.no_lookup_before:
            if route.fresh_until <= route.doubted_at:
                self.refresher.used(hostname, now)
            else:
                self._ask_once(hostname)

    def can_claim_lookup(self, hostname: str, route: Route, now: float) -> bool:
        """Whether `claim_lookup` would succeed now."""
        # GCRA, the leaky bucket in one number (ITU-T I.371).
        return hostname in self._asking or route.forced_due - now <= (FORCED_BURST - 1) * FORCED_PAUSE

    def claim_lookup(self, hostname: str, route: Route, now: float) -> bool:
        """A failing backend wants a look-up ahead of time, or to join one that is under way. Returns False when
        backends of this hostname have caused too many; else the look-up is accounted for."""
        if hostname in self._asking:
            return True
        if not self.can_claim_lookup(hostname, route, now):
            return False
        route.forced_due = max(route.forced_due, now) + FORCED_PAUSE
        return True

    def ask_ahead(self, hostname: str) -> None:
        """Ask in the background, however fresh the route is: a backend was not where it should be."""
        self._ask_once(hostname)

    @property
    def asking(self) -> int:
        """Hostnames that the core API is being asked for, those included that wait for their turn."""
        return len(self._asking) + self.lookups.waiting

    def what_is_known_of(self, hostname: str) -> Route | None:
        """Nobody is asked; what others told is looked at as well."""
        self.compact_routes.recall(hostname)
        return self.table.get(hostname)

    def learn(self, found: Iterable[Record]) -> None:
        """Another worker, or one before us, was told this. Microseconds each."""
        table = self.table
        for record in found:
            self.compact_routes.keep(record)
            if record.hostname in table:
                self.compact_routes.recall(record.hostname)

    def _ask_for_changed(self, hostname: str) -> bool:
        if hostname in self._asking:
            return False
        self._ask_once(hostname)
        return True

    async def close(self) -> None:
        """Stop asking."""
        self.lookups.close()
        self.invalidator.close()
        if self._looking is not None:
            self._looking.cancel()
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self.core_api.close()
        if self._shared is not None:
            await self._shared.close()

    def _ask_once(self, hostname: str, priority: LookupPriority = LookupPriority.KNOWN) -> LookupTask | None:
        task = self._asking.get(hostname)
        if task is None:
            most = MAX_WAITING if self.table.peek(hostname) is not None else MAX_UNKNOWN_WAITING
            if len(self._asking) >= most or not self._claim_from_breaker(hostname):
                return None
            task = self._start_lookup(hostname, priority)
        return task

    def _claim_from_breaker(self, hostname: str) -> bool:
        """Ask the circuit breaker for a look-up; returns whether it lets this one through. Clients choose the names
        of unknown hostnames, so the half-open probe is made with a known one, if there is one."""
        known, now = self.table.last_used, self._clock()
        if not self._breaker.is_open or known is None or self.table.peek(hostname) is not None:
            return self._breaker.claim_lookup(now)
        if known not in self._asking and self._breaker.claim_lookup(now):
            self._start_lookup(known)
        return False

    def _start_lookup(self, hostname: str, priority: LookupPriority = LookupPriority.KNOWN) -> LookupTask:
        loop = asyncio.get_running_loop()
        if not self._asking:
            self._quiet_since = self._clock()
        if self._looking is None:
            self._looking = loop.call_later(self._settings.timeout / 8, self._look)
        task = loop.create_task(self._ask(hostname, priority), name=f"look up {hostname}")
        self._asking[hostname] = task
        task.add_done_callback(lambda _: self._asking.pop(hostname, None))
        return task

    def _look(self) -> None:
        """Does the core API hang? Then nobody shall wait until each question has had its time."""
        self._looking = None
        if not self._asking:
            return
        silent = self._clock() - self._quiet_since >= self._settings.timeout / 2
        if silent and len(self._asking) >= FAILURES:
            for task in list(self._asking.values()):
                task.cancel(HANGS)
        self._looking = asyncio.get_running_loop().call_later(self._settings.timeout / 8, self._look)

    async def _ask(self, hostname: str, priority: LookupPriority) -> Route | None:
        """One question with its deadline, which includes the wait for a turn. Never raises."""
        known, began = self.table.peek(hostname), self._clock()
        etag = known.validator if known is not None else None
        time_limit = self._settings.timeout / 2 if self._breaker.is_open else self._settings.timeout
        if known is None and self._shared is not None and self.compact_routes.keeps:
            route = await self._of_another_edge(hostname)
            if route is not None:
                return route
        try:
            async with asyncio.timeout(time_limit):
                said = await self._question(hostname, etag, priority)
        except TimeoutError:
            self.core_api.timed_out()
            return self._failed(hostname, CoreApiError(f"no answer within {time_limit:g} s"))
        except asyncio.CancelledError as error:
            if HANGS not in error.args:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            self.core_api.timed_out()
            words = f"it has not answered anybody for {self._settings.timeout / 2:g} s"
            return self._failed(hostname, CoreApiError(words))
        except CoreApiError as error:
            if not error.service_failed:
                self._answered()
            return self._failed(hostname, error)
        except Exception as error:  # a fault of ours must not leave those waiting who asked
            log.exception("route lookup failed", extra={"code": "route_lookup_failed", "hostname": hostname})
            return self._failed(hostname, CoreApiError(f"{type(error).__name__}: {error}", service_failed=False))
        self._answered()
        return self._learned(hostname, said, began)

    def _answered(self) -> None:
        """The service works."""
        self._quiet_since = self._clock()
        if self._breaker.is_open:
            log.warning("core API circuit closed", extra={"code": "core_api_circuit_closed"})
        self._breaker.answered()

    def _learned(self, hostname: str, said: CoreAnswer, began: float) -> Route | None:
        """The core API, asked at `began`, has answered. Returns the route that holds now."""
        now, known = self._clock(), self.table.peek(hostname)
        self._rejected.pop(hostname, None)
        for remark in said.remarks:
            self._tell(hostname, remark.code, remark.words)
        if said.not_modified:
            if known is None or known.etag != said.etag:  # evicted or replaced while we asked
                return known
            self.table.renew(known, said.cache_control, now, self._rand())
            if known.doubted_at > began:
                known.doubt(known.doubted_at)
            self.compact_routes.to_tell(hostname, known, now)
            return known
        stored = self.table.put(
            hostname,
            said.route,
            etag=said.etag,
            cache_control=said.cache_control,
            now=now,
            rand=self._rand(),
            deliberate=said.deliberate,
        )
        held = stored.route
        if held.doubted_at > began:  # it changed while we asked, and nobody knows which of the two we heard
            held.doubt(held.doubted_at)
        if stored.rejection is not None:
            self._not_accepted(hostname, stored)
            return held
        held.source = said.source
        if held.answer is not None and held.answer.backends and held.environment is not None:
            held.environment.book.keep_only(backend.id for backend in held.answer.backends)
        if known is None or known.answer is None:
            if held.answer is not None:
                self.compact_routes.to_tell(hostname, held, now)
        elif known.answer.serves and not (held.answer is not None and held.answer.serves):
            # Others are told when it is sure that it was not one of many (see `RemovalGuard`).
            asyncio.get_running_loop().call_later(MASS_WINDOW, self._tell_removal, hostname, held)
        else:
            if _is_news(known, held, began):
                assert held.answer is not None
                self.discovered.add([understood(Change("environment", held.answer.environment_key))])
            self.compact_routes.to_tell(hostname, held, now)
        return held

    def _tell_removal(self, hostname: str, removed: Route) -> None:
        if self.table.get(hostname) is removed:
            self.compact_routes.to_tell(hostname, removed, self._clock())

    def _not_accepted(self, hostname: str, stored: Stored) -> None:
        rejection = stored.rejection
        assert rejection is not None
        self.not_accepted[rejection] += 1
        if stored.restored:
            log.error(
                "mass removal of backends held back",
                extra={"code": "mass_removal_held_back", "restored": len(stored.restored)},
            )
        self._tell(hostname, rejection.value, stored.route.last_error or "")

    def _tell(self, hostname: str, code: str, words: str) -> None:
        """In the event log, unless there are too many such lines."""
        left_out = self._events.take(self._clock())
        if left_out is not None:
            log.warning(
                "route lookup problem",
                extra={"code": code, "hostname": hostname, "reason": words, "left_out_before": left_out},
            )

    async def _of_another_edge(self, hostname: str) -> Route | None:
        """What another edge was told, if that may be served; it is asked for again at its next request."""
        assert self._shared is not None
        record = await self._shared.get(hostname)
        if record is None:
            return None
        self.compact_routes.keep(record)
        route = self.compact_routes.recall(hostname)
        return route if route is not None and self._clock() < route.expired_at else None

    async def _question(self, hostname: str, etag: str | None, priority: LookupPriority) -> CoreAnswer:
        """Ask, and once more a moment later if that fails. Raises what CoreApi.ask raises."""
        try:
            async with self._slots.slot(priority):
                return await self.core_api.ask(hostname, etag)
        except CoreApiError as error:
            self._quiet_since = self._clock()
            if self._breaker.is_open or not error.service_failed:
                raise
        await asyncio.sleep(AGAIN_AFTER * (0.5 + self._rand()))
        async with self._slots.slot(priority):
            return await self.core_api.ask(hostname, etag)

    def _failed(self, hostname: str, error: CoreApiError) -> Route | None:
        """Could not ask. Returns the route that is used all the same."""
        now, is_known = self._clock(), self.table.peek(hostname) is not None
        self._tell(hostname, error.code, str(error))
        pause = PAUSE_AFTER_FAILURE * (1.0 + self._rand())
        if not error.service_failed:
            if not is_known:
                _, rest = self._rejected.get(hostname, (0.0, -1.0))
                self._rejected[hostname] = now, 0.0 if rest < 0.0 else min(max(0.25, 2.0 * rest), pause)
        else:
            self._rejected.pop(hostname, None)
            known = self.table.last_used
            conclusive = is_known or known is None or not error.status
            if self._breaker.record_failure(hostname, now, self._rand(), conclusive=conclusive):
                log.error("core API circuit open", extra={"code": "core_api_circuit_open"})
            elif self._breaker.needs_known and known is not None and known not in self._asking:
                self._start_lookup(known)
        route = self._usable(hostname)
        if route is not None:
            route.not_renewed(str(error), now, pause)
        return route

    def _rests(self, hostname: str) -> bool:
        """Whether the core API was asked for it in vain so often that it is left alone for a moment."""
        at, rest = self._rejected.get(hostname, (0.0, 0.0))
        return self._clock() - at < rest

    def _usable(self, hostname: str) -> Route | None:
        route = self.table.get(hostname)
        return None if route is None or route.freshness(self._clock()) is Freshness.GONE else route


def _is_news(known: Route, held: Route, began: float) -> bool:
    """Whether the core API, asked at `began`, said that a known route has changed, and nobody had told that."""
    before, now = known.answer, held.answer
    if before is None or now is None or known.doubted_at >= known.taken_at:
        return False
    same = (before.site, before.environment) == (now.site, now.environment)
    return same and now.generation > before.generation and began > known.taken_at
