"""Freshness of routes, and the lifetime of a response by its Cache-Control (RFC 9111, section 5.2; RFC 5861)."""

import re
from enum import Enum
from typing import Final, NamedTuple


class Freshness(Enum):
    """Whether a route may be used, and whether it must be looked up."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"
    GONE = "unknown"


class Lifetime(NamedTuple):
    """The lifetime of a response: seconds, each counted from the end of the one before."""

    max_age: float
    stale_while_revalidate: float
    stale_if_error: float


LONGEST: Final = 7 * 86400.0
"Maximum seconds of a directive: a mistake in one response must not pin a route for years."
LONGEST_UNKNOWN: Final = 3600.0
"The same for unknown hosts, of which the response is wrong as soon as the site has been made."

_DIRECTIVE: Final = re.compile(r'([a-z-]+)=(?:"([0-9]{1,10})"|([0-9]{1,10}))', re.IGNORECASE)
_NOT_CACHED: Final = frozenset({"no-store", "no-cache"})


def lifetime_of(cache_control: str | None, default: Lifetime) -> Lifetime:
    """Parse Cache-Control (RFC 9111, section 5.2); directives that are absent or no numbers come from `default`."""
    if cache_control is None:
        return default
    directives: dict[str, float] = {}
    parts = [part.strip() for part in cache_control.lower().split(",")]
    for part in parts:
        match = _DIRECTIVE.fullmatch(part)
        if match is not None:
            directives[match[1]] = min(float(match[2] or match[3]), LONGEST)
    if not _NOT_CACHED.isdisjoint(parts):
        directives["max-age"] = 0.0
        directives.setdefault("stale-while-revalidate", 0.0)
    return Lifetime(
        directives.get("max-age", default.max_age),
        directives.get("stale-while-revalidate", default.stale_while_revalidate),
        directives.get("stale-if-error", default.stale_if_error),
    )
