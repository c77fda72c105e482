"""File descriptors are divided: every use gets some, however few there are, and none is assigned twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.fd_shares import FEW_OTHERS, MOST_LINGERING, DescriptorShares, needed, share_out
from edge.rules.settings import LimitSettings, PoolSettings


def shares(allowed: int | None, connections: int = 100_000, idle_total: int = 4096) -> DescriptorShares:
    return share_out(allowed, LimitSettings(connections=connections), PoolSettings(idle_total=idle_total))


def test_enough_descriptors() -> None:
    assert shares(None).clients == 100_000
    assert shares(needed(LimitSettings(), PoolSettings())).clients == 100_000
    assert shares(1 << 20) == (100_000, MOST_LINGERING, (1 << 20) - 256 - MOST_LINGERING - 100_000)


def test_one_too_few() -> None:
    assert shares(needed(LimitSettings(), PoolSettings()) - 1).clients < 100_000


def test_few_descriptors() -> None:
    """As many connections to backends as to clients: a request in flight needs one of each."""
    assert shares(200) == (64, 8, 64)
    assert sum(shares(200)) + FEW_OTHERS == 200


def test_fewer_clients_than_there_is_room_for_leave_the_rest_to_backends() -> None:
    assert shares(1024, connections=100).clients == 100
    assert shares(1024, connections=100).backends > 700


@given(st.integers(FEW_OTHERS + 8, 1 << 21), st.integers(1, 1 << 20), st.integers(32, 1 << 16))
def test_the_shares_never_exceed_the_limit(allowed: int, connections: int, idle_total: int) -> None:
    parts = shares(allowed, connections, idle_total)
    assert min(parts) >= 1
    assert sum(parts) <= allowed - FEW_OTHERS + 2
    assert parts.clients <= connections
    assert parts.lingering <= MOST_LINGERING


@pytest.mark.parametrize("allowed", [0, 1, 64])
def test_very_few_descriptors(allowed: int) -> None:
    assert shares(allowed) == (1, 1, 1)
