"""Background tasks that end are logged, counted and restarted; timers continue."""

import asyncio
import gc

import pytest

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask

TASK = BackgroundTask.CHANGE_STREAM


class Counted:
    """Background tasks that are restarted at once, and their failures."""

    def __init__(self, **changes):
        self.failures = []
        self.pauses = []
        self.background = Background(self.failures.append, pause=self._pause, **changes)

    def _pause(self, in_a_row, rand):
        self.pauses.append(in_a_row)
        return 0.0


@pytest.fixture
def counted():
    return Counted()


def codes(caplog):
    return [record.code for record in caplog.records if hasattr(record, "code")]


@pytest.mark.parametrize(
    "ends", [ValueError("bad record"), MemoryError(), RecursionError(), asyncio.CancelledError(), None], ids=repr
)
async def test_a_task_that_ends_is_logged_and_restarted(counted, caplog, ends):
    """With or without an error. The CancelledError is that of an awaited task, not of this one."""
    runs, again = 0, asyncio.Event()

    async def work():
        nonlocal runs
        runs += 1
        if runs == 4:
            again.set()
            await asyncio.Event().wait()
        if ends is not None:
            raise ends

    task = counted.background.run(TASK, work)
    async with asyncio.timeout(100):
        await again.wait()
    assert counted.failures == [TASK] * 3
    assert counted.pauses == [1, 2, 3]
    assert codes(caplog) == ["background_task_ended"] * 3
    assert caplog.records[0].task == "change_stream"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runs == 4


async def test_the_first_failure_after_a_healthy_run_has_the_shortest_pause():
    counted = Counted(healthy_run=0.0)
    again = asyncio.Event()

    async def work():
        if len(counted.pauses) == 3:
            again.set()
            await asyncio.Event().wait()

    task = counted.background.run(TASK, work)
    async with asyncio.timeout(100):
        await again.wait()
    task.cancel()
    assert counted.pauses == [1, 1, 1]


async def test_a_cancelled_task_is_not_restarted(counted):
    """Not even if it swallows the cancellation."""
    runs, began = 0, asyncio.Event()

    async def work():
        nonlocal runs
        runs += 1
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    task = counted.background.run(TASK, work)
    await began.wait()
    task.cancel()
    async with asyncio.timeout(100):
        await asyncio.wait([task])
    assert runs == 1
    assert counted.failures == []


async def test_a_timer_goes_on_after_a_failure(counted, caplog):
    ticks, enough = 0, asyncio.Event()

    def work():
        nonlocal ticks
        ticks += 1
        if ticks == 12:
            enough.set()
        if ticks <= 9:
            raise OverflowError("generation")

    timer = counted.background.every(BackgroundTask.CONTROL_SENDER, 0.0, work)
    async with asyncio.timeout(100):
        await enough.wait()
    timer.cancel()
    assert counted.failures == [BackgroundTask.CONTROL_SENDER] * 9
    assert [record.in_a_row for record in caplog.records] == [1, 2, 4, 8], "not ten times a second"
    assert set(codes(caplog)) == {"background_timer_failed"}
    await asyncio.sleep(0.01)  # cancelled: that nothing happens shows over time only
    assert ticks == 12


async def test_unhandled_errors_are_logged_and_counted(counted, caplog):
    loop = asyncio.get_running_loop()
    counted.background.log_unhandled(loop)

    async def fails():
        raise ValueError("for once")

    task = loop.create_task(fails(), name="for once")
    await asyncio.wait([task])
    del task
    gc.collect()
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert codes(caplog) == ["unhandled_error"] * 2
    assert [record.error for record in caplog.records] == [
        "ValueError: for once",
        "ZeroDivisionError: division by zero",
    ]
    assert counted.failures == [BackgroundTask.OTHER] * 2
