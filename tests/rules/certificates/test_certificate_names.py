"""Names in certificates: which are hostnames, and which covers which (RFC 9525, RFC 6066)."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.certificates.certificate_names import certificate_name, hostname_in, is_covered, wildcard_of

LONG = ".".join(["a" * 63] * 3 + ["b" * 61])
HOSTNAMES = {
    "shop.test": "shop.test",
    "SHOP.Test": "shop.test",
    "shop.test.": "shop.test",
    "localhost": "localhost",
    "xn--bcher-kva.test": "xn--bcher-kva.test",
    "_dmarc.shop.test": "_dmarc.shop.test",
    "1.2.3.4.test": "1.2.3.4.test",
    "0x7f.test": "0x7f.test",
    LONG: LONG,
    LONG + ".": LONG,
}
OTHERS = [
    *(
        "",
        ".",
        "..",
        "shop..test",
        ".shop.test",
        "shop.test..",
        "-shop.test",
        "shop-.test",
        "shop.-test",
        "shop test",
    ),
    *("shop.test:443", "shop.test/", "shop\0.test", "shop.test\n", "bücher.test", "ſhop.test", "*.shop.test", "*"),
    *("192.0.2.7", "127.1", "2130706433", "1.2.3.4.", "shop.7", "::1", "[::1]", "2001:db8::7"),
    *("a" * 64 + ".test", "a" + LONG, LONG + ".."),
]


@pytest.mark.parametrize("text", HOSTNAMES)
def test_hostnames(text: str) -> None:
    assert hostname_in(text) == certificate_name(text) == HOSTNAMES[text]


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_no_hostname(text: str) -> None:
    assert hostname_in(text) is None


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text(text: str) -> None:
    name = hostname_in(text)
    assert name is None or (name == hostname_in(name) and name.lower() == name and len(name) <= 253)


@pytest.mark.parametrize("text", ["a-" * 40_000, "a." * 40_000, "0" * 80_000, "1." * 40_000 + "-"])
def test_long_texts_take_no_time(text: str) -> None:
    began = time.process_time()
    assert hostname_in(text) is None
    assert time.process_time() - began < 2.0, "quadratic time would be minutes"


def test_wildcards() -> None:
    assert certificate_name("*.Shop.test.") == "*.shop.test"
    assert certificate_name("*.test") == "*.test"
    for text in ("*", "*.", "**.shop.test", "f*.shop.test", "*f.shop.test", "a.*.test", "*.*.test", "*.192.0.2.7"):
        assert certificate_name(text) is None, text
    assert certificate_name("*." + LONG) is None
    assert wildcard_of("a.shop.test") == "*.shop.test"
    assert wildcard_of("localhost") == ""


def test_what_a_wildcard_covers() -> None:
    names = frozenset({"*.shop.test", "shop.test"})
    for name in ("shop.test", "a.shop.test", "*.shop.test"):
        assert is_covered(name, names), name
    for name in ("a.b.shop.test", "test", "ashop.test", "*.a.shop.test", "*.test", "localhost"):
        assert not is_covered(name, names), name
    assert not is_covered("shop.test", frozenset({"*.shop.test"}))
    assert not is_covered("*.shop.test", frozenset({"*.test"}))
    assert not is_covered("localhost", frozenset({"*.localhost"}))
