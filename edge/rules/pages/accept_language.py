"""The languages that a client prefers: `Accept-Language` (RFC 9110, section 12.5.4), looked up as in RFC 4647."""

import re
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from typing import Final

MOST_BYTES: Final = 1024
"Bytes of the field that are read; browsers send less than a hundred."
MOST_RANGES: Final = 32
"Languages that are considered; more are left out."
MOST_CACHED: Final = 256
"Fields whose languages are remembered: most clients send one of a few."
LANGUAGE: Final = re.compile(r"[a-z]{1,8}(?:-[a-z0-9]{1,8}){0,7}", re.IGNORECASE)
"A language tag or range (RFC 4647, section 2.1), but not `*`."
_WEIGHT: Final = re.compile(r"[ \t]*(?:;[ \t]*[qQ]=([01](?:\.[0-9]{0,3})?)[ \t]*)?")


def preferred_languages(field: bytes) -> tuple[str, ...]:
    """The ranges in an `Accept-Language` field, in lower case, the most wanted first. Those with q=0 and `*`, which
    stands for whatever there is, are not among them, nor what is no language range."""
    return _parsed(field[:MOST_BYTES])


@lru_cache(MOST_CACHED)
def _parsed(field: bytes) -> tuple[str, ...]:
    weighted: list[tuple[float, str]] = []
    for member in field.decode("latin-1").split(",")[:MOST_RANGES]:
        tag, _, rest = member.strip(" \t").partition(";")
        weight = _WEIGHT.fullmatch(f";{rest}" if rest else "")
        tag = tag.rstrip(" \t")
        if weight is not None and LANGUAGE.fullmatch(tag):
            q = min(1.0, float(weight[1] or 1))
            if q:
                weighted.append((-q, tag.lower()))
    weighted.sort(key=lambda one: one[0])  # stable: of equal ones the first counts
    return tuple(tag for _, tag in weighted)


def look_up(ranges: Sequence[str], available: Container[str]) -> str | None:
    """The first available language (lower case) for these ranges; `de-at` finds `de` (RFC 4647, section 3.4).
    None = none of them is available."""
    for language in ranges:
        for tag in _shorter_and_shorter(language):
            if tag in available:
                return tag
    return None


def _shorter_and_shorter(language: str) -> Iterator[str]:
    parts = language.split("-")
    while parts:
        yield "-".join(parts)
        parts.pop()
        if parts and len(parts[-1]) == 1:  # a single character begins what was just removed
            parts.pop()
