"""Waits until a handshake has its certificate, and the context with it. A module of its own, because coroutines are
not compiled."""

import logging
import ssl

from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.tls.tls_contexts import PemPair
from edge.net.tls.tls_service import TlsService
from edge.rules.certificates.certificates import Certificate
from edge.rules.tls.client_authorities import ClientAuthorities
from edge.rules.tls.client_hello import Alert

log = logging.getLogger("styx.tls")


def context_identity(
    certificate: Certificate, protocols: tuple[str, ...], authorities: ClientAuthorities | None
) -> tuple[object, ...]:
    """What decides which context of a host a connection may have."""
    return certificate, protocols, b"" if authorities is None else authorities.group


class CertificateWait:
    """The wait of one handshake."""

    __slots__ = ("_authorities", "_client", "_deadline", "_name", "_protocols", "_tls")

    def __init__(
        self,
        tls: TlsService,
        name: str,
        client: str | None,
        protocols: tuple[str, ...],
        authorities: ClientAuthorities | None,
        deadline: float,
    ) -> None:
        """`client`: its address; None = it is not charged. `protocols`: names of those that are offered, as far as
        the certificate allows them (ALPN). `authorities`: of the certificates that the client is asked for; None =
        it is not."""
        self._tls = tls
        self._name = name
        self._client = client
        self._protocols = protocols
        self._authorities = authorities
        self._deadline = deadline

    async def run(self, certificate: Certificate | None) -> tuple[Certificate, ssl.SSLContext]:
        """The certificate, which may be known, and its context. Raises NoCertificate."""
        try:
            found = await self._look_up() if certificate is None else certificate
            return found, await self._build(found)
        except NoCertificate:
            raise
        except (ssl.SSLError, ValueError) as error:
            log.debug("certificate unusable", extra={"code": "certificate_unusable", "error": str(error)})
        except Exception as error:
            log.error("certificate lookup failed", extra={"code": "certificate_failed", "error": repr(error)})
        raise NoCertificate(Alert.INTERNAL_ERROR, "certificate_unusable")

    async def _build(self, certificate: Certificate) -> ssl.SSLContext:
        identity = context_identity(certificate, self._protocols, self._authorities)
        pairs = [PemPair(pair.chain_pem(), pair.key_pem()) for pair in certificate.pairs]
        alpn = [protocol for protocol in certificate.alpn if protocol in self._protocols]
        return await self._tls.hosts.build(identity, pairs, alpn, self._authorities)

    async def _look_up(self) -> Certificate:
        """The certificate of the name, or the default one for an unknown name. Raises NoCertificate."""
        tls, name = self._tls, self._name
        try:
            return await tls.certificates.lookup(name, self._client, deadline=self._deadline)
        except NoCertificate as error:
            if error.alert is not Alert.UNRECOGNIZED_NAME or tls.default is None or tls.default == name:
                raise
        return await tls.certificates.lookup(tls.default, None, deadline=self._deadline)
