"""Environments are shared by their hostnames, outlive routes, and are forgotten when idle or too many."""

from edge.rules.environments import Environments
from edge.rules.outcomes import Retry
from edge.rules.settings import DemeritSettings, RetrySettings
from edge.rules.shared_evidence import SUSPECT, Evidence


def environments(*, capacity: int = 10, forget_after: float = 600.0) -> Environments:
    return Environments(DemeritSettings(capacity=capacity, forget_after=forget_after), RetrySettings())


def test_an_environment_is_its_site_and_its_name() -> None:
    known = environments()
    live = known.get("acme", "live", 0.0)
    assert known.get("acme", "live", 1.0) is live
    assert known.get("acme", "test", 1.0) is not live
    assert known.get("other", "live", 1.0) is not live
    assert (live.site, live.name, live.requests, live.seen) == ("acme", "live", 0, 1.0)
    assert len(known) == 3


def test_what_was_learned_in_one_is_not_known_in_another() -> None:
    known = environments()
    live, test = known.get("acme", "live", 0.0), known.get("acme", "test", 0.0)
    assert live.book.standing("b1") is live.book.standing("b1")
    assert live.book.standing("b1") is not test.book.standing("b1")


def test_trouble_of_one_spends_its_own_retries() -> None:
    known = environments()
    live, test = known.get("acme", "live", 0.0), known.get("acme", "test", 0.0)
    while live.budget.allows(Retry.SAFE_ONLY, 0, 0.0):
        pass
    assert test.budget.allows(Retry.SAFE_ONLY, 0, 0.0)


def test_one_that_is_idle_for_long_starts_anew() -> None:
    known = environments(forget_after=600.0)
    first = known.get("acme", "live", 0.0)
    assert known.get("acme", "live", 600.0) is first
    second = known.get("acme", "live", 1200.1)
    assert second is not first
    assert len(known) == 1


def test_a_confirmed_route_keeps_its_environment() -> None:
    known = environments(forget_after=600.0)
    first = known.get("acme", "live", 0.0)
    first.seen = 1000.0
    assert known.get("acme", "live", 1500.0) is first


def test_the_least_recently_used_is_forgotten() -> None:
    known = environments(capacity=2)
    first = known.get("a", "live", 0.0)
    second = known.get("b", "live", 0.0)
    assert known.get("a", "live", 0.0) is first
    known.get("c", "live", 0.0)
    assert len(known) == 2
    assert known.get("a", "live", 0.0) is first
    assert known.get("b", "live", 0.0) is not second


def test_a_suspect_server_is_heard_of_by_those_at_rest() -> None:
    known = environments()
    live, server = known.get("acme", "live", 0.0), known.servers.get("srv-1")
    assert server is not None
    lost, other = live.book.standing("lost"), live.book.standing("other")
    lost.server = server
    for standing in (lost, other):
        standing.heard_at = 10.0
    live.book.weigh([lost, other], 10.0, busy=False)
    assert (lost.weight, other.weight) == (1.0, 1.0)
    known.hear(Evidence(SUSPECT, "", "", "srv-1"), 10.1, 0.5)
    live.book.weigh([lost, other], 10.2, busy=False)
    assert (lost.weight, other.weight) == (0.0, 1.0)
