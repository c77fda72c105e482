"""Validation of the request target and of Host (RFC 9112, sections 3.2 and 3.3)."""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from edge.rules.http.framing import RejectedRequest
from edge.rules.outcomes import Cause

_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9._-]{1,254}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")
_LABELS: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """The target in origin form, a path with its query, or `*` (RFC 9112, section 3.2.1). Raises RejectedRequest.

    An absolute target must name the same host as Host: with two names, two servers could read the request
    differently.
    """
    if target[:1] == b"/" and method != b"CONNECT":
        return target
    if method == b"CONNECT":
        raise RejectedRequest(Cause.NOT_IMPLEMENTED, "CONNECT is for forward proxies")
    if target == b"*":
        if method != b"OPTIONS":
            raise RejectedRequest(Cause.BAD_REQUEST, "* is a target of OPTIONS only")
        return target
    authority, rest = _absolute(target)
    if _without_default_port(authority) != _without_default_port(host):
        raise RejectedRequest(Cause.BAD_REQUEST, "the request target names another host than Host")
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/"  # RFC 9112, section 3.2.4
    return rest if rest[:1] == b"/" else b"/" + rest


def authority_of(target: bytes) -> bytes:
    """The host and port in an absolute target. Raises RejectedRequest."""
    return _absolute(target)[0]


def _absolute(target: bytes) -> tuple[bytes, bytes]:
    """The authority and what follows it. Raises RejectedRequest, also for https: no listener has TLS, so the edge
    cannot prove that it is the host (RFC 9110, section 7.4), and would forward the wrong scheme to the backend."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise RejectedRequest(Cause.BAD_REQUEST, "the request target is neither a path nor an absolute URL")
    if match[1].lower() == b"https":
        raise RejectedRequest(Cause.BAD_REQUEST, "the request target asks for https on a connection without TLS")
    return match[2], match[3]


def _without_default_port(authority: bytes) -> bytes:
    """The authority in lower case, without an empty or default port, which mean no port (RFC 3986, section
    6.2.3)."""
    name, colon, port = authority.lower().rpartition(b":")
    return name if colon and port in (b"", b"80") else authority.lower()


def hostname_of(hosts: list[bytes] | None) -> str:
    """The hostname in Host: lower case, no port, no trailing dot. Raises RejectedRequest.

    The syntax is that of RFC 1123, section 2.1, plus underscores, which are in use.
    """
    if not hosts or not hosts[0]:
        raise RejectedRequest(Cause.EMPTY_HOST, "no Host")
    if len(hosts) > 1:
        raise RejectedRequest(Cause.BAD_REQUEST, "more than one Host")
    match = _AUTHORITY.fullmatch(hosts[0])
    if match is None or (match[2] and int(match[2]) > 65535):
        raise RejectedRequest(Cause.BAD_REQUEST, "Host is not a hostname with an optional port")
    name = match[1].decode("ascii").lower()
    if name[0] == "[":
        return _ipv6(name)
    name = name.removesuffix(".")
    if len(name) > 253 or _LABELS.fullmatch(name) is None:
        raise RejectedRequest(Cause.BAD_REQUEST, "Host is not a hostname: it has an empty or too long part")
    return name


def _ipv6(name: str) -> str:
    try:
        IPv6Address(name[1:-1])
    except AddressValueError:
        raise RejectedRequest(Cause.BAD_REQUEST, "Host is not an IPv6 address in brackets") from None
    return name
