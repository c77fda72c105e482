"""Watched files are read again when their content changes, however it is changed."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog

from edge.run.files.file_watch import entries_of, watch_files
from tests.support.processes.process_verbs import DEADLINE

NEVER = 3600.0


class Watched:
    """Records the callbacks for some files."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.renewed: asyncio.Queue[str] = asyncio.Queue()

    def read(self, path: str) -> bytes:
        self.reads[path] += 1
        try:
            return Path(path).read_bytes()
        except OSError:
            return b""

    async def next(self) -> str:
        async with asyncio.timeout(DEADLINE):
            return await self.renewed.get()


@asynccontextmanager
async def watching(*paths: Path, poll: float = NEVER):
    watched = Watched()

    def renewing(path: str):
        async def renew() -> None:
            watched.renewed.put_nowait(path)

        return renew

    task = asyncio.create_task(
        watch_files({str(path): renewing(str(path)) for path in paths}, poll=poll, read=watched.read)
    )
    await asyncio.sleep(0)  # it has read them
    if poll == NEVER:
        await watches_are_set()
    yield watched
    assert not task.done(), task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def watches_are_set(count: int = 1) -> None:
    """Wait until this process has inotify watches on `count` directories."""
    async with asyncio.timeout(DEADLINE):
        while True:
            await asyncio.sleep(0.005)  # the kernel rings no bell
            if _watches() >= count:
                return


def _watches() -> int:
    watches = 0
    for entry in Path("/proc/self/fdinfo").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            watches += entry.read_text().count("inotify wd:")
    return watches


async def test_a_file_that_is_written_in_place_replaced_or_removed(tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    async with watching(path) as watched:
        path.write_text("two")
        assert await watched.next() == str(path)
        (tmp_path / "coming").write_text("three")
        (tmp_path / "coming").rename(path)
        assert await watched.next() == str(path)
        path.unlink()
        assert await watched.next() == str(path)
        path.write_text("three")
        assert await watched.next() == str(path)


async def test_other_changes_in_the_directory_are_ignored(tmp_path):
    """Also a write that does not change the content."""
    path = tmp_path / "token"
    path.write_text("one")
    async with watching(path) as watched:
        with (tmp_path / "styx.log").open("w") as log:
            for _ in range(20):
                print("a line", file=log, flush=True)
                await asyncio.sleep(0.02)
        (tmp_path / "token~").write_text("x")
        (tmp_path / "other").mkdir()
        path.write_text("two")
        await watched.next()
        assert watched.reads[str(path)] <= 3, "at the beginning, and for its own event"
        assert watched.renewed.empty()


async def test_kubernetes_swaps_a_link(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "token").write_text(str(number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    async with watching(tmp_path / "token") as watched:
        for number in (2, 3):
            (tmp_path / "..data_tmp").symlink_to(f"..{number}")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            await watched.next()
            await watches_are_set(2)


async def test_a_link_to_a_file_elsewhere(tmp_path):
    """The target is watched where it is, also after the link has been changed to another target."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(name)
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "token"
    path.symlink_to(tmp_path / "a" / "secret")
    async with watching(path) as watched:
        await watches_are_set(2)
        (tmp_path / "a" / "secret").write_text("a2")
        await watched.next()
        (tmp_path / "new").symlink_to("../b/secret")
        (tmp_path / "new").rename(path)
        await watched.next()
        await watches_are_set(2)
        (tmp_path / "b" / "secret").write_text("b2")
        await watched.next()


async def test_a_directory_that_is_not_there_yet(tmp_path):
    path, other = tmp_path / "later" / "token", tmp_path / "token"
    other.write_text("one")
    async with watching(path, other, poll=0.05) as watched:
        other.write_text("two")
        assert await watched.next() == str(other), "one that is missing does not keep another from being watched"
        (tmp_path / "later").mkdir()
        path.write_text("one")
        assert await watched.next() == str(path)
        path.write_text("two")
        assert await watched.next() == str(path)
    never = tmp_path / "never" / "token"
    with structlog.testing.capture_logs() as events:
        async with watching(never, poll=0.01) as watched:
            async with asyncio.timeout(DEADLINE):
                while watched.reads[str(never)] < 5:  # noqa: ASYNC110 - plain numbers ring no bell
                    await asyncio.sleep(0.01)
    assert [(event["log_level"], event["code"]) for event in events] == [("warning", "files_not_watched")], "once"


async def test_a_callback_that_raises_does_not_end_the_watch(tmp_path):
    path, other = tmp_path / "token", tmp_path / "other"
    for each in (path, other):
        each.write_text("one")
    failed, renewed = asyncio.Event(), asyncio.Event()

    async def fails() -> None:
        failed.set()
        raise ZeroDivisionError("not an error that anybody thought of")

    async def works() -> None:
        renewed.set()

    task = asyncio.create_task(watch_files({str(path): fails, str(other): works}, poll=NEVER))
    await watches_are_set()
    path.write_text("two")
    async with asyncio.timeout(DEADLINE):
        await failed.wait()
    other.write_text("two")
    async with asyncio.timeout(DEADLINE):
        await renewed.wait()
    assert not task.done()
    task.cancel()


def test_the_entries_that_lead_to_a_file(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "token").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "token").symlink_to("link/token")
    (tmp_path / "up").symlink_to("real/../token")
    plain, link = tmp_path / "real" / "token", tmp_path / "link"
    assert entries_of(str(plain)) == {plain}
    assert entries_of(str(tmp_path / "token")) == {tmp_path / "token", link, plain}
    assert entries_of(str(tmp_path / "up")) == {tmp_path / "up", tmp_path / "token", link, plain}
    assert entries_of(str(tmp_path / "none" / "token")) == {tmp_path / "none" / "token"}
    (tmp_path / "loop").symlink_to("loop")
    assert entries_of(str(tmp_path / "loop")) == {tmp_path / "loop"}
    assert entries_of("/nowhere") == {Path("/nowhere")}
