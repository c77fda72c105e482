"""Time slices: share of the loop, pauses, and failures."""

import asyncio

import pytest

from edge.net.time_slices import TimeSlices
from tests.support.virtual_time import virtually


class Clock:
    """A clock that advances at each read."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def counted(done, name, steps):
    for _ in range(steps):
        done.append(name)
        yield


async def turn():
    await asyncio.sleep(0)


async def test_a_slice_ends_when_its_time_is_over():
    done, slices = [], TimeSlices(budget=0.001, pause=0.0, longest_pause=0.0, clock=Clock(0.0004))
    slices.add(counted(done, "a", 1000))
    before, slices_done = 0, []
    while len(slices_done) < 5:
        await turn()
        if len(done) > before:
            slices_done.append(len(done) - before)
            before = len(done)
    assert set(slices_done) == {48}, "sixteen steps between two reads of the clock, and three of them"
    slices.close()
    for _ in range(3):
        await turn()
    assert len(done) == before


async def test_short_work_is_done_in_one_turn_and_nothing_is_left():
    done, slices = [], TimeSlices(clock=lambda: 0.0)
    slices.add(counted(done, "a", 1000))
    slices.add(counted(done, "b", 1000))
    await turn()
    assert len(done) == 2000
    slices.add(counted(done, "c", 1))
    await turn()
    assert len(done) == 2001


async def test_work_is_done_round_robin():
    done, slices = [], TimeSlices(pause=0.0, longest_pause=0.0, clock=Clock(0.0004))
    slices.add(counted(done, "long", 10_000))
    slices.add(counted(done, "short", 20))
    for _ in range(3):
        await turn()
    assert done.count("short") == 20
    slices.close()


async def test_between_two_slices_there_is_a_pause(monkeypatch):
    loop, waits = asyncio.get_running_loop(), []
    call_later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *what: waits.append(delay) or call_later(0, *what))
    done, slices = [], TimeSlices(budget=0.001, pause=0.25, clock=Clock(0.001))
    slices.add(counted(done, "a", 40))
    for _ in range(8):
        await turn()
    assert len(done) == 40
    assert waits == [0.25, 0.25], "no pause after the last slice"


def slices_in_a_second(standstill):
    """The number of slices when the process stands still for so long after each millisecond."""
    begun = []

    async def play():
        loop = asyncio.get_running_loop()

        def work():
            while True:
                begun.append(loop.time())
                yield from range(16)

        def stand_still():
            loop.stand_still(standstill)
            loop.call_later(0.001, stand_still)

        slices = TimeSlices(pause=0.002, longest_pause=0.05, clock=Clock(0.001))
        slices.add(work())
        stand_still()
        await asyncio.sleep(1.0)
        slices.close()

    virtually(play())
    return len(begun)


def test_the_pause_after_a_late_slice_is_longer():
    """The loop or the machine is busy."""
    assert 400 <= slices_in_a_second(0.0) <= 510
    assert 60 <= slices_in_a_second(0.005) <= 120
    assert 12 <= slices_in_a_second(0.05) <= 25


@pytest.mark.parametrize("position", [0, 1])
async def test_failed_work_is_logged_and_other_work_continues(caplog, position):
    def failing():
        yield
        raise ZeroDivisionError

    done, slices = [], TimeSlices(pause=0.0, longest_pause=0.0, clock=Clock(0.0004))
    works = [counted(done, "a", 100)]
    works.insert(position, failing())
    for work in works:
        slices.add(work)
    for _ in range(20):
        await turn()
    assert len(done) == 100
    [record] = caplog.records
    assert (record.levelname, record.code) == ("ERROR", "background_work_failed")
