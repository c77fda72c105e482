"""The guard of a file of routes: when a content is taken over."""

import pytest

from edge.rules.route_sets.route_file_guard import NEVER, Judgement, RouteFileGuard
from edge.rules.route_sets.route_set import NO_ROUTES, RouteSetSummary, route_set
from edge.rules.route_sets.route_set_records import Destination, Endpoint

HOLD = 30.0
TEN = [f"{n}.test" for n in range(10)]


def a_summary(*hostnames: str, port: int = 80, idle: tuple[str, ...] = ()) -> RouteSetSummary:
    """The summary of a file with these hostnames; those of `idle` have no backends."""

    def to(hostname: str) -> Destination:
        backends = () if hostname in idle else (Endpoint("b", "10.0.0.1", port, "", "active", "running"),)
        return Destination(hostname, "live", backends, False, None)

    named = [((hostname,), to(hostname)) for hostname in (*hostnames, *idle)]
    return route_set(named, NO_ROUTES, version=1, source="f", digest=b"")[1]


@pytest.fixture
def guard() -> RouteFileGuard:
    return RouteFileGuard(settle=1.0)


HOLDS = a_summary(*TEN)


@pytest.mark.parametrize(
    ("read", "judged"),
    [
        (a_summary(*TEN), Judgement(100.0)),
        (a_summary(*TEN, "new.test"), Judgement(100.0, added=1)),
        (a_summary(*TEN, port=81), Judgement(100.0, changed=10)),
        (a_summary(*TEN[1:]), Judgement(101.0, lost=1)),
        (a_summary(*TEN[5:]), Judgement(101.0, lost=5)),
        (a_summary(*TEN[6:], "new.test"), Judgement(130.0, added=1, lost=6, large=True)),
        (a_summary(), Judgement(130.0, lost=10, large=True)),
        (a_summary("new.test"), Judgement(130.0, added=1, lost=10, large=True)),
        (a_summary(*TEN[1:], idle=(TEN[0],)), Judgement(101.0, changed=1, lost=1)),
        (a_summary(idle=tuple(TEN)), Judgement(130.0, changed=10, lost=10, large=True)),
    ],
    ids=["same", "more", "elsewhere", "one gone", "half", "six of ten", "empty", "others", "one idle", "all idle"],
)
def test_decisions_about_a_content(guard: RouteFileGuard, read: RouteSetSummary, judged: Judgement) -> None:
    assert guard.judge(HOLDS, read, 100.0, HOLD) == judged


def test_the_first_content_is_taken_over_at_once_unless_it_is_empty(guard: RouteFileGuard) -> None:
    assert guard.judge(None, a_summary(*TEN), 5.0, HOLD) == Judgement(5.0, added=10, first=True)
    assert guard.judge(None, a_summary(), 5.0, HOLD) == Judgement(NEVER, first=True)


def test_the_hold_begins_when_a_hostname_is_first_missing(guard: RouteFileGuard) -> None:
    for now in (0.0, 10.0, 29.9):
        assert guard.judge(HOLDS, a_summary(), now, HOLD).due == 30.0
    assert guard.judge(HOLDS, a_summary(), 31.0, HOLD).due == 31.0


def test_a_hostname_that_was_back_in_between_starts_its_hold_again(guard: RouteFileGuard) -> None:
    guard.judge(HOLDS, a_summary(), 0.0, HOLD)
    guard.judge(HOLDS, a_summary(*TEN), 20.0, HOLD)
    assert guard.judge(HOLDS, a_summary(), 25.0, HOLD).due == 55.0


def test_an_unreadable_file_in_between_starts_the_hold_again(guard: RouteFileGuard) -> None:
    guard.judge(HOLDS, a_summary(), 0.0, HOLD)
    guard.forget()
    assert guard.judge(HOLDS, a_summary(), 25.0, HOLD).due == 55.0


def test_an_emptied_file_waits_for_the_hostnames_that_were_lost_last(guard: RouteFileGuard) -> None:
    assert guard.judge(HOLDS, a_summary(*TEN[6:]), 0.0, HOLD).due == 30.0
    assert guard.judge(HOLDS, a_summary(), 20.0, HOLD).due == 50.0


def test_a_file_that_loses_more_and_more_is_taken_over_when_half_of_it_is_gone_for_long(
    guard: RouteFileGuard,
) -> None:
    """Six are lost at 0, two more at 20: five of the eight may be recent."""
    guard.judge(HOLDS, a_summary(*TEN[6:]), 0.0, HOLD)
    assert guard.judge(HOLDS, a_summary(*TEN[8:]), 20.0, HOLD).due == 30.0
    assert guard.judge(HOLDS, a_summary(TEN[0]), 25.0, HOLD).due == 30.0


def test_without_a_hold_everything_is_taken_over_at_once(guard: RouteFileGuard) -> None:
    assert guard.judge(HOLDS, a_summary(), 7.0, 0.0).due == 7.0
    assert guard.judge(HOLDS, a_summary(*TEN[1:]), 7.0, 0.0).due == 7.0


def test_hostnames_that_were_not_served_are_not_lost_a_second_time(guard: RouteFileGuard) -> None:
    holds = a_summary(TEN[0], idle=tuple(TEN[1:]))
    assert guard.judge(holds, holds, 0.0, HOLD) == Judgement(0.0)
    assert guard.judge(holds, a_summary(TEN[0]), 0.0, HOLD).lost == 9
