"""Validation of responses of the core API, before any part of them is used.

The shape of the JSON is checked when it is decoded (`route_response.RouteResponse`). This module checks what a type
cannot express: that the response is about the hostname that was looked up, that its members have a legal size, and
that its backends are where backends may be. A response is rejected as a whole when it is about another hostname or
no usable part is left; a single backend that cannot be used is left out. Pure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from edge.rules.certificates.certificate_names import hostname_in
from edge.rules.routing.route_response import UNIX, Backend, RouteResponse
from edge.rules.routing.routes import may_exist
from edge.rules.settings.values import Network, is_socket_path

MOST_BACKENDS = 1000
"Backends of one hostname that are used; more are left out. Thirty are usual."
LONGEST_NAME, LONGEST_URL, LONGEST_ETAG = 255, 2048, 1024
"Characters of an id, a site, an environment or a server; of a redirect; of an ETag."
_NEEDS_TLS = "core_api_backend_needs_tls"
"The code for a backend that is to be reached over TLS, and cannot be."
ROLES, STATES = frozenset({"active", "standby"}), frozenset({"running", "asleep", "draining"})
GENERATIONS = range(-(2**63), 2**63)

_NAME = re.compile(r"(?!.*\.(?:[0-9]+|0x[0-9a-f]*)\Z)(?!(?:[0-9]+|0x[0-9a-f]*)\Z).+", re.IGNORECASE)
"A host name, but not one that getaddrinfo takes for an IPv4 address (`127.1`, `0x7f000001`): inet_aton(3)."

_URL = re.compile(r"[\x21-\x7e]+")
"Characters of a Location field (RFC 3986: all others are percent-encoded)."


class InvalidResponse(Exception):
    """A response that is not used at all. `code` is stable; the text says what is wrong."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Remark(NamedTuple):
    """A part of a response that is wrong and not used."""

    code: str
    words: str


