"""ReadBudget: which reads may begin in a turn, and in which order the deferred ones follow."""

from collections.abc import Callable

import pytest

from edge.net.transport.read_budget import READ, ReadBudget

PER_TURN, PER_CONNECTION = 0.002, 0.0005


class Turns:
    """A loop whose turns the test takes, and a clock that only the test advances."""

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
        """Whether no callback is scheduled."""
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
    """The number of reads, of `each` seconds, that may begin in this turn."""
    count = 0
    while turns.budget.begin():
        turns.takes(each)
        count += 1
        assert count < 100
    return count


def test_each_turn_has_the_same_time_for_reads(turns: Turns) -> None:
    for _ in range(3):
        assert reads(turns, 0.0001) == 20
        assert not turns.budget.begin()
        turns.next()


def test_one_long_read_may_always_begin_in_a_turn(turns: Turns) -> None:
    for _ in range(5):
        assert turns.budget.begin()
        turns.takes(1.0)
        turns.next()


def test_at_most_two_reads_that_exceed_the_time_of_a_turn(turns: Turns) -> None:
    for _ in range(5):
        assert reads(turns, 1.0) <= 2
        turns.next()


def test_a_single_download_schedules_few_callbacks(turns: Turns) -> None:
    """It reads once in each turn, for 0.3 ms, and the turns are hardly longer."""
    calls = 0
    for _ in range(100):
        assert turns.budget.begin()
        turns.takes(0.0003)
        calls += not turns.idle
        turns.next()
    assert calls < 50


def test_deferred_reads_continue_in_order_in_the_next_turn(turns: Turns) -> None:
    done: list[int] = []
    for n in range(3):
        turns.budget.defer(lambda n=n: done.append(n))  # type: ignore[misc]
    assert done == []
    turns.next()
    assert done == [0, 1, 2]
    assert turns.idle
    assert not len(turns.budget)


def test_deferred_reads_are_bounded_by_the_time_of_one_turn(turns: Turns) -> None:
    done: list[int] = []

    def read(n: int) -> None:
        done.append(n)
        turns.takes(0.0005)

    for n in range(10):
        turns.budget.defer(lambda n=n: read(n))  # type: ignore[misc]
    turns.next()
    assert done == [0, 1, 2, 3]
    assert turns.budget.begin(), "new reads have time of their own"
    turns.next()
    turns.next()
    assert done == list(range(10))


def test_a_read_deferred_again_is_left_to_a_later_turn(turns: Turns) -> None:
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


def test_reading_is_resumed_on_few_sockets_in_one_turn(turns: Turns) -> None:
    """The loop reads them itself, in time that cannot be measured."""
    most = round(PER_TURN / READ)
    assert sum(turns.budget.begin_resuming() for _ in range(10 * most)) in (most, most + 1)
    turns.next()
    listening: list[int] = []
    for n in range(3 * most):
        turns.budget.defer(lambda n=n: turns.budget.begin_resuming() and listening.append(n))  # type: ignore[misc]
    turns.next()
    assert most <= len(listening) <= most + 1


def test_time_of_one_connection_in_a_turn(turns: Turns) -> None:
    end = turns.budget.slice_end()
    assert not turns.budget.is_over(end)
    turns.takes(PER_CONNECTION)
    assert turns.budget.is_over(end)


def test_a_failed_read_does_not_stop_the_others(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    turns.budget.defer(lambda: done.append(1 // 0))
    turns.budget.defer(lambda: done.append(1))
    turns.next()
    assert done == [1]
    [record] = caplog.records
    assert record.code == "deferred_read_failed"  # type: ignore[attr-defined]
    assert reads(turns, 0.0001) == 20, "the deferred reads are over"


def test_who_stays_behind_what_is_deferred_has_no_time_of_its_own(turns: Turns) -> None:
    done: list[str] = []

    def read() -> None:
        done.append("deferred")
        assert turns.budget.begin_behind_deferred(), "its turn has come"
        turns.takes(PER_TURN)

    assert turns.budget.begin_behind_deferred(), "nothing is deferred"
    turns.budget.defer(read)
    turns.budget.defer(read)
    for _ in range(2):
        assert not turns.budget.begin_behind_deferred()
        turns.next()
    assert done == ["deferred", "deferred"]
    assert turns.budget.begin_behind_deferred()
