"""A route: the response of the core API about a hostname, and how long it may be used.

A route is replaced as a whole, has its own lifetime (RFC 9111; RFC 5861 for the two `stale-` directives) and needs
no timer. `now` is of any clock that only goes forward.

    fresh ── max-age ──► stale ── stale-while-revalidate ──► expired ── stale-if-error ──► gone
    use                 use, look up in the background      look up first, use if that fails or takes long
"""

import re
from typing import Final, NamedTuple

from edge.rules.balancing.backend_state import BackendState, Candidate, endpoint_of
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environment
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import Freshness, Lifetime
from edge.rules.routing.route_response import RouteResponse
from edge.rules.settings.values import THE_CORE_API

ANOTHER_PROCESS: Final = "another process"
"The `source` of a route that this process has not looked up itself."

RENEWED_AHEAD: Final = 0.1
LONGEST_AHEAD: Final = 10.0
"Part of its max-age, and seconds at most, before the end of which a route in use is looked up again."


_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
"Characters of the core API that must not get into a line of a head."


class RejectedResponse(NamedTuple):
    """A response of the core API that did not replace a known route, and when it will, if it is repeated."""

    reason: str
    "A value of `route_table.Rejection`."
    generation: int | None
    "Its generation; None = the response was that there is no such hostname."
    since: float
    "Time since which such responses have come."
    accepted_at: float
    "Time from which one is accepted."


