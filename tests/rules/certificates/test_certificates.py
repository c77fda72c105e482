"""Certificates in the form in which they are kept."""

import ssl
from pathlib import Path

from edge.rules.certificates.certificate_checks import checked_pair
from edge.rules.certificates.certificates import Certificate, KeyKind, KeyPair, SharedChains
from tests.support.sample_certificates import DAY, WALL, authority


def pair_of(*names: str, kind: str = "ecdsa", number: int = 0, chains: SharedChains | None = None) -> KeyPair:
    leaf = authority().leaf(*names, kind=kind, number=number)
    return checked_pair(leaf.chain.encode(), leaf.key.encode(), SharedChains() if chains is None else chains).pair


def test_openssl_reads_what_is_kept(tmp_path: Path) -> None:
    for kind in ("ecdsa", "rsa"):
        pair = pair_of("shop.test", kind=kind)
        (tmp_path / "chain.pem").write_bytes(pair.chain_pem())
        (tmp_path / "key.pem").write_bytes(pair.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
        assert pair.chain_pem().count(b"BEGIN CERTIFICATE") == 2


def test_the_earliest_end_counts() -> None:
    one = KeyPair(KeyKind.ECDSA, b"e", (), b"k", (WALL, WALL + DAY))
    two = KeyPair(KeyKind.RSA, b"r", (), b"k", (WALL, WALL + 2 * DAY))
    assert Certificate(("a.test",), (one, two), ("h2",)).not_after == WALL + DAY


def test_which_are_the_same() -> None:
    one, other = (KeyPair(KeyKind.ECDSA, leaf, (b"i",), b"k", (0.0, 1.0)) for leaf in (b"1", b"2"))
    again = KeyPair(KeyKind.ECDSA, b"1", (b"i",), b"k", (0.0, 1.0))
    base = Certificate(("a.test",), (one,), ("h2",), 1)
    assert base.is_same(Certificate(("a.test",), (again,), ("h2",), 2)), "a generation is not seen by clients"
    for changed in (
        Certificate(("b.test",), (one,), ("h2",)),
        Certificate(("a.test",), (other,), ("h2",)),
        Certificate(("a.test",), (one, other), ("h2",)),
        Certificate(("a.test",), (one,), ("http/1.1",)),
    ):
        assert not base.is_same(changed)


def test_issuers_are_kept_once() -> None:
    chains = SharedChains(limit=2)
    first, second = (pair_of("a.test", number=number, chains=chains) for number in range(2))
    assert first.issuers
    assert first.issuers is second.issuers
    for number in range(5):
        chains.share([bytes([number])])
    assert len(chains) == 2, "bounded"
    assert pair_of("a.test", chains=chains).issuers == first.issuers


def test_the_size_counts_names_and_contents() -> None:
    pair = pair_of("a.test")
    small = Certificate(("a.test",), (pair,), ("h2",)).size
    assert small >= len(pair.leaf) + len(pair.key)
    assert Certificate(tuple(f"{n}.test" for n in range(100)), (pair,), ("h2",)).size > small + 100 * 100


def test_nothing_of_a_key_is_shown() -> None:
    pair = pair_of("a.test")
    text = f"{pair!r} {Certificate(('a.test',), (pair,), ('h2',))!r}"
    assert "ecdsa" in text
    assert "key" not in text.lower().replace("keypair", "")
