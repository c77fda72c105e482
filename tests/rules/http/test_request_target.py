"""Request targets in all forms, and hostnames."""

import pytest

from edge.rules.http.framing import RejectedRequest
from edge.rules.http.request_target import authority_of, hostname_of, origin_form
from edge.rules.outcomes import Cause


@pytest.mark.parametrize(
    ("method", "target", "host", "path"),
    [
        (b"GET", b"/", b"shop.test", b"/"),
        (b"GET", b"//double/slash?a=b", b"shop.test", b"//double/slash?a=b"),
        (b"POST", b"/http://other.test/", b"shop.test", b"/http://other.test/"),
        (b"OPTIONS", b"*", b"shop.test", b"*"),
        (b"OPTIONS", b"/", b"shop.test", b"/"),
        (b"GET", b"http://shop.test", b"shop.test", b"/"),
        (b"OPTIONS", b"http://shop.test", b"shop.test", b"*"),
        (b"OPTIONS", b"http://shop.test/", b"shop.test", b"/"),
        (b"GET", b"http://shop.test/a?b", b"shop.test", b"/a?b"),
        (b"GET", b"http://shop.test?b", b"shop.test", b"/?b"),
        (b"GET", b"http://shop.test/http://other.test/", b"shop.test", b"/http://other.test/"),
        (b"GET", b"HTTP://Shop.Test/", b"shop.tesT", b"/"),
        (b"GET", b"http://shop.test:8080/", b"shop.test:8080", b"/"),
        (b"GET", b"http://shop.test:80/", b"shop.test", b"/"),
        (b"GET", b"http://shop.test:/", b"shop.test", b"/"),
        (b"GET", b"http://[::1]:80/", b"[::1]", b"/"),
    ],
)
def test_targets_that_pass(method: bytes, target: bytes, host: bytes, path: bytes) -> None:
    assert origin_form(method, target, host) == path


def test_the_authority_of_an_absolute_target() -> None:
    assert authority_of(b"http://Shop.test:81/a") == b"Shop.test:81"
    for target in (b"shop.test", b"https://shop.test/"):
        with pytest.raises(RejectedRequest):
            authority_of(target)


@pytest.mark.parametrize(
    ("method", "target", "cause"),
    [
        pytest.param(b"CONNECT", b"shop.test:443", Cause.NOT_IMPLEMENTED, id="CONNECT"),
        pytest.param(b"CONNECT", b"/", Cause.NOT_IMPLEMENTED, id="CONNECT to a path"),
        pytest.param(b"GET", b"*", Cause.BAD_REQUEST, id="* is for OPTIONS"),
        pytest.param(b"GET", b"", Cause.BAD_REQUEST, id="empty"),
        pytest.param(b"GET", b"index.php", Cause.BAD_REQUEST, id="relative"),
        pytest.param(b"GET", b"ftp://shop.test/", Cause.BAD_REQUEST, id="another scheme"),
        pytest.param(b"GET", b"https://shop.test/", Cause.BAD_REQUEST, id="https"),
        pytest.param(b"GET", b"HTTPS://shop.test", Cause.BAD_REQUEST, id="HTTPS"),
        pytest.param(b"OPTIONS", b"https://shop.test:443", Cause.BAD_REQUEST, id="https with its port"),
        pytest.param(b"GET", b"http:/shop.test/", Cause.BAD_REQUEST, id="one slash"),
        pytest.param(b"GET", b"http://other.test/", Cause.BAD_REQUEST, id="another host"),
        pytest.param(b"GET", b"http://shop.test.other.test/", Cause.BAD_REQUEST, id="a longer host"),
        pytest.param(b"GET", b"http://shop.test:443/", Cause.BAD_REQUEST, id="the other scheme's port"),
        pytest.param(b"GET", b"http:///path", Cause.BAD_REQUEST, id="no host"),
        pytest.param(b"GET", b"http://shop.test:81/", Cause.BAD_REQUEST, id="another port"),
        pytest.param(b"GET", b"http://shop.test@other.test/", Cause.BAD_REQUEST, id="user information"),
        pytest.param(b"GET", b"http://other.test#shop.test", Cause.BAD_REQUEST, id="fragment"),
    ],
)
def test_invalid_targets(method: bytes, target: bytes, cause: Cause) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        origin_form(method, target, b"shop.test")
    assert refusal.value.cause is cause


