"""An accept queue is stuck when it does not become shorter for a while, until it has been empty for long."""

from collections.abc import Sequence

from edge.rules.stuck_queue import StuckQueueDetector

Seen = Sequence[tuple[float, int]]


def changes(seen: Seen) -> list[tuple[float, bool]]:
    """The times at which it became stuck or was no longer stuck."""
    watch = StuckQueueDetector(timeout=2.0, calm=10.0)
    return [(now, watch.is_stuck) for now, length in seen if watch.look(length, now)]


def steadily(*lengths: int, start: float = 0.0) -> Seen:
    """These lengths, sampled every half second."""
    return [(start + n / 2, length) for n, length in enumerate(lengths)]


def test_a_queue_that_stays_as_it_is_or_grows_is_stuck() -> None:
    assert changes(steadily(1, 1, 1, 1, 1, 1)) == [(2.0, True)]
    assert changes(steadily(7, 9, 12, 12, 300, 301)) == [(2.0, True)]


def test_a_queue_that_becomes_shorter_or_empty_is_not_stuck() -> None:
    assert changes(steadily(*range(40, 0, -1))) == []
    assert changes(steadily(*[3, 5, 4, 0] * 20)) == []
    assert changes(steadily(*[0] * 40)) == []


def test_a_busy_queue_whose_connections_are_accepted_is_not_stuck() -> None:
    watch = StuckQueueDetector(timeout=2.0, calm=10.0)
    assert not any(watch.look(2, n / 2, accepted=100.0 * n) for n in range(40))
    assert [watch.look(2, 20.0 + n / 2, accepted=4000.0) for n in range(6)].count(True) == 1, (
        "now nobody is accepted"
    )


def test_becoming_shorter_restarts_the_timeout() -> None:
    assert changes(steadily(9, 9, 9, 5, 6, 6, 6, 6)) == [(3.5, True)]


def test_it_ends_when_the_queue_was_empty_for_long() -> None:
    stuck = steadily(4, 4, 4, 4, 4)
    assert changes([*stuck, *steadily(*[0] * 21, start=2.5)]) == [(2.0, True), (12.5, False)]
    again = steadily(*[0] * 19, 1, *[0] * 20, start=2.5)
    assert changes([*stuck, *again]) == [(2.0, True)], "somebody waited meanwhile"


def test_it_may_be_stuck_again() -> None:
    seen = [*steadily(4, 4, 4, 4, 4), *steadily(*[0] * 21, start=2.5), *steadily(2, 2, 2, 2, 2, start=20.0)]
    assert changes(seen) == [(2.0, True), (12.5, False), (22.0, True)]


def test_a_new_worker_counts_what_it_accepts_from_zero() -> None:
    watch = StuckQueueDetector(timeout=2.0, calm=10.0)
    assert not any(watch.look(2, n / 2, accepted=1000.0 + 100.0 * n) for n in range(4))
    assert not any(watch.look(2, 2.0 + n / 2, accepted=100.0 * n) for n in range(40))
