"""The pending queue: a few requests wait for a slot, the longest waiting first."""

import pytest

from edge.rules.balancing.pending_queue import SHORTEST_POLL, PendingQueue, poll_after, queue_admits
from edge.rules.settings import RetrySettings


class Request:
    """A waiter that records when it is woken."""

    def __init__(self, name: str, woken: list[str]) -> None:
        self._name, self._woken = name, woken

    def woken(self) -> None:
        self._woken.append(self._name)


@pytest.mark.parametrize(
    ("backends", "waiting", "admitted"),
    [(1, 0, True), (1, 1, False), (4, 3, True), (4, 4, False), (5, 0, False)],
)
def test_in_a_small_pool_as_many_may_wait_as_it_has_backends(backends: int, waiting: int, admitted: bool) -> None:
    room = PendingQueue()
    for n in range(waiting):
        room.enter(Request(str(n), []))
    assert queue_admits(backends, room.queued, RetrySettings(queue_backends=4)) == admitted


def test_the_longest_waiting_is_woken_first_and_each_once() -> None:
    room, woken = PendingQueue(), list[str]()
    for name in "abc":
        room.enter(Request(name, woken))
    for _ in range(5):
        room.wake()
    assert woken == ["a", "b", "c"]


def test_one_that_left_is_not_woken() -> None:
    room, woken = PendingQueue(), list[str]()
    left = Request("a", woken)
    room.leave(left)  # it never came
    for waiter in (left, Request("b", woken)):
        room.enter(waiter)
    room.leave(left)
    room.leave(left)
    room.wake()
    assert woken == ["b"]


@pytest.mark.parametrize(
    ("usual", "left", "seconds"),
    [(1.0, 9.0, 0.5), (0.001, 9.0, SHORTEST_POLL), (60.0, 2.0, 2.0), (0.001, 0.01, 0.01)],
)
def test_it_polls_after_half_of_the_usual_response_time(usual: float, left: float, seconds: float) -> None:
    assert poll_after(usual, left) == seconds
