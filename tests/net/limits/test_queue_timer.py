"""The timer of a queue: the earliest time counts, once, and none is left when it is called off."""

import asyncio

import pytest

from edge.net.limits.queue_timer import QueueTimer


class Checks:
    """Counts the checks of a timer. `done` is set by each of them."""

    def __init__(self):
        self.count = 0
        self.done = asyncio.Event()
        self.timer = QueueTimer(self.check)

    def check(self):
        self.count += 1
        self.done.set()

    async def next(self):
        async with asyncio.timeout(100):
            await self.done.wait()
        self.done.clear()


@pytest.fixture
async def checks():
    checks = Checks()
    yield checks
    checks.timer.cancel()


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_an_earlier_time_takes_the_place_of_a_later_one(checks):
    checks.timer.schedule(1000.0, 0.0)
    checks.timer.schedule(0.002, 0.0)
    checks.timer.schedule(1000.0, 0.0)
    await checks.next()
    assert checks.count == 1


async def test_at_once_is_the_next_turn_of_the_loop_and_only_once(checks):
    checks.timer.schedule(1000.0, 0.0)
    checks.timer.schedule(1000.0, 0.0, at_once=True)
    checks.timer.schedule(1000.0, 0.0, at_once=True)
    assert checks.count == 0
    await turns()
    assert checks.count == 1


async def test_what_is_due_already_is_not_checked_in_the_same_turn(checks):
    checks.timer.schedule(-5.0, 0.0)
    assert checks.count == 0
    await checks.next()
    assert checks.count == 1


async def test_each_check_may_schedule_the_next(checks):
    for count in (1, 2, 3):
        checks.timer.schedule(0.0, 0.0)
        await checks.next()
        assert checks.count == count


async def test_nothing_waits_for_nothing(checks):
    checks.timer.schedule(None, 0.0, at_once=True)
    await turns()
    assert checks.count == 0


async def test_after_it_was_called_off_it_can_be_scheduled_again(checks):
    checks.timer.schedule(0.0, 0.0, at_once=True)
    checks.timer.cancel()
    await turns()
    assert checks.count == 0
    checks.timer.schedule(1000.0, 0.0)
    checks.timer.cancel()
    checks.timer.schedule(0.0, 0.0, at_once=True)
    await turns()
    assert checks.count == 1
