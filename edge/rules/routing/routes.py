"""What the core API said about a hostname, and how long that holds.

Answers, not opinions: they are replaced whole, carry their own freshness (RFC 9111; RFC 5861 for the two
`stale-` words) and need no timer. `now` is any clock that only goes forward.

    fresh ── max-age ──► stale ── stale-while-revalidate ──► expired ── stale-if-error ──► gone
    serve               serve, ask in the background        ask first, serve if that fails
"""

import re
from enum import Enum

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environment
from edge.rules.http.hop_by_hop import later_lines
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import Lifetime
from edge.rules.routing.route_response import Backend, RouteAnswer


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
    FILE = "the file of routes"


RENEWED_AHEAD, LONGEST_AHEAD = 0.1, 10.0
"Part of its time, and seconds, before the end of which a route in use is asked for again."


_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
"What must not get into a line of a head, though the core API says it."


def _endpoint_of(backend: Backend) -> str:
    return f"{backend.id}@{backend.endpoint}"


class Candidate:
    """A backend of a route together with its standing: what the picker draws from."""

    __slots__ = ("backend", "endpoint", "first_lines", "head_line", "standing")

    def __init__(self, backend: Backend, standing: BackendState) -> None:
        self.backend = backend
        self.standing = standing
        self.endpoint = _endpoint_of(backend)
        "Who is where. Connections are kept, and attempts remembered, by this: a moved container is a new place."
        self.head_line = b"X-Styx-Backend: %b\r\n" % _UNPRINTABLE.sub("?", backend.id).encode("ascii")
        self.first_lines = later_lines(self.head_line, 1)
        "With which a request head ends that goes to it first."

    def __repr__(self) -> str:
        return f"<{self.endpoint}>"