class Route:
    """The route of one hostname. `response` is that of the core API; None for an unknown host.

    Until the table accepts it, it is only data: `bind` connects it to the states of its backends.
    """

    __slots__ = (
        "accepts_any",
        "active",
        "changed_at",
        "environment",
        "etag",
        "expired_at",
        "failed_at",
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
        "rejected",
        "remarks",
        "renew_at",
        "response",
        "serves",
        "source",
        "standby",
        "states",
        "taken_at",
        "used_at",
    )

    def __init__(self, response: RouteResponse | None, etag: str | None = None) -> None:
        self.response = response
        self.environment: Environment | None = None
        "Set by `bind`."
        self.etag = etag
        self.last_error: str | None = None
        "Why the last lookup did not confirm or replace it; None = it did."
        self.failed_at = -1.0
        "Time of that lookup."
        self.rejected: RejectedResponse | None = None
        "The response of that lookup, if there was one and it was not accepted."
        self.remarks: tuple[str, ...] = ()
        "Faults in the response of the core API; the parts with faults are not used."
        self.marks: list[float] = []
        "Cumulated weights of the active backends as of `marked_at` (-2 = never), in a large environment."
        self.marked_at = self.least = -2.0
        self.active: tuple[Candidate, ...] = ()
        self.standby: tuple[Candidate, ...] = ()
        self.states: tuple[BackendState, ...] = ()
        self.serves = False
        "Whether requests get one of its backends: it has one, and there is neither maintenance nor a redirect."
        self.taken_at = self.fresh_until = self.expired_at = self.gone_at = 0.0
        self.renew_at = 0.0
        "Time from which a request causes a lookup in the background: a little before the route is stale."
        self.changed_at = -1.0
        "Time of the last change that concerned it; -1 = none. Responses to earlier lookups are stale."
        self.source = THE_CORE_API
        "Where it was learned from, in words."
        self.used_at = 0.0
        self.published_at = -1.0
        "Time of the confirmation that was last sent to other workers and to the file; -1 = never."
        self.no_lookup_before = 0.0
        "Time before which no lookup is started: the route is fresh, or the last lookup has just failed."
        self.forced_due = 0.0
        "Time up to which lookups that failing backends caused are accounted for (see Resolver.claim_lookup)."
        self.lower_since = -1.0
        """Time since which the responses of the core API have had a lower generation than this one; -1 = they have
        not."""
        self.lower_at = -1.0
        "Time of the last such response."
        self.overrides = False
        "Whether it was accepted in place of a higher generation; other processes then accept it as well."
        self.accepts_any = False
        "Whether the next response is accepted in any case: an operator has invalidated this route."

    def bind(self, environment: Environment | None, drains: Drains | None) -> None:
        """Begin to use the route: its backends get their states in the environment, and drains are applied."""
        self.environment = environment
        self.arrange(drains)

    def arrange(self, drains: Drains | None) -> None:
        """Set the candidates: the backends that neither the core API nor an operator drains."""
        candidates: list[Candidate] = []
        if self.response is not None and self.environment is not None:
            environment = self.environment
            name = f"{environment.site}/{environment.name}"
            for b in self.response.backends:
                if b.state == "draining" or (drains and drains.hold(b.id, b.server, name)):
                    continue
                state = environment.demerits.state_of(b.id, endpoint_of(b), asleep=b.state == "asleep")
                state.server = environment.servers.get(b.server)
                candidates.append(Candidate(b, state, environment.site))
        self.marked_at = -2.0
        self.active = tuple(c for c in candidates if c.backend.role != "standby")
        self.standby = tuple(c for c in candidates if c.backend.role == "standby")
        self.states = tuple(c.state for c in candidates)
        self.serves = self.response is not None and self.response.use == 2 and bool(candidates)

    def is_drained(self, drains: Drains) -> bool:
        """Whether it has no backend left because of drains by an operator."""
        response = self.response
        if response is None or self.states or not drains:
            return False
        name = response.environment_key
        return any(b.state != "draining" and drains.hold(b.id, b.server, name) for b in response.backends)

    @property
    def is_reachable(self) -> bool:
        """Whether a connect to one of its backends may succeed; True for a route without backends."""
        return not self.states or not all(state.down_since for state in self.states)

    @property
    def validator(self) -> str | None:
        """The entity tag to send to the core API (RFC 9110, section 13.1.2); None = the response must be a complete
        one.

        "Not modified" does not help when all backends are down, or when an operator has invalidated the route: a
        core API that was restored from a backup may use a tag again.
        """
        return self.etag if self.is_reachable and not self.accepts_any else None

    def invalidate(self) -> None:
        """Require a lookup before the next use; this route is used only if that fails. The response is accepted in
        any case: a lower generation or a removal needs no confirmation."""
        self.fresh_until = self.expired_at = self.no_lookup_before = self.renew_at = 0.0
        self.last_error = self.rejected = None
        self.accepts_any = True

    def mark_stale(self, now: float) -> None:
        """Mark the route stale: something of it has changed. It remains in use while it is looked up: most of it
        still holds, and a retry corrects the rest."""
        self.changed_at = now
        if self.fresh_until > now:
            self.fresh_until = now
        self.renew_at = self.no_lookup_before = self.fresh_until

    def renew(self, lifetime: Lifetime, now: float) -> None:
        """Start its lifetime again: the core API has just confirmed it."""
        self.taken_at = now
        self.fresh_until = now + lifetime.max_age
        ahead = min(RENEWED_AHEAD * lifetime.max_age, LONGEST_AHEAD) if self.response is not None else 0.0
        self.renew_at = self.no_lookup_before = self.fresh_until - ahead
        self.expired_at = self.fresh_until + lifetime.stale_while_revalidate
        self.gone_at = max(self.expired_at, self.fresh_until + lifetime.stale_if_error)
        self.last_error = self.rejected = None
        self.lower_since = -1.0
        self.accepts_any = False

    def record_failed_lookup(self, error: str, now: float, pause: float) -> None:
        """Record a failed lookup. No other is started for `pause` seconds."""
        self.last_error, self.failed_at, self.rejected = error, now, None
        self.no_lookup_before = now + pause

    def is_of(self, change: Change) -> bool:
        """Whether the change concerns this route."""
        return self.response is not None and (change.kind == "all" or change in self.response.concerned_by())

    def freshness(self, now: float) -> Freshness:
        """Return the stage of its lifetime."""
        if now < self.fresh_until:
            return Freshness.FRESH
        if now < self.expired_at:
            return Freshness.STALE
        return Freshness.EXPIRED if now < self.gone_at else Freshness.GONE


def redirect_location(redirect: str, target: bytes) -> bytes:
    """The Location for a hostname that moved: the same path at `redirect`, which is a URL or a hostname."""
    base = redirect if "://" in redirect else f"//{redirect}"
    path = target if target[:1] == b"/" else b"/"
    return _UNPRINTABLE.sub("", base).rstrip("/").encode("ascii") + path


_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def may_exist(hostname: str) -> bool:
    """Whether this can be a hostname and is worth a lookup: the syntax of a DNS name (RFC 1123, section 2.1; also
    `_`)."""
    return len(hostname) <= 253 and all(_LABEL.fullmatch(label) for label in hostname.split("."))
