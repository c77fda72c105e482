"""One timer looks at all deadlines."""

from itertools import pairwise
from math import inf

from edge.net.sweep import AT_ONCE, Sweep
from tests.support.fake_transports import FakeLoop


class Member:
    def __init__(self, due, again=inf):
        self.due = due
        self.again = again
        self.called = []

    def late(self, now):
        self.called.append(now)
        self.due = self.again


def test_each_is_told_once_and_not_before():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    soon, later, never = Member(1001.0), Member(1002.1), Member(inf)
    for member in (soon, later, never):
        sweep.add(member)
    sweep.start()
    loop.pass_time(0.9)
    assert not soon.called
    loop.pass_time(10.0)
    assert [len(member.called) for member in (soon, later, never)] == [1, 1, 0]
    assert 1001.0 <= soon.called[0] <= 1001.26
    assert 1002.1 <= later.called[0] <= 1002.36


def test_one_that_stays_due_is_told_again():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    sweep.add(member := Member(1000.0, again=1000.0))
    sweep.start()
    loop.pass_time(1.0)
    assert len(member.called) == 4


def test_one_that_left_is_not_told():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    sweep.add(member := Member(1000.0))
    sweep.discard(member)
    sweep.discard(member)
    sweep.start()
    loop.pass_time(1.0)
    assert not member.called


def test_members_may_come_and_go_meanwhile():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    other = Member(1000.0)

    class Busy(Member):
        def late(self, now):
            super().late(now)
            sweep.discard(self)
            sweep.add(other)

    sweep.add(Busy(1000.0))
    sweep.start()
    loop.pass_time(1.0)
    assert len(other.called) == 1


def test_stopped():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    sweep.add(member := Member(1000.0))
    sweep.start()
    sweep.stop()
    sweep.stop()
    loop.pass_time(1.0)
    assert not member.called
    assert not loop.timers


def test_one_that_fails_takes_nobody_along(caplog):
    sweep = Sweep(loop := FakeLoop(), 0.25)

    class Faulty(Member):
        def late(self, now):
            super().late(now)
            raise RuntimeError("a fault")

    members = [Faulty(1000.0), Member(1000.0), Member(1001.0)]
    for member in members:
        sweep.add(member)
    sweep.start()
    loop.pass_time(2.0)
    assert [len(member.called) for member in members] == [1, 1, 1]
    assert "a fault" in caplog.text


def test_when_many_are_late_they_are_told_a_few_at_a_time():
    """All over the period, and each before it ends; who left meanwhile is not told."""
    sweep = Sweep(loop := FakeLoop(), 0.25)
    members = [Member(1000.0) for _ in range(50 * AT_ONCE)]
    for member in members:
        sweep.add(member)
    sweep.start()
    loop.pass_time(0.25)
    told = [sum(len(member.called) for member in members)]
    left = next(member for member in members if not member.called)
    sweep.discard(left)
    for _ in range(10):
        loop.pass_time(0.025)
        told.append(sum(len(member.called) for member in members))
    assert told[0] == AT_ONCE
    assert max(later - earlier for earlier, later in pairwise(told)) <= 6 * AT_ONCE
    assert not left.called
    assert all(len(member.called) == 1 for member in members if member is not left)


def test_who_spoke_while_we_stood_still_is_heard_before_it_is_judged():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    sweep.add(heard := Member(1001.0))
    sweep.add(silent := Member(1001.0))
    sweep.start()
    loop.now += 3.0  # nothing ran; what came meanwhile is read behind the timers
    loop.pass_time(0.1)
    assert not heard.called
    assert not silent.called
    heard.due = inf
    loop.pass_time(0.3)
    assert not heard.called
    assert len(silent.called) == 1


def test_one_that_stands_still_all_the_time_judges_all_the_same():
    sweep = Sweep(loop := FakeLoop(), 0.25)
    sweep.add(member := Member(1000.0, again=1000.0))
    sweep.start()
    for _ in range(10):
        loop.now += 3.0
        loop.pass_time(0.0)
    assert len(member.called) == 5
