"""The rate limit of one kind of event, and the count of events left out."""

from edge.rules.event_rate_limit import EventBudget


def test_a_burst_is_written_and_the_rest_is_counted() -> None:
    budget = EventBudget(per_second=5.0, burst=20.0)
    written = [budget.take(100.0) for _ in range(1000)]
    assert written.count(0) == 20
    assert written.count(None) == 980
    assert budget.take(100.3) == 980, "one more after a fifth of a second"
    assert budget.take(100.3) is None


def test_the_rate_over_time() -> None:
    budget = EventBudget(per_second=5.0, burst=20.0)
    written = sum(budget.take(n / 100) is not None for n in range(10_000))
    assert 515 <= written <= 521, "100 s"


def test_no_tokens_without_time() -> None:
    budget = EventBudget(per_second=5.0, burst=1.0)
    assert budget.take(7.0) == 0
    assert budget.take(7.0) is None