class BackendPolicy:
    """Where backends may be (`core_api.backend_networks`).

    Never allowed: addresses of no single host (unspecified, multicast, broadcast) and the edge's own listeners. Not
    allowed unless networks are configured: link-local addresses (clouds serve credentials at 169.254.169.254) and,
    unless `loopback`, the edge's own machine. Unix sockets are allowed only if `sockets`: otherwise a remote core
    API could have the edge connect to any daemon of its machine. TLS is possible only if the edge can tell who is
    there (`backends.tls`).
    """

    __slots__ = ("_is_own", "_loopback", "_networks", "_sockets", "_tls_names")

    def __init__(
        self,
        networks: Sequence[Network] | None = None,
        *,
        loopback: bool = True,
        sockets: bool = True,
        tls_names: str | None = None,
        is_own: Callable[[str, int], bool] = lambda address, port: False,
    ) -> None:
        """`tls_names`: the name in the certificate of a backend, with `{id}` for its id; None = there is no TLS to
        backends. `is_own`: whether an IP address and a port, or a path and 0, are a listener of this edge."""
        self._is_own = is_own
        self._tls_names = tls_names
        self.reconfigure(networks, loopback=loopback, sockets=sockets)

    def reconfigure(self, networks: Sequence[Network] | None, *, loopback: bool, sockets: bool) -> None:
        """Apply these settings from now on."""
        self._networks = networks
        self._loopback = loopback
        self._sockets = sockets

    def fault_of(self, address: str, port: int) -> str:
        """Why no backend may be at this address and port; "" = one may. A host name passes here; its addresses are
        checked when it is resolved (`permits`)."""
        if address.startswith(UNIX):
            return self._fault_of_socket(address.removeprefix(UNIX), port)
        if not 1 <= port <= 65535:
            return f"has the port {port}"
        try:
            ip = _unmapped(ip_address(address))
        except ValueError:
            name = address.lower().removesuffix(".")
            return "" if may_exist(name) and _NAME.fullmatch(name) else "is neither an IP address nor a host name"
        return self._fault_of_ip(ip, port)

    def _fault_of_socket(self, path: str, port: int) -> str:
        if not is_socket_path(path):
            return "is no absolute path of at most 107 bytes"
        if port:
            return f"has the port {port}"
        if not self._sockets:
            return "is a Unix socket, which core_api.unix_backends allows by default only if the core API is local"
        return "is this edge itself" if self._is_own(path, 0) else ""

    def fault_of_tls(self, backend_id: str) -> str:
        """Why the backend with this id cannot be reached over TLS; "" = it can."""
        if self._tls_names is None:
            return "has tls, but neither backends.tls.ca nor backends.tls.certificate is set"
        if hostname_in(self._tls_names.replace("{id}", backend_id)) is None:
            return "has tls, but an id that can be no part of a hostname (backends.tls.name)"
        return ""

    def permits(self, address: str, port: int) -> bool:
        """Whether a backend may be at this IP address, to which a host name was resolved."""
        try:
            return not self._fault_of_ip(_unmapped(ip_address(address)), port)
        except ValueError:
            return False

    def _fault_of_ip(self, ip: IPv4Address | IPv6Address, port: int) -> str:
        if ip.is_unspecified or ip.is_multicast or (ip.version == 4 and ip == IPv4Address("255.255.255.255")):
            return "is no address of a host"
        if self._networks is not None:
            if not any(ip in network for network in self._networks):
                return "is outside core_api.backend_networks"
        elif ip.is_link_local:
            return "is link-local, which core_api.backend_networks does not allow by default"
        elif ip.is_loopback and not self._loopback:
            return "is on loopback, which core_api.backend_networks allows by default only if the core API is"
        return "is this edge itself" if self._is_own(str(ip), port) else ""


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Unwrap an IPv4-mapped address: ::ffff:127.0.0.1 is 127.0.0.1 to the kernel (RFC 4291, section 2.5.5.2)."""
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def checked(response: RouteResponse, hostname: str, policy: BackendPolicy) -> tuple[RouteResponse, list[Remark]]:
    """Return the usable part of a response about `hostname`, and remarks on the rest. Raises InvalidAnswer."""
    name_in_response = response.hostname.lower().removesuffix(".")
    if name_in_response != hostname:
        raise InvalidResponse("core_api_wrong_hostname", f"the response is about {response.hostname[:255]!r}")
    for name, value in (("site", response.site), ("environment", response.environment)):
        if not 0 < len(value) <= LONGEST_NAME:
            raise InvalidResponse(
                "core_api_bad_response", f"{name} has {len(value)} characters, not 1 to {LONGEST_NAME}"
            )
    if response.generation not in GENERATIONS:
        raise InvalidResponse("core_api_bad_response", "generation does not fit into 64 bits")
    if fault := redirect_fault(response.redirect, hostname):
        raise InvalidResponse("core_api_bad_redirect", f"redirect {fault}")
    remarks: list[Remark] = []
    backends = tuple(_usable(response.backends, policy, remarks))
    if response.backends and not backends:
        code = _NEEDS_TLS if all(remark.code == _NEEDS_TLS for remark in remarks) else "core_api_bad_response"
        raise InvalidResponse(code, f"no backend can be used: {remarks[0].words}")
    return msgspec.structs.replace(response, backends=backends), remarks


def _usable(backends: Sequence[Backend], policy: BackendPolicy, remarks: list[Remark]) -> Iterator[Backend]:
    ids: set[str] = set()
    for number, backend in enumerate(backends):
        if number == MOST_BACKENDS:
            words = f"{len(backends)} backends, of which the first {MOST_BACKENDS} are used"
            remarks.append(Remark("core_api_too_many_backends", words))
            return
        fault, code = _fault_of(backend, policy), "core_api_bad_backend"
        if not fault and backend.id in ids:
            fault = "has the id of another one"
        if not fault and backend.tls and (fault := policy.fault_of_tls(backend.id)):
            code = _NEEDS_TLS
        if fault:
            remarks.append(Remark(code, f"backend {backend.id[:64]!r} {fault}"))
            continue
        for code, name, value, legal in (
            ("core_api_unknown_role", "role", backend.role, ROLES),
            ("core_api_unknown_state", "state", backend.state, STATES),
        ):
            if value not in legal:
                words = f"backend {backend.id!r} has an unknown {name}: {value[:64]!r}"
                remarks.append(Remark(code, words))
        ids.add(backend.id)
        yield backend


def _fault_of(backend: Backend, policy: BackendPolicy) -> str:
    if not 0 < len(backend.id) <= LONGEST_NAME:
        return f"has an id of {len(backend.id)} characters, not 1 to {LONGEST_NAME}"
    if len(backend.server) > LONGEST_NAME:
        return f"has a server of {len(backend.server)} characters, at most {LONGEST_NAME}"
    fault = policy.fault_of(backend.address, backend.port)
    return f"at {backend.address[:64]!r} {fault}" if fault else ""


def redirect_fault(redirect: str | None, hostname: str) -> str:
    """Why requests for this hostname cannot be redirected there; "" = they can, or there is no redirect."""
    if redirect is None:
        return ""
    if len(redirect) > LONGEST_URL:
        return f"has {len(redirect)} characters, at most {LONGEST_URL}"
    try:
        parts = urlsplit(redirect if "://" in redirect else f"//{redirect}")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    bare = "://" not in redirect and (parts.netloc != redirect or "@" in redirect)
    if bare or parts.scheme not in ("", "http", "https") or not _is_host(host) or not _URL.fullmatch(redirect):
        return f"must be an absolute URL or a hostname, not {redirect[:64]!r}"
    return "leads to the same hostname" if host.removesuffix(".") == hostname else ""


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            ip_address(host)
        except ValueError:
            return False
        return True
    return may_exist(host.removesuffix("."))
