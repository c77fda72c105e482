"""Revocation lists: who is not let in, and what is told about a file that is no good."""

import time
from collections.abc import Callable

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.net.tls.tls_contexts import PemPair
from edge.rules.tls.client_authorities import ClientAuthorities, client_authorities
from edge.rules.tls.handshake_failures import HANDSHAKE_FAILURES
from edge.rules.tls.revocation_lists import (
    LONGEST_LISTS,
    MOST_LISTS,
    RevocationLists,
    UnusableRevocationLists,
    revocation_lists,
)
from tests.support.sample_revocations import DAY, revocation_list
from tests.support.tls_parts import issue

ROOT, OTHER = (trustme.CA(key_type=trustme.KeyType.ECDSA) for _ in range(2))
TEAM = ROOT.create_child_ca(key_type=trustme.KeyType.ECDSA)
ANN, BOB = (issue(f"{name}@staff.test", by=ROOT) for name in ("ann", "bob"))
CARL = issue("carl@staff.test", by=TEAM)
NOW = time.time()


def believed(*authorities: trustme.CA) -> ClientAuthorities:
    return client_authorities(b"".join(each.cert_pem.bytes() for each in authorities), is_required=True)


def lists(content: bytes, *authorities: trustme.CA) -> RevocationLists:
    return revocation_lists(content, believed(*(authorities or (ROOT,))))


def rejection(found: RevocationLists, pair: PemPair, now: float = NOW) -> str:
    why = found.rejection(x509.load_pem_x509_certificate(pair.chain).public_bytes(Encoding.DER), now)
    assert not why or why in HANDSHAKE_FAILURES
    return why


def test_who_is_revoked_is_not_let_in() -> None:
    before = time.time()
    found = lists(b"# ours\r\n" + revocation_list(ROOT, [ANN]))
    assert rejection(found, ANN) == "revoked_client_certificate"
    assert rejection(found, BOB) == ""
    assert found.without == ()
    assert found.soonest_end is not None
    assert before - 1 <= found.soonest_end - 86400 <= time.time(), "whole seconds"


def test_nobody_is_let_in_by_a_list_that_is_not_in_force() -> None:
    found = lists(revocation_list(ROOT, [ANN]))
    assert not found.not_in_force(NOW)
    for now in (NOW - 2 * 86400, NOW + 2 * 86400):
        assert rejection(found, BOB, now) == "no_client_crl"
        assert rejection(found, ANN, now) == "revoked_client_certificate"
        [ended] = found.not_in_force(now)
        assert "trustme" in ended.issuer


def test_an_authority_without_a_list_lets_nobody_in() -> None:
    found = lists(revocation_list(TEAM), ROOT, TEAM)
    assert rejection(found, CARL) == ""
    assert rejection(found, BOB) == "no_client_crl"
    assert len(found.without) == 1


def test_an_authority_that_is_not_in_the_file_lets_nobody_in() -> None:
    assert rejection(lists(revocation_list(ROOT)), CARL) == "no_client_crl", "OpenSSL would believe its chain"


def test_the_name_of_an_authority_is_not_enough() -> None:
    """A key that was replaced because it was stolen: the new authority has the same name, and a list."""
    stolen, new = same_name(), same_name()
    mallory = issue("mallory@staff.test", by=stolen)
    found = lists(revocation_list(new), new)
    assert rejection(found, mallory) == "no_client_crl"
    assert rejection(found, issue("ann@staff.test", by=new)) == ""
    both = lists(revocation_list(stolen, [mallory]) + revocation_list(new), new, stolen)
    assert rejection(both, mallory) == "revoked_client_certificate"


def same_name() -> trustme.CA:
    return trustme.CA(organization_name="Acme", organization_unit_name="Staff", key_type=trustme.KeyType.ECDSA)


def test_the_newest_list_of_an_authority_counts() -> None:
    old, new = revocation_list(ROOT, [BOB], begins=-3 * DAY, ends=-DAY), revocation_list(ROOT, [ANN])
    for content in (old + new, new + old):
        found = lists(content)
        assert rejection(found, ANN) == "revoked_client_certificate"
        assert rejection(found, BOB) == ""


def part(address: str) -> tuple[x509.ExtensionType, bool]:
    names = [x509.UniformResourceIdentifier(address)]
    return x509.IssuingDistributionPoint(names, None, False, False, None, False, False), True


def test_parts_of_a_list_add_up() -> None:
    one = revocation_list(ROOT, [ANN], extensions=[part("http://ca.test/1")])
    two = revocation_list(ROOT, [BOB], extensions=[part("http://ca.test/2")], ends=3 * DAY)
    found = lists(one + two)
    for pair in (ANN, BOB):
        assert rejection(found, pair) == "revoked_client_certificate"
    third = issue("third@staff.test", by=ROOT)
    assert rejection(found, third) == ""
    assert rejection(found, third, NOW + 2 * 86400) == "no_client_crl", "one part has ended"


def test_a_certificate_that_cannot_be_read_is_not_let_in() -> None:
    assert lists(revocation_list(ROOT)).rejection(b"\x30\x00", NOW) == "bad_client_certificate"


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
INDIRECT = x509.IssuingDistributionPoint(
    [x509.UniformResourceIdentifier("http://ca.test/1")], None, False, False, None, True, False
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: b"", "no complete revocation lists in PEM"),
        (lambda: ROOT.cert_pem.bytes(), "no complete revocation lists in PEM"),
        (lambda: revocation_list(ROOT)[:-30], "no complete revocation lists in PEM"),
        (lambda: b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "list 1 cannot be read"),
        (lambda: revocation_list(ROOT) + revocation_list(OTHER), "list 2 is of .*, which is not in client_ca"),
        (
            lambda: revocation_list(OTHER, name=x509.load_pem_x509_certificate(ROOT.cert_pem.bytes()).subject),
            "list 1 is not signed by",
        ),
        (lambda: revocation_list(ROOT, extensions=[(x509.DeltaCRLIndicator(1), True)]), "delta CRL"),
        (lambda: revocation_list(ROOT, extensions=[(UNKNOWN, True)]), "critical extension, 1.3.6.1.4.1.99999.1"),
        (lambda: revocation_list(ROOT, extensions=[(INDIRECT, True)]), "indirect"),
        (lambda: revocation_list(ROOT) + ROOT.private_key_pem.bytes(), "there is a private key in it"),
        (lambda: b"x" * (LONGEST_LISTS + 1), "longer than"),
        (lambda: revocation_list(ROOT) * (MOST_LISTS + 1), "101 revocation lists, at most 100"),
    ],
)
def test_files_that_are_no_good(content: Callable[[], bytes], words: str) -> None:
    with pytest.raises(UnusableRevocationLists, match=words):
        lists(content())


def test_an_authority_that_is_revoked_itself() -> None:
    content = revocation_list(ROOT, [TEAM]) + revocation_list(TEAM)
    with pytest.raises(UnusableRevocationLists, match="certificate 2 in client_ca is revoked by"):
        lists(content, ROOT, TEAM)
