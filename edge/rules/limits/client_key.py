"""Maps addresses to clients, and clients to networks.

A client is one IPv4 address, or one /64 of IPv6: every home has at least a /64 and can connect from 2^64 addresses
in it. Some have more: a site gets a /56 or a /48 (RFC 6177, RIPE-690), so these are the wider prefixes of a client.
IPv4 has none: an IPv4 address is rarely one person's, because mobile carriers put thousands behind it (RFC 6888),
and the other addresses of its /24 belong to other customers.
A network is what one provider holds: a /16 of IPv4, a /32 of IPv6. No limit applies to networks; they only take
turns.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

ClientKey = str | bytes
"An IPv4 address as text, or the leading bytes of an IPv6 address: 8 for a /64, 7 for a /56, 6 for a /48."

_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_WITH_PORT = re.compile(r"([0-9]+(?:\.[0-9]+){3}):[0-9]+")


def client_key(address: str) -> ClientKey:
    """The client with this address. Text that is no address, which a proxy may send, is its own key.

    IPv4 addresses embedded in IPv6 (::ffff:0:0/96, and 64:ff9b::/96 of RFC 6052) count as IPv4. A port after the
    address, which some proxies write into X-Forwarded-For, is ignored.
    """
    return address if ":" not in address else _key_of_long(address)


@lru_cache(4096)
def _key_of_long(address: str) -> ClientKey:
    """The client with an address that has a colon. Cached: parsing takes 6 µs, and a client sends many requests."""
    if address[0] == "[":
        address = address[1:].partition("]")[0]
    elif (with_port := _IPV4_WITH_PORT.fullmatch(address)) is not None:
        return with_port[1]
    try:
        found = IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None or found in _NAT64:
        return ".".join(map(str, found.packed[12:]))
    return found.packed[:8]


def client_name(client: ClientKey) -> str:
    """A client as text: an address, or a prefix such as 2001:db8::/64."""
    if isinstance(client, str):
        return client
    return str(IPv6Network((client.ljust(16, b"\0"), 8 * len(client))))


def wider_prefixes(client: ClientKey) -> tuple[bytes, ...]:
    """The prefixes that contain this client and may belong to the same site, the narrowest first."""
    if isinstance(client, str) or len(client) == 6:
        return ()
    return (client[:7], client[:6]) if len(client) == 8 else (client[:6],)


def network_of(client: ClientKey) -> ClientKey:
    """The network of a client."""
    return client.rsplit(".", 2)[0] if isinstance(client, str) else client[:4]
