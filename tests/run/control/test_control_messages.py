"""The encoding of messages between processes: whole messages from any segments, and no illegal ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.run.control.control_messages import (
    MOST,
    ApplySettings,
    AskExplain,
    AskSnapshot,
    BadMessage,
    ControlReply,
    Drain,
    DrainOf,
    FromWorker,
    Hello,
    ToChild,
    ToWorker,
    Unpacker,
    packed,
)

MESSAGES = [AskSnapshot(1), AskExplain(2, "a.test"), DrainOf(3, "server", "x", 1.5), AskExplain(4, "é" * 100)]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_any_segmentation(sizes):
    data = b"".join(map(packed, MESSAGES))
    unpacker, received = Unpacker(ToWorker), []
    while data:
        size = sizes[len(received) % len(sizes)]
        piece, data = data[:size], data[size:]
        received += unpacker.feed(piece)
    assert received == MESSAGES


@pytest.mark.parametrize(
    ("kinds", "data"),
    [
        (ToWorker, struct.pack("!I", MOST + 1)),
        (ToWorker, struct.pack("!I", 3) + b"abc"),
        (ToWorker, packed(Drain(1.0, 1.0))),  # not to this end
        (ToChild, packed(Hello("1", b"s", 0, 1))),
        (FromWorker, packed(ApplySettings("a", "b", 1))),
    ],
)
def test_illegal_messages(kinds, data):
    with pytest.raises(BadMessage):
        list(Unpacker(kinds).feed(data))


def test_the_maximum_length():
    assert len(packed(ControlReply(1, b"x" * (MOST - 100)))) < MOST
    with pytest.raises(BadMessage, match="ControlReply of"):
        packed(ControlReply(1, b"x" * MOST))
