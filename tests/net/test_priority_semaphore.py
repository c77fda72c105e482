"""The semaphore with priorities: bounds, order, cancellation."""

import asyncio

import pytest

from edge.net.priority_semaphore import PrioritySemaphore
from tests.support.fake_transports import turns

ALL = (1.0, 1.0, 1.0)


class Line:
    """Waiters that record the order of their slots; each holds its slot until it is released."""

    def __init__(self, limit, shares=ALL):
        self.semaphore = PrioritySemaphore(limit, shares=shares)
        self.had = []
        self.gates = {}
        self.tasks = {}

    def start(self, name, priority=1):
        async def hold():
            async with self.semaphore.slot(priority):
                self.had.append(name)
                await self.gates[name].wait()

        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(hold())

    async def release(self, *names):
        for name in names:
            self.gates[name].set()
            await turns()


async def test_holders_are_bounded():
    line = Line(2)
    for name in "abc":
        line.start(name)
    await turns()
    assert line.had == ["a", "b"]
    await line.release("b")
    assert line.had == ["a", "b", "c"]
    await line.release("a", "c")
    line.start("d")
    line.start("e")
    await turns()
    assert line.had[3:] == ["d", "e"], "all slots were released"
    await line.release("d", "e")


async def test_the_highest_priority_goes_first_and_none_starves():
    line = Line(1)
    line.start("first")
    await turns()
    for n in range(40):
        for priority in range(3):
            line.start(f"{priority}-{n}", priority)
    await turns()
    while len(line.had) < 33:
        await line.release(line.had[-1])
    had = [name[0] for name in line.had[1:]]
    assert had == list("0001000100010002" * 2)
    assert line.had[1:4] == ["0-0", "0-1", "0-2"], "first in, first out within a priority"
    while len(line.had) < 121:
        await line.release(line.had[-1])
    assert {name[0] for name in line.had[100:]} == {"2"}, "the second before the third"
    await line.release(line.had[-1])


async def test_lower_priorities_leave_the_reserved_slots_free():
    line = Line(8, shares=(1.0, 0.75, 0.5))
    for priority in (2, 1, 0):
        for n in range(9):
            line.start(f"{priority}-{n}", priority)
        await turns()
    assert [name[0] for name in line.had] == list("22221100")
    await line.release("2-0")
    assert line.had[8:] == ["0-2"]
    await line.release("0-0", "0-1", "0-2")
    assert line.had[9:] == ["0-3", "0-4", "1-2"], "two slots are reserved for the first"
    for number in range(27):
        await line.release(line.had[number])
    assert sorted(line.had) == sorted(f"{priority}-{n}" for priority in range(3) for n in range(9))


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_few_slots_are_enough_for_all(limit):
    line = Line(limit, shares=(1.0, 0.875, 0.5))
    for n in range(5):
        for priority in range(3):
            line.start(f"{priority}-{n}", priority)
    await turns()
    for number in range(15):
        await line.release(line.had[number])
    assert len(line.had) == 15


async def test_a_cancelled_waiter_takes_no_slot():
    line = Line(1)
    for name in "abc":
        line.start(name)
    await turns()
    line.tasks["b"].cancel()
    await turns()
    await line.release("a")
    assert line.had == ["a", "c"]
    await line.release("c")


async def test_a_waiter_cancelled_with_its_slot_passes_it_on():
    line = Line(1)
    mine = line.semaphore.slot(1)
    await mine.__aenter__()
    for name in "bc":
        line.start(name)
    await turns()
    await mine.__aexit__(None, None, None)
    line.tasks["b"].cancel()  # the slot was passed to it, and it has not run yet
    await turns()
    assert line.had == ["c"]
    await line.release("c")
    line.start("d")
    await turns()
    assert line.had == ["c", "d"], "no slot was lost"
    await line.release("d")
