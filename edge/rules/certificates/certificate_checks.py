"""Checks of a certificate before it is used: readable, key fits, dates, names, order of the chain.

A certificate that a client would reject is worse than the one before it, which is kept. Whether the issuer is
trusted is not checked, nor are signatures: that is up to clients, and takes a millisecond for P-384.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.rules.certificates.certificate_names import certificate_name, is_covered
from edge.rules.certificates.certificate_records import CertificateResponse
from edge.rules.certificates.certificates import Certificate, Issuers, KeyKind, KeyPair, SharedChains

CLOCKS_DIFFER: Final = 60.0
"Seconds by which a certificate may begin in the future: the clock of its issuer is another one."
MOST_NAMES: Final = 1000
LONGEST_CHAIN: Final = 10
"Certificates in one chain, as OpenSSL's clients verify by default (with a root, and one to spare)."
LONGEST_PEM: Final = 128 * 1024
"Characters of a chain or key."
LEAST_RSA_BITS: Final = 2048
"OpenSSL does not serve with shorter ones (security level 2), nor do browsers accept them."
CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
PROTOCOLS: Final = ("h2", "http/1.1")
_END: Final = b"-----END CERTIFICATE-----"
_PRIVATE: Final = b"PRIVATE"
_SERVERS: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


class CertificateFault(StrEnum):
    """Why a certificate is not used. The value is the code in the event log, and a metric label."""

    NO_CERTIFICATE = "no_certificate"
    UNREADABLE_CHAIN = "unreadable_chain"
    UNREADABLE_KEY = "unreadable_key"
    KEY_NOT_SUPPORTED = "key_not_supported"
    KEY_DOES_NOT_FIT = "key_does_not_fit"
    WRONG_ORDER = "wrong_chain_order"
    WEAK_SIGNATURE = "weak_signature"
    NOT_FOR_SERVERS = "not_for_servers"
    NAME_NOT_COVERED = "name_not_covered"
    TOO_MANY_NAMES = "too_many_names"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    SAME_KIND_TWICE = "same_kind_twice"


class UnusableCertificate(ValueError):
    """A certificate must not be used. The message says why in words."""

    def __init__(self, fault: CertificateFault, words: str) -> None:
        super().__init__(words)
        self.fault = fault


class CheckedPair(NamedTuple):
    """A certificate that can be used as far as dates and hostnames allow."""

    pair: KeyPair
    names: frozenset[str]
    "The DNS names that it covers, in canonical form."


class CertificateRemark(NamedTuple):
    """A fault in a response that can be used in part."""

    fault: CertificateFault
    words: str


def checked_pair(chain: bytes, key: bytes, chains: SharedChains) -> CheckedPair:
    """Check a certificate and its key, both PEM. Takes 0.1 ms. Raises UnusableCertificate."""
    try:
        return _checked_pair(chain, key, chains)
    except UnusableCertificate:
        raise
    except Exception as error:  # parts are parsed when they are asked for, and there is no common class of faults
        words = str(error).partition(". ")[0]  # what follows is about the library
        raise UnusableCertificate(CertificateFault.UNREADABLE_CHAIN, f"unreadable: {words[:200]}") from None


def _checked_pair(chain: bytes, key: bytes, chains: SharedChains) -> CheckedPair:
    leaf, issuers = _chain_in(chain, chains)
    kind, key_in_der = _fitting_key(key, leaf)
    if issuers.chain and leaf.issuer != issuers.subject:
        raise UnusableCertificate(
            CertificateFault.WRONG_ORDER, "the second certificate is not the first one's issuer"
        )
    names = _names_of(leaf)
    signed_with = leaf.signature_hash_algorithm
    if isinstance(signed_with, SHA1 | MD5):
        raise UnusableCertificate(CertificateFault.WEAK_SIGNATURE, f"signed with {signed_with.name}")
    dates = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return CheckedPair(KeyPair(kind, leaf.public_bytes(Encoding.DER), issuers.chain, key_in_der, dates), names)


def _chain_in(pem: bytes, chains: SharedChains) -> tuple[x509.Certificate, Issuers]:
    """The first certificate, and its issuers. These are read only once for all certificates that have the same,
    which saves a quarter of the time for a directory."""
    if len(pem) > LONGEST_PEM:
        raise UnusableCertificate(CertificateFault.UNREADABLE_CHAIN, f"a chain of more than {LONGEST_PEM} bytes")
    first, end, rest = pem.partition(_END)
    rest = rest[: rest.rfind(_END) + len(_END)] if _END in rest else rest  # without the key at the end of a bundle
    issuers = chains.parsed.get(rest)
    if issuers is None or not end:
        certificates = x509.load_pem_x509_certificates(pem)
        leaf, issuers = certificates[0], _issuers(certificates[1:], chains)
        if end and _PRIVATE not in rest:
            chains.parsed[rest] = issuers
        return leaf, issuers
    return x509.load_pem_x509_certificate(first + end), issuers


def _issuers(certificates: Sequence[x509.Certificate], chains: SharedChains) -> Issuers:
    """Each must be followed by its own issuer (RFC 5246, section 7.4.2). Raises UnusableCertificate."""
    if len(certificates) >= LONGEST_CHAIN:
        words = f"a chain of more than {LONGEST_CHAIN} certificates"
        raise UnusableCertificate(CertificateFault.UNREADABLE_CHAIN, words)
    for at, (subject, issuer) in enumerate(pairwise(certificates), 3):
        if subject.issuer != issuer.subject:
            words = f"certificate {at} of the chain is not the issuer of the one before it"
            raise UnusableCertificate(CertificateFault.WRONG_ORDER, words)
    chain = chains.share(issuer.public_bytes(Encoding.DER) for issuer in certificates)
    return Issuers(chain, certificates[0].subject if certificates else None)


def _fitting_key(pem: bytes, leaf: x509.Certificate) -> tuple[KeyKind, bytes]:
    """The kind of the key, and the key in DER. Raises UnusableCertificate, with a message that shows nothing of the
    key."""
    if len(pem) > LONGEST_PEM:
        raise UnusableCertificate(CertificateFault.UNREADABLE_KEY, f"a key of more than {LONGEST_PEM} bytes")
    public_key = leaf.public_key()
    try:
        # To test that the factors of an RSA key are primes takes 70 ms; see below.
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
        fits = key.public_key() == public_key
    except Exception as error:
        words = f"no private key without a password ({type(error).__name__})"
        raise UnusableCertificate(CertificateFault.UNREADABLE_KEY, words) from None
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        kind = KeyKind.ECDSA
    elif isinstance(key, RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        kind = KeyKind.RSA
        fits = fits and _is_consistent(key)
    else:
        words = f"neither ECDSA ({', '.join(sorted(CURVES))}) nor RSA of {LEAST_RSA_BITS} bits or more"
        raise UnusableCertificate(CertificateFault.KEY_NOT_SUPPORTED, words)
    if not fits:
        raise UnusableCertificate(CertificateFault.KEY_DOES_NOT_FIT, "the key is not that of the first certificate")
    return kind, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _is_consistent(key: RSAPrivateKey) -> bool:
    """Whether the private parts of an RSA key belong to its public ones (RFC 8017, section 3.2). Takes 10 us."""
    numbers = key.private_numbers()
    p, q, n, e = numbers.p, numbers.q, numbers.public_numbers.n, numbers.public_numbers.e
    return (
        p * q == n
        and e * numbers.dmp1 % (p - 1) == 1
        and e * numbers.dmq1 % (q - 1) == 1
        and q * numbers.iqmp % p == 1
    )


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    """The DNS names of subjectAltName, in canonical form. (The common name covers nothing: RFC 9525, section 6.3.)
    Raises UnusableCertificate for a certificate that is not one of a server."""
    found: list[str] = []
    for extension in leaf.extensions:  # in one pass, which takes half as long as to get each by its class
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            found = value.get_values_for_type(x509.DNSName)
        elif isinstance(value, x509.BasicConstraints) and value.ca:
            raise UnusableCertificate(CertificateFault.NOT_FOR_SERVERS, "the first certificate is an authority's")
        elif isinstance(value, x509.ExtendedKeyUsage) and _SERVERS.isdisjoint(value):
            raise UnusableCertificate(CertificateFault.NOT_FOR_SERVERS, "its purposes do not include servers")
    if len(found) > MOST_NAMES:
        raise UnusableCertificate(CertificateFault.TOO_MANY_NAMES, f"{len(found)} names, at most {MOST_NAMES}")
    return frozenset(name for name in map(certificate_name, found) if name is not None)


def check_dates(pair: KeyPair, wall: float) -> None:
    """Check that a certificate is valid at `wall`, in seconds since the epoch. Raises UnusableCertificate."""
    if wall >= pair.not_after:
        raise UnusableCertificate(CertificateFault.EXPIRED, f"expired {_ago(wall - pair.not_after)} ago")
    if wall < pair.not_before - CLOCKS_DIFFER:
        raise UnusableCertificate(CertificateFault.NOT_YET_VALID, f"begins in {_ago(pair.not_before - wall)}")


def _ago(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 86400 else f"{seconds:.0f} s"


def issuer_of(pair: KeyPair) -> str:
    """The name of its issuer, for people (RFC 4514)."""
    return x509.load_der_x509_certificate(pair.leaf).issuer.rfc4514_string()


def certificate_of(
    response: CertificateResponse, hostname: str, wall: float, chains: SharedChains
) -> tuple[Certificate, list[CertificateRemark]]:
    """The certificate in a response to a lookup for this hostname, and what of it cannot be used: one of two
    certificates, names that it does not cover. Raises UnusableCertificate if nothing of it can be used."""
    if len(response.names) > MOST_NAMES:
        words = f"{len(response.names)} names, at most {MOST_NAMES}"
        raise UnusableCertificate(CertificateFault.TOO_MANY_NAMES, words)
    names = frozenset(name for name in map(certificate_name, response.names) if name is not None)
    if not is_covered(hostname, names):
        raise UnusableCertificate(CertificateFault.NAME_NOT_COVERED, f"`names` does not contain {hostname}")
    faults: list[UnusableCertificate] = []
    found: dict[KeyKind, CheckedPair] = {}
    for each in response.certificates[: len(KeyKind) + 1]:
        try:
            checked = checked_pair(_ascii(each.chain), _ascii(each.key), chains)
            check_dates(checked.pair, wall)
            if not is_covered(hostname, checked.names):
                words = f"the {checked.pair.kind} certificate does not cover {hostname}"
                raise UnusableCertificate(CertificateFault.NAME_NOT_COVERED, words)
            if checked.pair.kind in found:
                words = f"a second {checked.pair.kind} certificate"
                raise UnusableCertificate(CertificateFault.SAME_KIND_TWICE, words)
        except UnusableCertificate as error:
            faults.append(error)
        else:
            found[checked.pair.kind] = checked
    if not found:
        raise faults[0] if faults else UnusableCertificate(CertificateFault.NO_CERTIFICATE, "no certificate in it")
    remarks = [CertificateRemark(fault.fault, str(fault)) for fault in faults]
    covered = _covered(names, [checked.names for checked in found.values()])
    if len(covered) < len(names):
        words = f"not covered: {', '.join(sorted(names - covered)[:3])}"
        remarks.append(CertificateRemark(CertificateFault.NAME_NOT_COVERED, words))
    if not is_covered(hostname, covered):  # by a wildcard in `names`, which the certificates do not cover
        covered |= {hostname}
    pairs = tuple(found[kind].pair for kind in KeyKind if kind in found)
    return Certificate(tuple(sorted(covered)), pairs, _protocols(response.alpn), response.generation), remarks


def _ascii(pem: str) -> bytes:
    return pem.encode("ascii", "replace")


def _covered(names: frozenset[str], by: Iterable[frozenset[str]]) -> frozenset[str]:
    """Those of these names that all of the certificates cover."""
    all_of = list(by)
    return frozenset(name for name in names if all(is_covered(name, some) for some in all_of))


def _protocols(alpn: Iterable[str]) -> tuple[str, ...]:
    """Those that this edge speaks, in the order of the response; HTTP/1.1 if there is none."""
    return tuple(dict.fromkeys(name for name in alpn if name in PROTOCOLS)) or ("http/1.1",)
