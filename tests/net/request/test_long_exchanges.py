"""When a line is due for an exchange that lasts. The lines themselves: tests/scenes/test_long_exchanges.py."""

from edge.net.request.long_exchanges import is_due


def test_a_line_is_due_each_time_it_has_lasted_so_long_again() -> None:
    looks = [n * 2.5 for n in range(1, 13)]
    due = [age for age in looks if is_due(age, 2.5, 10.0)]
    assert due == [10.0, 20.0, 30.0]


def test_a_late_look_writes_one_line() -> None:
    assert is_due(35.0, 34.0, 10.0)
    assert not is_due(9.0, 100.0, 10.0)
