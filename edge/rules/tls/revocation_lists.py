"""Revocation lists of the authorities that sign the certificates of clients: checked before they are believed.

OpenSSL could look certificates up in such lists, but it would parse them for the context of each host, and would
not look when a session is resumed. So styx looks them up itself, at every handshake. A certificate is let in only
if one of the authorities in the file has issued it *itself* and has a list that is in force, without its serial
number. No list of an authority further up is needed then: one that is revoked must not be among the authorities.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.rules.tls.client_authorities import ClientAuthorities

LONGEST_LISTS: Final = 4 << 20
"Bytes of a file: some 75,000 serial numbers, which take some 6 MiB in each worker."
MOST_LISTS: Final = 100
_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_PRIVATE: Final = b"PRIVATE KEY-----"
_UNDERSTOOD: Final = (x509.IssuingDistributionPoint, x509.CRLNumber, x509.AuthorityKeyIdentifier)
"Extensions of a list that may be critical."


class UnusableRevocationLists(ValueError):
    """A file cannot be used as one of revocation lists. The message says why in words."""


class RevocationList(NamedTuple):
    """One list, whose signature was checked."""

    issuer: str
    "The name of its authority (RFC 4514)."
    begins: float
    "thisUpdate; seconds since the epoch, as the next one."
    ends: float
    "nextUpdate: nobody is let in by it afterwards."
    serials: frozenset[int]

    def is_in_force(self, now: float) -> bool:
        """`now`: seconds since the epoch."""
        return self.begins <= now < self.ends


class RevocationLists:
    """The lists in one file, as it was when it was read, by the authority whose key signed them."""

    __slots__ = ("_authorities", "_lists", "without")

    def __init__(self, found: Iterable[tuple[x509.Certificate, tuple[RevocationList, ...]]]) -> None:
        """`found`: each authority with its lists; several are the parts of one (RFC 5280, section 5.2.5)."""
        self._authorities: dict[bytes, list[x509.Certificate]] = {}
        "By the encoded name; they have the same one while a key is being replaced."
        self._lists: dict[bytes, tuple[RevocationList, ...]] = {}
        "By the key of the authority."
        without = []
        for authority, lists in found:
            self._authorities.setdefault(authority.subject.public_bytes(), []).append(authority)
            self._lists[_key(authority)] = lists
            if not lists:
                without.append(authority.subject.rfc4514_string())
        self.without = tuple(without)
        "Names of authorities that have no list; what they have issued is rejected."

    def __repr__(self) -> str:
        return f"<RevocationLists {sum(map(len, self._lists.values()))}>"

    @property
    def soonest_end(self) -> float | None:
        """When the first list ends, seconds since the epoch; None = there is none."""
        return min((each.ends for lists in self._lists.values() for each in lists), default=None)

    def not_in_force(self, now: float) -> list[RevocationList]:
        """The lists that have ended, or have not begun. `now`: seconds since the epoch."""
        return [each for lists in self._lists.values() for each in lists if not each.is_in_force(now)]

    def rejection(self, der: bytes, now: float) -> str:
        """Why the client with this certificate is not let in, a reason of `HANDSHAKE_FAILURES`; empty = it is.
        OpenSSL has verified the certificate. `now`: seconds since the epoch."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            issuer, serial = certificate.issuer.public_bytes(), certificate.serial_number
        except ValueError:
            return "bad_client_certificate"
        authority = next(
            (each for each in self._authorities.get(issuer, ()) if _has_issued(each, certificate)), None
        )
        lists = () if authority is None else self._lists[_key(authority)]
        if any(serial in each.serials for each in lists):
            return "revoked_client_certificate"
        return "" if lists and all(each.is_in_force(now) for each in lists) else "no_client_crl"


