"""Child processes: what ends with them."""

import asyncio

import pytest

from edge.platform.child_process import ChildProcess, has_members


@pytest.fixture
async def leader(tmp_path):
    """A process with two workers in its group, which ignore the signals that they may."""
    worker = "trap '' TERM HUP INT; echo ready; while :; do sleep 100; done"
    log = tmp_path / "leader.out"
    child = ChildProcess.spawn(["/bin/sh", "-c", 'sh -c "$0" & sh -c "$0" & wait', worker], log=log, env={})
    async with asyncio.timeout(100):
        while log.read_text().count("ready") < 2:  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.01)
    yield child
    await child.kill_and_wait()


async def test_a_group_that_was_killed_has_no_members(leader):
    assert has_members(leader.pid)
    await leader.kill_and_wait()
    assert leader.ended.is_set()
    assert not has_members(leader.pid)


async def test_workers_end_with_their_leader(leader):
    leader.kill()
    await leader.ended.wait()
    async with asyncio.timeout(100):
        while has_members(leader.pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_group_that_never_was_has_no_members():
    assert not has_members(2**22 + 1)
