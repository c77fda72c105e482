"""The circuit breaker of the core API: when it opens, tests and closes."""

from collections.abc import Iterator

import pytest

from edge.rules.balancing.circuit_breaker import (
    FAILURES,
    MOST_OWNERS,
    MOST_SEARCHED,
    CircuitBreaker,
    KnownHostname,
)


def opened(now: float = 100.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    said = [breaker.record_failure(f"s{n}.test", now, 0.5, connected=False) for n in range(FAILURES)]
    assert said == [False] * (FAILURES - 1) + [True]
    return breaker


def test_a_closed_breaker_allows_every_lookup() -> None:
    breaker = CircuitBreaker()
    assert all(breaker.claim_lookup(now) for now in (0.0, 1.0, 1.0))
    assert not breaker.is_open


def test_five_hostnames_in_a_row_open_it() -> None:
    breaker = opened()
    assert breaker.is_open
    assert not breaker.claim_lookup(100.0)
    assert not breaker.claim_lookup(100.49)


def test_neither_one_hostname_repeatedly_nor_a_response_in_between_opens_it() -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.record_failure("broken.test", 100.0, 0.5, connected=False) for _ in range(100))
    for n in range(100):
        assert not breaker.record_failure(f"s{n}.test", 100.0, 0.5, connected=False)
        if n % 3 == 0:
            breaker.record_response()
    assert not breaker.is_open


def test_after_the_pause_one_lookup_is_allowed() -> None:
    breaker = opened()
    assert [breaker.claim_lookup(100.5) for _ in range(3)] == [True, False, False]


def test_a_response_closes_it() -> None:
    breaker = opened()
    assert breaker.claim_lookup(100.5)
    breaker.record_response()
    assert not breaker.is_open
    assert all(breaker.claim_lookup(100.6) for _ in range(3))


def test_each_probe_that_fails_doubles_the_pause_to_five_seconds() -> None:
    breaker, now = opened(), 100.5
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert breaker.claim_lookup(now)
        assert not breaker.record_failure("probe.test", now, 0.5, connected=False)
        assert not breaker.claim_lookup(now + pause - 0.01)
        now += pause


def test_lookups_that_were_under_way_when_it_opened_do_not_prolong_the_pause() -> None:
    """Sixty-four lookups time out together when the core API hangs."""
    breaker = opened()
    for n in range(60):
        assert not breaker.record_failure(f"late{n}.test", 100.0, 0.5, connected=False)
    assert breaker.claim_lookup(100.5)


def test_a_probe_that_hangs_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.claim_lookup(100.5)
    assert not breaker.claim_lookup(100.9)
    assert breaker.claim_lookup(101.0)


@pytest.mark.parametrize(("rand", "pause"), [(0.0, 0.375), (1.0, 0.625)])
def test_the_pause_is_spread(rand: float, pause: float) -> None:
    breaker = CircuitBreaker()
    for n in range(FAILURES):
        breaker.record_failure(f"s{n}.test", 100.0, rand, connected=False)
    assert not breaker.claim_lookup(100.0 + pause - 0.001)
    assert breaker.claim_lookup(100.0 + pause)


KNOWN = [
    KnownHostname("shop.test", "shop"),
    KnownHostname("www.shop.test", "shop"),
    KnownHostname("blog.test", "blog"),
]


def test_unknown_hostnames_alone_do_not_open_it() -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.record_failure(f"s{n}.test", 100.0, 0.5, known=KNOWN) for n in range(1000))
    assert breaker.needs_witness
    assert breaker.witness(KNOWN) == "shop.test"
    assert not breaker.is_open


def test_hostnames_of_one_owner_do_not_open_it() -> None:
    """The core API may have bad data of that one."""
    breaker = CircuitBreaker()
    for n in range(100):
        assert not breaker.record_failure(f"{n}.shop.test", 100.0, 0.5, owner="shop", known=KNOWN)
    assert breaker.needs_witness
    assert breaker.witness(KNOWN) == "blog.test", "another owner's"
    assert breaker.record_failure("blog.test", 100.0, 0.5, owner="blog", known=KNOWN)
    assert not breaker.needs_witness


def test_without_another_owner_there_is_nothing_to_compare_with() -> None:
    for known in ([], KNOWN[:2]):
        breaker = CircuitBreaker()
        opened = [breaker.record_failure(f"{n}.test", 1.0, 0.5, owner="shop", known=known) for n in range(FAILURES)]
        assert opened == [False] * (FAILURES - 1) + [True]


def test_each_probe_has_another_witness() -> None:
    breaker, now = opened(), 100.5
    assert breaker.witness(KNOWN) == "shop.test"
    assert breaker.claim_lookup(now)
    breaker.record_failure("shop.test", now, 0.5, owner="shop", known=KNOWN)
    assert breaker.witness(KNOWN) == "blog.test"
    breaker.record_failure("blog.test", now, 0.5, owner="blog", known=KNOWN)
    assert breaker.witness(KNOWN) is None
    breaker.forget_owners()
    assert breaker.witness(KNOWN) == "shop.test"


def test_the_search_for_a_witness_and_the_owners_are_bounded() -> None:
    breaker = CircuitBreaker()
    taken: list[int] = []

    def known() -> Iterator[KnownHostname]:
        for n in range(10 * MOST_SEARCHED):
            taken.append(n)
            yield KnownHostname(f"{n}.test", "shop")

    breaker.record_failure("0.test", 100.0, 0.5, owner="shop", known=known())
    assert len(taken) <= MOST_SEARCHED + 1
    for n in range(3 * MOST_OWNERS):
        breaker.record_failure("a.test", 100.0, 0.5, owner=str(n), known=KNOWN)
    assert sum(breaker.has_failed(str(n)) for n in range(3 * MOST_OWNERS)) <= MOST_OWNERS


def test_a_response_clears_all_failures() -> None:
    breaker = CircuitBreaker()
    for n in range(FAILURES):
        breaker.record_failure(f"s{n}.test", 100.0, 0.5, owner="shop", known=KNOWN)
    breaker.record_response()
    assert not breaker.needs_witness
    assert not breaker.record_failure("shop.test", 100.0, 0.5, connected=False)
