"""One certificate from files, for all names."""

from collections.abc import Sequence
from pathlib import Path

from edge.net.tls.tls_contexts import PemPair
from edge.net.tls.tls_service import NoCertificate, SiteCertificate

ALPN = ("http/1.1",)


class FileCertificate:
    """A certificate read from a file, and its key from another one."""

    __slots__ = ("alpn", "identity", "pairs")

    def __init__(self, pair: PemPair) -> None:
        self.identity: object = pair
        self.pairs: Sequence[PemPair] = (pair,)
        self.alpn: Sequence[str] = ALPN


class StaticCertificates:
    """Uses one certificate for all names; None = there is none."""

    __slots__ = ("_certificate",)

    def __init__(self, certificate: FileCertificate | None) -> None:
        self._certificate = certificate

    def known(self, name: str | None) -> SiteCertificate | None:
        """The certificate, whatever the name is."""
        return self._certificate

    async def lookup(self, name: str | None) -> SiteCertificate:
        """Raises NoCertificate: there is no other one."""
        raise NoCertificate(name or "no name")


def read_certificate(certificate: str | None, key: str | None) -> StaticCertificates:
    """Read the certificate and the key from these files. Raises OSError."""
    if certificate is None or key is None:
        return StaticCertificates(None)
    return StaticCertificates(FileCertificate(PemPair(Path(certificate).read_bytes(), Path(key).read_bytes())))
