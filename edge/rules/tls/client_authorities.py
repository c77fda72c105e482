"""The certificate authorities that sign the certificates of clients: parsed and validated from a file's text.

A session is resumed without a look at the certificate. So sessions must not cross from one listener to another that
believes others, or that requires what this one only asks for (CVE-2025-23419): both are part of the `group`, by
which ticket keys and contexts are kept apart.
"""

from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MOST_AUTHORITIES: Final = 100
"Each takes 3 KiB in each ready TLS context."
LONGEST_FILE: Final = 1 << 20
_PRIVATE: Final = b"PRIVATE KEY-----"


class UnusableAuthorities(ValueError):
    """A file cannot be used as one of authorities. The message says why in words."""


class ClientAuthorities:
    """The certificates in one file, as they were when it was read, and whether clients must show one of theirs."""

    __slots__ = ("group", "is_required", "pem")

    def __init__(self, certificates: tuple[bytes, ...], *, is_required: bool) -> None:
        """`certificates`: in DER."""
        self.is_required = is_required
        self.pem = "".join(map(_pem, certificates))
        digests = b"".join(sha256(der).digest() for der in sorted(set(certificates)))
        self.group = sha256(b"%d%b" % (is_required, digests)).digest()
        "The same for the same authorities with the same requirement."

    def __repr__(self) -> str:
        return f"<ClientAuthorities {self.group.hex()[:8]} {'required' if self.is_required else 'optional'}>"


def client_authorities(content: bytes, *, is_required: bool) -> ClientAuthorities:
    """Check the content of a file, PEM. Raises UnusableAuthorities."""
    if len(content) > LONGEST_FILE:
        raise UnusableAuthorities(f"longer than {LONGEST_FILE} bytes")
    if _PRIVATE in content:
        raise UnusableAuthorities("there is a private key in it, which does not belong here")
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise UnusableAuthorities(f"no certificates in PEM: {str(error).partition('. ')[0][:200]}") from None
    if len(certificates) > MOST_AUTHORITIES:
        raise UnusableAuthorities(f"{len(certificates)} certificates, at most {MOST_AUTHORITIES}")
    for number, certificate in enumerate(certificates, 1):
        if not _is_authority(certificate):
            raise UnusableAuthorities(f"certificate {number} is not that of an authority (basicConstraints)")
    found = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
    return ClientAuthorities(found, is_required=is_required)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False


def _pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii")
