"""The heads of frames, in pieces of any size. (The rules one by one are in tests/corpus_h2.)"""

from itertools import pairwise

import pytest

from edge.rules.h2.h2_frames import (
    BURST,
    MOST_CREDIT,
    MOST_GAPS,
    MOST_RESETS,
    MOST_SETTINGS,
    PER_SECOND,
    PREFACE,
    ErrorCode,
    FrameGuard,
    GoAwayReason,
)
from tests.corpus_h2.frames import (
    PADDED,
    data,
    frame,
    get,
    headers,
    ping,
    post,
    rst,
    settings,
    window,
)


def begun() -> FrameGuard:
    guard = FrameGuard()
    assert guard.scan(PREFACE + settings(), {}, 0.0) is None
    return guard


def test_the_preface_in_pieces():
    guard = FrameGuard()
    for at in range(len(PREFACE)):
        assert not guard.is_begun
        assert guard.scan(PREFACE[at : at + 1], {}, 0.0) is None
    assert guard.is_begun


def test_another_preface():
    violation = FrameGuard().scan(b"GET / HTTP/1.1\r\n\r\n", {}, 0.0)
    assert violation is not None
    assert violation.reason is GoAwayReason.PREFACE


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 1000])
def test_streams_are_noted_when_their_block_is_whole(size):
    guard, bytes_of, opened = begun(), get(1) + post(3) + data(3, b"x" * 50) + get(5), []
    for at in range(0, len(bytes_of), size):
        assert guard.scan(bytes_of[at : at + size], {1, 3}, 0.0) is None
        opened += guard.opened or []
    assert opened == [1, 3, 5]
    assert guard.highest == 5


def test_a_block_in_several_frames():
    guard = begun()
    assert guard.scan(headers(1, b"abc", flags=0), {}, 0.0) is None
    assert guard.opened is None
    assert guard.scan(frame(9, 0, 1, b"d") + frame(9, 4, 1, b"e"), {}, 0.0) is None
    assert guard.opened == [1]


def test_a_stream_that_is_reset_at_once_was_not_refused():
    guard = begun()
    assert guard.scan(get(1) + rst(1) + get(3), {}, 0.0) is None
    assert guard.opened == [3]


def test_a_frame_on_a_stream_that_the_client_ended():
    guard = begun()
    guard.scan(get(1), {}, 0.0)
    violation = guard.scan(data(1), {}, 0.0)
    assert violation is not None
    assert violation.code is ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize("first", range(len(rst(1) + data(1, b"abc")) + 1))
@pytest.mark.parametrize("second", [1, 3, 1000])
def test_a_frame_behind_a_reset_in_reads_of_any_size(first, second):
    """The session takes the stream for open until it has all of the RST_STREAM frame."""
    guard, wire, violation = begun(), rst(1) + data(1, b"abc"), None
    assert guard.scan(post(1), {}, 0.0) is None
    cuts = [0, first, *range(first + second, len(wire), second), len(wire)]
    for start, end in pairwise(cuts):
        violation = violation or guard.scan(wire[start:end], {1} if start < len(rst(1)) else {}, 0.0)
    assert violation is not None
    assert violation.code is ErrorCode.STREAM_CLOSED


def test_a_frame_behind_the_reset_of_another_stream():
    guard = begun()
    assert guard.scan(post(1) + post(3), {}, 0.0) is None
    assert guard.scan(rst(1)[:-1], {1, 3}, 0.0) is None
    assert guard.scan(rst(1)[-1:] + data(3), {1, 3}, 0.0) is None
    assert guard.scan(data(3), {3}, 0.0) is None


def test_a_frame_that_crosses_a_reset():
    guard = begun()
    guard.scan(post(1), {}, 0.0)
    guard.record_reset(1)
    assert guard.scan(data(1), {}, 0.0) is None


def test_resets_that_are_remembered():
    """The oldest are forgotten; frames on them are ignored, too."""
    guard = begun()
    for stream in range(1, 4 * MOST_RESETS, 2):
        guard.scan(post(stream), {}, 0.0)
        guard.record_reset(stream)
    assert len(guard._reset) == MOST_RESETS
    assert guard.scan(data(1), {}, 0.0) is None


def test_gaps_that_are_remembered():
    guard = begun()
    for stream in range(1, 12 * MOST_GAPS, 6):
        guard.scan(get(stream), {stream}, 0.0)
    assert len(guard._gaps) == MOST_GAPS


def test_a_priority_update_belongs_to_the_connection():
    """RFC 9218, section 7.1: on a stream it is a connection error, and nothing behind it is served."""
    update = b"\0\0\0\x01u=1"
    assert begun().scan(frame(16, 0, 0, update) + get(1), {}, 0.0) is None
    violation = begun().scan(frame(16, 0, 1, update) + get(1), {}, 0.0)
    assert violation is not None
    assert violation.reason is GoAwayReason.PROTOCOL


