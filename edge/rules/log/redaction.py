"""Redaction for the access log: values of query parameters, addresses of clients, credentials in headers. Pure."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote_plus

REDACTED: Final = "(redacted)"
"Stands for a value that is there, and is not written."
EVERYTHING: Final = "*"
"The name that stands for all query parameters."
CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"Header fields of which the log only says that they are there."
URLS: Final = frozenset({"referer", "location", "content-location"})
"Header fields that hold one URL, in whose query parameters may be secret."

_SEPARATOR: Final = re.compile("([&;])")
_KEPT_BITS: Final = {4: 24, 6: 48}
"Bits of an address that name a network, not a person, by version of IP."


def redacted_query(url: str, names: frozenset[str]) -> str:
    """A target or URL in which the values of these query parameters are replaced. `names`: in lower case;
    EVERYTHING = all. The query of a URL begins at its first question mark (RFC 3986, section 3.4)."""
    path, mark, query = url.partition("?")
    if not mark:
        return url
    return path + mark + "".join(_redacted_parameter(part, names) for part in _SEPARATOR.split(query))


def _redacted_parameter(part: str, names: frozenset[str]) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        # Without a name, the whole of it may be a secret.
        return REDACTED if EVERYTHING in names and part not in ("", "&", ";") else part
    if not value or not (EVERYTHING in names or unquote_plus(name).lower() in names):
        return part
    return f"{name}={REDACTED}"


@lru_cache(maxsize=4096)
def network_address(address: str) -> str:
    """An address without the bits that tell one client from its neighbours; empty = no address of IP."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv4Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ip_network(f"{parsed}/{_KEPT_BITS[parsed.version]}", strict=False).network_address)
