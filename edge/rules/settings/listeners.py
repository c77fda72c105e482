"""Settings of listeners: the addresses on which clients are served."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import Field

from edge.rules.settings.section import Section, contradictory
from edge.rules.settings.tls import RedirectPort
from edge.rules.settings.values import Address, Count, FilePath, Flag, SocketAddress, TrustedNetwork


class ClientVerificationFiles(NamedTuple):
    """How a listener verifies the certificates of clients. Listeners with the same share what it takes."""

    authorities: str
    "The file of the authorities."
    revocations: str | None
    "The file of their revocation lists; None = none is looked at."
    is_required: bool
    "Whether clients must show a certificate."


class ListenerSettings(Section):
    """An address on which clients are served; there may be several."""

    address: SocketAddress = Field(examples=["127.0.0.1:8080"])
    "Where to listen: host:port, [::1]:8080, :8080 (every interface), unix:/path, or port 0 for any free one."
    backlog: Count = Field(default=4096, ge=1, le=65535)
    "Connections that the kernel queues before styx accepts them; it lowers this to net.core.somaxconn."
    trusted: tuple[TrustedNetwork, ...] | None = None
    "Networks of proxies before this listener, as [10.0.0.0/8]; null = forwarding.trusted. Unix sockets: all."
    proxy_protocol: Flag = False
    "Whether each connection must begin with a PROXY header, v1 or v2, from a trusted network; others are closed."
    tls: Flag = False
    "Whether clients speak TLS here, behind the PROXY header if there is one (see tls)."
    client_ca: FilePath = None
    "File with the authorities of certificates that TLS clients are asked for, as PEM; null = they are not asked."
    client_crl: FilePath = None
    "File with revocation lists (CRL) of the authorities in client_ca, as PEM; null = none is looked at."
    verify_client: Literal["required", "optional"] = "required"
    "required = a handshake without a certificate fails; optional = only one with a certificate that is no good."
    redirect_to_https: RedirectPort = False
    "true, or a port: every request is redirected to https there (308), but for /.well-known/acme-challenge/."

    http2: Flag | None = None
    "Whether TLS clients are offered HTTP/2; null = yes. Without tls, true: only HTTP/2 (RFC 9113, section 3.3)."

    @property
    def verification(self) -> ClientVerificationFiles | None:
        """How the certificates of clients are verified; None = they are not asked."""
        if self.client_ca is None:
            return None
        return ClientVerificationFiles(self.client_ca, self.client_crl, self.verify_client == "required")

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.tls and self.redirect_to_https:
            yield "redirect_to_https", "is for a listener without tls"
        if self.client_ca is not None and not self.tls:
            yield "client_ca", "is for a listener with tls: true, without which no certificate can be shown"
        if self.client_crl is not None and self.client_ca is None:
            yield "client_crl", "needs client_ca: the authorities whose revocation lists they are"
        if self.verify_client == "optional" and self.client_ca is None:
            yield "verify_client", "needs client_ca: the authorities whose certificates are believed"


def distinct(listeners: tuple[ListenerSettings, ...]) -> tuple[ListenerSettings, ...]:
    """Check that no two listeners have the same address; returns them. Raises PydanticCustomError."""
    first: dict[Address, int] = {}
    faults = []
    for index, listener in enumerate(listeners):
        earlier = first.setdefault(listener.address, index)
        # Port 0 is a different free port for each listener.
        if earlier != index and (listener.address.port or listener.address.path):
            faults.append((f"{index}.address", f"{listener.address} is already the address of listeners.{earlier}"))
    if faults:
        raise contradictory(faults)
    return listeners
