"""Files of authorities for client certificates: what is believed, and what is told about a file that is no good."""

import pytest

from edge.rules.tls.client_authorities import (
    LONGEST_FILE,
    MOST_AUTHORITIES,
    UnusableAuthorities,
    client_authorities,
)
from tests.support.sample_certificates import Authority, authority

ONE, TWO = Authority("One"), Authority("Two")


def group(*authorities: Authority, is_required: bool = True) -> bytes:
    return client_authorities("".join(a.pem for a in authorities).encode(), is_required=is_required).group


def test_the_same_authorities_are_the_same_group() -> None:
    assert group(ONE, TWO) == group(TWO, ONE) == group(TWO, ONE, TWO)
    assert client_authorities(b"# Ours\n" + ONE.pem.encode(), is_required=True).group == group(ONE)
    found = {group(ONE), group(TWO), group(ONE, TWO), group(ONE, is_required=False)}
    assert len(found) == 4, "others, or what is only asked for, are another group"


def test_an_intermediate_authority_may_be_all_that_is_believed() -> None:
    found = client_authorities(authority().pem.encode(), is_required=False)
    assert found.pem.count("BEGIN CERTIFICATE") == 1
    assert "optional" in repr(found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no certificates in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificates in PEM"),
        (ONE.pem.encode() + ONE.leaf("a.test").key.encode(), "there is a private key in it"),
        (ONE.pem.encode() + ONE.leaf("a.test").chain.encode(), "certificate 2 is not that of an authority"),
        (b"x" * (LONGEST_FILE + 1), "longer than"),
        (ONE.pem.encode() * (MOST_AUTHORITIES + 1), "101 certificates, at most 100"),
    ],
)
def test_files_that_are_no_good(content: bytes, words: str) -> None:
    with pytest.raises(UnusableAuthorities, match=words):
        client_authorities(content, is_required=True)
