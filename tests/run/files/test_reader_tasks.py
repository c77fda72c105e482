"""The two tasks of a reader: both run, a reported change wakes the reader, and both end."""

import asyncio

import pytest

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.run.files.reader_tasks import ReaderTasks

LONG = 1000.0
"Seconds: nothing in these tests waits for so long."


class Watched:
    """A watch that reports what the test says. `running`: the paths that are watched now."""

    def __init__(self):
        self.running = []
        self.report = None
        self.begun = asyncio.Event()

    async def __call__(self, path, changed, reachable):
        self.running.append(path)
        self.report = changed
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.running.remove(path)


@pytest.fixture
async def watched():
    return Watched()


@pytest.fixture
async def tasks(watched):
    tasks = ReaderTasks(
        BackgroundTask.PAGES_READER, BackgroundTask.PAGES_WATCHER, watch=watched, background=Background()
    )
    yield tasks
    await tasks.stop()


async def test_a_change_wakes_the_reader_once(tasks, watched):
    looks = asyncio.Queue()

    async def read_on():
        while True:
            looks.put_nowait("look")
            await tasks.wait_for_change(LONG)

    tasks.start("/etc/pages", read_on, lambda: True)
    async with asyncio.timeout(100):
        await watched.begun.wait()
        assert await looks.get() == "look"
        assert looks.empty()
        watched.report()
        watched.report()  # before the reader has run: one look sees both
        assert await looks.get() == "look"
        watched.report()
        assert await looks.get() == "look"
        assert looks.empty()


async def test_without_a_change_it_waits_no_longer_than_it_was_told_to(tasks):
    async with asyncio.timeout(100):
        await tasks.wait_for_change(0.001)


async def test_a_change_that_came_before_is_not_waited_for(tasks, watched):
    tasks.start("/etc/pages", asyncio.Event().wait, lambda: True)
    async with asyncio.timeout(100):
        await watched.begun.wait()
        watched.report()
        await tasks.wait_for_change(LONG)


async def test_both_tasks_end(tasks, watched):
    ended = asyncio.Event()

    async def read_on():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.start("/etc/pages", read_on, lambda: True)
    async with asyncio.timeout(100):
        await watched.begun.wait()
        assert watched.running == ["/etc/pages"]
        await tasks.stop()
    assert watched.running == []
    assert ended.is_set()


async def test_another_file_takes_the_place_of_the_first(tasks, watched):
    tasks.start("/etc/pages", asyncio.Event().wait, lambda: True)
    async with asyncio.timeout(100):
        await watched.begun.wait()
        tasks.cancel()
        watched.begun.clear()
        tasks.start("/etc/other", asyncio.Event().wait, lambda: True)
        await watched.begun.wait()
    assert watched.running == ["/etc/other"]
