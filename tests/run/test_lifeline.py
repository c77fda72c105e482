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
        came = child.take_socket() if isinstance(message, StandIn) else None
        heard.append((message, came and number_of(came)))
        if came is not None:
            came.close()
        if message is None:
            ended.set()

    child.listen(hear)
    sockets = [socket.socket() for _ in range(2)]
    numbers = [number_of(sock) for sock in sockets]
    told = [(Begin(), None), (StandIn(1, 0), sockets[0]), (StandIn(1, 2), sockets[1]), (StandDown(1), None)]
    for message, along in told:
        assert master.tell(message, along)
    for sock in sockets:
        sock.close()
    assert master.tell(StandIn(3, 0)), "as if it had not come along"
    master.close()
    async with asyncio.timeout(30):
        await ended.wait()
    theirs.close()
    assert heard == [
        (Begin(), None),
        (StandIn(1, 0), numbers[0]),
        (StandIn(1, 2), numbers[1]),
        (StandDown(1), None),
        (StandIn(3, 0), None),
        (None, None),
    ]


def number_of(sock):
    """By which the kernel knows it."""
    return os.fstat(sock.fileno()).st_ino
