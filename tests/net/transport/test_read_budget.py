"""The time of one turn for reading: who is read in it, and in which order the others come."""

from collections.abc import Callable

import pytest

from edge.net.transport.read_budget import READ, ReadBudget

PER_TURN, PER_CONNECTION = 0.002, 0.0005


class Turns:
    """A loop whose turns the test takes, and a clock that stands still but when it is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.budget = ReadBudget(
            self,  # type: ignore[arg-type]
            lambda: self.now,
            per_connection=PER_CONNECTION,
            per_turn=PER_TURN,
        )
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    @property
    def idle(self) -> bool:
        """Whether the loop has nothing to do of its own."""
        return not self._soon

    def next(self) -> None:
        soon, self._soon = self._soon, []
        for call in soon:
            call()

    def takes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def turns() -> Turns:
    return Turns()


def reads(turns: Turns, each: float) -> int:
    """How many reads of so many seconds there is time for in this turn."""
    count = 0
    while turns.budget.begin():
        turns.takes(each)
        count += 1
        assert count < 100
    return count


def test_reads_of_one_turn_have_its_time_and_the_next_turn_has_as_much(turns: Turns) -> None:
    for _ in range(3):
        assert reads(turns, 0.0001) == 20
        assert not turns.budget.begin()
        turns.next()


def test_one_long_read_in_each_turn_is_always_there(turns: Turns) -> None:
    for _ in range(5):
        assert turns.budget.begin()
        turns.takes(1.0)
        turns.next()


def test_of_reads_that_take_longer_than_a_turn_may_there_are_two(turns: Turns) -> None:
    for _ in range(5):
        assert reads(turns, 1.0) <= 2
        turns.next()


def test_a_single_download_costs_no_call_of_the_loop(turns: Turns) -> None:
    """It reads once a turn, for a tenth of a millisecond, and the turns are hardly longer."""
    calls = 0
    for _ in range(100):
        assert turns.budget.begin()
        turns.takes(0.0003)
        calls += not turns.idle
        turns.next()
    assert calls < 50


def test_deferred_reads_come_in_their_order_in_the_next_turn(turns: Turns) -> None:
    done: list[int] = []
    for n in range(3):
        turns.budget.defer(lambda n=n: done.append(n))  # type: ignore[misc]
    assert done == []
    turns.next()
    assert done == [0, 1, 2]
    assert turns.idle
    assert not len(turns.budget)


def test_deferred_reads_have_the_time_of_one_turn_and_then_others_come(turns: Turns) -> None:
    done: list[int] = []

    def read(n: int) -> None:
        done.append(n)
        turns.takes(0.0005)

    for n in range(10):
        turns.budget.defer(lambda n=n: read(n))  # type: ignore[misc]
    turns.next()
    assert done == [0, 1, 2, 3]
    assert turns.budget.begin(), "what comes has time of its own"
    turns.next()
    turns.next()
    assert done == list(range(10))


def test_one_that_is_deferred_again_waits_for_a_later_turn(turns: Turns) -> None:
    done: list[str] = []

    def again() -> None:
        done.append("again")
        turns.budget.defer(again)

    turns.budget.defer(again)
    turns.budget.defer(lambda: done.append("other"))
    turns.next()
    assert done == ["again", "other"]
    turns.next()
    assert done == ["again", "other", "again"]


def test_a_deferred_read_may_be_long(turns: Turns) -> None:
    began: list[bool] = []
    reads(turns, PER_TURN)
    turns.budget.defer(lambda: began.append(turns.budget.begin()))
    turns.next()
    assert began == [True]


def test_only_so_many_sockets_are_read_from_again_in_one_turn(turns: Turns) -> None:
    """The loop reads them itself, which nobody can time."""
    most = round(PER_TURN / READ)
    assert sum(turns.budget.begin_to_listen() for _ in range(10 * most)) in (most, most + 1)
    turns.next()
    listening: list[int] = []
    for n in range(3 * most):
        turns.budget.defer(lambda n=n: turns.budget.begin_to_listen() and listening.append(n))  # type: ignore[misc]
    turns.next()
    assert most <= len(listening) <= most + 1


def test_a_connection_has_its_part_of_a_turn(turns: Turns) -> None:
    end = turns.budget.slice_end()
    assert not turns.budget.is_over(end)
    turns.takes(PER_CONNECTION)
    assert turns.budget.is_over(end)


def test_one_that_fails_stops_nobody(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    turns.budget.defer(lambda: done.append(1 // 0))
    turns.budget.defer(lambda: done.append(1))
    turns.next()
    assert done == [1]
    [record] = caplog.records
    assert record.code == "deferred_read_failed"  # type: ignore[attr-defined]
    assert reads(turns, 0.0001) == 20, "and it is no more the turn of deferred ones"