def test_tokens_come_back():
    guard, burst = begun(), int(BURST)
    assert guard.scan(ping() * (burst - 1), {}, 0.0) is None
    violation = guard.scan(ping(), {}, 0.0)
    assert violation is not None
    assert violation.reason is GoAwayReason.PING_FLOOD
    guard = begun()
    guard.scan(ping() * (burst - 1), {}, 0.0)
    assert guard.scan(ping() * int(PER_SECOND), {}, 1.0) is None
    assert guard.scan(ping() * int(PER_SECOND), {}, 1.5) is not None


def test_a_clock_that_steps_back_gives_nothing():
    guard = begun()
    guard.scan(ping() * int(BURST), {}, 100.0)
    assert guard.scan(ping(), {}, 50.0) is not None


def test_updates_that_are_explained_by_what_was_sent():
    guard = begun()
    for _ in range(50):
        guard.explain_updates(64 * 1024)
        assert guard.scan(window(0, 1024) * 64 + window(1, 1024) * 64, {1}, 0.0) is None
    assert guard.scan(window(0, 1) * (int(BURST) + 200), {}, 0.0) is not None


def test_the_credit_is_bounded():
    guard = begun()
    for _ in range(1000):
        guard.explain_updates(1 << 20)
    assert guard._credit <= MOST_CREDIT + 2 * 1024 + 2


def test_provoked_resets():
    guard = begun()
    violations = [guard.charge_reset(0.0) for _ in range(int(BURST))]
    assert violations[0] is None
    assert violations[-1] is not None
    assert violations[-1].reason is GoAwayReason.PROVOKED_RESETS


def test_empty_data_in_padding():
    guard = begun()
    guard.scan(post(1), {}, 0.0)
    flood = frame(0, PADDED, 1, b"\x05" + b"\0" * 5) * int(BURST)
    violation = guard.scan(flood, {1}, 0.0)
    assert violation is not None
    assert violation.reason is GoAwayReason.EMPTY_DATA_FLOOD
    assert begun().scan(post(1) + data(1, b"x", ended=False) * 2 * int(BURST), {1}, 0.0) is None


@pytest.mark.parametrize("size", [1, 5, 9, 10, 1000])
@pytest.mark.parametrize("payload", [b"", b"\x03ab", b"\xffab"])
@pytest.mark.parametrize("kind", [0, 1])
def test_padding_that_is_longer_than_its_frame_ends_the_connection(kind, payload, size):
    """At once: what follows in the same read is not served."""
    guard, bytes_of = begun(), post(1) + frame(kind, PADDED, 1, payload) + get(3)
    pieces = (guard.scan(bytes_of[at : at + size], {1}, 0.0) for at in range(0, len(bytes_of), size))
    violation = next(filter(None, pieces))
    assert (violation.code, violation.reason) == (ErrorCode.PROTOCOL_ERROR, GoAwayReason.PROTOCOL)
    assert 3 not in (guard.opened or [])


@pytest.mark.parametrize("size", [1, 9, 1000])
def test_padding_that_fills_its_frame_is_legal(size):
    guard, bytes_of = begun(), post(1) + frame(0, PADDED, 1, b"\x02ab") + data(1, b"x") + get(3)
    for at in range(0, len(bytes_of), size):
        assert guard.scan(bytes_of[at : at + size], {1}, 0.0) is None
    assert guard.highest == 3


def test_a_priority_update_on_a_stream_ends_the_connection_before_what_is_behind_it():
    """nghttp2 would still begin the request that follows in the same read; found by `bench fuzz-h2`, seed 21."""
    update, request = b"\0\0\x04\x10\0\0\0\0\x01u=1 ", b"\0\0\x01\x01\x05\0\0\0\x25\x82"
    guard = FrameGuard()
    assert guard.scan(PREFACE + b"\0\0\0\x04\0\0\0\0\0", (), 0.0) is None
    violation = guard.scan(update + request, (), 0.0)
    assert violation is not None
    assert violation.code is ErrorCode.PROTOCOL_ERROR


def test_too_many_settings_in_one_frame():
    assert begun().scan(settings(*[(1, 4096)] * MOST_SETTINGS), {}, 0.0) is None
    violation = begun().scan(settings(*[(1, 4096)] * (MOST_SETTINGS + 1)), {}, 0.0)
    assert violation is not None
    assert (violation.code, violation.reason) == (ErrorCode.ENHANCE_YOUR_CALM, GoAwayReason.SETTINGS_FLOOD)
