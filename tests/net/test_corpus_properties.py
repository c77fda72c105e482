"""Random requests, and damaged ones of the corpus: what reaches the backend is what was sent, and nothing else.

Judges are the reader of `tests/support/strict_reader.py`, h11, and llhttp (by httptools): three who know nothing of
the edge's own rules.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.corpus_files import Case, load_corpus
from tests.corpus.corpus_verdicts import OURS, OURS_OF_RESPONSES, Edge, hostname, wrong_request
from tests.support.recording_stage import Stage
from tests.support.strict_reader import TCHAR, Lines, Message, Unfinished, Unreadable, read_requests, read_response

EDGE = Edge()
RESPONSES = [case for case in load_corpus("response") if not case.hostile and b" 101" not in case.data[:200]]
LEGAL = [case for case in load_corpus("request") if not case.hostile and not case.own and len(case.data) < 1000]
LLHTTP_KNOWS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH PURGE"
    b" MERGE NOTIFY LINK".split()
)
EACH_TIME_NEW = frozenset({b"x-request-id", b"expect"})
"Expect: the edge asks by itself when it has not the whole body yet."


class Came(NamedTuple):
    """What came of one client."""

    requests: list[Message]
    "At the backend, whole."
    raw: list[bytes]
    "Their bytes."
    statuses: list[bytes]
    "Of the final responses to the client."


Run = Callable[[Sequence[bytes]], Came]
RunResponse = Callable[[Case, Sequence[bytes]], tuple[bytes, str]]


class NobodyKnows:
    """Stands for the resolver: a hostname that is not in the table cannot be looked up."""

    def resolve(self, hostname: str, done: Callable[[None], None], client: str, refused: object) -> None:
        done(None)

    def can_claim_lookup(self, hostname: str, route: object, now: float) -> bool:
        return False


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """run(pieces) -> what came of a client who sends these."""
    with asyncio.Runner() as runner:
        stage, resolver = runner.run(_stage())
        yield lambda pieces: runner.run(_play(stage, pieces))
        stage.worker.context.resolver = resolver
        runner.run(stage.close())


async def _stage() -> tuple[Stage, object]:
    stage = Stage(idle_per_backend=10_000, idle_total=10_000)
    stage.serve({hostname(message) for case in LEGAL for message in read_requests(case.data)[0]})
    context = stage.worker.context
    resolver, context.resolver = context.resolver, NobodyKnows()
    return stage, resolver


@pytest.fixture(scope="module")
def run_response() -> Iterator[RunResponse]:
    """run_response(case, pieces) -> what its client gets when its backend responds with these."""
    with asyncio.Runner() as runner:
        stage, resolver = runner.run(_stage())
        yield lambda case, pieces: runner.run(_play_response(stage, case, pieces))
        stage.worker.context.resolver = resolver
        runner.run(stage.close())


async def _play_response(stage: Stage, case: Case, pieces: Sequence[bytes]) -> tuple[bytes, str]:
    stage.words = b""
    [client] = await stage.play([[case.request]])
    [end] = stage.ends
    for piece in pieces:
        end.say(piece)
    if case.closes:
        end.end()
    await stage.settle()
    got = client.written, client.closed
    await stage.clear()
    return got


async def _play(stage: Stage, pieces: Sequence[bytes]) -> Came:
    clients = await stage.play([pieces])
    recorders = [end.recorder for end in stage.ends]
    assert not any(recorder.fault for recorder in recorders), [recorder.fault for recorder in recorders]
    requests = [message for recorder in recorders for message in recorder.got]
    raw = [data for recorder in recorders for data in recorder.raw]
    statuses = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", clients[0].written)
    await stage.clear()
    return Came(requests, raw, statuses)


def by_h11(raw: bytes) -> Message:
    """Another reading of the same bytes."""
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    judge.receive_data(raw)
    request = judge.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := judge.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert judge.trailing_data == (b"", False)
    first = (request.method, request.target, b"HTTP/" + request.http_version)
    return Message(first, tuple(request.headers.raw_items()), body, tuple(event.headers.raw_items()))


class _LlhttpSays:
    """Callbacks of httptools."""

    def __init__(self) -> None:
        self.target = self.body = b""
        self.lines: list[tuple[bytes, bytes]] = []
        self.head = 0
        self.ends = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head = len(self.lines)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def by_llhttp(raw: bytes) -> Message:
    """And a third one."""
    said = _LlhttpSays()
    parser = httptools.HttpRequestParser(said)
    parser.feed_data(raw)
    assert said.ends == 1
    first = (parser.get_method(), said.target, b"HTTP/" + parser.get_http_version().encode())
    return Message(first, tuple(said.lines[: said.head]), said.body, tuple(said.lines[said.head :]))


def check_all_read_the_same(came: Came) -> None:
    """What leaves the edge is read by everybody as the recording backend read it."""
    for message, raw in zip(came.requests, came.raw, strict=True):
        method, target, _ = message.first
        if not target.isascii():
            continue  # they want ASCII; nginx, PHP and Python do not
        assert by_h11(raw) == message
        if method in LLHTTP_KNOWS and not message.values(b"upgrade"):
            assert by_llhttp(raw) == message


def test_every_legal_case_is_read_alike(run: Run) -> None:
    read = 0
    for case in LEGAL:
        came = run([case.data])
        check_all_read_the_same(came)
        read += len(came.requests)
    assert read > len(LEGAL)


letters = "".join(map(chr, TCHAR))
names = st.text(letters, min_size=1, max_size=10).map(lambda name: b"x" + name.encode())
values = st.text("".join(map(chr, [9, *range(0x20, 0x7F), *range(0x80, 0x100)])), max_size=20)
lines = st.lists(st.tuples(names, values.map(lambda value: value.strip(" \t").encode("latin-1"))), max_size=5)
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND", b"x-Y"])
visible = "".join(chr(code) for code in range(0x21, 0x7F) if code != ord("#"))
targets = st.text(visible, max_size=20).map(lambda text: b"/" + text.encode())
blocks = st.lists(st.binary(min_size=1, max_size=50), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One legal request, with a body of any kind or none."""
    said = [(b"Host", b"shop.test"), *draw(lines)]
    pieces = draw(blocks)
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    body = b""
    if kind == "length":
        body = b"".join(pieces)
        said.append((b"Content-Length", b"%d" % len(body)))
    elif kind == "chunked":
        said.append((b"Transfer-Encoding", b"chunked"))
        ext = draw(st.sampled_from([b"", b";a", b'; b = "c;\\"d"', b";0=1;e"]))
        body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), ext, piece) for piece in pieces) + b"0\r\n"
        body += b"".join(b"%b: %b\r\n" % line for line in draw(lines)) + b"\r\n"
    said = draw(st.permutations(said))
    head = b"%b %b HTTP/1.1\r\n" % (draw(methods), draw(targets))
    return head + b"".join(b"%b: %b\r\n" % line for line in said) + b"\r\n" + body


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces."""
    at = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)))
    return [data[a:b] for a, b in pairwise([0, *at, len(data)])]


steadily = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@steadily
@given(data=st.data(), pipeline=st.lists(requests(), min_size=1, max_size=3))
def test_random_requests_arrive_as_they_are(run, data, pipeline):
    wire = b"".join(pipeline)
    sent, rest = read_requests(wire)
    assert (len(sent), rest) == (len(pipeline), b"")
    for pieces in ([wire], data.draw(cuts(wire))):
        came = run(pieces)
        assert came.statuses == [b"200"] * len(sent)
        faults = [list(wrong_request(*pair, None, EDGE)) for pair in zip(sent, came.requests, strict=True)]
        assert not any(faults), faults
        check_all_read_the_same(came)


@st.composite
def damaged(draw: st.DrawFn, case: Case) -> bytes:
    """A legal case with a few bytes changed, lost or doubled; mostly to those that mean something."""
    data = case.data
    meaning = [bytes([byte]) for byte in b"\r\n \t:;,=/#*0139abcHTPx_-\x00\x0b\x1f\x7f\x80\xff"]
    words = [b"\r\n", b"\r\n\r\n", b"\n\n", b"chunked", b"Content-Length: 3\r\n", b"Host: a\r\n", b"HTTP/1.0"]
    words += [
        b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding",
        b"Connection: x-a\r\n",
        b" HTTP/1.1\r\n",
    ]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 3))
        copy = data[at : at + draw(st.integers(0, 40))]
        put = draw(st.sampled_from([b"", copy, *meaning, *words]))
        data = data[:at] + put + data[end:]
    return data


def is_part_of(part: Lines, whole: Lines) -> bool:
    """Whether all lines of it are there, in that order."""
    left = iter(whole)
    return all(line in left for line in part)


def check_nothing_else_came(wire: bytes, came: Came) -> None:
    """Every request at the backend is one that an independent reader finds in the client's bytes, in order."""
    sent, _ = read_requests(wire)
    here = [message for message in sent if not _is_edges_own(message)]
    for request, arrived in zip_longest(here[: len(came.requests)], came.requests):
        assert request is not None, f"nobody sent {arrived}"
        method, target, _ = request.first
        assert arrived.first[0] == method
        assert target.endswith(arrived.first[1]) or arrived.first[1][:2] in (b"/?", b"/", b"*"), (target, arrived)
        assert arrived.body == request.body
        assert is_part_of(arrived.trailers, request.trailers)
        lines = tuple(line for line in arrived.fields if line[0].lower() not in OURS)
        assert is_part_of(lines, request.fields)


