"""Turning strangers away: a few in each turn of the loop, behind those that are served."""

import asyncio
import socket

import pytest

from edge.net.deferred_queue import BATCH, DeferredQueue


async def test_a_few_in_each_turn_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    done: list[int] = []
    later = DeferredQueue(loop)
    for n in range(2 * BATCH + 1):
        later.add(lambda n=n: done.append(n))  # type: ignore[misc]
    assert done == []
    for turn in (BATCH, 2 * BATCH, 2 * BATCH + 1):
        await asyncio.sleep(0)
        assert done == list(range(turn))
    assert len(later) == 0
    later.add(lambda: done.append(-1))
    await asyncio.sleep(0)
    assert done[-1] == -1


async def test_who_has_bytes_to_read_comes_between() -> None:
    """However many wait, what comes in meanwhile is read in the next turn."""
    loop = asyncio.get_running_loop()
    order: list[int | bytes] = []
    later = DeferredQueue(loop)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: order.append(ours.recv(1)))
        for n in range(10 * BATCH):
            later.add(lambda n=n: order.append(n))  # type: ignore[misc]
        theirs.send(b"?")
        for _ in range(11):
            await asyncio.sleep(0)
        loop.remove_reader(ours)
    assert order.index(b"?") <= 2 * BATCH


async def test_a_deed_that_fails_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    later = DeferredQueue(asyncio.get_running_loop())
    for n in range(3 * BATCH):
        later.add((lambda: 1 // 0) if n == BATCH else (lambda n=n: done.append(n)))  # type: ignore[misc]
    for _ in range(4):
        await asyncio.sleep(0)
    assert set(range(3 * BATCH)) - set(done) == {BATCH}
    assert "ZeroDivisionError" in caplog.text
