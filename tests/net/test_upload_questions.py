"""What an upload that is held leaves behind, and how much is read of a connection that was lost."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from edge.net.transport.socket_state import unread
from tests.support.fake_transports import turns


async def test_an_attempt_that_ended_waits_for_no_response(bench, monkeypatch):
    """Its timer would keep the exchange, with the beginning of its body, for up to a second."""
    bench.loop.answer = b""
    bench.worker.context.loop = bench.loop
    client = bench.client()
    client.protocol.data_received(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000000\r\n\r\nabc")
    async with asyncio.timeout(100):
        while not bench.loop.timers:
            await turns(1)
    assert b"\r\nExpect: 100-continue\r\n" in bench.loop.transports[0].written
    client.lose()
    await turns()
    assert [outcome.cause for outcome in bench.outcomes] == ["client_gone"]
    assert not bench.loop.timers


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        transport: Any = SimpleNamespace(get_extra_info=lambda name: ours)
        yield transport, theirs


@pytest.mark.parametrize("close", [False, True])
def test_all_that_lies_there_is_read(pair, close):
    transport, theirs = pair
    theirs.send(b"last words")
    if close:
        theirs.close()
    assert unread(transport, 100_000) == b"last words"
    assert unread(transport, 100_000) == b""


def test_no_more_is_read_than_asked_for(pair):
    transport, theirs = pair
    assert theirs.send(b"x" * 150_000) == 150_000
    assert len(unread(transport, 100_000)) == 2 * 65536
    assert unread(transport, 0) == b""
