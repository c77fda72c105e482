"""The fuzzer of HTTP/2: its reader and its oracles see what is wrong; and ten seconds of it against a real styx."""

from pathlib import Path

import msgspec
import pytest

from bench.fuzz.fuzz import FuzzPlan, load_seeds
from bench.fuzz.fuzz_client import Received
from bench.fuzz.fuzz_seeds import Kind, Message
from bench.fuzz.mutations import Act, Step, sent
from bench.fuzz.recording_backend import Arrival, echo_of
from bench.fuzz.strict_reader import Payload, RequestMessage, State
from bench.fuzz_h2 import frames as f
from bench.fuzz_h2 import fuzz_h2
from bench.fuzz_h2.frame_oracles import judge
from bench.fuzz_h2.frame_reader import SentReader, read_edge
from bench.fuzz_h2.frame_seeds import corpus_frames, make_sequence
from bench.fuzz_h2.frames import PREFACE, Frame, encoded, frames_of, literal_block
from tests.corpus_h2.legal import LEGAL_CASES
from tests.corpus_h2.malformed import CONNECTION_CASES, STREAM_CASES

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"fuzz.test")]
SENT = [
    Frame(f.SETTINGS, 0, 0),
    Frame(f.HEADERS, f.END_HEADERS, 1, literal_block([*HEAD, (b"x-a", b"b")])),
    Frame(f.DATA, f.END_STREAM, 1, b"hello"),
]


def read(*more: Frame):
    return SentReader().read(PREFACE + encoded([*SENT, *more]))


def test_frames_are_what_was_encoded():
    assert frames_of(encoded(SENT) + b"\0\0") == (SENT, b"\0\0")


def test_what_a_client_sent():
    reading = read()
    stream = reading.streams[1]
    assert (reading.fault, reading.is_calm, stream.ended) == ("", True, True)
    assert stream.request is not None
    assert (stream.request.method, stream.request.target, stream.request.host) == (b"POST", b"/a", b"fuzz.test")
    assert (stream.request.payload.content, stream.request.whole) == (b"hello", True)


@pytest.mark.parametrize("case", LEGAL_CASES, ids=str)
def test_the_reader_takes_what_is_legal(case):
    """Each stream that must be served is a request."""
    begun = b"" if case.bare else PREFACE + encoded(SENT[:1])
    reading = SentReader().read(begun + b"".join(step for step in case.steps if isinstance(step, bytes)))
    assert not reading.fault
    for stream, status in case.statuses:
        if status == 200:
            assert reading.streams[stream].request is not None


@pytest.mark.parametrize(
    "case", [case for case in [*CONNECTION_CASES, *STREAM_CASES] if case.resets == ((1, 1),)], ids=str
)
def test_the_reader_refuses_what_is_malformed(case):
    data = PREFACE + encoded(SENT[:1]) + b"".join(step for step in case.steps if isinstance(step, bytes))
    stream = SentReader().read(data).streams.get(1)
    assert stream is None or stream.request is None or not stream.request.whole


def test_sequences_are_the_same_for_the_same_numbers():
    seeds = load_seeds()
    corpus = [frames for case in LEGAL_CASES if (frames := corpus_frames(case.steps, bare=case.bare))]
    for number in range(200):
        message = make_sequence(1, number, corpus, seeds)
        assert message == make_sequence(1, number, corpus, seeds)
        if message.plain:
            reading = SentReader().read(sent(message.client))
            assert not reading.fault
            assert all(stream.request is not None and stream.ended for stream in reading.streams.values())


# oracles


def arrival(content: bytes = b"hello", *, fields: tuple[tuple[bytes, bytes], ...] = ((b"x-a", b"b"),)) -> Arrival:
    request = RequestMessage(b"POST", b"/a", 1, b"fuzz.test", list(fields), Payload(State.WHOLE, content), 0, 0)
    return Arrival(b"id-1", "127.1.0.1", 1, request)


def answer(body: bytes, *more: tuple[bytes, bytes], stream: int = 1, ended: bool = True) -> bytes:
    fields = [(b":status", b"201"), (b"x-request-id", b"id-1"), (b"x-styx-edge", b"e"), (b"x-styx-backend", b"b1")]
    return encoded(
        [
            Frame(f.SETTINGS, 0, 0),
            Frame(f.HEADERS, f.END_HEADERS, stream, literal_block([*fields, *more])),
            Frame(f.DATA, f.END_STREAM if ended else 0, stream, body),
        ]
    )


