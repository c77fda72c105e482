"""Files that are watched: found changed however that came about, and nothing ends the watching."""

import asyncio
import os

import pytest

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.run.watched_files import FileWatcher


class Watched:
    """A file, and how often it was found changed."""

    def __init__(self, path):
        self.path = path
        self.renewed = 0
        self.fails = False
        self.news = asyncio.Event()

    async def renew(self):
        self.renewed += 1
        self.news.set()
        if self.fails:
            raise KeyError("a fault of ours")

    async def is_renewed(self):
        async with asyncio.timeout(10):
            await self.news.wait()
        self.news.clear()


@pytest.fixture
def watched(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "token").write_text("one")
    return Watched(tmp_path / "here" / "token")


def watcher_of(*files):
    watcher = FileWatcher()
    watcher.follow({str(file.path): file.renew for file in files})
    return watcher


async def test_only_a_change_of_the_content_counts(watched):
    watcher = watcher_of(watched)
    await watcher.look()
    os.utime(watched.path, (1, 1))
    (watched.path.parent / "other").write_text("x")
    await watcher.look()
    assert watched.renewed == 0
    watched.path.write_text("two")
    await watcher.look()
    await watcher.look()
    assert watched.renewed == 1


async def test_one_that_cannot_be_renewed_has_nothing_to_do_with_the_others(watched, tmp_path):
    other = Watched(tmp_path / "other")
    watched.fails = True
    watcher = watcher_of(watched, other)
    watched.path.write_text("two")
    other.path.write_text("new")
    await watcher.look()
    assert (watched.renewed, other.renewed) == (1, 1)


async def test_other_settings_forget_no_change(watched, tmp_path):
    """A file that changed a moment before a reload is renewed after it."""
    watcher = watcher_of(watched)
    watched.path.write_text("two")
    other = Watched(tmp_path / "other")
    watcher.follow({str(file.path): file.renew for file in (watched, other)})
    await watcher.look()
    assert (watched.renewed, other.renewed) == (1, 0)


async def test_a_directory_that_is_not_there_does_not_end_the_watching(watched, tmp_path):
    failures = []
    background = Background(failures.append, pause=lambda *_: 0.01)
    watcher = watcher_of(watched)
    (tmp_path / "here").rename(tmp_path / "gone")
    task = background.run(BackgroundTask.FILE_WATCHER, watcher.watch)
    await watched.is_renewed()  # its content is gone
    (tmp_path / "here").mkdir()
    watched.path.write_text("two")
    await watched.is_renewed()
    watched.path.write_text("three")
    await watched.is_renewed()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(failures) == {BackgroundTask.FILE_WATCHER}
