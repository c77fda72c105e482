"""Two sessions, nghttp2 and h2, see the same in the same bytes, and say the same to the client."""

from collections.abc import Iterable

import hpack
import pytest

from edge.net.h2.h2_session import H2Session, Ngh2Session, SessionError, SessionLimits
from edge.rules.h2.h2_frames import ErrorCode
from tests.corpus_h2.frames import (
    PREFACE,
    Answered,
    Case,
    Reset,
    data,
    frame,
    get,
    headers,
    ping,
    post,
    pseudo,
    raw,
    rst,
    settings,
    window,
)
from tests.corpus_h2.frames import block as header_block
from tests.corpus_h2.legal import LEGAL_CASES
from tests.support.hyper_h2_session import HyperH2Session

LIMITS = SessionLimits(streams=128, window=65_535, header_list=65_536, header_count=400, tunnels=True)
MOST = 1 << 20

H2_DIFFERS = (
    "a stream beyond the limit",  # it ends the connection
    "a request again behind REFUSED_STREAM",
    "a reset of the edge",  # it needs a stream error where it ends the connection
    "a malformed request",
    "content-length of 0",  # it wants no DATA at all
    "an empty value",
    "PING",  # its events
    "host in another case",
)
"Legal cases that h2 does not serve."


class Recorder:
    """A `SessionHandler` that remembers."""

    def __init__(self) -> None:
        self.requests: dict[int, list[tuple[bytes, bytes]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, list[tuple[bytes, bytes]]] = {}
        self.ended: set[int] = set()
        self.closed: list[tuple[int, int, bool]] = []
        self.left = False

    def request_received(self, stream: int, headers: Iterable[tuple[bytes, bytes]], *, ended: bool) -> None:
        self.requests[stream] = list(headers)
        self.body_received(stream, b"", ended=ended)

    def body_received(self, stream: int, data: bytes, *, ended: bool) -> None:
        self.bodies[stream] = self.bodies.get(stream, b"") + data
        if ended:
            self.ended.add(stream)

    def trailers_received(self, stream: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.trailers[stream] = list(headers)
        self.ended.add(stream)

    def stream_closed(self, stream: int, code: int, *, by_client: bool) -> None:
        self.closed.append((stream, code, by_client))

    def client_leaves(self) -> None:
        self.left = True

    @property
    def all(self) -> tuple[object, ...]:
        return self.requests, self.bodies, self.trailers, self.ended, sorted(self.closed), self.left


def begun(
    kind: type[Ngh2Session] | type[HyperH2Session], limits: SessionLimits = LIMITS
) -> tuple[H2Session, Recorder]:
    recorder = Recorder()
    session: H2Session = kind(recorder, limits)
    session.begin()
    session.receive(PREFACE + settings())
    session.take_output(MOST)
    return session, recorder


def said(output: bytes) -> list[tuple[int, int, int, object]]:
    """The frames of the edge, their heads decoded; without SETTINGS, their ACKs and WINDOW_UPDATE."""
    decoder, frames = hpack.Decoder(), []
    while output:
        size = int.from_bytes(output[:3], "big")
        kind, flags, stream = output[3], output[4], int.from_bytes(output[5:9], "big")
        payload: object = output[9 : 9 + size]
        if kind == 1:
            payload = [(bytes(n), bytes(v)) for n, v in decoder.decode(output[9 : 9 + size], raw=True)]
        if kind not in (4, 8):
            frames.append((kind, flags, stream, payload))
        output = output[9 + size :]
    return frames


def answer(session: H2Session, stream: int) -> None:
    session.send_head(stream, [(b":status", b"200"), (b"x-a", b"b")], ended=False)
    session.send_body(stream, b"hello", ended=True)


def play(kind: type[Ngh2Session] | type[HyperH2Session], case: Case) -> Recorder:
    session, recorder = begun(kind)
    for step in case.steps:
        if isinstance(step, bytes):
            session.receive(step)
        elif isinstance(step, Answered):
            answer(session, step.stream)
        assert not isinstance(step, Reset)
        session.take_output(MOST)
    return recorder


COMPARED = [case for case in LEGAL_CASES if not case.bare and not any(word in case.rule for word in H2_DIFFERS)]


@pytest.mark.parametrize("case", COMPARED, ids=str)
def test_they_see_the_same(case):
    assert play(Ngh2Session, case).all == play(HyperH2Session, case).all


def test_most_legal_cases_are_compared():
    assert len(COMPARED) >= 60


@pytest.mark.parametrize("kind", [Ngh2Session, HyperH2Session])
class TestEach:
    """What each of them does."""

    def test_a_response(self, kind):
        session, recorder = begun(kind)
        session.receive(get(1))
        session.send_interim(1, [(b":status", b"103"), (b"link", b"</a>")])
        session.send_head(1, [(b":status", b"200")], ended=False)
        session.send_body(1, b"abc", ended=False)
        session.send_trailers(1, [(b"x-sum", b"1")])
        assert said(session.take_output(MOST)) == [
            (1, 4, 1, [(b":status", b"103"), (b"link", b"</a>")]),
            (1, 4, 1, [(b":status", b"200")]),
            (0, 0, 1, b"abc"),
            (1, 5, 1, [(b"x-sum", b"1")]),
        ]
        assert recorder.closed == [(1, 0, False)]

    def test_a_response_without_a_body(self, kind):
        session, recorder = begun(kind)
        session.receive(get(1))
        session.send_head(1, [(b":status", b"204")], ended=True)
        assert said(session.take_output(MOST)) == [(1, 5, 1, [(b":status", b"204")])]
        assert recorder.closed == [(1, 0, False)]

    def test_the_windows(self, kind):
        session, _ = begun(kind)
        session.receive(settings((4, 10)) + get(1))
        session.send_head(1, [(b":status", b"200")], ended=False)
        session.send_body(1, b"x" * 100, ended=True)
        assert said(session.take_output(MOST))[1:] == [(0, 0, 1, b"x" * 10)]
        assert session.queued(1) == session.queued_in_all() == 90
        session.receive(window(1, 1000))
        assert said(session.take_output(MOST)) == [(0, 1, 1, b"x" * 90)]
        assert session.queued(1) == 0

    def test_no_credit_before_it_is_given(self, kind):
        session, recorder = begun(kind)
        session.receive(post(1) + data(1, b"x" * 16384, ended=False) * 3)
        assert b"\x08\0\0\0\0\1" not in session.take_output(MOST)
        session.credit(1, len(recorder.bodies[1]))
        assert b"\x08\0\0\0\0\1" in session.take_output(MOST)

    def test_a_reset(self, kind):
        session, recorder = begun(kind)
        session.receive(get(1))
        session.reset(1, ErrorCode.CANCEL)
        assert said(session.take_output(MOST)) == [(3, 0, 1, b"\0\0\0\x08")]
        assert recorder.closed == [(1, 8, False)]

    def test_a_reset_of_the_client(self, kind):
        session, recorder = begun(kind)
        session.receive(get(1) + rst(1))
        session.take_output(MOST)
        assert recorder.closed == [(1, 8, True)]

    def test_nothing_is_sent_on_a_stream_that_is_closed(self, kind):
        session, _ = begun(kind)
        session.receive(post(1) + data(1, ended=False) + rst(1))
        answer(session, 1)
        session.send_interim(1, [(b":status", b"103")])
        session.send_trailers(1, [(b"a", b"b")])
        session.reset(1, ErrorCode.CANCEL)
        session.credit(1, 3)
        assert said(session.take_output(MOST)) == []
        assert session.queued(1) == session.queued(99) == 0

    def test_a_ping_is_acknowledged(self, kind):
        session, _ = begun(kind)
        session.receive(ping())
        assert said(session.take_output(MOST)) == [(6, 1, 0, b"12345678")]

    def test_the_end(self, kind):
        session, _ = begun(kind)
        session.terminate(ErrorCode.ENHANCE_YOUR_CALM)
        [(frame_kind, _, stream, payload)] = said(session.take_output(MOST))
        assert (frame_kind, stream, bytes(payload)[4:8]) == (7, 0, b"\0\0\0\x0b")

    @pytest.mark.parametrize(
        "bad", [frame(6, 0, 0, b"1"), raw(2, *pseudo()), headers(1, b"\xfe"), window(0, 0), settings((2, 2))]
    )
    def test_errors_end_in_a_goaway(self, kind, bad):
        session, _ = begun(kind)
        try:
            session.receive(bad)
            frames = said(session.take_output(MOST))
            code = int.from_bytes(frames[-1][3][4:8])
            assert session.failure == code
        except SessionError as error:
            code = error.code
        assert code

    @pytest.mark.parametrize("most", [10, 100, 1000, 16384])
    def test_errors_behind_a_piece_of_output(self, kind, most):
        """That ended within a frame of a response, because the client took no more."""
        session, _ = begun(kind)
        session.receive(get(1))
        session.send_head(1, [(b":status", b"200")], ended=False)
        session.send_body(1, b"\0\0\x08\7\0\0\0\0\0" * 5000, ended=False)
        taken = session.take_output(most)
        assert len(taken) == most
        try:
            session.receive(frame(6, 0, 0, b"1"))
            while session.has_output and (piece := session.take_output(most)):
                taken += piece
        except SessionError as error:
            code: ErrorCode | None = error.code
        else:
            assert said(taken)[-1][0] == 7
            code = session.failure
        assert code is ErrorCode.FRAME_SIZE_ERROR

    def test_an_extended_connect(self, kind):
        session, recorder = begun(kind)
        session.receive(
            headers(1, header_block((":method", "CONNECT"), (":protocol", "websocket"), *pseudo()[1:]), ended=False)
        )
        assert (b":protocol", b"websocket") in recorder.requests[1]