@pytest.mark.parametrize(
    ("host", "hostname"),
    [
        (b"shop.test", "shop.test"),
        (b"Shop.TEST", "shop.test"),
        (b"shop.test.", "shop.test"),
        (b"shop.test:8080", "shop.test"),
        (b"shop.test.:8080", "shop.test"),
        (b"shop.test:", "shop.test"),
        (b"xn--mnchen-3ya.test", "xn--mnchen-3ya.test"),
        (b"under_score.test", "under_score.test"),
        (b"192.0.2.7:80", "192.0.2.7"),
        (b"[::1]:80", "[::1]"),
        (b"[2001:DB8::7]", "[2001:db8::7]"),
        (b".".join([b"a" * 63] * 3 + [b"a" * 61]) + b".", ".".join(["a" * 63] * 3 + ["a" * 61])),
        (b"shop.test:65535", "shop.test"),
    ],
)
def test_hostname_of(host: bytes, hostname: str) -> None:
    assert hostname_of([host]) == hostname


@pytest.mark.parametrize(
    ("hosts", "cause"),
    [
        pytest.param(None, Cause.EMPTY_HOST, id="absent"),
        pytest.param([b""], Cause.EMPTY_HOST, id="empty"),
        pytest.param([b"a.test", b"b.test"], Cause.BAD_REQUEST, id="two"),
        pytest.param([b"a.test", b"a.test"], Cause.BAD_REQUEST, id="twice the same"),
        pytest.param([b"a.test, b.test"], Cause.BAD_REQUEST, id="a list"),
        pytest.param([b":80"], Cause.BAD_REQUEST, id="port only"),
        pytest.param([b"a.test:x"], Cause.BAD_REQUEST, id="port no number"),
        pytest.param([b"a.test:123456"], Cause.BAD_REQUEST, id="port too long"),
        pytest.param([b"a.test:80:80"], Cause.BAD_REQUEST, id="two ports"),
        pytest.param([b"user@a.test"], Cause.BAD_REQUEST, id="user information"),
        pytest.param([b"a.test/path"], Cause.BAD_REQUEST, id="path"),
        pytest.param([b"a.test?x"], Cause.BAD_REQUEST, id="query"),
        pytest.param([b"a test"], Cause.BAD_REQUEST, id="blank"),
        pytest.param([b"a.test\n"], Cause.BAD_REQUEST, id="line feed"),
        pytest.param([b"a.test\x00"], Cause.BAD_REQUEST, id="NUL"),
        pytest.param([b"<script>"], Cause.BAD_REQUEST, id="markup"),
        pytest.param([b"%61.test"], Cause.BAD_REQUEST, id="percent"),
        pytest.param(["münchen.test".encode()], Cause.BAD_REQUEST, id="not ASCII"),
        pytest.param([b"::1"], Cause.BAD_REQUEST, id="IPv6 without brackets"),
        pytest.param([b"[::1"], Cause.BAD_REQUEST, id="half a bracket"),
        pytest.param([b"[evil.test]"], Cause.BAD_REQUEST, id="a name in brackets"),
        pytest.param([b"a" * 64], Cause.BAD_REQUEST, id="a label too long"),
        pytest.param([b".".join([b"a" * 63] * 3 + [b"a" * 62])], Cause.BAD_REQUEST, id="too long"),
        pytest.param([b"a" * 256], Cause.BAD_REQUEST, id="much too long"),
        pytest.param([b"."], Cause.BAD_REQUEST, id="a dot"),
        pytest.param([b"a..test"], Cause.BAD_REQUEST, id="an empty label"),
        pytest.param([b".a.test"], Cause.BAD_REQUEST, id="a dot before"),
        pytest.param([b"a.test.."], Cause.BAD_REQUEST, id="two dots behind"),
        pytest.param([b"a.test:65536"], Cause.BAD_REQUEST, id="port too large"),
        pytest.param([b"[1::2::3]"], Cause.BAD_REQUEST, id="no IPv6 address"),
        pytest.param([b"[192.0.2.7]"], Cause.BAD_REQUEST, id="IPv4 in brackets"),
    ],
)
def test_invalid_hosts(hosts: list[bytes] | None, cause: Cause) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        hostname_of(hosts)
    assert refusal.value.cause is cause
