"""Pending changes: each once, a bounded number, and none is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.pending_changes import PendingChanges

A, B, C = (Change("site", name) for name in "abc")


def test_each_is_taken_once_in_the_order_of_arrival() -> None:
    pending = PendingChanges()
    pending.add([A, B, A])
    pending.add([C, A])
    assert (len(pending), pending.take_all(0.0)) == (3, [A, B, C])
    assert pending.take(0.0) is None
    pending.add([A])
    assert pending.take(1.0) == A, "it came again"


def test_the_same_name_of_another_kind_is_another_change() -> None:
    pending = PendingChanges()
    pending.add([Change("site", "a"), Change("server", "a")])
    assert len(pending) == 2


def test_too_many_are_a_change_of_everything_and_those_before_stay() -> None:
    pending = PendingChanges(limit=2)
    pending.add([A, B, B, A])
    assert pending.overflows == 0
    pending.add([C, A])
    assert (pending.overflows, len(pending)) == (1, 3)
    assert pending.take_all(0.0) == [EVERYTHING, A, B]


@pytest.mark.parametrize("change", [Change("all", ""), A])
def test_a_repeated_change_is_taken_once_a_second_and_the_last_one_is_not_lost(
    change: Change,
) -> None:
    pending, taken = PendingChanges(interval=1.0), []
    for n in range(250):  # a hundred a second
        now = n / 100
        pending.add([change])
        assert len(pending) == 1
        while pending.take(now) is not None:
            taken.append(now)
    assert taken == [0.0, 1.0, 2.0]
    assert pending.due_at(2.49) == 3.0
    assert pending.take(2.999) is None
    assert pending.take(3.0) == change
    assert (pending.due_at(3.0), len(pending)) == (None, 0)


def test_a_change_within_its_interval_does_not_delay_others() -> None:
    pending = PendingChanges()
    pending.add([EVERYTHING])
    assert pending.take(0.0) == EVERYTHING
    pending.add([EVERYTHING, A])
    assert pending.due_at(0.5) == 0.5
    assert pending.take_all(0.5) == [A]
    assert pending.due_at(0.5) == 1.0


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([A, B, C, EVERYTHING]), max_size=4), st.sampled_from([0.0, 0.25, 1.25])),
        max_size=30,
    ),
    st.integers(1, 3),
)
def test_each_change_is_taken_after_it_arrived(arrivals: list[tuple[list[Change], float]], limit: int) -> None:
    """By itself or as part of everything; and everything never twice within a second."""
    pending, now, everything_at = PendingChanges(limit=limit), 0.0, -1.0
    untaken: set[Change] = set()
    for changes, passes in (*arrivals, ([], 1.0), ([], 1.0)):
        now += passes
        pending.add(changes)
        untaken |= set(changes)
        assert len(pending) <= limit + 1
        assert len(pending._taken) <= limit + 1
        for change in pending.take_all(now):
            if change == EVERYTHING:
                assert now - everything_at >= 1.0
                everything_at = now
                untaken = set()
            untaken.discard(change)
    assert not untaken
    assert pending.due_at(now) is None


def test_memory_is_bounded() -> None:
    pending = PendingChanges(limit=100)
    pending.add([EVERYTHING])
    for n in range(10_000):
        pending.add([Change("site", f"{n}"), EVERYTHING])
        assert pending.take_all(0.0) == ([EVERYTHING] if n == 0 else []) + [Change("site", f"{n}")]
    assert len(pending._taken) <= 101
    assert len(pending) == len(pending._resting_until) == 1
    assert pending.take(1.0) == EVERYTHING
