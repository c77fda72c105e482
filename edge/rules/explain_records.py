"""Records for the admin API: the list of a worker's routes, and the explanation of one hostname.

They are plain records, so that `net` can fill them and `admin` can show them without importing each other.
"""

import msgspec


class ExplainedDemerit(msgspec.Struct, frozen=True):
    """One reason why a backend gets fewer requests."""

    cause: str
    points: float
    "Points that are left now; one point costs a factor e."
    age: float | None
    "Seconds since the last failure or response that caused it; null = not known."


class ExplainedDrain(msgspec.Struct, frozen=True):
    """A drain by an operator that concerns a backend."""

    kind: str
    "backend, server or environment"
    name: str
    by: str
    "Who began it; empty = not known."
    ends_in: float
    "Seconds."


class FailedAttempts(msgspec.Struct, frozen=True):
    """Failed attempts of one cause at one backend, by requests, probes and connect checks."""

    cause: str
    count: int
    "Since the worker first saw the backend, or forgot what it had learned."
    age: float
    "Seconds since the last one."


class FailedLookup(msgspec.Struct, frozen=True):
    """The last lookup of a hostname, which failed."""

    error: str
    age: float
    "Seconds since then."
    again_in: float
    "Seconds until a request for the hostname causes a lookup; 0 = the next request does."


class ExplainedRejection(msgspec.Struct, frozen=True):
    """A response of the core API that did not replace the known route."""

    reason: str
    "lower_generation, removal_unconfirmed or removal_held_back"
    generation: int | None
    "Its generation; null = the response was that there is no such hostname."
    since: float
    "Seconds for which such responses have come."
    age: float
    "Seconds since the last one."
    accepted_in: float
    "Seconds after which one is accepted, if they are repeated until then."


class ExplainedBackend(msgspec.Struct, frozen=True):
    """One backend of a hostname, as the picker sees it now."""

    id: str
    address: str
    server: str
    role: str
    state: str
    demerits: list[ExplainedDemerit]
    weight: float
    "Its weight in the draw: e^-points, less while it is cold, silent, or in slow start after a recovery; 0 = none."
    probability: float
    "Probability to be drawn for the next request, 0 to 1."
    in_flight: int
    rests_for: float
    "Seconds for which it gets no requests (refused with Retry-After, or unreachable); 0 = it gets them."
    condition: str
    "healthy, cold, silent, recovering, probation, down, draining (by the core API) or drained (by an operator)"
    condition_for: float | None
    "Seconds since it has been in this condition; null = not known."
    on_probation_for: str
    "slow, failing, new (just started or moved) or back (was down); empty = it is not on probation."
    next_probe: float | None
    """Seconds until a shadow probe (probation) or a connect check (down). null = for a backend that is down, the
    check is made when its site gets a request; for any other, there is no probe."""
    samples: int
    "Responses in `typical_ms`."
    typical_ms: float | None
    "Geometric mean of its times to first byte."
    error_ratio: float
    drains: list[ExplainedDrain] = []
    "Drains by operators that keep new requests from it."
    failures: list[FailedAttempts] = []
    "Failed attempts at it, the latest first: refusals, failed connects and all others."


class ExplainedCertificate(msgspec.Struct, frozen=True):
    """The certificate of a hostname, as a worker would serve it now."""

    names: list[str]
    "Hostnames and wildcards that it covers; empty = there is none."
    issuer: str
    "As in RFC 4514."
    not_after: float | None
    "When it ends, seconds since the epoch; null = there is none."
    days_left: float | None
    state: str
    """fresh, stale (used, looked up in the background), expired (looked up first), ended (its notAfter),
    absent, issuing, failed or unknown."""
    source: str
    "The core API, or a directory."
    last_error: str | None
    "Why the last lookup for it failed, or why there is none; null = nothing is wrong."


class ExplainedRoute(msgspec.Struct, frozen=True):
    """The explanation of one hostname: its route, and all its backends."""

    hostname: str
    known: bool
    "False = there is no such hostname, according to the source of routes; or there is no route, see `freshness`."
    freshness: str
    """fresh, stale (used, with a lookup in the background), expired (lookup first), unknown (too old to be used),
    or none: there is no route, and `failed_lookup` or `looking_up` says why."""
    age: float
    "Seconds since its source last confirmed it."
    source: str
    """Where the route came from: the core API, another process (another worker, or the file of an earlier one), or
    the file of routes."""
    fresh_for: float
    "Seconds for which it stays fresh."
    next_lookup: float
    "Seconds until a request for it causes a lookup; 0 = the next request does."
    usable_for: float
    "Seconds for which it can be used while the core API fails."
    last_error: str | None
    site: str
    environment: str
    generation: int
    maintenance: bool
    redirect: str | None
    backends: list[ExplainedBackend]
    failed_lookup: FailedLookup | None = None
    "The last lookup, if it failed. null = it succeeded, or its response was not accepted (`rejection`)."
    looking_up: bool = False
    "Whether a lookup is under way."
    circuit_open: bool = False
    "Whether lookups are stopped, because the core API fails."
    rejection: ExplainedRejection | None = None
    remarks: list[str] = []
    "Faults in the response of the core API; the parts with faults are not used."
    drained: bool = False
    "Whether drains by operators leave it no backend: requests get 503 `drained`."
    certificate: ExplainedCertificate | None = None
    "null = nothing is known of one, or no listener has TLS."


class KnownName(msgspec.Struct, frozen=True):
    """Whether a worker knows a backend, a server or an environment of this name."""

    known: bool
    nearest: list[str]
    "If it does not: the most similar names that it knows."


class ListedRoute(msgspec.Struct, frozen=True):
    """One entry of the list of routes."""

    hostname: str
    site: str
    environment: str
    backends: int
    freshness: str
    age: float
    "Seconds since the core API last confirmed it."
    next_lookup: float
    source: str
    last_error: str | None


class RoutePage(msgspec.Struct, frozen=True):
    """A page of the list of routes, in the order in which they were learned."""

    routes: list[ListedRoute]
    next: int | None
    "Position of the next page; null = this is the last. If routes are evicted meanwhile, some others are skipped."
