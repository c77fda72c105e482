"""Deferred responses for unknown hosts: a few in each turn of the loop, after other requests."""

import asyncio
import socket

import pytest

from edge.net.deferred_queue import BATCH, DeferredQueue


async def test_a_few_in_each_turn_in_order() -> None:
    loop = asyncio.get_running_loop()
    done: list[int] = []
    queue = DeferredQueue(loop)
    for n in range(2 * BATCH + 1):
        queue.add(lambda n=n: done.append(n))  # type: ignore[misc]
    assert done == []
    for turn in (BATCH, 2 * BATCH, 2 * BATCH + 1):
        await asyncio.sleep(0)
        assert done == list(range(turn))
    assert len(queue) == 0
    queue.add(lambda: done.append(-1))
    await asyncio.sleep(0)
    assert done[-1] == -1


async def test_sockets_are_read_in_between() -> None:
    """However many wait, bytes that arrive meanwhile are read in the next turn."""
    loop = asyncio.get_running_loop()
    order: list[int | bytes] = []
    queue = DeferredQueue(loop)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: order.append(ours.recv(1)))
        for n in range(10 * BATCH):
            queue.add(lambda n=n: order.append(n))  # type: ignore[misc]
        theirs.send(b"?")
        for _ in range(11):
            await asyncio.sleep(0)
        loop.remove_reader(ours)
    assert order.index(b"?") <= 2 * BATCH


async def test_a_failure_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    queue = DeferredQueue(asyncio.get_running_loop())
    for n in range(3 * BATCH):
        queue.add((lambda: 1 // 0) if n == BATCH else (lambda n=n: done.append(n)))  # type: ignore[misc]
    for _ in range(4):
        await asyncio.sleep(0)
    assert set(range(3 * BATCH)) - set(done) == {BATCH}
    assert "ZeroDivisionError" in caplog.text
