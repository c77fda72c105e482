"""Certificates for tests: an authority, and leaves of any kind, dates and names, as PEM."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WALL = NOW.timestamp()
"The same in seconds since the epoch."
DAY = 86400.0

PrivateKey = Any
_MADE: dict[tuple[str, int], PrivateKey] = {}


def private_key(kind: str = "ecdsa", number: int = 0) -> PrivateKey:
    """A private key; the same one for the same arguments, because RSA takes long."""
    if (kind, number) not in _MADE:
        _MADE[kind, number] = _new_key(kind)
    return _MADE[kind, number]


def _new_key(kind: str) -> PrivateKey:
    match kind:
        case "ecdsa":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "k256":
            return ec.generate_private_key(ec.SECP256K1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)
        case _:
            return rsa.generate_private_key(65537, 2048)


def pem_of_key(key: PrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key, as PEM. `chain`: with the certificate of its issuer, if that is not the root."""

    chain: str
    key: str

    def as_json(self) -> dict[str, str]:
        return {"chain": self.chain, "key": self.key}


class Authority:
    """A certificate authority. `issuer`: None = a root."""

    def __init__(self, name: str, issuer: "Authority | None" = None, *, kind: str = "ecdsa") -> None:
        self.name = name
        self.key = _new_key(kind)
        self.issuer = issuer
        by = self if issuer is None else issuer
        builder = _builder(name, by.name, self.key, NOW - timedelta(3650), NOW + timedelta(3650))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = builder.sign(by.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def leaf(
        self,
        *names: str,
        kind: str = "ecdsa",
        number: int = 0,
        since: timedelta = timedelta(-10),
        until: timedelta = timedelta(80),
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
        is_authority: bool = False,
        now: datetime = NOW,
    ) -> Leaf:
        """A certificate for these names. `since` and `until`: counted from `now`."""
        key = private_key(kind, number)
        builder = _builder(names[0] if names else "nobody", self.name, key, now + since, now + until)
        if names:
            entries = [x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
        if is_authority:
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        own = builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
        return Leaf(own + (self.pem if self.issuer is not None else ""), pem_of_key(key))


def _builder(
    subject: str, issuer: str, key: PrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(since).not_valid_after(until)


@cache
def authority() -> Authority:
    """An intermediate authority, so that chains have two certificates."""
    return Authority("Sample Intermediate", Authority("Sample Root"))
