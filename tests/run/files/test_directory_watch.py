"""A change in a directory is reported, also when another directory has taken its place."""

import asyncio
import contextlib

import pytest

from edge.run.files.directory_watch import watch_directory
from tests.support.processes.process_verbs import DEADLINE


@pytest.fixture
async def watched(tmp_path):
    """The file, and a function that waits until a change is reported."""
    path = tmp_path / "here" / "routes.yaml"
    path.parent.mkdir()
    reported = asyncio.Event()
    watching = asyncio.create_task(watch_directory(str(path), reported.set, lambda: True, pause=0.02))

    async def tells(change):
        """Change it again and again: there is no sign when the kernel has begun to watch."""
        reported.clear()
        async with asyncio.timeout(DEADLINE):
            while not reported.is_set():
                change()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reported.wait(), 0.2)

    yield path, tells
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_a_change_is_reported(watched):
    path, tells = watched
    await tells(lambda: path.write_text("routes: []"))


async def test_a_directory_that_was_away_is_watched_again(watched):
    path, tells = watched
    await tells(lambda: path.write_text("routes: []"))
    path.parent.rename(path.parent.with_name("away"))
    path.parent.mkdir()
    for _ in range(10):  # what is reported of the other one, late, does not count
        await tells(lambda: path.write_text("routes: []"))
