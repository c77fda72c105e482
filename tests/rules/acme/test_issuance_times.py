"""When certificates are renewed, and failed orders tried again."""

import pytest

from edge.rules.acme.issuance_times import (
    ARI_PERIOD,
    DAY,
    HOUR,
    LONGEST_ARI,
    LONGEST_PAUSE,
    LONGEST_RETRY,
    MINUTE,
    MOST_RETRY_AFTER,
    SHORTEST_ARI,
    authority_pause,
    next_renewal_check,
    renewal_time,
    retry_pause,
    time_in_window,
)


@pytest.mark.parametrize(
    ("failures", "rand", "retry_after", "seconds"),
    [
        (1, 0.5, 0.0, 5 * MINUTE),
        (2, 0.5, 0.0, 10 * MINUTE),
        (4, 0.5, 0.0, 40 * MINUTE),
        (1, 0.0, 0.0, 3.75 * MINUTE),
        (1, 1.0, 0.0, 6.25 * MINUTE),
        (9, 0.5, 0.0, LONGEST_RETRY),
        (10_000, 0.5, 0.0, LONGEST_RETRY),
        (1, 0.5, HOUR, HOUR),
        (1, 0.5, 1.0, 5 * MINUTE),
        (1, 0.5, 1e9, MOST_RETRY_AFTER),
    ],
)
def test_a_failed_order(failures, rand, retry_after, seconds):
    assert retry_pause(failures, rand, retry_after) == pytest.approx(seconds)


def test_no_more_failed_proofs_in_an_hour_than_lets_encrypt_allows():
    at, tries = 0.0, [0.0]
    for failures in range(1, 10):
        at += retry_pause(failures, 0.0)
        tries.append(at)
    assert max(sum(start <= other < start + HOUR for other in tries) for start in tries) <= 5


@pytest.mark.parametrize(
    ("failures", "retry_after", "seconds"),
    [
        (1, 0.0, 2.0),
        (2, 0.0, 4.0),
        (5, 0.0, 32.0),
        (50, 0.0, LONGEST_PAUSE),
        (1, 90.0, 90.0),
        (1, 1e9, MOST_RETRY_AFTER),
    ],
)
def test_an_authority_that_fails(failures, retry_after, seconds):
    assert authority_pause(failures, 0.5, retry_after) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("not_before", "not_after", "rand", "at"),
    [
        (0.0, 90 * DAY, 0.0, 60 * DAY),
        (0.0, 90 * DAY, 1.0, 63 * DAY),
        (10 * DAY, 16 * DAY, 0.0, 14 * DAY),
        (5.0, 5.0, 0.5, 5.0),
        (5.0, 1.0, 0.5, 5.0),
    ],
)
def test_by_age(not_before, not_after, rand, at):
    assert renewal_time(not_before, not_after, rand) == pytest.approx(at)


@pytest.mark.parametrize(
    ("window", "rand", "at"),
    [
        ((100.0, 200.0), 0.0, 100.0),
        ((100.0, 200.0), 0.5, 150.0),
        ((100.0, 900.0), 1.0, 500.0),
        ((9.0, 9.0), 1.0, 9.0),
    ],
)
def test_in_the_window_that_the_authority_suggests(window, rand, at):
    assert time_in_window(*window, rand, 500.0) == at


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(None, ARI_PERIOD), (HOUR, HOUR), (0.0, SHORTEST_ARI), (1e9, LONGEST_ARI)],
)
def test_the_next_check(retry_after, seconds):
    assert next_renewal_check(1000.0, retry_after) == 1000.0 + seconds
