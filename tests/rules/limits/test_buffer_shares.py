"""Which buffers are dropped when all together are too large."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.buffer_shares import fair_level, over_their_share


@pytest.mark.parametrize(
    ("sums", "room", "level"),
    [
        ([], 10, inf),
        ([3, 4, 3], 10, inf),
        ([30], 10, 10),
        ([1, 2, 30], 10, 7),
        ([10, 10, 10, 10], 20, 5),
        ([1, 20, 20], 11, 5),
    ],
)
def test_the_fair_level(sums: list[int], room: int, level: float) -> None:
    assert fair_level(sums, room) == level


def test_the_client_that_holds_most_loses_buffers_first() -> None:
    """Not the client with the largest single buffer."""
    many = [("greedy", 10, f"g{n}") for n in range(100)]
    few = [("modest", 60, "m0"), ("small", 10, "s0")]
    assert over_their_share([*few, *many], 600) == [f"g{n}" for n in range(47)]


def test_the_largest_buffers_of_a_client_are_dropped_first() -> None:
    assert over_their_share([("a", 1, "small"), ("a", 50, "large"), ("a", 9, "middle")], 12) == ["large"]


buffers = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 100), st.integers()), max_size=40)


@given(buffers, st.integers(0, 1000))
def test_the_rest_fits_and_no_other_client_loses_buffers(buffers: list[tuple[str, int, int]], room: int) -> None:
    numbered = [(client, size, number) for number, (client, size, _) in enumerate(buffers)]
    gone = set(over_their_share(numbered, room))
    left = dict.fromkeys("abcdef", 0)
    held = dict.fromkeys("abcdef", 0)
    for client, size, number in numbered:
        held[client] += size
        left[client] += 0 if number in gone else size
    assert sum(left.values()) <= room
    if sum(held.values()) <= room:
        assert not gone
    level = fair_level(held.values(), room)
    assert all(left[client] == held[client] for client in held if held[client] <= level)
