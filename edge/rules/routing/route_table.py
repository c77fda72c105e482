"""The table of a worker's routes by hostname, and the decision whether a response replaces a route."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from cachetools import LRUCache

from edge.rules.balancing.circuit_breaker import KnownHostname
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environments
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import LONGEST_UNKNOWN, Lifetime, lifetime_of
from edge.rules.routing.removal_guard import FORGOTTEN_AFTER, Removal, RemovalGuard
from edge.rules.routing.route_index import RouteIndex
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_validation import MOST_BACKENDS
from edge.rules.routing.routes import ANOTHER_PROCESS, RejectedResponse, Route
from edge.rules.settings import RouteSettings

LOOKUP_AGAIN_AFTER: Final = 5.0
"Seconds after a response that was not accepted until the next lookup."
BACKENDS_EACH: Final = 8
"""Backends for each of `routes.ready`; with more of them in the table, fewer routes are ready. A backend of a route
takes 700 bytes, so that a core API that names a thousand for each hostname would fill the memory of a worker."""
USE_RESOLUTION: Final = 10.0
"Seconds within which further uses of a route do not change the LRU order."


class Rejection(StrEnum):
    """Why a response of the core API is not accepted. The value is the code in the event log, and a metric
    label."""

    LOWER_GENERATION = "lower_generation"
    UNCONFIRMED = "removal_unconfirmed"
    HELD_BACK = "removal_held_back"


_REASONS: Final = {
    Rejection.LOWER_GENERATION: "lower generation than that of the known route; accepted when repeated for "
    "routes.regression_after, or after `styx invalidate`",
    Rejection.UNCONFIRMED: "removal of all backends of a known hostname, without a higher generation; accepted "
    "when repeated for routes.removal_hold, or after `styx invalidate`",
    Rejection.HELD_BACK: "removal, maintenance or a redirect of many environments at once; accepted when "
    "repeated for routes.removal_hold, or after `styx invalidate`",
}


class Stored(NamedTuple):
    """The result of `RouteTable.put`."""

    route: Route
    "The route to use from now on."
    rejection: Rejection | None = None
    "Why the response was not accepted; None = it was."
    restored: Sequence[str] = ()
    "Hostnames whose removal had been accepted, and is now undone and held back."


class RouteTable:
    """Routes by hostname. Existing hostnames and unknown hosts are in LRUs with separate bounds.

    Of the existing ones it holds those in use; those without room are given to `demote`.
    """

    __slots__ = (
        "_environments",
        "_guard",
        "_known",
        "_most_backends",
        "_ready",
        "_recent",
        "_settings",
        "_unknown_hosts",
        "demote",
        "drains",
        "index",
    )

    def __init__(self, settings: RouteSettings, environments: Environments) -> None:
        self._settings = settings
        self._environments = environments
        self.drains = Drains()
        self._guard: RemovalGuard[Route] = RemovalGuard()
        self.index = RouteIndex()
        "The index of the existing hostnames."
        self.demote: Callable[[str, Route], object] = lambda hostname, route: None
        self._ready = min(settings.ready, settings.capacity)
        self._most_backends = max(BACKENDS_EACH * self._ready, MOST_BACKENDS)
        self._known: dict[str, Route] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        """The same hostnames, the most recently used last. Separate, so that `hostnames` has a stable order for
        paging."""
        self._unknown_hosts: LRUCache[str, Route] = LRUCache(settings.unknown_host_capacity)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._known or hostname in self._unknown_hosts

    @property
    def capacity(self) -> int:
        """Maximum of existing hostnames, with the compact ones outside this table."""
        return self._settings.capacity

    def reconfigure(self, settings: RouteSettings) -> None:
        """Apply these lifetimes to future responses; the number of ready routes is not changed."""
        self._settings = settings

    def hostnames(self, start: int = 0, most: int | None = None) -> list[str]:
        """Existing hostnames in the order in which they were added; at most `most`, from number `start` on."""
        return list(islice(self._known, start, None if most is None else start + most))

    def recently_used(self) -> Iterator[KnownHostname]:
        """The existing hostnames and their sites, the most recently used first."""
        for hostname in reversed(self._recent):
            yield KnownHostname(hostname, self.owner_of(hostname) or "")

    def owner_of(self, hostname: str) -> str | None:
        """The site of an existing hostname; None = it is none."""
        route = self._known.get(hostname)
        return None if route is None or route.response is None else route.response.site

    def peek(self, hostname: str) -> Route | None:
        """Return the route of an existing hostname, or None."""
        return self._known.get(hostname)

    def invalidate(self, hostname: str) -> bool:
        """Require a lookup before its next use. Returns whether anything was known of the hostname."""
        route = self.peek(hostname)
        if route is not None:
            route.invalidate()
        return self.forget_unknown_host(hostname) or route is not None

    def unknown_hostnames(self) -> list[str]:
        """The hostnames that are known not to exist."""
        return list(self._unknown_hosts)

    def forget_unknown_host(self, hostname: str) -> bool:
        """Forget an unknown host. Returns whether it was known as one."""
        return hostname in self._unknown_hosts and self._unknown_hosts.pop(hostname, None) is not None

    def forget_unknown_hosts(self) -> int:
        """Forget all unknown hosts. Returns their number."""
        count = len(self._unknown_hosts)
        self._unknown_hosts.clear()
        return count

    @property
    def unknown_hosts(self) -> int:
        """Number of hostnames known not to exist."""
        return len(self._unknown_hosts)

    def get(self, hostname: str) -> Route | None:
        """Return the route of a hostname, existing or not, however old; None = nothing is known."""
        return self._known.get(hostname) or self._unknown_hosts.get(hostname)

    def use(self, hostname: str, now: float) -> Route | None:
        """Return the same for a request, and count the use. (The LRU is not from cachetools, which needs four calls
        and as many misses of the CPU's caches to move an entry to the end, each time.)"""
        route = self._known.get(hostname)
        if route is None:
            return self._unknown_hosts.get(hostname)
        if now - route.used_at >= USE_RESOLUTION:
            route.used_at = now
            self._recent.move_to_end(hostname)
            if route.environment is not None:
                self._environments.forget_if_idle(route.environment, now)
        return route

    def put(
        self,
        hostname: str,
        response: RouteResponse | None,
        *,
        etag: str | None = None,
        cache_control: str | None,
        now: float,
        rand: float,
        deliberate: bool = False,
    ) -> Stored:
        """Take a response of the core API; `response` None = an unknown host.

        A response that is not accepted only delays the next lookup: a lower generation until it was repeated for
        `routes.regression_after`, and a removal that the guard holds back. `deliberate`: accepted without these
        checks, because its source has made its own; the same for a route that an operator has invalidated.
        """
        before = self._known.get(hostname)
        if before is not None and before.response is not None and not deliberate and not before.accepts_any:
            rejection, restored = self._judge(hostname, before, before.response, response, now)
            if rejection is not None:
                before.record_failed_lookup(_REASONS[rejection], now, LOOKUP_AGAIN_AFTER)
                before.rejected = self._rejected(hostname, before, rejection, response, now)
                return Stored(before, rejection, restored)
        else:
            self._guard.settle(hostname)
        route = Route(response, etag)
        route.renew(self._lifetime(route, cache_control, rand), now)
        if before is not None:
            route.forced_due, route.changed_at = before.forced_due, before.changed_at
            route.overrides = _is_lower(before.response, response)
            route.used_at = before.used_at
        return Stored(self._store(hostname, route, now))

    def _judge(
        self, hostname: str, before: Route, known: RouteResponse, response: RouteResponse | None, now: float
    ) -> tuple[Rejection | None, list[str]]:
        """Return why this response does not replace the known one, or None if it does; and the hostnames whose
        removal, accepted a moment ago, was undone."""
        same = response is not None and response.environment_key == known.environment_key
        if response is not None and same and response.generation < known.generation:
            repeated = before.lower_since >= 0.0 and now - before.lower_at <= FORGOTTEN_AFTER
            before.lower_since, before.lower_at = before.lower_since if repeated else now, now
            # When all known backends are down, nothing is lost by accepting it.
            if before.is_reachable and now - before.lower_since < self._settings.regression_after:
                return Rejection.LOWER_GENERATION, []
        else:
            before.lower_since = -1.0
        use = 0 if response is None else response.use
        # When no known backend is up, a page or a redirect of the owner is better than the errors of today.
        if response is not None and (use >= known.use or (use == 1 and not before.is_reachable)):
            self._guard.settle(hostname, is_back=use > known.use or use == 2)
            return None, []
        removal = self._guard.judge(
            hostname,
            known.environment_key,
            before,
            now,
            confirmed=use > 0 or (response is not None and (not same or response.generation > known.generation)),
            hold=self._settings.removal_hold,
            in_use=lambda: self._environments.in_use(now),
        )
        match removal:
            case Removal.ACCEPTED:
                return None, []
            case Removal.UNCONFIRMED:
                return Rejection.UNCONFIRMED, []
            case Removal.MASS:
                return Rejection.HELD_BACK, self._undo(now)

    def _rejected(
        self, hostname: str, known: Route, rejection: Rejection, response: RouteResponse | None, now: float
    ) -> RejectedResponse:
        """Describe a response that is not accepted, and since when such ones have come."""
        generation = None if response is None else response.generation
        if rejection is Rejection.LOWER_GENERATION:
            since, hold = known.lower_since, self._settings.regression_after
        else:
            held_since = self._guard.held_since(hostname)
            since, hold = now if held_since is None else held_since, self._settings.removal_hold
        return RejectedResponse(rejection.value, generation, since, since + hold)

    def _undo(self, now: float) -> list[str]:
        """Restore the routes that were removed before a mass removal was visible. Returns the hostnames."""
        restored = []
        for hostname, route in self._guard.undo(now):
            current = self.get(hostname)
            if current is not None and current.response is not None and current.response.use == 2:
                continue  # a later response has restored it
            removal = None if current is None else current.response
            if removal is not None and removal.use == 1 and not route.is_reachable:
                continue  # its page is better than errors
            route.record_failed_lookup(_REASONS[Rejection.HELD_BACK], now, LOOKUP_AGAIN_AFTER)
            route.rejected = self._rejected(hostname, route, Rejection.HELD_BACK, removal, now)
            self._store(hostname, route, now)
            restored.append(hostname)
        return restored

    def adopt(
        self,
        hostname: str,
        response: RouteResponse | None,
        *,
        etag: str | None = None,
        taken_at: float,
        until: tuple[float, float, float],
        now: float,
        overrides: bool = False,
    ) -> Route:
        """Take a response that another process got from the core API, with times of our clock: when it was taken,
        and until when it is fresh, stale and expired. Returns the route to use, which is the known one if that is
        newer. `overrides`: it was accepted there in place of a higher generation."""
        before = self.get(hostname)
        if before is not None:
            if before.taken_at >= taken_at:
                return before
            if not (overrides or before.accepts_any) and _is_lower(before.response, response):
                return before
        route = Route(response, etag)
        route.taken_at = route.published_at = taken_at
        route.fresh_until, route.expired_at, route.gone_at = until
        route.source = ANOTHER_PROCESS
        if before is not None:
            route.forced_due, route.used_at = before.forced_due, before.used_at
            if taken_at < before.changed_at:
                route.fresh_until = min(route.fresh_until, before.changed_at)
                route.changed_at = before.changed_at
        route.no_lookup_before = route.renew_at = route.fresh_until
        return self._store(hostname, route, now)

    def _store(self, hostname: str, route: Route, now: float) -> Route:
        response = route.response
        before = self._known.get(hostname)
        if before is not None and before.response is not None:
            self.index.discard(hostname, before.response)
        if response is None:
            self._unknown_hosts[hostname] = route
            if self._known.pop(hostname, None) is not None:
                del self._recent[hostname]
            return route
        environment = self._environments.get(response.site, response.environment, now)
        route.bind(environment, self.drains)
        self._unknown_hosts.pop(hostname, None)
        self.index.add(hostname, response)
        self._insert(hostname, route)
        self._enforce_limit(response)
        return route

    def _insert(self, hostname: str, route: Route) -> None:
        self._known[hostname] = route
        self._recent[hostname] = None
        self._recent.move_to_end(hostname)
        while len(self._known) > self._ready or (
            self.index.backends > self._most_backends and len(self._known) > 1
        ):
            self._demote_least_used()

    def _demote_least_used(self) -> None:
        least, _ = self._recent.popitem(last=False)
        idle = self._known.pop(least)
        is_full = self.is_full(idle.response)
        if idle.response is not None:
            self.index.discard(least, idle.response)
        if not is_full:
            self.demote(least, idle)

    def is_full(self, response: RouteResponse | None) -> bool:
        """Whether the environment has as many hostnames as it may have: then its routes are not demoted, but
        dropped."""
        return (
            response is not None and self.index.count(_environment_of(response)) >= self._settings.per_environment
        )

    def _enforce_limit(self, response: RouteResponse) -> None:
        """Enforce `routes.per_environment`, so that a wildcard name cannot fill the table: beyond it, the hostname
        of this environment whose route was stored longest ago is dropped."""
        environment = _environment_of(response)
        if self.index.count(environment) <= self._settings.per_environment:
            return
        oldest = self.index.oldest(environment)
        assert oldest is not None
        dropped = self._known.pop(oldest)
        del self._recent[oldest]
        if dropped.response is not None:
            self.index.discard(oldest, dropped.response)

    def renew(self, route: Route, cache_control: str | None, now: float, rand: float) -> None:
        """Record a 304 of the core API: the route still holds."""
        if route.response is not None:
            self._guard.settle(route.response.hostname, is_back=route.response.use == 2)
        route.renew(self._lifetime(route, cache_control, rand), now)
        if route.environment is not None:
            route.environment.confirmed_at = now

    def _lifetime(self, route: Route, cache_control: str | None, rand: float) -> Lifetime:
        """The lifetime of a response. Jitter only shortens it: a route is never used for longer than the core API
        allows."""
        settings = self._settings
        if route.response is None:
            lifetime = lifetime_of(cache_control, Lifetime(settings.unknown_host_max_age, 0.0, 0.0))
            return Lifetime(min(lifetime.max_age, LONGEST_UNKNOWN), 0.0, 0.0)
        # The default is capped by a limit that was set (see `Section.exceeds`).
        at_once = min(settings.stale_while_revalidate, settings.stale_if_error)
        default = Lifetime(settings.max_age, at_once, settings.stale_if_error)
        lifetime = lifetime_of(cache_control, default)
        max_age = lifetime.max_age * (1.0 - settings.jitter * rand)
        return Lifetime(max_age, lifetime.stale_while_revalidate, lifetime.stale_if_error)


def _environment_of(response: RouteResponse) -> Change:
    return Change("environment", response.environment_key)


def is_news(known: Route, held: Route, began: float) -> bool:
    """Whether a lookup that began at `began` shows a change of a known route that no change stream had reported."""
    before, now = known.response, held.response
    if before is None or now is None or known.changed_at >= known.taken_at:
        return False
    return _is_lower(now, before) and began > known.taken_at


def _is_lower(known: RouteResponse | None, response: RouteResponse | None) -> bool:
    if known is None or response is None or known.environment_key != response.environment_key:
        return False
    return response.generation < known.generation
