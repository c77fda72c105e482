"""The refusal ladder as a table, and the budgets that bound the retries of many refusals."""

import pytest

from edge.rules.balancing.retries import RetryBudget, TokenBucket, may_follow, worst_cause
from edge.rules.outcomes import Cause, Retry
from edge.rules.settings import RetrySettings

YES, NO = True, False

LADDER = {
    #                   (safe, replayable, failed before): may follow
    Retry.ANY: {
        (YES, YES, NO): YES,
        (YES, YES, YES): YES,
        (NO, YES, NO): YES,
        (NO, YES, YES): YES,
        # An earlier attempt sent what cannot be sent again.
        (YES, NO, NO): NO,
        (YES, NO, YES): NO,
        (NO, NO, NO): NO,
        (NO, NO, YES): NO,
    },
    Retry.UNPROCESSED: {
        (YES, YES, NO): YES,
        (YES, YES, YES): YES,
        (NO, YES, NO): YES,
        (NO, YES, YES): YES,
        (YES, NO, NO): NO,
        (YES, NO, YES): NO,
        (NO, NO, NO): NO,
        (NO, NO, YES): NO,
    },
    Retry.SAFE_ONLY: {
        (YES, YES, NO): YES,
        (YES, YES, YES): NO,
        (NO, YES, NO): NO,
        (NO, YES, YES): NO,
        (YES, NO, NO): NO,
        (YES, NO, YES): NO,
        (NO, NO, NO): NO,
        (NO, NO, YES): NO,
    },
    Retry.NEVER: {
        (YES, YES, NO): NO,
        (YES, YES, YES): NO,
        (NO, YES, NO): NO,
        (NO, YES, YES): NO,
        (YES, NO, NO): NO,
        (YES, NO, YES): NO,
        (NO, NO, NO): NO,
        (NO, NO, YES): NO,
    },
}


def a_bucket(*, per_request: float = 0.0, per_second: float = 0.0, cap: float = 10.0) -> TokenBucket:
    return TokenBucket(per_request=per_request, per_second=per_second, cap=cap, now=0.0)


def taken(bucket: TokenBucket, requests: int, now: float) -> int:
    """How many tokens can be taken at once."""
    count = 0
    while bucket.take(requests, now):
        count += 1
    return count


# The ladder


def test_the_table_is_whole() -> None:
    assert LADDER.keys() == set(Retry)
    assert all(len(row) == 8 for row in LADDER.values())


@pytest.mark.parametrize(
    ("retry", "safe", "replayable", "failed_before", "expected"),
    [
        pytest.param(
            retry,
            *case,
            expected,
            id=" ".join(
                [
                    retry.value,
                    "safe" if case[0] else "unsafe",
                    "replayable" if case[1] else "gone",
                    "second" if case[2] else "first",
                ]
            ),
        )
        for retry, row in LADDER.items()
        for case, expected in row.items()
    ],
)
def test_the_ladder(retry: Retry, safe: bool, replayable: bool, failed_before: bool, expected: bool) -> None:
    assert may_follow(retry, safe=safe, replayable=replayable, failed_before=failed_before) is expected


@pytest.mark.parametrize(
    ("causes", "reported"),
    [
        ([Cause.CONNECT_FAILED], Cause.CONNECT_FAILED),
        ([Cause.CONNECT_FAILED, Cause.CLOSED_EARLY], Cause.CLOSED_EARLY),
        ([Cause.REFUSED, Cause.CONNECT_FAILED], Cause.REFUSED),
        ([Cause.CONNECT_FAILED, Cause.REFUSED], Cause.REFUSED),
    ],
)
def test_the_cause_that_is_reported_after_several_failures(causes: list[Cause], reported: Cause) -> None:
    assert worst_cause(causes) is reported


# The bucket


def test_a_bucket_starts_full_and_runs_dry() -> None:
    assert taken(a_bucket(cap=3.0), 0, 0.0) == 3


