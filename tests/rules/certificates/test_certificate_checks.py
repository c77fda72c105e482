"""Checks of certificates: what may be used, and why the rest may not."""

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.certificates.certificate_checks import (
    LONGEST_PEM,
    MOST_NAMES,
    CertificateFault,
    UnusableCertificate,
    certificate_of,
    check_dates,
    checked_pair,
    issuer_of,
)
from edge.rules.certificates.certificate_records import CertificateResponse, ChainAndKey
from edge.rules.certificates.certificates import Certificate, SharedChains
from tests.support.sample_certificates import DAY, WALL, Authority, Leaf, authority, pem_of_key, private_key

Fault = CertificateFault
CA = authority()
assert CA.issuer is not None
ROOT = CA.issuer
SHOP = CA.leaf("shop.test", "*.shop.test", "192.0.2.7")


def fault_of(leaf: Leaf) -> CertificateFault | None:
    try:
        check_dates(checked_pair(leaf.chain.encode(), leaf.key.encode(), SharedChains()).pair, WALL)
    except UnusableCertificate as error:
        return error.fault
    return None


def blocks(pem: str) -> list[str]:
    return [f"{part}-----END CERTIFICATE-----\n" for part in pem.split("-----END CERTIFICATE-----\n")[:-1]]


OWN, ISSUER = blocks(SHOP.chain)


def encrypted() -> str:
    protection = BestAvailableEncryption(b"secret")
    return private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()


def rsa_with_wrong_parts() -> str:
    """The key of an RSA certificate, of which one private part is wrong."""
    pem = pem_of_key(private_key("rsa"), PrivateFormat.TraditionalOpenSSL)
    lines = pem.splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1  # iqmp is the last part
    return f"{lines[0]}\n{base64.encodebytes(der).decode()}{lines[-1]}\n"


