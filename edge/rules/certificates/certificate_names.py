"""Names in certificates and in the server_name extension: which are valid hostnames, and which covers which."""

import re
from collections.abc import Collection
from typing import Final

LONGEST: Final = 253
"Characters of a hostname without the dot at its end (RFC 1035, section 2.3.4)."

# The syntax of RFC 1123, section 2.1, plus underscores, which are in use. A name whose last label is a number is an
# IPv4 address in one of its spellings (RFC 9525, section 1.2; RFC 6066, section 3, does not permit addresses).
_LABEL: Final = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOSTNAME: Final = re.compile(rf"(?!(?:.*\.)?[0-9]+\Z)(?:{_LABEL}\.)*{_LABEL}")


def hostname_in(text: str) -> str | None:
    """The hostname in canonical form: lower case, without a dot at its end. None = it is none, such as an address,
    a wildcard, or a name beyond ASCII."""
    if not text.isascii():
        return None
    name = text.lower().removesuffix(".")
    return name if len(name) <= LONGEST and _HOSTNAME.fullmatch(name) is not None else None


def certificate_name(text: str) -> str | None:
    """A DNS name of a certificate in canonical form: a hostname, or a wildcard that is the complete left-most
    label before a hostname (RFC 9525, section 6.3). None = it covers no hostname."""
    if not text.startswith("*."):
        return hostname_in(text)
    rest = hostname_in(text[2:])
    return None if rest is None or len(rest) + 2 > LONGEST else f"*.{rest}"


def wildcard_of(hostname: str) -> str:
    """The only wildcard that covers this hostname; "" if it has one label."""
    _, dot, rest = hostname.partition(".")
    return f"*.{rest}" if dot else ""


def is_covered(name: str, names: Collection[str]) -> bool:
    """Whether a name, which may be a wildcard, is covered by these names, all in canonical form. A wildcard covers
    exactly one label (RFC 9525, section 6.3), and a wildcard is covered by itself only."""
    return name in names or (not name.startswith("*.") and wildcard_of(name) in names)