def test_it_fills_with_requests() -> None:
    bucket = a_bucket(per_request=0.1)
    assert taken(bucket, 0, 0.0) == 10
    assert not bucket.take(9, 0.0)
    assert bucket.take(10, 0.0)
    assert not bucket.take(10, 0.0)


def test_it_fills_with_time() -> None:
    bucket = a_bucket(per_second=2.0)
    taken(bucket, 0, 0.0)
    assert not bucket.take(0, 0.25)
    assert bucket.take(0, 0.5)
    assert taken(bucket, 0, 2.5) == 4


def test_it_fills_with_both() -> None:
    bucket = a_bucket(per_request=0.5, per_second=0.5)
    taken(bucket, 0, 0.0)
    assert bucket.tokens(3, 3.0) == pytest.approx(3.0)


def test_it_never_holds_more_than_its_cap() -> None:
    bucket = a_bucket(per_request=1.0, per_second=1.0, cap=5.0)
    assert bucket.tokens(10**6, 10**6) == 5.0
    assert taken(bucket, 10**6, 10**6) == 5


def test_reading_takes_nothing_and_counts_nothing_twice() -> None:
    bucket = a_bucket(per_request=0.5)
    taken(bucket, 0, 0.0)
    for _ in range(10):
        assert bucket.tokens(1, 0.0) == 0.5
    assert not bucket.take(1, 0.0)
    assert not bucket.take(1, 0.0)
    assert bucket.take(2, 0.0)


def test_a_cap_below_one_allows_nothing() -> None:
    assert not a_bucket(per_request=1.0, per_second=1.0, cap=0.9).take(100, 100.0)


# The budget


@pytest.mark.parametrize(
    ("retry", "at_once", "later"),
    [(Retry.ANY, 100, 50), (Retry.UNPROCESSED, 100, 50), (Retry.SAFE_ONLY, 100, 5)],
)
def test_defaults_of_the_two_budgets(retry: Retry, at_once: int, later: int) -> None:
    budget = RetryBudget(RetrySettings(), 0.0)

    def spent(requests: int, now: float) -> int:
        count = 0
        while budget.take_token(retry, requests, now):
            count += 1
        return count

    assert spent(0, 0.0) == at_once
    assert spent(40, 1.0) == later  # by requests and by time: 40 + 10, 4 + 1
    assert budget.exhausted == 2


def test_the_two_budgets_are_apart() -> None:
    budget = RetryBudget(RetrySettings(), 0.0)
    while budget.take_token(Retry.SAFE_ONLY, 0, 0.0):
        pass
    assert budget.take_token(Retry.UNPROCESSED, 0, 0.0)
    while budget.take_token(Retry.UNPROCESSED, 0, 0.0):
        pass
    assert not budget.take_token(Retry.ANY, 0, 0.0)


@pytest.mark.parametrize(
    ("retry", "tries"),
    [pytest.param(Retry.UNPROCESSED, 2.2, id="refusals"), pytest.param(Retry.SAFE_ONLY, 1.15, id="failures")],
)
def test_a_storm_of_failures_stays_small(retry: Retry, tries: float) -> None:
    """Three times the load that the containers take, 300 requests a second for a minute, all of them failing;
    five attempts each would be 90,000."""
    budget, settings = RetryBudget(RetrySettings(), 0.0), RetrySettings()
    requests = attempts = 0
    while requests < 300 * 60:
        requests += 1
        attempts += 1
        for _ in range(settings.attempts - 1):
            if not budget.take_token(retry, requests, requests / 300):
                break
            attempts += 1
    assert 1.0 < attempts / requests < tries


def test_a_little_traffic_may_always_retry() -> None:
    budget = RetryBudget(RetrySettings(), 0.0)
    for n in range(200):
        assert all(budget.take_token(Retry.UNPROCESSED, n, n * 1.0) for _ in range(4))
        assert budget.take_token(Retry.SAFE_ONLY, n, n * 1.0)
