"""Which requests are redirected to https, and which get 421."""

import pytest

from edge.rules.outcomes import VERDICTS, Cause
from edge.rules.tls.request_gate import CoveredHosts, HttpsRedirect, TurnedAway, gate_of_certificate


@pytest.mark.parametrize(
    ("port", "host", "target", "location"),
    [
        (443, "shop.test", b"/", b"https://shop.test/"),
        (8443, "shop.test", b"/a?b=c", b"https://shop.test:8443/a?b=c"),
        (443, "[::1]", b"//x/..", b"https://[::1]//x/.."),
        (443, "shop.test", b"*", b"https://shop.test/"),
        (443, "shop.test", b"/.well-known/acme-challenge", b"https://shop.test/.well-known/acme-challenge"),
        (
            443,
            "shop.test",
            b"/.well-known/acme-challenge/../../login",
            b"https://shop.test/.well-known/acme-challenge/../../login",
        ),
        (
            443,
            "shop.test",
            b"/.well-known/acme-challenge/%2e%2e/x",
            b"https://shop.test/.well-known/acme-challenge/%2e%2e/x",
        ),
    ],
)
def test_redirects(port: int, host: str, target: bytes, location: bytes) -> None:
    assert HttpsRedirect(port).check(host, target) == TurnedAway(Cause.REDIRECTED, location)


@pytest.mark.parametrize("target", [b"/.well-known/acme-challenge/", b"/.well-known/acme-challenge/aZ_-9"])
def test_challenges_pass(target: bytes) -> None:
    assert HttpsRedirect(443).check("shop.test", target) is None


def test_covered_hosts() -> None:
    gate = CoveredHosts(("shop.test", "*.shop.test"))
    asked = ["shop.test", "a.shop.test", "a.shop.test", "b.a.shop.test", "other.test", "[::1]", "a.shop.test"]
    verdicts = [gate.check(host, b"/") for host in asked]
    assert [verdict is None for verdict in verdicts] == [True, True, True, False, False, False, True]
    assert verdicts[4] == TurnedAway(Cause.HOST_NOT_COVERED)
    assert VERDICTS[Cause.HOST_NOT_COVERED].status == 421


def test_a_refused_host_is_not_remembered() -> None:
    gate = CoveredHosts(("shop.test",))
    assert [gate.check("other.test", b"/") is None for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("server_name", "default", "has_gate"),
    [
        ("shop.test", None, True),
        ("shop.test", "main.test", True),
        ("shop.test", "shop.test", False),
        (None, "shop.test", False),
        ("stranger.test", "shop.test", False),
    ],
)
def test_which_connections_have_a_gate(server_name: str | None, default: str | None, has_gate: bool) -> None:
    assert (gate_of_certificate(server_name, default, ("shop.test",)) is not None) is has_gate
