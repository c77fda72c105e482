"""The idle timeout of a backend is learned from when it closes connections."""

from math import inf

import pytest

from edge.rules.limits.idle_lifetimes import GROWTH, SHORTEST, IdleLifetimes


@pytest.mark.parametrize(("age", "limit"), [(5.0, 4.0), (75.0, 74.0), (2.0, 1.6), (0.6, 0.5)])
def test_the_limit_is_a_little_less_than_the_age_of_the_closed_connection(age: float, limit: float) -> None:
    lifetimes = IdleLifetimes()
    lifetimes.record_close("a", age)
    assert lifetimes.limit("a") == pytest.approx(limit)
    assert lifetimes.limit("b") == inf


def test_an_immediate_close_changes_nothing() -> None:
    lifetimes = IdleLifetimes()
    lifetimes.record_close("a", SHORTEST - 0.1)
    assert lifetimes.limit("a") == inf


def test_after_a_restart_the_limit_grows_again() -> None:
    """A restart closes all connections of a backend, whatever their age."""
    lifetimes, life, closed = IdleLifetimes(), 5.0, 0
    lifetimes.record_close("a", 0.7)
    for _ in range(1000):
        if lifetimes.limit("a") < life:
            lifetimes.record_survival("a")
        else:
            lifetimes.record_close("a", life)
            closed += 1
    assert 3.9 < lifetimes.limit("a") <= life * GROWTH
    assert closed < 1000 / 8, "it tries to keep them for longer, but seldom"


def test_the_table_is_bounded() -> None:
    lifetimes = IdleLifetimes(capacity=3)
    for n in range(10):
        lifetimes.record_close(f"{n}", 5.0)
    assert [lifetimes.limit(f"{n}") for n in range(10)] == [inf] * 7 + [4.0] * 3
