"""A small public key infrastructure: made when a platform starts, and gone with it.

    authority of sites ──────► certificates of hostnames, which clients see: `ca.pem` is what they have to trust
    authority of containers ─► a certificate for each container, with its id as its name, and one for the edge

They are two, so that the owner of a site could not pass for a container. Nothing here is for production.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.platform.containers.container import ContainerTls

CONTAINER_NAME: Final = "{id}.containers.internal"
"The DNS name in the certificate of a container; the default of `backends.tls.name`."
LIFETIME: Final = timedelta(days=30)
CLOCKS_DIFFER: Final = timedelta(hours=1)


class IssuedPair(NamedTuple):
    """A certificate and its private key, PEM."""

    chain: str
    key: str

    def __repr__(self) -> str:
        return "<IssuedPair>"  # never its key


class Authority:
    """One authority, which signs without asking."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        self.pem = _pem(builder.sign(self._key, hashes.SHA256()))
        "Its certificate."

    def issue(self, name: str) -> IssuedPair:
        """A certificate for this DNS name, of a server and of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            # A common name has room for 64 characters, and is for people only.
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
        return IssuedPair(_pem(builder.sign(self._key, hashes.SHA256())), private)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCKS_DIFFER)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
        )


class PocketPki:
    """Both authorities, and the files that they have written for others. `write` comes first."""

    def __init__(self, directory: Path) -> None:
        """`directory`: for its files; it is made by `write`."""
        self.directory = directory
        self._sites = Authority("styx demo: sites")
        self._containers = Authority("styx demo: containers")
        self._issued: dict[str, IssuedPair] = {}
        "By hostname."
        self._renewals: Counter[str] = Counter()

    @property
    def site_ca(self) -> Path:
        """File with the authority that clients have to trust."""
        return self.directory / "ca.pem"

    @property
    def container_ca(self) -> Path:
        """File with the authority of containers, and of the edge as their client."""
        return self.directory / "containers-ca.pem"

    @property
    def edge(self) -> tuple[Path, Path]:
        """Files with the certificate of the edge and its key."""
        return self.directory / "edge.pem", self.directory / "edge.key"

    def write(self) -> None:
        """Write the files of the authorities and of the edge. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True)
        self.site_ca.write_text(self._sites.pem)
        self.container_ca.write_text(self._containers.pem)
        self._write_pair(self._containers.issue("edge.internal"), *self.edge)

    def for_site(self, hostname: str) -> IssuedPair:
        """The certificate of a site, issued when it is first asked for."""
        if hostname not in self._issued:
            self._issued[hostname] = self._sites.issue(hostname)
        return self._issued[hostname]

    def generation_of(self, hostname: str) -> int:
        """1 = the first certificate of this site, and one more for each renewal."""
        return 1 + self._renewals[hostname]

    def renew(self, hostname: str) -> None:
        """From now on, a site has another certificate, with another key."""
        self._issued[hostname] = self._sites.issue(hostname)
        self._renewals[hostname] += 1

    def for_container(self, container_id: str) -> ContainerTls:
        """Issue the certificate of a container into files. Raises OSError."""
        certificate, key = (self.directory / f"{container_id}.{kind}" for kind in ("pem", "key"))
        self._write_pair(self._containers.issue(CONTAINER_NAME.format(id=container_id)), certificate, key)
        return ContainerTls(certificate, key, self.container_ca, self.edge)

    def _write_pair(self, pair: IssuedPair, certificate: Path, key: Path) -> None:
        certificate.write_text(pair.chain)
        key.touch(mode=0o600)
        key.write_text(pair.key)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
