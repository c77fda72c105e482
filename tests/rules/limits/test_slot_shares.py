"""Slots of an environment: when they are scarce, and how many one client may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.slot_shares import SlotLimits, SlotShares


@pytest.mark.parametrize(
    ("every", "part", "shared_from", "each"),
    [
        (10_000, 0.25, 5_000, 2_500),
        (100, 0.25, 50, 25),
        (100, 0.1, 50, 10),
        (10, 0.25, 5, 4),  # a browser has several connections
        (4, 0.25, 4, 4),  # so few are not shared out
        (1, 0.25, 1, 4),
        (100, 1.0, 100, 100),  # all of them for anybody
    ],
)
def test_limits(every: int, part: float, shared_from: int, each: int) -> None:
    limits = SlotLimits.of(every, part)
    assert (limits.every, limits.shared_from, limits.each) == (every, shared_from, each)
    assert limits.plenty < limits.shared_from


moves = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "b", b"c"])))


@given(moves)
def test_each_slot_counts_for_its_client_until_it_is_free(moves: list[tuple[int, str | bytes]]) -> None:
    """Each move frees a slot that is taken, or takes a free one."""
    shares, held = SlotShares([]), dict[int, str | bytes]()
    for slot, client in moves:
        if slot in held:
            shares.give_back(slot)
            del held[slot]
        else:
            shares.take(slot, client)
            held[slot] = client
        for who in ("a", "b", b"c"):
            assert shares.of(who) == sum(holder == who for holder in held.values())
        assert shares.of("") == 0, "somebody without a name may be anybody"
    for slot in held:
        shares.give_back(slot)
    assert len(shares) == 0
    assert shares.of("a") == 0


def test_slots_that_are_already_held_count() -> None:
    shares = SlotShares([(1, "a"), (2, "a"), (3, "b"), (4, "")])
    assert (shares.of("a"), shares.of("b")) == (2, 1)
    shares.give_back(4)
    shares.give_back(99)  # began before anybody counted, and was not found
    assert (shares.of("a"), shares.of("b")) == (2, 1)
