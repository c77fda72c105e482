"""What the core API said about a hostname, and how long that holds.

The table keeps answers, not opinions: entries are replaced whole, carry their own freshness (RFC 9111;
RFC 5861 for the two `stale-` words) and need no timer. `now` is any clock that only goes forward.

    fresh ── max-age ──► stale ── stale-while-revalidate ──► expired ── stale-if-error ──► gone
    serve               serve, ask in the background        ask first, serve if that fails
"""

import re
from collections.abc import Callable
from enum import Enum
from itertools import islice

import msgspec
from cachetools import Cache, LRUCache

from edge.rules.drains import Drains
from edge.rules.environments import Environment
from edge.rules.hops import later_lines
from edge.rules.settings import RouteSettings
from edge.rules.standings import Standing


class Backend(msgspec.Struct, frozen=True):
    """One container, as the core API describes it."""

    id: str
    address: str
    port: int
    server: str = ""
    role: str = "active"
    state: str = "running"


class RouteAnswer(msgspec.Struct, frozen=True):
    """The body of `GET /v1/routes/{hostname}`. Unknown members are ignored."""

    hostname: str
    site: str
    environment: str
    generation: int
    backends: tuple[Backend, ...]
    maintenance: bool = False
    redirect: str | None = None


class Freshness(Enum):
    """Whether an entry may be served, and whether somebody has to ask."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"
    GONE = "unknown"


class Source(Enum):
    """Who told it."""

    ASKED = "the core API"
    TOLD = "another process"


RENEWED_AHEAD, LONGEST_AHEAD = 0.1, 10.0
"Part of its time, and seconds, before the end of which a route in use is asked for again."
MANY_HOSTNAMES = 1024


class Lifetime(msgspec.Struct, frozen=True):
    """How long an answer holds: seconds, each counted from the end of the one before."""

    max_age: float
    stale_while_revalidate: float
    stale_if_error: float


_DIRECTIVE = re.compile(r'([a-z-]+)=(?:"([0-9]{1,10})"|([0-9]{1,10}))', re.IGNORECASE)
_NOT_KEPT = frozenset({"no-store", "no-cache"})


def lifetime_of(cache_control: str | None, default: Lifetime) -> Lifetime:
    """Read Cache-Control (RFC 9111, section 5.2); words that are absent or no numbers come from `default`."""
    if cache_control is None:
        return default
    said: dict[str, float] = {}
    parts = [part.strip() for part in cache_control.lower().split(",")]
    for part in parts:
        match = _DIRECTIVE.fullmatch(part)
        if match is not None:
            said[match[1]] = float(match[2] or match[3])
    if not _NOT_KEPT.isdisjoint(parts):
        said["max-age"] = 0.0
        said.setdefault("stale-while-revalidate", 0.0)
    return Lifetime(
        said.get("max-age", default.max_age),
        said.get("stale-while-revalidate", default.stale_while_revalidate),
        said.get("stale-if-error", default.stale_if_error),
    )


_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
"What must not get into a line of a head, though the core API says it."


def _place_of(backend: Backend) -> str:
    return f"{backend.id}@{backend.address}:{backend.port}"


class Candidate:
    """A backend of a route together with its standing: what the picker draws from."""

    __slots__ = ("backend", "first_lines", "head_line", "place", "standing")

    def __init__(self, backend: Backend, standing: Standing) -> None:
        self.backend = backend
        self.standing = standing
        self.place = _place_of(backend)
        "Who is where. Connections are kept, and attempts remembered, by this: a moved container is a new place."
        self.head_line = b"X-Styx-Backend: %b\r\n" % _UNPRINTABLE.sub("?", backend.id).encode("ascii")
        self.first_lines = later_lines(self.head_line, 1)
        "With which a request head ends that goes to it first."

    def __repr__(self) -> str:
        return f"<{self.place}>"


class Route:
    """What is known of one hostname. `environment` is None for a hostname that does not exist."""

    __slots__ = (
        "active",
        "answer",
        "doubted_at",
        "environment",
        "etag",
        "expired_at",
        "forced_due",
        "fresh_until",
        "gone_at",
        "last_error",
        "least",
        "marked_at",
        "marks",
        "quiet_until",
        "renew_at",
        "source",
        "standby",
        "standings",
        "taken_at",
        "told_at",
    )

    def __init__(self, answer: RouteAnswer | None, environment: Environment | None, etag: str | None) -> None:
        self.answer = answer
        self.environment = environment
        self.etag = etag
        self.last_error: str | None = None
        self.marks: list[float] = []
        "Sums of the weights of the active ones as of `marked_at` (-2 = never), where there are many."
        self.marked_at = self.least = -2.0
        self.arrange(None)
        self.taken_at = self.fresh_until = self.expired_at = self.gone_at = 0.0
        self.renew_at = 0.0
        "From when a request for it causes a question in the background: a little before it is stale."
        self.doubted_at = -1.0
        "When the platform last told that something of it has changed: what was asked before is stale."
        self.source = Source.ASKED
        self.told_at = -1.0
        "When the other workers and the file were last told of it; -1 = never."
        self.quiet_until = 0.0
        "Nobody asks the core API before: fresh, or the last question has just failed."
        self.forced_due = 0.0
        "Up to when the questions are accounted for that failing backends caused (see Resolver.may_force)."

    def arrange(self, drains: Drains | None) -> None:
        """Who may get requests: whom neither the core API nor an operator drains."""
        candidates: list[Candidate] = []
        if self.answer is not None and self.environment is not None:
            environment = self.environment
            whole = f"{environment.site}/{environment.name}"
            for b in self.answer.backends:
                if b.state == "draining" or (drains and drains.hold(b.id, b.server, whole)):
                    continue
                standing = environment.book.standing(b.id, _place_of(b), asleep=b.state == "asleep")
                standing.server = environment.servers.get(b.server)
                candidates.append(Candidate(b, standing))
        self.marked_at = -2.0
        self.active = tuple(c for c in candidates if c.backend.role != "standby")
        self.standby = tuple(c for c in candidates if c.backend.role == "standby")
        self.standings = tuple(c.standing for c in candidates)

    def invalidate(self) -> None:
        """The next request asks the core API first; what we have holds only if that cannot be asked."""
        self.fresh_until = self.expired_at = self.quiet_until = self.renew_at = 0.0

    def doubt(self, now: float) -> None:
        """Something of it has changed. It is used at once all the same, while the core API is asked: most of it
        holds, and what does not is noticed by the next attempt."""
        self.doubted_at = now
        self.fresh_until = self.renew_at = self.quiet_until = min(self.fresh_until, now)

    def renew(self, lifetime: Lifetime, now: float) -> None:
        """The core API has just confirmed this."""
        self.taken_at = now
        self.fresh_until = now + lifetime.max_age
        ahead = min(RENEWED_AHEAD * lifetime.max_age, LONGEST_AHEAD) if self.answer is not None else 0.0
        self.renew_at = self.quiet_until = self.fresh_until - ahead
        self.expired_at = self.fresh_until + lifetime.stale_while_revalidate
        self.gone_at = max(self.expired_at, self.fresh_until + lifetime.stale_if_error)
        self.last_error = None

    def not_renewed(self, error: str, now: float, pause: float) -> None:
        """The core API could not be asked. Leave it alone for `pause` seconds."""
        self.last_error = error
        self.quiet_until = now + pause

    def is_of(self, kind: str, name: str) -> bool:
        """Whether it concerns this `site`, `environment` (site/name) or `server`, or any at all (`all`)."""
        answer = self.answer
        if answer is None:
            return False
        match kind:
            case "site":
                return answer.site == name
            case "environment":
                return f"{answer.site}/{answer.environment}" == name
            case "server":
                return any(backend.server == name for backend in answer.backends)
            case _:
                return kind == "all"

    def freshness(self, now: float) -> Freshness:
        """What may be done with it now."""
        if now < self.fresh_until:
            return Freshness.FRESH
        if now < self.expired_at:
            return Freshness.STALE
        return Freshness.EXPIRED if now < self.gone_at else Freshness.GONE


CONFIRMED_AFTER = 30.0
"Seconds for which the core API must say it."
MANY_CONTRADICTED, PART_CONTRADICTED = 20, 0.01
"Environments, or this part of the known hostnames if that is more: when so many lose everything, nobody does."
MOST_CONTRADICTIONS = 10_000
CONTRADICTION_FORGOTTEN = 600.0


class Contradictions:
    """Known hostnames of which the core API says now that they have no backends, or do not exist.

    One site may well be gone, and then the core API goes on saying so. But an API that has lost its data, or
    answers from an empty replica, says it of many at once, and must not take a platform down (static stability).
    So it is believed when it was said again half a minute later, and not of many environments at the same time.
    A higher generation needs no confirmation: it says that something has changed on purpose.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[str, tuple[float, float, str]] = {}
        "By hostname: since when it is said, when it was said last, and of which environment."

    def believed(self, hostname: str, before: Route, now: float, known: int) -> bool:
        """It was said of this hostname, whose route was `before`, among so many known ones."""
        assert before.answer is not None
        said, whole = self._open.get(hostname), f"{before.answer.site}/{before.answer.environment}"
        if said is None or now - said[1] > CONTRADICTION_FORGOTTEN:
            if said is not None or self._has_room(now):
                self._open[hostname] = (now, now, whole)
            return False
        self._open[hostname] = (said[0], now, whole)
        if now - said[0] < CONFIRMED_AFTER:
            return False
        if self._are_more_than(max(MANY_CONTRADICTED, PART_CONTRADICTED * known), now):
            return False
        del self._open[hostname]
        return True

    def _has_room(self, now: float) -> bool:
        if len(self._open) >= MOST_CONTRADICTIONS:
            kept = {h: told for h, told in self._open.items() if now - told[1] <= CONTRADICTION_FORGOTTEN}
            self._open = kept
        return len(self._open) < MOST_CONTRADICTIONS

    def _are_more_than(self, most: float, now: float) -> bool:
        environments: set[str] = set()
        for _, last, whole in self._open.values():
            if now - last <= CONTRADICTION_FORGOTTEN:
                environments.add(whole)
                if len(environments) > most:
                    return True
        return False

    def settled(self, hostname: str) -> None:
        """The core API says something else of it again."""
        if self._open:
            self._open.pop(hostname, None)


