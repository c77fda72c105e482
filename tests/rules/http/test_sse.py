"""The parser of server-sent events, with any split of the stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.http.sse import MOST, Event, EventStream, TooLong

STREAM = (
    b"\xef\xbb\xbf: welcome\n\n"
    b"id: 7-1\nevent: invalidate\ndata: one\n\n"
    b"data:two\r\ndata: lines\r\n\r\n"
    b"event: nothing\n\n"
    b"data\r\r"
    b"id: 7-\0\nretry: 5\nunknown: field\nid: 7-2\ndata:  kept blank\n\n"
    b"data: not whole"
)
EVENTS = [
    Event("invalidate", b"one"),
    Event("message", b"two\nlines"),
    Event("message", b""),
    Event("message", b" kept blank"),
]


def test_events_of_a_stream() -> None:
    stream = EventStream()
    assert stream.feed(STREAM) == EVENTS
    assert stream.last_id == "7-2"


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    stream = EventStream("before")
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert [event for piece in pieces for event in stream.feed(piece)] == EVENTS


def test_byte_by_byte() -> None:
    stream = EventStream()
    assert [event for byte in STREAM for event in stream.feed(bytes([byte]))] == EVENTS


@pytest.mark.parametrize(
    "piece", [b"x" * 1024, b"data: " + b"x" * 1017 + b"\n", b"data\n"], ids=["a line", "many lines", "empty lines"]
)
def test_the_size_of_an_event_is_bounded(piece: bytes) -> None:
    stream = EventStream()

    def feed() -> None:
        for _ in range(MOST + 2):
            assert not stream.feed(piece)

    with pytest.raises(TooLong):
        feed()


def test_a_long_stream_of_short_events_is_not_long() -> None:
    stream = EventStream()
    assert sum(len(stream.feed(b"data: x\n\n: heartbeat\n\n")) for _ in range(MOST)) == MOST


@pytest.mark.parametrize(
    ("value", "kept"),
    [(b"a1", "a1"), (b"a\tb", "a\tb"), (b"\xc3\xa4", "ä"), (b"a\x01b", ""), (b"\x7f", ""), (b"x" * 1025, "")],
)
def test_an_id_that_cannot_be_sent_is_none(value: bytes, kept: str) -> None:
    stream = EventStream("before")
    stream.feed(b"id: " + value + b"\ndata: x\n\n")
    assert stream.last_id == kept