def revocation_lists(content: bytes, authorities: ClientAuthorities) -> RevocationLists:
    """Check the content of a file, PEM, beside that of the authorities. 50,000 serial numbers take 0.1 s. Raises
    UnusableRevocationLists."""
    if len(content) > LONGEST_LISTS:
        raise UnusableRevocationLists(f"longer than {LONGEST_LISTS} bytes")
    if _PRIVATE in content:
        raise UnusableRevocationLists("there is a private key in it, which does not belong here")
    blocks = _BLOCK.findall(content)
    if not blocks or len(blocks) != content.count(b"-----BEGIN X509 CRL-----"):
        raise UnusableRevocationLists("no complete revocation lists in PEM (X509 CRL)")
    if len(blocks) > MOST_LISTS:
        raise UnusableRevocationLists(f"{len(blocks)} revocation lists, at most {MOST_LISTS}")
    signers = x509.load_pem_x509_certificates(authorities.pem.encode())
    newest: dict[tuple[bytes, bytes], tuple[RevocationList, x509.CertificateRevocationList]] = {}
    for number, block in enumerate(blocks, 1):
        try:
            crl = x509.load_pem_x509_crl(block)
            key, part = _signer(crl, signers), _part(crl)
            found = _list(crl)
        except UnusableRevocationLists as error:
            raise UnusableRevocationLists(f"revocation list {number} {error}") from None
        except ValueError as error:
            words = f"revocation list {number} cannot be read: {str(error).partition('. ')[0][:200]}"
            raise UnusableRevocationLists(words) from None
        known = newest.get((key, part))
        if known is None or known[0].begins < found.begins:
            newest[key, part] = found, crl
    _check_authorities(signers, [crl for _, crl in newest.values()])
    return RevocationLists(
        (signer, tuple(found for (key, _), (found, _) in newest.items() if key == _key(signer)))
        for signer in signers
    )


def _signer(crl: x509.CertificateRevocationList, signers: list[x509.Certificate]) -> bytes:
    """The key that signed this list."""
    named = [signer for signer in signers if signer.subject == crl.issuer]
    if not named:
        raise UnusableRevocationLists(f"is of {crl.issuer.rfc4514_string()}, which is not in client_ca")
    for signer in named:
        try:
            if crl.is_signature_valid(signer.public_key()):  # type: ignore[arg-type]  # other kinds: TypeError
                return _key(signer)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            continue
    raise UnusableRevocationLists(f"is not signed by {crl.issuer.rfc4514_string()}")


def _part(crl: x509.CertificateRevocationList) -> bytes:
    """Which part of its authority's certificates this list is about; empty = all."""
    part = b""
    for extension in crl.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            raise UnusableRevocationLists("has changes only (a delta CRL), which is not supported")
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            raise UnusableRevocationLists(f"has a critical extension, {extension.oid.dotted_string}")
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            point = extension.value
            if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs:
                raise UnusableRevocationLists("is indirect, or for some reasons only, which is not supported")
            part = point.public_bytes()
    return part


def _list(crl: x509.CertificateRevocationList) -> RevocationList:
    if crl.next_update_utc is None:
        raise UnusableRevocationLists("does not say when it ends (nextUpdate)")
    return RevocationList(
        crl.issuer.rfc4514_string(),
        crl.last_update_utc.timestamp(),
        crl.next_update_utc.timestamp(),
        frozenset(revoked.serial_number for revoked in crl),
    )


def _check_authorities(signers: list[x509.Certificate], lists: list[x509.CertificateRevocationList]) -> None:
    """Check that no authority is revoked itself: its own clients would be let in."""
    for number, signer in enumerate(signers, 1):
        for crl in lists:
            if crl.issuer == signer.issuer and crl.get_revoked_certificate_by_serial_number(signer.serial_number):
                raise UnusableRevocationLists(
                    f"certificate {number} in client_ca is revoked by {crl.issuer.rfc4514_string()}: take it away"
                )


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key(authority: x509.Certificate) -> bytes:
    """What authorities with the same key have in common."""
    try:
        return authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):  # of a kind that `cryptography` does not know
        return authority.fingerprint(SHA256())
