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
    "well, cold, silent, recovering, probation, down or draining"
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


class ExplainedRoute(msgspec.Struct, frozen=True):
    """The explanation of one hostname: its route, and all its backends."""

    hostname: str
    known: bool
    "False = there is no such hostname, according to the core API."
    freshness: str
    "fresh, stale (used, with a lookup in the background), expired (lookup first) or unknown"
    age: float
    "Seconds since the core API last confirmed it."
    source: str
    "Where the route came from: the core API, or another process (another worker, or the file of an earlier one)."
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
