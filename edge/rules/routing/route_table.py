"""The routes that a worker knows, by hostname."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from cachetools import LRUCache

from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environments
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import LONGEST_UNKNOWN, Lifetime, lifetime_of
from edge.rules.routing.removal_guard import FORGOTTEN_AFTER, Removal, RemovalGuard
from edge.rules.routing.route_index import RouteIndex
from edge.rules.routing.route_response import RouteAnswer
from edge.rules.routing.routes import Route, Source
from edge.rules.settings import RouteSettings

ASKED_AGAIN_AFTER = 5.0
"Seconds after an answer that was not accepted until the core API is asked again."
USED_ANEW = 10.0
"Seconds within which one use of a route is as good as another."


class Rejection(StrEnum):
    """Why an answer of the core API is not accepted. The value is the code in the event log, and the label of the
    metric."""

    LOWER_GENERATION = "lower_generation"
    UNCONFIRMED = "removal_unconfirmed"
    HELD_BACK = "removal_held_back"


_WORDS = {
    Rejection.LOWER_GENERATION: "the core API answers with a lower generation than the known one; it is believed "
    "when it has done so for routes.regression_after, or after `styx invalidate`",
    Rejection.UNCONFIRMED: "the core API says that this known hostname has no backends, without a higher "
    "generation; it is believed when it has said so for routes.removal_hold, or after `styx invalidate`",
    Rejection.HELD_BACK: "the core API takes all backends from many environments at once; it is believed when it "
    "has said so for routes.removal_hold, or after `styx invalidate`",
}


class Stored(NamedTuple):
    """What became of an answer."""

    route: Route
    "The one that holds from now on."
    rejection: Rejection | None = None
    "Why that is not the answer; None = it is."
    restored: Sequence[str] = ()
    "Hostnames whose removal had been believed, and is held back now as well."


class RouteTable:
    """Routes by hostname, existing and not existing ones in separately bounded LRUs.

    Of the existing ones it holds those that are in use; what it has no room for is given to `demote`.
    """

    __slots__ = (
        "_absent",
        "_environments",
        "_guard",
        "_known",
        "_ready",
        "_recent",
        "_settings",
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
        "Of the existing ones."
        self.demote: Callable[[str, Route], object] = lambda hostname, route: None
        self._ready = min(settings.ready, settings.capacity)
        self._known: dict[str, Route] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        "The same hostnames, the most recently used one last; apart, so that who turns pages of them misses none."
        self._absent: LRUCache[str, Route] = LRUCache(settings.unknown_host_capacity)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._known or hostname in self._absent

    @property
    def capacity(self) -> int:
        """Most existing hostnames, with those that others keep for it."""
        return self._settings.capacity

    def reconfigure(self, settings: RouteSettings) -> None:
        """Lifetimes of answers to come; the number of those kept ready stays as it was."""
        self._settings = settings

    def hostnames(self, start: int = 0, most: int | None = None) -> list[str]:
        """Existing ones, now, in the order in which they came; from the one at `start`, at most `most`."""
        return list(islice(self._known, start, None if most is None else start + most))

    @property
    def last_used(self) -> str | None:
        """An existing hostname that clients ask for, or did; None = there is none."""
        return next(reversed(self._recent), None)

    def peek(self, hostname: str) -> Route | None:
        """The route of an existing hostname."""
        return self._known.get(hostname)

    def invalidate(self, hostname: str) -> bool:
        """Ask for it anew at its next request. Returns whether anything was known of it."""
        route = self.peek(hostname)
        if route is not None:
            route.invalidate()
        return self.forget_absent(hostname) or route is not None

    def absent_hostnames(self) -> list[str]:
        """Those that are remembered as unknown."""
        return list(self._absent)

    def forget_absent(self, hostname: str) -> bool:
        """Forget that there is no such hostname. Returns whether that was known."""
        return hostname in self._absent and self._absent.pop(hostname, None) is not None

    def forget_all_absent(self) -> int:
        """Returns how many they were."""
        count = len(self._absent)
        self._absent.clear()
        return count

    @property
    def absent(self) -> int:
        """Hostnames known not to exist."""
        return len(self._absent)

    def get(self, hostname: str) -> Route | None:
        """What is known of a hostname, however old."""
        return self._known.get(hostname) or self._absent.get(hostname)

    def use(self, hostname: str, now: float) -> Route | None:
        """The same for a request. (No cachetools here: four calls and as many misses of the CPU's caches to move
        it to the end, each time.)"""
        route = self._known.get(hostname)
        if route is None:
            return self._absent.get(hostname)
        if now - route.used_at >= USED_ANEW:
            route.used_at = now
            self._recent.move_to_end(hostname)
            if route.environment is not None:
                self._environments.forget_if_idle(route.environment, now)
        return route

    def put(
        self,
        hostname: str,
        answer: RouteAnswer | None,
        *,
        etag: str | None = None,
        cache_control: str | None,
        now: float,
        rand: float,
        deliberate: bool = False,
    ) -> Stored:
        """Take an answer of the core API; `answer` None = there is no such hostname.

        An answer that is not accepted changes nothing but when the core API is asked again: a lower generation
        until it has been said for `routes.regression_after`, and a removal that the guard holds back.
        `deliberate`: its source has made sure that it means what it says. So has an operator who invalidated it.
        """
        before = self._known.get(hostname)
        if before is not None and before.answer is not None and not deliberate and not before.takes_any:
            rejection, undone = self._judge(hostname, before, before.answer, answer, now)
            if rejection is not None:
                before.not_renewed(_WORDS[rejection], now, ASKED_AGAIN_AFTER)
                return Stored(before, rejection, undone)
        else:
            self._guard.settle(hostname)
        route = Route(answer, etag)
        route.renew(self._lifetime(route, cache_control, rand), now)
        if before is not None:
            route.forced_due, route.doubted_at = before.forced_due, before.doubted_at
            route.overrides = _is_lower(before.answer, answer)
            route.used_at = before.used_at
        return Stored(self._hold(hostname, route, now))

    def _judge(
        self, hostname: str, before: Route, known: RouteAnswer, answer: RouteAnswer | None, now: float
    ) -> tuple[Rejection | None, list[str]]:
        """Why this answer does not replace what is known, if it does not; and the hostnames whose removal, believed
        a moment ago, has been undone."""
        same = answer is not None and answer.environment_key == known.environment_key
        if answer is not None and same and answer.generation < known.generation:
            steadily = before.lower_since >= 0.0 and now - before.lower_at <= FORGOTTEN_AFTER
            before.lower_since, before.lower_at = before.lower_since if steadily else now, now
            # When none of the known backends can be connected to, nothing is lost by believing it.
            if before.is_reachable and now - before.lower_since < self._settings.regression_after:
                return Rejection.LOWER_GENERATION, []
        else:
            before.lower_since = -1.0
        if answer is not None and (_is_of_use(answer) or not _is_of_use(known)):
            self._guard.settle(hostname)
            return None, []
        removal = self._guard.judge(
            hostname,
            known.environment_key,
            before,
            now,
            confirmed=answer is not None and (not same or answer.generation > known.generation),
            hold=self._settings.removal_hold,
            in_use=lambda: self._environments.in_use(now),
        )
        match removal:
            case Removal.BELIEVED:
                return None, []
            case Removal.UNCONFIRMED:
                return Rejection.UNCONFIRMED, []
            case Removal.MASS:
                return Rejection.HELD_BACK, self._undo(now)

    def _undo(self, now: float) -> list[str]:
        """Restore what was removed while a mass removal was not visible yet. Returns the hostnames."""
        restored = []
        for hostname, route in self._guard.undo(now):
            current = self.get(hostname)
            if current is not None and current.answer is not None and current.answer.serves:
                continue  # it came back by itself
            route.not_renewed(_WORDS[Rejection.HELD_BACK], now, ASKED_AGAIN_AFTER)
            self._hold(hostname, route, now)
            restored.append(hostname)
        return restored

    def adopt(
        self,
        hostname: str,
        answer: RouteAnswer | None,
        *,
        etag: str | None = None,
        taken_at: float,
        until: tuple[float, float, float],
        now: float,
        overrides: bool = False,
    ) -> Route:
        """Take what another process was told by the core API, on our clock: when, and until when it is fresh, stale
        and expired. Returns the route that holds, which is the one that was there if that is newer. `overrides`: it
        was accepted there in place of a higher generation."""
        before = self.get(hostname)
        if before is not None:
            if before.taken_at >= taken_at:
                return before
            if not (overrides or before.takes_any) and _is_lower(before.answer, answer):
                return before
        route = Route(answer, etag)
        route.taken_at = route.published_at = taken_at
        route.fresh_until, route.expired_at, route.gone_at = until
        route.source = Source.TOLD
        if before is not None:
            route.forced_due, route.used_at = before.forced_due, before.used_at
            if taken_at < before.doubted_at:
                route.fresh_until = min(route.fresh_until, before.doubted_at)
                route.doubted_at = before.doubted_at
        route.no_lookup_before = route.renew_at = route.fresh_until
        return self._hold(hostname, route, now)

    def _hold(self, hostname: str, route: Route, now: float) -> Route:
        answer = route.answer
        before = self._known.get(hostname)
        if before is not None and before.answer is not None:
            self.index.discard(hostname, before.answer)
        if answer is None:
            self._absent[hostname] = route
            if self._known.pop(hostname, None) is not None:
                del self._recent[hostname]
            return route
        environment = self._environments.get(answer.site, answer.environment, now)
        route.bind(environment, self.drains)
        self._absent.pop(hostname, None)
        self.index.add(hostname, answer)
        self._keep(hostname, route)
        self._limit(answer)
        return route

    def _keep(self, hostname: str, route: Route) -> None:
        self._known[hostname] = route
        self._recent[hostname] = None
        self._recent.move_to_end(hostname)
        if len(self._known) > self._ready:
            least, _ = self._recent.popitem(last=False)
            idle = self._known.pop(least)
            is_full = self.is_full(idle.answer)
            if idle.answer is not None:
                self.index.discard(least, idle.answer)
            if not is_full:
                self.demote(least, idle)

    def is_full(self, answer: RouteAnswer | None) -> bool:
        """Whether the environment has as many hostnames as it may have: then nobody else keeps more of them."""
        return answer is not None and self.index.count(_environment_of(answer)) >= self._settings.per_environment

    def _limit(self, answer: RouteAnswer) -> None:
        """So that a wildcard name does not fill the table: beyond `routes.per_environment` the hostname of this
        environment is forgotten that was answered longest ago."""
        environment = _environment_of(answer)
        if self.index.count(environment) <= self._settings.per_environment:
            return
        oldest = self.index.oldest(environment)
        assert oldest is not None
        forgotten = self._known.pop(oldest)
        del self._recent[oldest]
        if forgotten.answer is not None:
            self.index.discard(oldest, forgotten.answer)

    def renew(self, route: Route, cache_control: str | None, now: float, rand: float) -> None:
        """The core API answered 304: what we have still holds."""
        if route.answer is not None:
            self._guard.settle(route.answer.hostname)
        route.renew(self._lifetime(route, cache_control, rand), now)
        if route.environment is not None:
            route.environment.seen = now

    def _lifetime(self, route: Route, cache_control: str | None, rand: float) -> Lifetime:
        """Jitter shortens only: an answer is never kept for longer than it was given for."""
        settings = self._settings
        if route.answer is None:
            said = lifetime_of(cache_control, Lifetime(settings.unknown_host_max_age, 0.0, 0.0))
            return Lifetime(min(said.max_age, LONGEST_UNKNOWN), 0.0, 0.0)
        # A default gives way to what was set (see `Section.exceeds`).
        at_once = min(settings.stale_while_revalidate, settings.stale_if_error)
        default = Lifetime(settings.max_age, at_once, settings.stale_if_error)
        said = lifetime_of(cache_control, default)
        max_age = said.max_age * (1.0 - settings.jitter * rand)
        return Lifetime(max_age, said.stale_while_revalidate, said.stale_if_error)


def _environment_of(answer: RouteAnswer) -> Change:
    return Change("environment", answer.environment_key)


def _is_of_use(answer: RouteAnswer) -> bool:
    """Whether a request gets anything by it: a backend, or what the site's owner wants to be said."""
    return answer.serves or answer.maintenance or answer.redirect is not None


def _is_lower(known: RouteAnswer | None, answer: RouteAnswer | None) -> bool:
    if known is None or answer is None or known.environment_key != answer.environment_key:
        return False
    return answer.generation < known.generation
