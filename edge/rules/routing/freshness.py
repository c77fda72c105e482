"""How long an answer of the core API holds: HTTP's own words (RFC 9111, section 5.2; RFC 5861)."""

import re
from typing import NamedTuple


class Lifetime(NamedTuple):
    """How long an answer holds: seconds, each counted from the end of the one before."""

    max_age: float
    stale_while_revalidate: float
    stale_if_error: float


LONGEST = 7 * 86400.0
"Seconds that an answer may ask for: a slip in one answer must not pin a route for years."
LONGEST_UNKNOWN = 3600.0
"The same for `no such hostname`, which is no longer true when the site has been made."

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
            said[match[1]] = min(float(match[2] or match[3]), LONGEST)
    if not _NOT_KEPT.isdisjoint(parts):
        said["max-age"] = 0.0
        said.setdefault("stale-while-revalidate", 0.0)
    return Lifetime(
        said.get("max-age", default.max_age),
        said.get("stale-while-revalidate", default.stale_while_revalidate),
        said.get("stale-if-error", default.stale_if_error),
    )
