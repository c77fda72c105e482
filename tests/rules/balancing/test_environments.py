"""Environments are shared by their hostnames, outlive routes, and are forgotten when idle or too many."""

import gc

import pytest

from edge.rules.balancing.backend_state import Probation, Why
from edge.rules.balancing.demerits import FAILURES_IN_A_ROW, OTHERS_SEEN
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.balancing.health_events import DOWN, SUSPECT
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.outcomes import Cause, Retry
from edge.rules.settings import DemeritSettings, RetrySettings


def environments(*, capacity: int = 10, forget_after: float = 600.0) -> Environments:
    return Environments(DemeritSettings(capacity=capacity, forget_after=forget_after), RetrySettings())


def test_an_environment_is_its_site_and_its_name() -> None:
    known = environments()
    live = known.get("acme", "live", 0.0)
    assert known.get("acme", "live", 1.0) is live
    assert known.get("acme", "test", 1.0) is not live
    assert known.get("other", "live", 1.0) is not live
    assert (live.site, live.name, live.requests, live.confirmed_at) == ("acme", "live", 0, 1.0)
    assert len(known) == 3


def test_measurements_of_one_are_not_used_in_another() -> None:
    known = environments()
    live, test = known.get("acme", "live", 0.0), known.get("acme", "test", 0.0)
    assert live.demerits.state_of("b1") is live.demerits.state_of("b1")
    assert live.demerits.state_of("b1") is not test.demerits.state_of("b1")


def test_failures_of_one_spend_its_own_retry_budget() -> None:
    known = environments()
    live, test = known.get("acme", "live", 0.0), known.get("acme", "test", 0.0)
    while live.budget.take_token(Retry.SAFE_ONLY, 0, 0.0):
        pass
    assert test.budget.take_token(Retry.SAFE_ONLY, 0, 0.0)


def test_one_that_is_idle_for_long_is_forgotten() -> None:
    known = environments(forget_after=600.0)
    live = known.get("acme", "live", 0.0)
    assert learned(live)
    known.get("acme", "live", 600.0)
    assert learned(live, 600.0)
    assert known.get("acme", "live", 1200.1) is live, "others may have it"
    assert not learned(live, 1200.1)
    assert len(known) == 1


def learned(environment: Environment, at: float | None = None) -> bool:
    """Whether anything is known of its backend; at first that is learned."""
    state = environment.demerits.state_of("b1")
    if at is None:
        environment.demerits.record_failure(state, Cause.GATEWAY_ERROR, 0.0)
        environment.demerits.record_response(state, 0.2, 0.0)
    return bool(state.samples or state.error or state.last_error)


@pytest.mark.parametrize("used", ["last_request_at", "confirmed_at", "in_flight"])
def test_one_in_use_is_not_forgotten(used: str) -> None:
    """The core API was unreachable for long, and responds again: that is not idleness."""
    known = environments(forget_after=600.0)
    live = known.get("acme", "live", 0.0)
    assert learned(live)
    setattr(live, used, 1000)
    assert known.get("acme", "live", 1500.0) is live
    assert learned(live, 1500.0)


def test_forgetting_drops_measurements_and_keeps_the_condition() -> None:
    known = environments(forget_after=600.0)
    live = known.get("acme", "live", 0.0)
    lost, healthy = (
        live.demerits.state_of("lost", "lost@a:1"),
        live.demerits.state_of("healthy", "well@a:2", asleep=True),
    )
    live.demerits.goes_down(lost, 1.0)
    healthy.last_event_at, healthy.probation = 5.0, Probation(Why.SLOW, 5.0, 0.5)
    healthy.waiting = healthy.in_flight = 1
    known.forget_if_idle(live, 700.0)
    assert (lost.down_since, lost.weight, live.demerits.to_connect) == (1.0, 0.0, {lost})
    assert (healthy.endpoint, healthy.asleep, healthy.last_event_at, healthy.in_flight, healthy.waiting) == (
        "well@a:2",
        True,
        5.0,
        1,
        1,
    )
    assert healthy.probation is None
    assert live.demerits.state_of("lost", "lost@a:1") is lost, "routes go on to hold it"


