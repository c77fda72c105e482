"""When a background task is restarted, and which failures are logged."""

import pytest

from edge.rules.background_tasks import LONGEST_PAUSE, is_logged, restart_pause


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, LONGEST_PAUSE), (10_000, LONGEST_PAUSE)]
)
def test_pauses_double_up_to_a_bound(failures, pause):
    assert restart_pause(failures, 0.5) == pytest.approx(pause)


def test_pauses_have_a_jitter():
    assert restart_pause(4, 0.0) == pytest.approx(0.6)
    assert restart_pause(4, 1.0) == pytest.approx(1.0)


def test_failures_of_a_timer_are_logged_less_and_less_often():
    assert [n for n in range(1, 100) if is_logged(n)] == [1, 2, 4, 8, 16, 32, 64]