def _is_edges_own(message: Message) -> bool:
    """Whether the edge may have responded to it itself, and gone on: its host is nobody's."""
    return hostname(message) not in HOSTS


HOSTS = {hostname(message) for case in LEGAL for message in read_requests(case.data)[0]}


def in_short(came: Came) -> object:
    """All of it, but for what differs every time."""
    return came.statuses, [
        (m.first, [line for line in m.fields if line[0].lower() not in EACH_TIME_NEW], m.body, m.trailers)
        for m in came.requests
    ]


@settings(steadily, max_examples=400)
@given(data=st.data(), case=st.sampled_from(LEGAL))
def test_damaged_requests_have_no_second_reading(run, data, case):
    """However they come in pieces it is the same, and the backend sees nothing that nobody sent."""
    wire = data.draw(damaged(case))
    whole = run([wire])
    check_nothing_else_came(wire, whole)
    check_all_read_the_same(whole)
    for pieces in (data.draw(cuts(wire)), [wire[at : at + 1] for at in range(len(wire))]):
        assert in_short(run(pieces)) == in_short(whole)


def whole_response(data: bytes, method: bytes, *, ended: bool) -> Message | None:
    """The response in these bytes, if a reader takes it for complete."""
    try:
        return read_response(data, method=method, ended=ended)[0]
    except (Unreadable, Unfinished):
        return None


@settings(steadily, max_examples=120)
@given(data=st.data(), case=st.sampled_from(RESPONSES))
def test_damaged_responses_have_no_second_reading(run_response, data, case):
    """A client takes for complete only what its backend said, as an independent reader reads it."""
    wire = data.draw(damaged(case))
    method = case.request.partition(b" ")[0]
    said = whole_response(wire, method, ended=case.closes)
    for pieces in ([wire], data.draw(cuts(wire)), [wire[at : at + 1] for at in range(len(wire))]):
        got, closed = run_response(case, pieces)
        response = whole_response(got, method, ended=closed == "close")
        if response is None or response.values(b"x-styx-error"):
            continue
        assert said is not None, f"nobody said {response}"
        assert (response.status, response.body) == (said.status, said.body)
        assert is_part_of(response.trailers, said.trailers)
        ours = OURS_OF_RESPONSES if said.values(b"date") else OURS_OF_RESPONSES | {b"date"}
        lines = tuple(line for line in response.fields if line[0].lower() not in ours)
        assert is_part_of(lines, said.fields)
