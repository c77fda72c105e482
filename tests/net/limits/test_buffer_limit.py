"""Buffers: bytes held for slow clients are counted, limited, and returned to the system."""

import logging

import pytest

from edge.net.limits.buffer_limit import AT_ONCE, SMALL, TRIM_AFTER, BufferLimit
from tests.support.fake_transports import FakeLoop

KIB = 1024


class Holder:
    def __init__(self, buffers, client="192.0.2.1", size=40 * KIB):
        self.buffers = buffers
        self.client = client
        self.held_bytes = size
        self.cut = False
        buffers.note(self)

    def resize(self, size):
        self.held_bytes = size
        self.buffers.note(self)

    def cut_off(self):
        self.cut = True


@pytest.fixture
def loop():
    return FakeLoop()


@pytest.fixture
def trimmed():
    return []


@pytest.fixture
def buffers(loop, trimmed):
    return BufferLimit(1000 * KIB, loop, loop.time, trim=trimmed.append)


def pass_of_sweep(buffers, loop, seconds=1.0):
    loop.pass_time(seconds)
    buffers.deadline_passed(loop.time())


def test_bytes_held(buffers):
    one, other = Holder(buffers), Holder(buffers, size=50 * KIB)
    assert buffers.held == 90 * KIB
    one.resize(10 * KIB)
    assert buffers.held == 60 * KIB
    one.resize(SMALL - 1)
    assert (buffers.held, len(buffers)) == (50 * KIB, 1)
    for _ in range(2):
        buffers.forget(other)
        buffers.forget(one)
    assert (buffers.held, len(buffers)) == (0, 0)


def test_the_client_that_holds_most_is_cut_off_and_it_is_logged(buffers, loop, caplog):
    modest = [Holder(buffers, client=f"192.0.2.{n}") for n in range(5)]
    heavy = [Holder(buffers, client="198.51.100.1") for _ in range(20)]
    loop.pass_time(0.0)
    assert buffers.held == 1000 * KIB
    assert buffers.cut == 0
    heavy.append(Holder(buffers, client="198.51.100.1"))
    loop.pass_time(0.0)
    assert not any(one.cut for one in modest)
    assert sum(one.cut for one in heavy) == buffers.cut == 4
    assert buffers.held == (26 - 4) * 40 * KIB <= 900 * KIB
    [line] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (line.code, line.limit, line.cut) == ("buffer_limit", 1000 * KIB, 4)


def test_no_cut_off_after_a_client_has_read_meanwhile(buffers, loop):
    holders = [Holder(buffers) for _ in range(26)]
    holders[3].held_bytes = 0
    loop.pass_time(0.0)
    assert not any(one.cut for one in holders)
    assert buffers.held == 1000 * KIB


def test_connections_of_unknown_clients(buffers, loop):
    """They may belong to any client, so each counts by itself."""
    large, small = Holder(buffers, client="", size=500 * KIB), [Holder(buffers, client="") for _ in range(13)]
    loop.pass_time(0.0)
    assert large.cut
    assert not any(one.cut for one in small)


def test_many_are_cut_off_a_few_at_a_time_and_a_failure_does_not_stop_the_others(buffers, loop, caplog):
    holders = [Holder(buffers, size=4 * KIB) for _ in range(10 * AT_ONCE)]

    def fails():
        raise RuntimeError("a fault")

    holders[0].cut_off = fails
    buffers.reconfigure(100 * KIB)
    Holder(buffers)
    turns = []
    while loop.timers:
        loop.timers.pop(0)[1]()
        turns.append(buffers.cut)
    assert max(later - earlier for earlier, later in zip([0, *turns], turns, strict=False)) <= AT_ONCE
    assert buffers.held <= 90 * KIB
    assert "a fault" in caplog.text


def test_sizes_are_updated_by_the_sweep(buffers, loop):
    one = Holder(buffers)
    one.held_bytes = 0
    pass_of_sweep(buffers, loop)
    assert buffers.held == 0


def test_memory_is_returned_when_no_more_is_being_freed(buffers, loop, trimmed):
    buffers.reconfigure(1 << 30)
    holders = [Holder(buffers, size=TRIM_AFTER) for _ in range(3)]
    pass_of_sweep(buffers, loop)
    for one in holders[:2]:
        one.resize(0)
        pass_of_sweep(buffers, loop)
        assert not trimmed, "memory was freed just now"
    pass_of_sweep(buffers, loop)
    assert trimmed == [0]
    pass_of_sweep(buffers, loop)
    assert trimmed == [0]
    holders[2].resize(TRIM_AFTER // 2)
    for _ in range(3):
        pass_of_sweep(buffers, loop)
    assert trimmed == [0], "too little to be worth it"


def test_log_events_of_many_cuts_are_limited(buffers, loop, caplog):
    for _ in range(50):
        Holder(buffers, size=2000 * KIB)
        loop.pass_time(0.1)
    assert buffers.cut == 50
    assert 1 <= len(caplog.records) <= 4
