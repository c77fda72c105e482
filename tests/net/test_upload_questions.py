"""What an upload that is held leaves behind, and how much is read of a connection that was lost."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from edge.net.attempt import Attempt
from edge.net.balancer import Balancer
from edge.net.transports import unread
from edge.rules.outcomes import Cause

NOBODY: Any = None


async def test_an_attempt_that_ended_waits_for_no_answer():
    """Its timer would keep the exchange, with the beginning of its body, for up to a second."""
    candidate: Any = SimpleNamespace(standing=SimpleNamespace(in_flight=1, waiting=0))
    attempt = Attempt(candidate, 0.0)
    attempt.holds_body = True
    timer = attempt.question = asyncio.get_running_loop().call_later(60.0, print)
    Balancer.end(NOBODY, attempt, Cause.CLIENT_GONE, 0.0, sent=False)
    assert timer.cancelled()
    assert (attempt.question, attempt.holds_body) == (None, False)


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
