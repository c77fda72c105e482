"""One timer checks all deadlines."""

from itertools import pairwise
from math import inf

from edge.net.deadline_sweep import AT_ONCE, DeadlineSweep
from tests.support.fake_transports import FakeLoop


class Member:
    def __init__(self, deadline, again=inf):
        self.deadline = deadline
        self.again = again
        self.called = []

    def deadline_passed(self, now):
        self.called.append(now)
        self.deadline = self.again


def test_a_passed_deadline_is_reported_once():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    soon, later, never = Member(1001.0), Member(1002.1), Member(inf)
    for member in (soon, later, never):
        deadline_sweep.add(member)
    deadline_sweep.start()
    loop.pass_time(0.9)
    assert not soon.called
    loop.pass_time(10.0)
    assert [len(member.called) for member in (soon, later, never)] == [1, 1, 0]
    assert 1001.0 <= soon.called[0] <= 1001.26
    assert 1002.1 <= later.called[0] <= 1002.36


def test_a_deadline_that_is_not_moved_is_reported_again():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    deadline_sweep.add(member := Member(1000.0, again=1000.0))
    deadline_sweep.start()
    loop.pass_time(1.0)
    assert len(member.called) == 4


def test_a_removed_member_is_not_called():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    deadline_sweep.add(member := Member(1000.0))
    deadline_sweep.discard(member)
    deadline_sweep.discard(member)
    deadline_sweep.start()
    loop.pass_time(1.0)
    assert not member.called


def test_members_may_come_and_go_meanwhile():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    other = Member(1000.0)

    class Busy(Member):
        def deadline_passed(self, now):
            super().deadline_passed(now)
            deadline_sweep.discard(self)
            deadline_sweep.add(other)

    deadline_sweep.add(Busy(1000.0))
    deadline_sweep.start()
    loop.pass_time(1.0)
    assert len(other.called) == 1


def test_stopped():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    deadline_sweep.add(member := Member(1000.0))
    deadline_sweep.start()
    deadline_sweep.stop()
    deadline_sweep.stop()
    loop.pass_time(1.0)
    assert not member.called
    assert not loop.timers


def test_a_failure_does_not_affect_other_members(caplog):
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)

    class Faulty(Member):
        def deadline_passed(self, now):
            super().deadline_passed(now)
            raise RuntimeError("a fault")

    members = [Faulty(1000.0), Member(1000.0), Member(1001.0)]
    for member in members:
        deadline_sweep.add(member)
    deadline_sweep.start()
    loop.pass_time(2.0)
    assert [len(member.called) for member in members] == [1, 1, 1]
    assert "a fault" in caplog.text


def test_many_passed_deadlines_are_reported_a_few_at_a_time():
    """Spread over the period, each before its end; a member removed meanwhile is not called."""
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    members = [Member(1000.0) for _ in range(50 * AT_ONCE)]
    for member in members:
        deadline_sweep.add(member)
    deadline_sweep.start()
    loop.pass_time(0.25)
    called = [sum(len(member.called) for member in members)]
    left = next(member for member in members if not member.called)
    deadline_sweep.discard(left)
    for _ in range(10):
        loop.pass_time(0.025)
        called.append(sum(len(member.called) for member in members))
    assert called[0] == AT_ONCE
    assert max(later - earlier for earlier, later in pairwise(called)) <= 6 * AT_ONCE
    assert not left.called
    assert all(len(member.called) == 1 for member in members if member is not left)


def test_sockets_are_read_before_deadlines_after_a_standstill():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    deadline_sweep.add(moved := Member(1001.0))
    deadline_sweep.add(silent := Member(1001.0))
    deadline_sweep.start()
    loop.now += 3.0  # the process stood still; bytes that arrived are read after the timers
    loop.pass_time(0.1)
    assert not moved.called
    assert not silent.called
    moved.deadline = inf
    loop.pass_time(0.3)
    assert not moved.called
    assert len(silent.called) == 1


def test_deadlines_are_reported_even_in_a_permanent_standstill():
    deadline_sweep = DeadlineSweep(loop := FakeLoop(), 0.25)
    deadline_sweep.add(member := Member(1000.0, again=1000.0))
    deadline_sweep.start()
    for _ in range(10):
        loop.now += 3.0
        loop.pass_time(0.0)
    assert len(member.called) == 5