class Route:
    """What is known of one hostname. `answer` is None for a hostname that does not exist.

    It is data until the table has accepted it: only `bind` touches what was learned about its backends.
    """

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
        "lower_at",
        "lower_since",
        "marked_at",
        "marks",
        "no_lookup_before",
        "overrides",
        "published_at",
        "renew_at",
        "source",
        "standby",
        "standings",
        "taken_at",
        "takes_any",
        "used_at",
    )

    def __init__(self, answer: RouteAnswer | None, etag: str | None = None) -> None:
        self.answer = answer
        self.environment: Environment | None = None
        "Set by `bind`."
        self.etag = etag
        self.last_error: str | None = None
        self.marks: list[float] = []
        "Sums of the weights of the active ones as of `marked_at` (-2 = never), where there are many."
        self.marked_at = self.least = -2.0
        self.active: tuple[Candidate, ...] = ()
        self.standby: tuple[Candidate, ...] = ()
        self.standings: tuple[BackendState, ...] = ()
        self.taken_at = self.fresh_until = self.expired_at = self.gone_at = 0.0
        self.renew_at = 0.0
        "From when a request for it causes a question in the background: a little before it is stale."
        self.doubted_at = -1.0
        "When the platform last told that something of it has changed: what was asked before is stale."
        self.source = Source.ASKED
        self.used_at = 0.0
        self.published_at = -1.0
        "When the other workers and the file were last told of it; -1 = never."
        self.no_lookup_before = 0.0
        "Nobody asks the core API before: fresh, or the last question has just failed."
        self.forced_due = 0.0
        "Up to when the questions are accounted for that failing backends caused (see Resolver.claim_lookup)."
        self.lower_since = -1.0
        "Since when the core API has answered with a lower generation than this one's; -1 = it has not."
        self.lower_at = -1.0
        "When it did so last."
        self.overrides = False
        "Whether it was accepted in place of a higher generation; other processes take it as well then."
        self.takes_any = False
        "Whether the next answer holds whatever it says: an operator has invalidated this route."

    def bind(self, environment: Environment | None, drains: Drains | None) -> None:
        """It holds from now on: its backends get their standings in the environment."""
        self.environment = environment
        self.arrange(drains)

    def arrange(self, drains: Drains | None) -> None:
        """Who may get requests: whom neither the core API nor an operator drains."""
        candidates: list[Candidate] = []
        if self.answer is not None and self.environment is not None:
            environment = self.environment
            whole = f"{environment.site}/{environment.name}"
            for b in self.answer.backends:
                if b.state == "draining" or (drains and drains.hold(b.id, b.server, whole)):
                    continue
                standing = environment.book.standing(b.id, _endpoint_of(b), asleep=b.state == "asleep")
                standing.server = environment.servers.get(b.server)
                candidates.append(Candidate(b, standing))
        self.marked_at = -2.0
        self.active = tuple(c for c in candidates if c.backend.role != "standby")
        self.standby = tuple(c for c in candidates if c.backend.role == "standby")
        self.standings = tuple(c.standing for c in candidates)

    @property
    def is_reachable(self) -> bool:
        """Whether a connection to one of its backends may succeed; True for a route without backends."""
        return not self.standings or not all(standing.down_since for standing in self.standings)

    @property
    def validator(self) -> str | None:
        """The entity tag to ask the core API with (RFC 9110, 13.1.2); None = its answer has to be a whole one.

        "Not modified" is no help when nothing can be connected to any more, or when an operator has invalidated
        the route: a core API that was restored may use a tag again.
        """
        return self.etag if self.is_reachable and not self.takes_any else None

    def invalidate(self) -> None:
        """The next request asks the core API first; what we have holds only if that cannot be asked. Whatever is
        answered then is taken: a lower generation or a removal needs no confirmation."""
        self.fresh_until = self.expired_at = self.no_lookup_before = self.renew_at = 0.0
        self.takes_any = True

    def doubt(self, now: float) -> None:
        """Something of it has changed. It is used at once all the same, while the core API is asked: most of it
        holds, and what does not is noticed by the next attempt."""
        self.doubted_at = now
        if self.fresh_until > now:
            self.fresh_until = now
        self.renew_at = self.no_lookup_before = self.fresh_until

    def renew(self, lifetime: Lifetime, now: float) -> None:
        """The core API has just confirmed this."""
        self.taken_at = now
        self.fresh_until = now + lifetime.max_age
        ahead = min(RENEWED_AHEAD * lifetime.max_age, LONGEST_AHEAD) if self.answer is not None else 0.0
        self.renew_at = self.no_lookup_before = self.fresh_until - ahead
        self.expired_at = self.fresh_until + lifetime.stale_while_revalidate
        self.gone_at = max(self.expired_at, self.fresh_until + lifetime.stale_if_error)
        self.last_error = None
        self.lower_since = -1.0
        self.takes_any = False

    def not_renewed(self, error: str, now: float, pause: float) -> None:
        """The core API could not be asked. Leave it alone for `pause` seconds."""
        self.last_error = error
        self.no_lookup_before = now + pause

    def is_of(self, change: Change) -> bool:
        """Whether it concerns this."""
        return self.answer is not None and (change.kind == "all" or change in self.answer.concerned_by())

    def freshness(self, now: float) -> Freshness:
        """What may be done with it now."""
        if now < self.fresh_until:
            return Freshness.FRESH
        if now < self.expired_at:
            return Freshness.STALE
        return Freshness.EXPIRED if now < self.gone_at else Freshness.GONE


def redirect_location(redirect: str, target: bytes) -> bytes:
    """Where a client goes whose hostname moved: the same path there. `redirect` is a URL or a hostname."""
    base = redirect if "://" in redirect else f"//{redirect}"
    path = target if target[:1] == b"/" else b"/"
    return _UNPRINTABLE.sub("", base).rstrip("/").encode("ascii") + path


_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def may_exist(hostname: str) -> bool:
    """Whether the core API is worth asking: the syntax of a DNS name (RFC 1123, section 2.1; `_` is seen)."""
    return len(hostname) <= 253 and all(_LABEL.fullmatch(label) for label in hostname.split("."))