def signed_with_sha1() -> Leaf:
    """A certificate that says so; the signature is another one."""
    leaf = Authority("RSA", kind="rsa").leaf("a.test")
    der = base64.b64decode("".join(leaf.chain.splitlines()[1:-1]))
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert der.count(sha256) == 2
    pem = base64.encodebytes(der.replace(sha256, sha1)).decode()
    return Leaf(f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n", leaf.key)


LEAVES: dict[str, tuple[Leaf, CertificateFault | None]] = {
    "ecdsa": (SHOP, None),
    "rsa": (CA.leaf("shop.test", kind="rsa"), None),
    "p384": (CA.leaf("shop.test", kind="p384"), None),
    "without its issuer": (Leaf(OWN, SHOP.key), None),
    "with the root": (Leaf(SHOP.chain + ROOT.pem, SHOP.key), None),
    "any purpose": (CA.leaf("a.test", purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), None),
    "no purposes": (CA.leaf("a.test", purposes=[]), None),
    "the key in the older form": (
        Leaf(SHOP.chain, pem_of_key(private_key(), PrivateFormat.TraditionalOpenSSL)),
        None,
    ),
    "begins in a moment": (CA.leaf("a.test", since=timedelta(seconds=59)), None),
    "begins tomorrow": (CA.leaf("a.test", since=timedelta(days=1)), Fault.NOT_YET_VALID),
    "expired yesterday": (CA.leaf("a.test", until=timedelta(days=-1)), Fault.EXPIRED),
    "expires now": (CA.leaf("a.test", until=timedelta(0)), Fault.EXPIRED),
    "expires in a moment": (CA.leaf("a.test", until=timedelta(seconds=1)), None),
    "the key of another": (Leaf(SHOP.chain, pem_of_key(private_key(number=1))), Fault.KEY_DOES_NOT_FIT),
    "a key of another kind": (Leaf(SHOP.chain, pem_of_key(private_key("rsa"))), Fault.KEY_DOES_NOT_FIT),
    "wrong parts of an RSA key": (
        Leaf(CA.leaf("a.test", kind="rsa").chain, rsa_with_wrong_parts()),
        Fault.KEY_DOES_NOT_FIT,
    ),
    "the issuer first": (Leaf(ISSUER + OWN, SHOP.key), Fault.KEY_DOES_NOT_FIT),
    "another issuer": (Leaf(OWN + Authority("Other").pem, SHOP.key), Fault.WRONG_ORDER),
    "two strangers": (Leaf(SHOP.chain + Authority("Other").pem, SHOP.key), Fault.WRONG_ORDER),
    "the older label": (Leaf(SHOP.chain.replace("CERTIFICATE", "X509 CERTIFICATE"), SHOP.key), None),
    "two labels": (Leaf(OWN + ISSUER.replace("CERTIFICATE", "X509 CERTIFICATE"), SHOP.key), None),
    "the root before the issuer": (Leaf(OWN + ROOT.pem + ISSUER, SHOP.key), Fault.WRONG_ORDER),
    "the certificate twice": (Leaf(OWN + OWN, SHOP.key), Fault.WRONG_ORDER),
    "short rsa": (CA.leaf("a.test", kind="rsa1024"), Fault.KEY_NOT_SUPPORTED),
    "another curve": (CA.leaf("a.test", kind="k256"), Fault.KEY_NOT_SUPPORTED),
    "ed25519": (CA.leaf("a.test", kind="ed25519"), Fault.KEY_NOT_SUPPORTED),
    "sha1": (signed_with_sha1(), Fault.WEAK_SIGNATURE),
    "for clients only": (CA.leaf("a.test", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), Fault.NOT_FOR_SERVERS),
    "an authority": (CA.leaf("a.test", is_authority=True), Fault.NOT_FOR_SERVERS),
    "too many names": (CA.leaf(*(f"{n}.test" for n in range(MOST_NAMES + 1))), Fault.TOO_MANY_NAMES),
    "no chain": (Leaf("", SHOP.key), Fault.UNREADABLE_CHAIN),
    "no certificate in it": (Leaf("a\0b", SHOP.key), Fault.UNREADABLE_CHAIN),
    "half a certificate": (Leaf(OWN[: len(OWN) // 2], SHOP.key), Fault.UNREADABLE_CHAIN),
    "a damaged certificate": (Leaf(OWN.replace("A", "B"), SHOP.key), Fault.UNREADABLE_CHAIN),
    "a long chain": (Leaf(ISSUER * 11, SHOP.key), Fault.UNREADABLE_CHAIN),
    "a huge chain": (Leaf(OWN + "x" * LONGEST_PEM, SHOP.key), Fault.UNREADABLE_CHAIN),
    "no key": (Leaf(SHOP.chain, ""), Fault.UNREADABLE_KEY),
    "the chain as key": (Leaf(SHOP.chain, SHOP.chain), Fault.UNREADABLE_KEY),
    "an encrypted key": (Leaf(SHOP.chain, encrypted()), Fault.UNREADABLE_KEY),
    "a huge key": (Leaf(SHOP.chain, SHOP.key + "x" * LONGEST_PEM), Fault.UNREADABLE_KEY),
    "a bundle": (Leaf(SHOP.chain + SHOP.key, SHOP.chain + SHOP.key), None),
    "a bundle with the key first": (Leaf(SHOP.key + SHOP.chain, SHOP.key + SHOP.chain), None),
}


@pytest.mark.parametrize("what", LEAVES)
def test_leaves(what: str) -> None:
    leaf, expected = LEAVES[what]
    assert fault_of(leaf) is expected


def test_every_fault_has_a_case() -> None:
    of_responses = {Fault.NO_CERTIFICATE, Fault.NAME_NOT_COVERED, Fault.SAME_KIND_TWICE}
    assert {fault for _, fault in LEAVES.values()} | of_responses == {*Fault, None}


@pytest.mark.parametrize("what", [name for name, (_, fault) in LEAVES.items() if fault is not None])
def test_messages_show_nothing_of_a_key(what: str) -> None:
    leaf, _ = LEAVES[what]
    with pytest.raises(UnusableCertificate) as raised:
        check_dates(checked_pair(leaf.chain.encode(), leaf.key.encode(), SharedChains()).pair, WALL)
    shown = str(raised.value)
    assert shown
    assert not any(line in shown for line in leaf.key.splitlines() if line)
    assert raised.value.__cause__ is None or "key" not in what


@pytest.mark.parametrize("what", LEAVES)
def test_issuers_that_were_read_before_change_nothing(what: str) -> None:
    chains = SharedChains()
    for leaf in (SHOP, Leaf(SHOP.chain + SHOP.key, SHOP.key), Leaf(OWN, SHOP.key)):
        checked_pair(leaf.chain.encode(), leaf.key.encode(), chains)
    leaf, _ = LEAVES[what]
    found: list[object] = []
    for known in (SharedChains(), chains, chains):
        try:
            checked = checked_pair(leaf.chain.encode(), leaf.key.encode(), known)
            found.append((checked.names, checked.pair.leaf, checked.pair.issuers))
        except UnusableCertificate as error:
            found.append((error.fault, str(error)))
    assert found[0] == found[1] == found[2]
    assert not any(b"PRIVATE" in text for text in chains.parsed)


def test_the_name_of_the_issuer() -> None:
    checked = checked_pair(SHOP.chain.encode(), SHOP.key.encode(), SharedChains())
    assert issuer_of(checked.pair) == "CN=Sample Intermediate"


def test_names_of_a_certificate() -> None:
    checked = checked_pair(SHOP.chain.encode(), SHOP.key.encode(), SharedChains())
    assert checked.names == {"shop.test", "*.shop.test"}
    assert (
        checked_pair(*(text.encode() for text in (CA.leaf().chain, CA.leaf().key)), SharedChains()).names == set()
    )


# responses


def taken(
    *leaves: Leaf, hostname: str = "shop.test", names: Any = ("shop.test", "*.shop.test"), **other: Any
) -> Any:
    """The certificate in such a response and the faults in it; or the fault if nothing can be used."""
    pairs = tuple(ChainAndKey(leaf.chain, leaf.key) for leaf in leaves)
    response = CertificateResponse(names=tuple(names), generation=7, certificates=pairs, **other)
    try:
        certificate, remarks = certificate_of(response, hostname, WALL, SharedChains())
    except UnusableCertificate as error:
        return error.fault
    return certificate, [remark.fault for remark in remarks]


RSA = CA.leaf("shop.test", "*.shop.test", kind="rsa")
OLD = CA.leaf("shop.test", "*.shop.test", until=timedelta(days=-1))


def test_one_of_each_kind() -> None:
    for leaves in ((SHOP, RSA), (RSA, SHOP)):
        certificate, faults = taken(*leaves)
        assert isinstance(certificate, Certificate)
        assert [pair.kind for pair in certificate.pairs] == ["ecdsa", "rsa"]
        assert (certificate.names, certificate.generation) == (("*.shop.test", "shop.test"), 7)
        assert certificate.alpn == ("h2", "http/1.1")
        assert faults == []
    assert certificate.not_after == WALL + 80 * DAY


def test_what_is_left_when_one_is_no_good() -> None:
    certificate, faults = taken(OLD, RSA)
    assert [pair.kind for pair in certificate.pairs] == ["rsa"]
    assert faults == [Fault.EXPIRED]
    certificate, faults = taken(SHOP, CA.leaf("shop.test", "*.shop.test", number=1))
    assert [pair.leaf for pair in certificate.pairs] == [
        checked_pair(SHOP.chain.encode(), SHOP.key.encode(), SharedChains()).pair.leaf
    ]
    assert faults == [Fault.SAME_KIND_TWICE]
    certificate, faults = taken(CA.leaf("other.test"), RSA)
    assert faults == [Fault.NAME_NOT_COVERED]


def test_when_nothing_can_be_used() -> None:
    assert taken() is Fault.NO_CERTIFICATE
    assert taken(OLD) is Fault.EXPIRED
    assert taken(CA.leaf("other.test")) is Fault.NAME_NOT_COVERED
    assert taken(CA.leaf()) is Fault.NAME_NOT_COVERED, "the common name does not count"
    assert taken(SHOP, hostname="other.test") is Fault.NAME_NOT_COVERED
    assert taken(SHOP, hostname="a.b.shop.test") is Fault.NAME_NOT_COVERED
    assert taken(SHOP, names=[]) is Fault.NAME_NOT_COVERED
    assert taken(SHOP, names=["shop.test"] * (MOST_NAMES + 1)) is Fault.TOO_MANY_NAMES


def test_names_that_the_certificate_does_not_cover_are_not_served() -> None:
    certificate, faults = taken(SHOP, names=["shop.test", "other.test", "*.test", "*"])
    assert certificate.names == ("shop.test",)
    assert faults == [Fault.NAME_NOT_COVERED]
    one = CA.leaf("shop.test", kind="rsa")
    certificate, faults = taken(SHOP, one)
    assert certificate.names == ("shop.test",), "of two certificates, both must cover it"


def test_a_hostname_that_only_a_wildcard_of_the_response_names() -> None:
    certificate, faults = taken(CA.leaf("a.shop.test"), hostname="a.shop.test")
    assert certificate.names == ("a.shop.test",)
    assert faults == [Fault.NAME_NOT_COVERED]
    certificate, faults = taken(SHOP, hostname="a.shop.test", names=["A.Shop.test."])
    assert certificate.names == ("a.shop.test",)
    assert faults == []


def test_protocols() -> None:
    assert taken(SHOP, alpn=("http/1.1",))[0].alpn == ("http/1.1",)
    assert taken(SHOP, alpn=("http/1.1", "h2", "h3", "h2"))[0].alpn == ("http/1.1", "h2")
    assert taken(SHOP, alpn=("h3",))[0].alpn == ("http/1.1",)


def test_no_more_certificates_are_read_than_there_are_kinds() -> None:
    assert taken(*[OLD] * 3, SHOP) is Fault.EXPIRED


def test_the_response_as_json() -> None:
    body = msgspec.json.encode({"names": ["a.test"], "generation": 1, "certificates": [SHOP.as_json()], "new": 1})
    response = msgspec.json.decode(body, type=CertificateResponse)
    assert response.certificates[0].chain == SHOP.chain
    assert response.alpn == ("h2", "http/1.1")
    key = SHOP.key.splitlines()[1]
    assert key not in repr(response)


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text(chain: str, key: str) -> None:
    assert taken(Leaf(chain, SHOP.key)) is Fault.UNREADABLE_CHAIN
    assert taken(Leaf(SHOP.chain, key)) is Fault.UNREADABLE_KEY
    assert taken(Leaf("\ud800", "\ud800")) is Fault.UNREADABLE_CHAIN


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(33, 126)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_damaged_pem(damage: list[tuple[int, int]]) -> None:
    """Nothing else is raised."""
    chain, key = bytearray(SHOP.chain.encode()), bytearray(SHOP.key.encode())
    for at, value in damage:
        chain[at % len(chain)] = value
        key[at % len(key)] = value
    for leaf in (Leaf(chain.decode(), SHOP.key), Leaf(SHOP.chain, key.decode())):
        found = fault_of(leaf)
        assert found is None or isinstance(found, Fault)
