"""The routes that a worker knows, by hostname."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from cachetools import LRUCache

from edge.rules.contradictions import Contradictions
from edge.rules.drains import Drains
from edge.rules.environments import Environment
from edge.rules.lifetimes import Lifetime, lifetime_of
from edge.rules.routes import Route, RouteAnswer, Source
from edge.rules.settings import RouteSettings

USED_ANEW = 10.0
"Seconds within which one use of a route is as good as another."
MANY_HOSTNAMES = 1024
"Of an environment: those that were forgotten since are looked for each time that so many were added."


class RouteTable:
    """Routes by hostname, existing and not existing ones in separately bounded LRUs.

    Of the existing ones it holds those that are in use; what it has no room for is given to `shelve`.
    """

    __slots__ = ("_absent", "_contradictions", "_known", "_ready", "_recent", "_settings", "drains", "shelve")

    def __init__(self, settings: RouteSettings) -> None:
        self._settings = settings
        self.drains = Drains()
        self._contradictions = Contradictions()
        self.shelve: Callable[[str, Route], object] = lambda hostname, route: None
        self._ready = min(settings.ready, settings.capacity)
        self._known: dict[str, Route] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        "The same hostnames, the most recently used one last; apart, so that who turns pages of them misses none."
        self._absent: LRUCache[str, Route] = LRUCache(settings.negative_capacity)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._known or hostname in self._absent

    @property
    def capacity(self) -> int:
        """Most existing hostnames, with those that others keep for it."""
        return self._settings.capacity

    def obey(self, settings: RouteSettings) -> None:
        """Lifetimes of answers to come; the number of those kept ready stays as it was."""
        self._settings = settings

    def hostnames(self, start: int = 0, most: int | None = None) -> list[str]:
        """Existing ones, now, in the order in which they came; from the one at `start`, at most `most`."""
        return list(islice(self._known, start, None if most is None else start + most))

    def peek(self, hostname: str) -> Route | None:
        """The route of an existing hostname."""
        return self._known.get(hostname)

    def invalidate(self, hostname: str) -> bool:
        """Ask for it anew at its next request. Returns whether anything was known of it."""
        route = self.peek(hostname)
        if route is not None:
            route.invalidate()
        return self.forget_absent(hostname) or route is not None

    def forget_absent(self, hostname: str) -> bool:
        """Forget that there is no such hostname. Returns whether that was known."""
        return self._absent.pop(hostname, None) is not None

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
        return route

    def put(
        self,
        hostname: str,
        route: Route,
        cache_control: str | None,
        now: float,
        rand: float,
        *,
        deliberate: bool = False,
    ) -> Route:
        """Take an answer of the core API. Returns the route that holds from now on.

        That may be the one that was there: an older generation never replaces a newer one; an empty list of
        backends replaces a non-empty one only when a higher generation or a later answer confirms it, and so does
        "no such hostname" a known one (see `Contradictions`), unless it is `deliberate`.
        """
        lifetime = self._lifetime(route, cache_control, rand)
        before = self._known.get(hostname)
        if before is not None:
            refusal = _why_not(before, route.answer)
            if refusal in (_UNCONFIRMED, _VANISHED):
                assert before.answer is not None
                whole = f"{before.answer.site}/{before.answer.environment}"
                if deliberate or self._contradictions.believed(hostname, whole, now, len(self._known)):
                    refusal = None
            else:
                self._contradictions.settled(hostname)
            if refusal is not None:
                usable = lifetime if route.answer is not None else self._lifetime(before, None, rand)
                before.renew(Lifetime(min(lifetime.max_age, 5.0), usable.max_age, usable.stale_if_error), now)
                before.last_error = refusal
                return before
        route.renew(lifetime, now)
        if before is not None:
            route.forced_due, route.doubted_at = before.forced_due, before.doubted_at
        return self._hold(hostname, route)

    def adopt(self, hostname: str, route: Route, *, taken_at: float, until: tuple[float, float, float]) -> Route:
        """Take what another process was told by the core API, on our clock: when, and until when it is fresh, stale
        and expired. Returns the route that holds, which is the one that was there if that is newer."""
        before = self.get(hostname)
        if before is not None:
            older = before.taken_at >= taken_at
            if older or (before.answer and route.answer and _why_not(before, route.answer)):
                return before
            route.forced_due = before.forced_due
        route.taken_at = route.told_at = taken_at
        route.fresh_until, route.expired_at, route.gone_at = until
        route.source = Source.TOLD
        if before is not None and taken_at < before.doubted_at:
            route.fresh_until = min(route.fresh_until, before.doubted_at)
            route.doubted_at = before.doubted_at
        route.quiet_until = route.renew_at = route.fresh_until
        return self._hold(hostname, route)

    def _hold(self, hostname: str, route: Route) -> Route:
        if self.drains:
            route.arrange(self.drains)
        if route.answer is None:
            self._absent[hostname] = route
            if self._known.pop(hostname, None) is not None:
                del self._recent[hostname]
        else:
            self._absent.pop(hostname, None)
            self._keep(hostname, route)
        if route.environment is not None:
            self._note(route.environment, hostname)
        return route

    def _keep(self, hostname: str, route: Route) -> None:
        self._known[hostname] = route
        self._recent[hostname] = None
        self._recent.move_to_end(hostname)
        if len(self._known) > self._ready:
            least, _ = self._recent.popitem(last=False)
            self.shelve(least, self._known.pop(least))

    def _note(self, environment: Environment, hostname: str) -> None:
        """So that a change of the environment finds its hostnames without a look at all routes."""
        hostnames = environment.hostnames
        if hostname not in hostnames:
            hostnames.add(hostname)
            if len(hostnames) % MANY_HOSTNAMES == 0:  # of a wildcard perhaps, and most of them forgotten since
                hostnames.intersection_update(self._known)

    def renew(self, route: Route, cache_control: str | None, now: float, rand: float) -> None:
        """The core API answered 304: what we have still holds."""
        if route.answer is not None:
            self._contradictions.settled(route.answer.hostname)
        route.renew(self._lifetime(route, cache_control, rand), now)
        if route.environment is not None:
            route.environment.seen = now

    def _lifetime(self, route: Route, cache_control: str | None, rand: float) -> Lifetime:
        """Jitter shortens only: an answer is never kept for longer than it was given for."""
        settings = self._settings
        if route.answer is None:
            said = lifetime_of(cache_control, Lifetime(settings.negative_max_age, 0.0, 0.0))
            return Lifetime(said.max_age, 0.0, 0.0)
        default = Lifetime(settings.max_age, settings.stale_while_revalidate, settings.stale_if_error)
        said = lifetime_of(cache_control, default)
        max_age = said.max_age * (1.0 - settings.jitter * rand)
        return Lifetime(max_age, said.stale_while_revalidate, said.stale_if_error)


_UNCONFIRMED = "the core API answered without backends; kept the known ones until it says so again"


_VANISHED = "the core API says that this known hostname does not exist, and has not confirmed it yet"


def _why_not(before: Route, answer: RouteAnswer | None) -> str | None:
    known = before.answer
    assert known is not None
    if answer is None:
        return _VANISHED
    if (known.site, known.environment) != (answer.site, answer.environment):
        return None
    if answer.generation < known.generation:
        return f"the core API answered generation {answer.generation}, older than {known.generation}"
    emptied = known.backends and not answer.backends and answer.generation == known.generation
    return _UNCONFIRMED if emptied else None
