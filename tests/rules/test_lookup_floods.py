"""Floods of made-up hostnames on a virtual clock: requests for real sites still find them."""

from collections.abc import Callable, Iterator

import pytest

from edge.rules.settings import LimitSettings
from tests.support.lookup_floods import Request, Seen, ipv4, play, stream

SECONDS = 2.0
LIMIT = LimitSettings().unknown_hosts
MOST_UNKNOWN = 2 * LIMIT * (SECONDS + 1.0)
"Of both buckets, and of each the second's worth that may come at once."


def made_up(rate: float, address: Callable[[int], str], seconds: float = SECONDS) -> Iterator[Request]:
    return stream("made up", rate, seconds, address, "{}.none")


def cold(seconds: float = SECONDS) -> Iterator[Request]:
    """Requests for real sites that are not cached, each from another client."""
    return stream("cold", 40.0, seconds, lambda n: ipv4(10**6 + n), "{}.real")


def check(seen: Seen) -> None:
    assert seen.share("cold") >= 0.99
    check_bounds(seen)


def check_bounds(seen: Seen) -> None:
    assert len([at for at in seen.unknown_at if at < SECONDS]) <= MOST_UNKNOWN + 2
    assert seen.most_in(1.0) <= 4 * LIMIT + 2


FLOODS = {
    "100 addresses below their own limit": made_up(900.0, lambda n: ipv4(n % 100)),
    "500 addresses, all over the world": made_up(10_000.0, lambda n: ipv4(n % 500)),
    "500 addresses of two networks": made_up(10_000.0, lambda n: f"203.{n % 2}.7.{n % 500 // 2}"),
    "a /48, every name from another /64": made_up(10_000.0, lambda n: f"2001:db8:1:{n % 65536:x}::1"),
    "a /32, every name from another /48": made_up(10_000.0, lambda n: f"2001:db8:{n % 65536:x}::1"),
    "a /16 of IPv4, every name from another address": made_up(
        10_000.0, lambda n: f"203.7.{n // 256 % 256}.{n % 256}"
    ),
    "5,000 addresses, a name a minute each": made_up(5000 / 60, lambda n: ipv4(n % 5000)),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_cold_sites_are_found_beside(flood: Iterator[Request]) -> None:
    check(play(flood, cold()))


def test_cold_sites_are_found_by_a_slow_core_api() -> None:
    """Except those that come before the first of the 500 lookups has ended."""
    check(play(made_up(4000.0, lambda n: ipv4(n % 500), 5.0), cold(5.0), latency=0.1))


def test_a_client_with_one_wrong_name_is_not_taken_for_one_with_many() -> None:
    slips = stream("slip", 10.0, 2.0, lambda n: f"192.0.2.{n}", "slip-{}.none")
    after = stream("after a slip", 10.0, 2.0, lambda n: f"192.0.2.{n}", "{}.real", begin=2.5)
    seen = play(made_up(900.0, lambda n: ipv4(n % 100), 5.0), slips, after)
    assert seen.share("slip", "unknown") == 1.0
    assert seen.share("after a slip") == 1.0


def test_a_thousand_sites_of_one_client_are_found_at_once() -> None:
    seen = play(
        made_up(900.0, lambda n: ipv4(n % 100)),
        stream("many", 100_000.0, 0.01, lambda n: "192.0.2.1", "{}.real", begin=1.0),
    )
    assert seen.share("many") == 1.0
    assert len(seen.how("many")) == 1


def test_a_client_that_names_too_many_is_refused_at_once() -> None:
    seen = play(made_up(10_000.0, lambda n: ipv4(n % 500)))
    assert seen.how("made up")["refused"] > 17_000
    late = [e for e in seen.ended if e.how == "refused" and e.after > 5.0]
    assert not late


def test_half_a_million_addresses_do_not_exceed_the_bounds() -> None:
    """One name each: they cannot be distinguished from people, so most of both are refused."""
    seen = play(made_up(10_000.0, ipv4), cold(), capacity=2000)
    assert seen.most_waiting <= 2000
    check_bounds(seen)
    assert seen.how("made up")["late"] > 17_000
