"""The route of one hostname: its backends, its freshness, and redirects."""

import pytest

from edge.rules.routing.freshness import Freshness, Lifetime
from edge.rules.routing.route_response import Backend
from edge.rules.routing.routes import Route, may_exist, redirect_location
from tests.support.sample_routes import B1, B2, a_response, a_route, an_environment

# A route


def test_groups_of_backends() -> None:
    spare = Backend("b3", "10.0.0.3", 8000, role="standby")
    leaving = Backend("b4", "10.0.0.4", 8000, state="draining")
    spare_leaving = Backend("b5", "10.0.0.5", 8000, role="standby", state="draining")
    asleep = Backend("b6", "10.0.0.6", 8000, state="asleep")
    route = a_route(B1, spare, leaving, spare_leaving, asleep)
    assert [c.backend for c in route.active] == [B1, asleep]
    assert [c.backend for c in route.standby] == [spare]
    assert set(route.states) == {c.state for c in (*route.active, *route.standby)}


def test_a_candidate_has_id_and_endpoint() -> None:
    (candidate,) = a_route(B1).active
    assert repr(candidate) == "<b1@10.0.0.1:8000>"
    assert candidate.head_line == b"X-Styx-Backend: b1\r\n"
    (moved,) = a_route(Backend("b1", "10.0.0.9", 8000)).active
    assert moved.endpoint != candidate.endpoint


@pytest.mark.parametrize("hostile", ["b1\r\nX-Evil: 1", "b1\n", "bö", "b 1", "b\x00"])
def test_no_id_can_add_a_header_line(hostile: str) -> None:
    line = a_route(Backend(hostile, "10.0.0.1", 8000)).active[0].head_line
    assert line.startswith(b"X-Styx-Backend: b")
    assert line.endswith(b"\r\n")
    assert all(0x21 <= byte <= 0x7E for byte in line[len(b"X-Styx-Backend: ") : -2])


def test_backend_states_outlive_the_refresh_of_a_route() -> None:
    environment = an_environment()
    before, after = Route(a_response(B1, B2)), Route(a_response(B2, generation=2))
    before.bind(environment, None)
    after.bind(environment, None)
    assert after.active[0].state is before.active[1].state


@pytest.mark.parametrize(
    ("now", "freshness"),
    [
        (100.0, Freshness.FRESH),
        (109.9, Freshness.FRESH),
        (110.0, Freshness.STALE),
        (129.9, Freshness.STALE),
        (130.0, Freshness.EXPIRED),
        (149.9, Freshness.EXPIRED),
        (150.0, Freshness.GONE),
    ],
)
def test_stages_of_freshness(now: float, freshness: Freshness) -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 40), 100.0)
    assert route.freshness(now) is freshness


def test_a_short_stale_if_error_does_not_cut_the_revalidation() -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 5), 100.0)
    assert route.freshness(129.0) is Freshness.STALE
    assert route.freshness(130.0) is Freshness.GONE
    assert route.gone_at == 130.0


def test_a_failed_lookup_leaves_the_freshness_and_delays_the_next() -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 40), 100.0)
    route.record_failed_lookup("timeout", 115.0, 3.0)
    assert (route.last_error, route.no_lookup_before, route.taken_at) == ("timeout", 118.0, 100.0)
    assert route.freshness(116.0) is Freshness.STALE
    route.renew(Lifetime(10, 20, 40), 117.0)
    assert (route.last_error, route.no_lookup_before, route.taken_at) == (None, 126.0, 117.0), (
        "a tenth before it is stale"
    )


# Where else


@pytest.mark.parametrize(
    ("redirect", "target", "location"),
    [
        ("www.shop.test", b"/a?b=c", b"//www.shop.test/a?b=c"),
        ("https://www.shop.test", b"/a", b"https://www.shop.test/a"),
        ("https://www.shop.test/", b"/a", b"https://www.shop.test/a"),
        ("https://www.shop.test/base/", b"/a", b"https://www.shop.test/base/a"),
        ("https://www.shop.test", b"*", b"https://www.shop.test/"),
        ("https://www.shop.test", b"http://shop.test/a", b"https://www.shop.test/"),
        ("https://www.shop.test", b"//evil.test/a", b"https://www.shop.test//evil.test/a"),
        ("https://www.shop.test/\r\nSet-Cookie: a=b", b"/c", b"https://www.shop.test/Set-Cookie:a=b/c"),
        ("https://www.shöp.test", b"/", b"https://www.shp.test/"),
    ],
)
def test_redirect_location(redirect: str, target: bytes, location: bytes) -> None:
    assert redirect_location(redirect, target) == location


@pytest.mark.parametrize(
    "hostname", ["a", "shop.test", "xn--mnchen-3ya.test", "a_b.test", "_dmarc.test", "1.2.3.4", "a" * 63 + ".test"]
)
def test_names_worth_a_lookup(hostname: str) -> None:
    assert may_exist(hostname)


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.test",
        "a-.test",
        "a b",
        "[::1]",
        "A.test",
        "a" * 64,
        "a." * 127 + "a",
        "a\n",
    ],
)
def test_names_that_cannot_exist(hostname: str) -> None:
    assert not may_exist(hostname)
