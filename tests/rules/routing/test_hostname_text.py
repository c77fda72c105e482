"""The hostname in what an operator pastes."""

import pytest

from edge.rules.routing.hostname_text import hostname_in


@pytest.mark.parametrize(
    ("text", "hostname"),
    [
        ("shop.test", "shop.test"),
        ("Shop.TEST.", "shop.test"),
        ("  shop.test\n", "shop.test"),
        ("shop.test:8443", "shop.test"),
        ("shop.test:", "shop.test"),
        ("shop.test.:80", "shop.test"),
        ("https://shop.test", "shop.test"),
        ("HTTP://Shop.test:8080/path?x=http://other.test/#top", "shop.test"),
        ("https://user:secret@shop.test:1/", "shop.test"),
        ("//shop.test/path", "shop.test"),
        ("shop.test/path/with@sign", "shop.test"),
        ("shop.test?x=1", "shop.test"),
        ("https://[2001:DB8::1]:8443/x", "[2001:db8::1]"),
        ("[::1]", "[::1]"),
        ("http://bücher.test/", "xn--bcher-kva.test"),
    ],
)
def test_hostnames(text: str, hostname: str) -> None:
    assert hostname_in(text) == hostname


@pytest.mark.parametrize(
    "text", ["", "  ", "http://", "https:///path", "/path", ":80", "two words", "a\x00b", "ü" * 300]
)
def test_what_has_none(text: str) -> None:
    with pytest.raises(ValueError, match="hostname"):
        hostname_in(text)