def test_there_is_never_more_than_one_of_a_name() -> None:
    """All references are to the same object: in-flight limits, budgets and states are not split."""
    known = environments(capacity=1)
    first = known.get("a", "live", 0.0)
    known.get("b", "live", 0.0)
    assert len(known) == 1
    assert known.get("a", "live", 0.0) is first
    known.forget(first)
    assert known.peek("a", "live") is first
    assert known.get("a", "live", 0.0) is first


def test_reconfiguration_reaches_environments_that_only_a_route_refers_to() -> None:
    known = environments(capacity=1)
    first, server = known.get("a", "live", 0.0), known.servers.get("srv-1")
    assert server is not None
    state = first.demerits.state_of("b1", "b1@a:1")
    known.get("b", "live", 0.0)
    first.demerits.weighed_at = 7.0
    known.apply_event(HealthEvent(SUSPECT, "", "", "srv-1"), 8.0, 0.5)
    assert first.demerits.weighed_at == -1.0
    known.apply_event(HealthEvent(DOWN, "a", "live", "b1@a:1"), 8.0, 0.5)
    assert state.down_since == 8.0
    assert known.in_use(1.0) == 2


def test_the_least_recently_used_is_forgotten() -> None:
    known = environments(capacity=2)
    first = known.get("a", "live", 0.0)
    known.get("b", "live", 0.0)
    assert known.get("a", "live", 0.0) is first
    known.get("c", "live", 0.0)
    assert len(known) == 2
    assert known.get("a", "live", 0.0) is first
    assert known.peek("b", "live") is None, "nothing referred to it"


def test_what_nothing_refers_to_is_freed() -> None:
    known = environments(capacity=2)
    used = [known.get(f"used-{number}", "freed", 0.0) for number in range(5)]
    for number in range(500):
        known.get(f"site-{number}", "freed", 0.0)
    # Those of this test; isinstance would ask weak proxies of other objects.
    alive = sum(type(one) is Environment and one.name == "freed" for one in gc.get_objects())
    assert alive <= 2 * len(used) + 2 + 2, "the capacity, and about as many unused ones as used ones"
    assert all(known.get(one.site, one.name, 1.0) is one for one in used)
    assert set(used) <= set(known.all)


def test_one_that_is_dropped_and_comes_back_is_known_once() -> None:
    known = environments(capacity=1)
    first = known.get("a", "live", 0.0)
    for _ in range(3):
        known.get("b", "live", 0.0)
        assert known.get("a", "live", 0.0) is first
        assert known.all.count(first) == 1
        assert len(known) == 1


def test_a_suspect_server_takes_effect_in_idle_environments() -> None:
    known = environments()
    live, server = known.get("acme", "live", 0.0), known.servers.get("srv-1")
    assert server is not None
    lost, other = live.demerits.state_of("lost"), live.demerits.state_of("other")
    lost.server = server
    for state in (lost, other):
        state.last_event_at = 10.0
    live.demerits.weigh([lost, other], 10.0, busy=False)
    assert (lost.weight, other.weight) == (1.0, 1.0)
    known.apply_event(HealthEvent(SUSPECT, "", "", "srv-1"), 10.1, 0.5)
    live.demerits.weigh([lost, other], 10.2, busy=False)
    assert (lost.weight, other.weight) == (0.0, 1.0)


@pytest.mark.parametrize(("since", "is_disputed"), [(OTHERS_SEEN - 1.0, True), (OTHERS_SEEN + 1.0, False)])
def test_a_witness_counts_less_while_other_clients_send_requests(since: float, is_disputed: bool) -> None:
    live = environments().get("acme", "live", 0.0)
    state = live.demerits.state_of("b1")
    live.client_changed_at = 100.0
    now = live.client_changed_at + since
    for number in range(FAILURES_IN_A_ROW):
        live.note_witness(state, "192.0.2.7", now, first=number == 0)
        live.demerits.record_failure(state, Cause.GATEWAY_ERROR, now)
    assert state.witness == "192.0.2.7"
    assert (state.probation is None) is is_disputed
