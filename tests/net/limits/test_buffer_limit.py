"""What is kept for slow clients is counted, bounded, and given back."""

import logging

import pytest

from edge.net.limits.buffer_limit import AT_ONCE, SMALL, SPREE, Buffers
from tests.support.fake_transports import FakeLoop

KIB = 1024


class Holder:
    def __init__(self, buffers, client="192.0.2.1", size=40 * KIB):
        self.buffers = buffers
        self.client = client
        self.held_bytes = size
        self.cut = False
        buffers.note(self)

    def becomes(self, size):
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
    return Buffers(1000 * KIB, loop, loop.time, trim=trimmed.append)


def look(buffers, loop, seconds=1.0):
    loop.pass_time(seconds)
    buffers.deadline_passed(loop.time())


def test_what_is_held_now(buffers):
    one, other = Holder(buffers), Holder(buffers, size=50 * KIB)
    assert buffers.held == 90 * KIB
    one.becomes(10 * KIB)
    assert buffers.held == 60 * KIB
    one.becomes(SMALL - 1)
    assert (buffers.held, len(buffers)) == (50 * KIB, 1)
    for _ in range(2):
        buffers.forget(other)
        buffers.forget(one)
    assert (buffers.held, len(buffers)) == (0, 0)


def test_the_greediest_are_cut_off_and_it_is_told(buffers, loop, caplog):
    modest = [Holder(buffers, client=f"192.0.2.{n}") for n in range(5)]
    greedy = [Holder(buffers, client="198.51.100.1") for _ in range(20)]
    loop.pass_time(0.0)
    assert buffers.held == 1000 * KIB
    assert buffers.cut == 0
    greedy.append(Holder(buffers, client="198.51.100.1"))
    loop.pass_time(0.0)
    assert not any(one.cut for one in modest)
    assert sum(one.cut for one in greedy) == buffers.cut == 4
    assert buffers.held == (26 - 4) * 40 * KIB <= 900 * KIB
    [line] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (line.code, line.limit, line.cut) == ("buffer_limit", 1000 * KIB, 4)


def test_who_has_read_meanwhile_is_not_cut_off(buffers, loop):
    holders = [Holder(buffers) for _ in range(26)]
    holders[3].held_bytes = 0
    loop.pass_time(0.0)
    assert not any(one.cut for one in holders)
    assert buffers.held == 1000 * KIB


def test_nobody_knows_whose_they_are(buffers, loop):
    """They may be anybody's: nobody pays for the others."""
    large, small = Holder(buffers, client="", size=500 * KIB), [Holder(buffers, client="") for _ in range(13)]
    loop.pass_time(0.0)
    assert large.cut
    assert not any(one.cut for one in small)


def test_many_are_cut_off_a_few_at_a_time_and_one_that_fails_takes_nobody_along(buffers, loop, caplog):
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


def test_what_was_taken_without_a_word_is_found(buffers, loop):
    one = Holder(buffers)
    one.held_bytes = 0
    look(buffers, loop)
    assert buffers.held == 0


def test_memory_is_given_back_when_those_that_leave_have_left(buffers, loop, trimmed):
    buffers.reconfigure(1 << 30)
    holders = [Holder(buffers, size=SPREE) for _ in range(3)]
    look(buffers, loop)
    for one in holders[:2]:
        one.becomes(0)
        look(buffers, loop)
        assert not trimmed, "somebody left just now"
    look(buffers, loop)
    assert trimmed == [0]
    look(buffers, loop)
    assert trimmed == [0]
    holders[2].becomes(SPREE // 2)
    for _ in range(3):
        look(buffers, loop)
    assert trimmed == [0], "too little to be worth it"


def test_floods_of_cuts_are_told_now_and_then(buffers, loop, caplog):
    for _ in range(50):
        Holder(buffers, size=2000 * KIB)
        loop.pass_time(0.1)
    assert buffers.cut == 50
    assert 1 <= len(caplog.records) <= 4