class _Ready(LRUCache[str, Route]):
    """Gives away what it has no room for."""

    def __init__(self, size: int, overflow: Callable[[str, Route], object]) -> None:
        super().__init__(size)
        self._overflow = overflow

    def popitem(self) -> tuple[str, Route]:
        hostname, route = super().popitem()
        self._overflow(hostname, route)
        return hostname, route


class RouteTable:
    """Routes by hostname, existing and not existing ones in separately bounded LRUs.

    Of the existing ones it holds those that are in use; what it has no room for is given to `shelve`.
    """

    __slots__ = ("_absent", "_contradictions", "_known", "_settings", "drains", "shelve")

    def __init__(self, settings: RouteSettings) -> None:
        self._settings = settings
        self.drains = Drains()
        self._contradictions = Contradictions()
        self.shelve: Callable[[str, Route], object] = lambda hostname, route: None
        self._known = _Ready(min(settings.ready, settings.capacity), lambda *less: self.shelve(*less))
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
        """The route of an existing hostname; unlike `get`, this is no use of it."""
        return Cache.__getitem__(self._known, hostname) if hostname in self._known else None

    def invalidate(self, kind: str, name: str) -> int:
        """Ask for these anew at their next request: of a `hostname`, a `site`, an `environment` (site/name), or
        `all`. Returns how many there were. Raises ValueError for another kind."""
        if kind not in ("hostname", "site", "environment", "all"):
            raise ValueError(f"{kind} is none of hostname, site, environment, all")
        hits = 0
        if kind == "hostname":
            found = [self.peek(name)]
            hits += self.forget_absent(name)
        else:
            found = [
                route for route in map(self.peek, self._known) if route is not None and route.is_of(kind, name)
            ]
        if kind == "all":
            hits += len(self._absent)
            self._absent.clear()
        for route in found:
            if route is not None:
                route.invalidate()
                hits += 1
        return hits

    def forget_absent(self, hostname: str) -> bool:
        """Forget that there is no such hostname. Returns whether that was known."""
        return self._absent.pop(hostname, None) is not None

    @property
    def absent(self) -> int:
        """Hostnames known not to exist."""
        return len(self._absent)

    def get(self, hostname: str) -> Route | None:
        """What is known of a hostname, however old."""
        try:
            return self._known[hostname]
        except KeyError:
            return self._absent.get(hostname)

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
                if deliberate or self._contradictions.believed(hostname, before, now, len(self._known)):
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
        kept, other = (self._absent, self._known) if route.answer is None else (self._known, self._absent)
        other.pop(hostname, None)
        kept[hostname] = route
        if route.environment is not None:
            self._note(route.environment, hostname)
        return route

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


def redirect_location(redirect: str, target: bytes) -> bytes:
    """Where a client goes whose hostname moved: the same path there. `redirect` is a URL or a hostname."""
    base = redirect if "://" in redirect else f"//{redirect}"
    path = target if target[:1] == b"/" else b"/"
    return _UNPRINTABLE.sub("", base).rstrip("/").encode("ascii") + path


_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def may_exist(hostname: str) -> bool:
    """Whether the core API is worth asking: the syntax of a DNS name (RFC 1123, section 2.1; `_` is seen)."""
    return len(hostname) <= 253 and all(_LABEL.fullmatch(label) for label in hostname.split("."))
