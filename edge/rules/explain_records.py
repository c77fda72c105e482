"""What a worker tells about its routes when asked: the list of them, and the explanation of one hostname.

Plain records, so that `net` can fill them and `admin` can show them without knowing each other.
"""

import msgspec


class ExplainedDemerit(msgspec.Struct, frozen=True):
    """One reason why a backend gets less than its share."""

    cause: str
    points: float
    "What remains of it now; one point costs a factor e."
    age: float | None
    "Seconds since it was last earned; null where it has no moment."


class ExplainedBackend(msgspec.Struct, frozen=True):
    """One backend of a hostname, as the picker sees it now."""

    id: str
    address: str
    server: str
    role: str
    state: str
    demerits: list[ExplainedDemerit]
    weight: float
    "Its part in the draw: e^-points, less while it is cold, silent, or grows after a recovery; 0 = none."
    probability: float
    "Chance to be drawn by the next request, 0 to 1."
    in_flight: int
    rests_for: float
    "Seconds for which it is not asked (refused with Retry-After, or unreachable); 0 = it is."
    condition: str
    "well, cold, silent, recovering, probation, down or draining"
    condition_for: float | None
    "Seconds for which it has been so; null where that is not known."
    on_probation_for: str
    "slow, failing, new (just started or moved) or back (was down); empty = it is not on probation."
    next_probe: float | None
    """Seconds until a copy of a request (probation) or a connect (down) tries it again; null = of one that is down:
    from the next request for its site on; else: none will."""
    samples: int
    "Answers it was timed by."
    typical_ms: float | None
    "Its geometric mean time to the first answer byte."
    error_ratio: float


class ExplainedRoute(msgspec.Struct, frozen=True):
    """All that styx knows of one hostname."""

    hostname: str
    known: bool
    "False = the core API said that there is no such hostname."
    freshness: str
    "fresh, stale (served, asked again in the background), expired (asked first) or unknown"
    age: float
    "Seconds since the core API last confirmed it."
    source: str
    "Who told it: the core API, or another process (another worker, or the file of an earlier one)."
    fresh_for: float
    next_question: float
    "Seconds until a request for it has the core API asked; 0 = the next one does."
    usable_for: float
    "Seconds for which it is still served while the core API fails."
    last_error: str | None
    site: str
    environment: str
    generation: int
    maintenance: bool
    redirect: str | None
    backends: list[ExplainedBackend]


class ListedRoute(msgspec.Struct, frozen=True):
    """One line of the list of routes."""

    hostname: str
    site: str
    environment: str
    backends: int
    freshness: str
    age: float
    "Seconds since the core API last confirmed it."
    next_question: float
    source: str
    last_error: str | None


class RoutePage(msgspec.Struct, frozen=True):
    """A part of the list of routes, in the order in which they came."""

    routes: list[ListedRoute]
    next: int | None
    "Where the next page begins; null = this was the last. When routes are forgotten meanwhile, some are left out."
