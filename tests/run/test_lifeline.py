"""The line between the master and a child: sockets travel with the message that they belong to."""

import asyncio
import os
import socket

import pytest

from edge.run import lifeline
from edge.run.lifeline import ChildEnd, MasterEnd
from edge.run.orders import Begin, StandDown, StandIn


@pytest.mark.parametrize("chunk", [1, 7, 65536], ids=["byte by byte", "in pieces", "at once"])
async def test_sockets_come_with_their_message(monkeypatch, chunk):
    monkeypatch.setattr(lifeline, "CHUNK", chunk)
    ours, theirs = socket.socketpair()
    master, child = MasterEnd(ours), ChildEnd(theirs)
    heard, ended = [], asyncio.Event()

    def hear(message):
        came = child.take_sockets(len(message.listeners)) if isinstance(message, StandIn) else []
        heard.append((message, [os.fstat(sock.fileno()).st_ino for sock in came]))
        for sock in came:
            sock.close()
        if message is None:
            ended.set()

    child.listen(hear)
    sockets = [socket.socket() for _ in range(3)]
    numbers = [os.fstat(sock.fileno()).st_ino for sock in sockets]
    for message, along in (
        (Begin(), []),
        (StandIn(1, [0, 2]), sockets[:2]),
        (StandIn(3, [0]), sockets[2:]),
        (StandDown(1), []),
    ):
        assert master.tell(message, along)
    for sock in sockets:
        sock.close()
    master.close()
    async with asyncio.timeout(5):
        await ended.wait()
    theirs.close()
    assert heard == [
        (Begin(), []),
        (StandIn(1, [0, 2]), numbers[:2]),
        (StandIn(3, [0]), numbers[2:]),
        (StandDown(1), []),
        (None, []),
    ]