def kinds(data: bytes, *arrivals: Arrival, frames: list[Frame] = SENT, plain: bool = True) -> set[str]:
    message = Message(1, Kind.REQUEST, [Step(Act.SEND, PREFACE + encoded(frames))], [], plain=plain)
    return {fault.kind for fault in judge(message, Received(data, "open", 0.1), list(arrivals))}


def test_nothing_is_wrong_about_an_honest_edge():
    assert kinds(answer(echo_of(arrival())), arrival()) == set()


@pytest.mark.parametrize(
    ("data", "arrivals", "expected"),
    [
        (answer(b"another"), [arrival()], "crossed"),
        (answer(echo_of(arrival())), [arrival(), arrival(b"other")], "twice"),
        (answer(echo_of(arrival())), [arrival(b"hellos")], "split"),
        (answer(echo_of(arrival())), [arrival(fields=((b"x-evil", b"1"),))], "field"),
        (answer(echo_of(arrival()), stream=3), [arrival()], "stray"),
        (answer(echo_of(arrival()), (b"content-length", b"3")), [arrival()], "body"),
        (answer(echo_of(arrival()), (b"connection", b"close")), [arrival()], "frames"),
        (answer(echo_of(arrival()), (b"X-Upper", b"1")), [arrival()], "frames"),
        (answer(echo_of(arrival())) + answer(b"")[9:], [arrival()], "frames"),
        (answer(echo_of(arrival()), (b"x-styx-edge", b"again")), [arrival()], "marks"),
        (answer(echo_of(arrival()), ended=False), [arrival()], "legal"),
        (answer(b"x" * 70_000), [arrival()], "window"),
    ],
)
def test_what_an_edge_must_not_do(data, arrivals, expected):
    assert expected in kinds(data, *arrivals)


TRAILER = (b"x-trailer", b"1")
TWICE = [
    *SENT[:2],
    Frame(f.DATA, 0, 1, b"hello"),
    Frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, literal_block([TRAILER])),
    *[Frame(frame.kind, frame.flags, 3, frame.payload) for frame in SENT[1:]],
]
"Two requests that are alike, but that one has a trailer."


@pytest.mark.parametrize("trailers", [[[TRAILER], []], [[], [TRAILER]], [[], []]], ids=str)
def test_requests_that_are_alike_may_arrive_in_any_order(trailers):
    assert twice(trailers) == set()


def test_a_trailer_is_of_one_request():
    assert twice([[TRAILER], [TRAILER]]) == {"field"}
    assert twice([[], [(b"x-trailer", b"2")]]) == {"field"}


def twice(trailers: list[list[tuple[bytes, bytes]]]) -> set[str]:
    """The kinds of faults when `TWICE` arrived with these trailers."""
    arrivals = []
    for number, of_one in enumerate(trailers):
        one = arrival()
        one.id = b"id-%d" % number
        one.request.payload.trailers.extend(of_one)
        arrivals.append(one)
    return kinds(encoded(SENT[:1]), *arrivals, frames=TWICE, plain=False)


def test_nothing_behind_a_broken_frame_may_arrive():
    frames = [SENT[0], Frame(f.PING, 0, 0, b"short"), *SENT[1:]]
    assert kinds(encoded(SENT[:1]), arrival(), frames=frames, plain=False) == {"split"}


def test_the_edge_begins_with_settings():
    assert read_edge(encoded([Frame(f.PING, 0, 0, bytes(8))])).faults


@pytest.mark.long
async def test_one_sequence_from_a_file_is_sent_again_and_again(tmp_path: Path):
    message = Message(7, Kind.REQUEST, [Step(Act.SEND, PREFACE + encoded(SENT))], [], plain=True)
    file = tmp_path / "message.json"
    file.write_bytes(msgspec.json.encode(message))
    report = await fuzz_h2.run(FuzzPlan(seconds=1, seed=1, connections=2, replay=file))
    assert not report.found, report.text()
    assert set(report.messages) == {"request"}
    assert report.arrived >= report.sent > 10
