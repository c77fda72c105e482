"""Certificates in a directory: which files belong together, and which certificate serves which name."""

import pytest

from edge.rules.certificates.certificate_files import (
    NO_CERTIFICATES,
    FoundFiles,
    PairOfFiles,
    certificate_set,
    pairs_in,
)
from edge.rules.certificates.certificates import KeyKind, KeyPair
from tests.support.sample_certificates import DAY, WALL


def pair(days: float = 90, kind: KeyKind = KeyKind.ECDSA, leaf: bytes = b"leaf") -> KeyPair:
    return KeyPair(kind, leaf, (), b"key", (WALL - DAY, WALL + days * DAY))


@pytest.mark.parametrize(
    ("names", "pairs", "without_chain"),
    [
        (["a.pem", "a.key"], [("a", "a.pem", "a.key")], []),
        (["a.pem"], [("a", "a.pem", "a.pem")], []),
        (["a.key"], [], ["a.key"]),
        (["b.pem", "a.pem", "b.key"], [("a", "a.pem", "a.pem"), ("b", "b.pem", "b.key")], []),
        (
            ["shop.test.rsa.pem", "shop.test.rsa.key"],
            [("shop.test.rsa", "shop.test.rsa.pem", "shop.test.rsa.key")],
            [],
        ),
        (["README", "a.crt", "a.pem~", ".a.pem", ".pem", ".key", "..data"], [], []),
    ],
)
def test_which_files_belong_together(
    names: list[str], pairs: list[tuple[str, ...]], without_chain: list[str]
) -> None:
    assert pairs_in(names) == FoundFiles([PairOfFiles(*each) for each in pairs], without_chain, 0)


def test_their_number_is_bounded() -> None:
    found = pairs_in([f"{n:03}.pem" for n in range(100)], most=30)
    assert [each.name for each in found.pairs] == [f"{n:03}" for n in range(30)]
    assert found.beyond == 70


def test_names_with_both_kinds() -> None:
    ecdsa, rsa = pair(), pair(kind=KeyKind.RSA)
    made = certificate_set([(rsa, ["a.test", "b.test"]), (ecdsa, ["a.test", "c.test"])])
    assert made.count == 2
    assert len(made) == 3
    found = {name: made.find(f"{name}.test", WALL) for name in "abc"}
    assert [(name, each.pairs) for name, each in found.items() if each] == [
        ("a", (ecdsa, rsa)),
        ("b", (rsa,)),
        ("c", (ecdsa,)),
    ]


def test_one_certificate_of_many_names_is_one_object() -> None:
    made = certificate_set([(pair(), ["a.test", "b.test", "*.b.test"])])
    found = made.find("a.test", WALL)
    assert found is not None
    assert found is made.find("b.test", WALL) is made.find("x.b.test", WALL)
    assert found.names == ("*.b.test", "a.test", "b.test")


def test_exact_goes_before_wildcard() -> None:
    wild, exact = pair(leaf=b"wild"), pair(days=1, leaf=b"exact")
    made = certificate_set([(wild, ["*.shop.test"]), (exact, ["a.shop.test"])])
    for hostname, expected in (("a.shop.test", exact), ("b.shop.test", wild)):
        found = made.find(hostname, WALL)
        assert found is not None
        assert found.pairs == (expected,)
    assert made.find("shop.test", WALL) is None
    later = made.find("a.shop.test", WALL + DAY)
    assert later is not None
    assert later.pairs == (wild,), "the exact one has ended"
    assert made.find("a.shop.test", WALL + 90 * DAY) is None


def test_of_two_the_one_that_ends_last() -> None:
    old, new = pair(days=10, leaf=b"old"), pair(days=90, leaf=b"new")
    for order in ((old, new), (new, old)):
        found = certificate_set([(each, ["a.test"]) for each in order]).find("a.test", WALL)
        assert found is not None
        assert found.pairs == (new,)


def test_unchanged_certificates_stay_the_same_objects() -> None:
    a, b, c = (pair(leaf=leaf) for leaf in (b"a", b"b", b"c"))
    before = certificate_set([(a, ["a.test"]), (b, ["b.test", "*.b.test"])])
    after = certificate_set([(a, ["a.test"]), (c, ["b.test", "*.b.test"])], before)
    assert after.find("a.test", WALL) is before.find("a.test", WALL)
    assert after.find("b.test", WALL) is not before.find("b.test", WALL)
    fewer = certificate_set([(b, ["b.test"])], before)
    assert fewer.find("b.test", WALL) is not before.find("b.test", WALL)


def test_those_that_end_first() -> None:
    assert NO_CERTIFICATES.ending_first(2) == []
    made = certificate_set([(pair(days=days), [f"{days}.test", f"*.{days}.test"]) for days in (30, 10, 20)])
    assert [found.not_after for found in made.ending_first(2)] == [WALL + 10 * DAY, WALL + 20 * DAY]
    assert len(made.ending_first(9)) == 3, "each once, however many names it has"
