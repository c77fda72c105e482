"""Every case of the corpus without sockets: whole, byte by byte, and cut in two at every byte.

Of long repetitions (a name of 9000 letters) only the ends and a few places within are cut; see `Case.cuts`.
All cuts of a case are clients of one worker at the same time, and all cases of a file have the same worker.
"""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest

from tests.corpus.corpus_files import Case, load_corpus
from tests.corpus.corpus_verdicts import (
    Edge,
    hostname,
    keeps_alive,
    requests_of,
    response_of,
    wrong_refusal,
    wrong_request,
    wrong_response,
)
from tests.support.fake_transports import FakeTransport
from tests.support.recording_stage import RecordingEnd, Stage, is_over, responses_in
from tests.support.strict_reader import Message, Unfinished, Unreadable

EDGE = Edge()
Play = tuple[str, Sequence[bytes]]
"How the bytes of a case come, and the pieces in which they do."
_ID = re.compile(rb"(?i)\r\nx-request-id: ([^\r]*)")
_VARYING = re.compile(rb"(?i)\r\n(?:x-request-id|date): [^\r]*")
"What is another one in each response."


def files(kind: str, *, hostile: bool) -> list[object]:
    """The files with such cases, as parameters of a test."""
    chosen: dict[str, list[Case]] = {}
    for case in load_corpus(kind):
        if case.hostile is hostile:
            chosen.setdefault(case.file.partition("/")[2], []).append(case)
    return [pytest.param(cases, id=name) for name, cases in chosen.items()]


@pytest.fixture
async def stage(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stage]:
    caplog.set_level(logging.WARNING)
    stage = Stage(idle_per_backend=10_000, idle_total=10_000)
    yield stage
    await stage.close()
    logged = {record.getMessage() for when in ("setup", "call", "teardown") for record in caplog.get_records(when)}
    assert not logged - {"response head too large"}


@pytest.mark.parametrize(
    ("kind", "hostile", "least"),
    [("request", True, 430), ("request", False, 170), ("response", True, 120), ("response", False, 60)],
)
def test_there_is_enough_of_each(kind: str, hostile: bool, least: int) -> None:
    assert sum(case.hostile is hostile for case in load_corpus(kind)) >= least


def ways(case: Case) -> list[Play]:
    """How the bytes of a case may come."""
    data = case.data
    halves = [(f"cut at {at}", (data[:at], data[at:])) for at in case.cuts]
    return [("whole", (data,)), ("byte by byte", case.single_bytes), *halves]


async def look_at(cases: list[Case], stage: Stage, look: Callable[[Stage, Case], Awaitable[list[str]]]) -> None:
    """Play all cases; tell of every one that went wrong, with the first way in which it did."""
    wrong = []
    for case in cases:
        try:
            faults = await look(stage, case)
        except Exception as error:
            faults = [f"{type(error).__name__}: {error}"]
        await stage.clear()
        if faults:
            wrong.append(f"{case}, {faults[0]}\n      {case.data[:300]!r}")
        assert not stage.worker.context.counts.connections, f"{case}: connections are left"
        assert not stage.worker.context.counts.exchanges, f"{case}: exchanges are left"
    if wrong:
        pytest.fail(f"{len(wrong)} of {len(cases)} cases:\n  " + "\n  ".join(wrong), pytrace=False)


def _id_of(message: Message) -> bytes:
    [found] = message.values(b"x-request-id")
    return found


def got_by_id(stage: Stage) -> dict[bytes, Message]:
    """The whole requests that came to the backend. Every one is the edge's own, with an id of its own."""
    got: dict[bytes, Message] = {}
    for end in stage.ends:
        assert not end.recorder.fault, end.recorder.fault
        for message in end.got:
            assert _id_of(message) not in got, f"twice the same request: {message}"
            got[_id_of(message)] = message
    return got


def in_short(client: FakeTransport, got: dict[bytes, Message]) -> object:
    """All that came of what a client sent, but for what differs every time."""
    arrived = [
        (m.first, tuple(line for line in m.fields if line[0] != b"X-Request-Id"), m.body, m.trailers, m.chunked)
        for m in (got[id] for id in _ID.findall(client.written) if id in got)
    ]
    return client.closed, is_over(client), _VARYING.sub(b"", client.written), tuple(arrived)


def check_all(
    plays: Sequence[Play], clients: Sequence[FakeTransport], stage: Stage, check: Callable[..., Iterator[str]]
) -> Iterator[str]:
    """Check what came of each way; of those that came to the same only one."""
    got = got_by_id(stage)
    seen = set()
    for (how, _), client in zip(plays, clients, strict=True):
        short = in_short(client, got)
        if short not in seen:
            yield from (f"{how}: {fault}" for fault in check(client, got))
            seen.add(short)
        for id in _ID.findall(client.written):
            got.pop(id, None)
    if got:
        yield f"requests that nobody sent: {list(got.values())[:3]}"


def read_responses(
    client: FakeTransport, sent: Sequence[Message], more: Sequence[bytes] = ()
) -> list[Message] | str:
    """The responses that a client got, or what is wrong with them."""
    methods = [*(message.first[0] for message in sent), *more]
    try:
        return responses_in(client.written, methods, ended=is_over(client))
    except (Unreadable, Unfinished) as fault:
        return f"the client got what is no response: {fault}: {client.written[-500:]!r}"


@pytest.mark.parametrize("cases", files("request", hostile=True))
async def test_hostile_requests(stage: Stage, cases: list[Case]) -> None:
    """Refused as the rule says, closed, and the backend got only what was legal before it."""

    async def look(stage: Stage, case: Case) -> list[str]:
        plays = ways(case)
        sent = requests_of(case)
        clients = await stage.play([pieces for _, pieces in plays])
        return list(check_all(plays, clients, stage, lambda *came: _wrong_hostile(case, sent, *came)))

    await look_at(cases, stage, look)


def _wrong_hostile(
    case: Case, sent: list[Message], client: FakeTransport, got: dict[bytes, Message]
) -> Iterator[str]:
    # A HEAD that is refused has a body or not, as much of it as was understood.
    bodiless = b"HEAD " in case.data and client.written.endswith(b"\r\n\r\n")
    responses = read_responses(client, sent, [b"HEAD"] if bodiless else [])
    if isinstance(responses, str):
        yield responses
        return
    if len(responses) != case.before + 1:
        yield f"{len(responses)} responses: {[response.status for response in responses]}"
        return
    *good, refusal = responses
    for number, (request, response) in enumerate(zip(sent, good, strict=True)):
        arrived = got.get(_id_of(response))
        if arrived is None or response.values(b"x-styx-error"):
            yield f"a legal request before it was not passed on: {response.first}"
        else:
            yield from wrong_request(request, arrived, case if number == 0 else None, EDGE)
    assert case.status is not None
    yield from wrong_refusal(refusal, case.status, case.reason, EDGE)
    if _id_of(refusal) in got:
        yield f"the backend got it: {got[_id_of(refusal)]}"
    if refusal.values(b"connection") != [b"close"] or not is_over(client):
        yield "its connection is not closed"


@pytest.mark.parametrize("cases", files("request", hostile=False))
async def test_legal_requests(stage: Stage, cases: list[Case]) -> None:
    """Passed on as they are, whatever the cut, one by one; the connection stays open if they say so."""

    async def look(stage: Stage, case: Case) -> list[str]:
        plays = ways(case)
        stage.words = case.response
        sent = requests_of(case)
        stage.serve(map(hostname, sent))
        clients = await stage.play([pieces for _, pieces in plays])
        faults = list(check_all(plays, clients, stage, lambda *came: _wrong_legal(case, sent, *came)))
        rests = {end.recorder.rest for end in stage.ends}
        if case.tunnel is not None and rests != {case.tunnel}:
            faults.append(f"through the tunnel came {rests}")
        return faults

    await look_at(cases, stage, look)


def _wrong_legal(
    case: Case, sent: list[Message], client: FakeTransport, got: dict[bytes, Message]
) -> Iterator[str]:
    responses = read_responses(client, sent)
    if isinstance(responses, str):
        yield responses
        return
    if len(responses) != len(sent):
        yield f"{len(responses)} responses to {len(sent)} requests: {[response.status for response in responses]}"
        return
    for number, (request, response) in enumerate(zip(sent, responses, strict=True)):
        first = number == 0
        status = case.status if first and case.status is not None else 200
        if response.status != status or response.values(b"x-styx-error"):
            yield f"the response was {response.first} {response.values(b'x-styx-error')}"
        arrived = got.get(_id_of(response))
        if first and case.own:
            if arrived is not None:
                yield "passed on, though the edge responds to it"
        elif arrived is None:
            yield f"request {number} is not at the backend"
        else:
            yield from wrong_request(request, arrived, case if first else None, EDGE)
    if not case.own and is_over(client) == (keeps_alive(sent[-1]) and not case.closes):
        yield f"the connection is {'closed' if is_over(client) else 'kept'}"


@pytest.mark.parametrize("cases", files("response", hostile=False))
async def test_legal_responses(stage: Stage, cases: list[Case]) -> None:
    """Passed on as they are, and their connections are kept if they say so."""

    async def look(stage: Stage, case: Case) -> list[str]:
        request, response, rest = response_of(case)
        plays = ways(case)
        clients = await _with_responses(stage, case, plays)
        kept = keeps_alive(response) and not case.closes
        faults = list(
            check_all(plays, clients, stage, lambda *came: _wrong_response(case, request, response, *came))
        )
        if not all(client.written.endswith(rest) for client in clients):
            faults.append("bytes behind the 101 are lost")
        if {not end.closed for end in stage.ends} != {kept}:
            faults.append(f"the connections to the backend are {'closed' if kept else 'kept'}")
        return faults

    await look_at(cases, stage, look)


def _wrong_response(
    case: Case, request: Message, response: Message, client: FakeTransport, got: dict[bytes, Message]
) -> Iterator[str]:
    responses = read_responses(client, [request])
    if isinstance(responses, str):
        yield responses
    elif len(responses) != 1:
        yield f"{len(responses)} responses"
    else:
        yield from wrong_response(response, responses[0], case, request, EDGE)


@pytest.mark.parametrize("cases", files("response", hostile=True))
async def test_hostile_responses(stage: Stage, cases: list[Case]) -> None:
    """Refused, or cut short where that is too late; nobody is ever sent to that connection again."""

    async def look(stage: Stage, case: Case) -> list[str]:
        plays = ways(case)
        clients = await _with_responses(stage, case, plays)
        faults = list(check_all(plays, clients, stage, lambda *came: _wrong_hostile_response(case, *came)))
        if not all(end.closed for end in stage.ends):
            faults.append("a connection to the backend is not closed")
        used, stage.words = len(stage.ends), None
        [after] = await stage.play([[b"GET /next HTTP/1.1\r\nHost: shop.test\r\n\r\n"]])
        if len(stage.ends) != used + 1 or not after.written.startswith(b"HTTP/1.1 200 OK\r\n"):
            faults.append(f"the next request got {after.written!r}")
        return faults

    await look_at(cases, stage, look)


def _wrong_hostile_response(case: Case, client: FakeTransport, got: dict[bytes, Message]) -> Iterator[str]:
    method = case.request.partition(b" ")[0]
    try:
        responses = responses_in(client.written, [method], ended=is_over(client) and not case.cut)
    except Unfinished as unfinished:
        # Where the end of the connection is the end of the response, it must be a reset.
        told = unfinished.message
        delimited = told is not None and (told.chunked or told.values(b"content-length"))
        if not case.cut or told is None or not (client.closed if delimited else client.closed == "abort"):
            yield f"the client's response has no end: {client.written[-500:]!r}"
        return
    except Unreadable as fault:
        yield f"the client got what is no response: {fault}: {client.written[-500:]!r}"
        return
    if len(responses) != 1:
        yield f"{len(responses)} responses: {client.written[-500:]!r}"
    elif case.status == 502:
        yield from wrong_refusal(responses[0], 502, case.reason, EDGE)
    elif responses[0].status != case.status or responses[0].values(b"x-styx-error"):
        yield f"the response was {responses[0].first} {responses[0].values(b'x-styx-error')}"


async def _with_responses(stage: Stage, case: Case, plays: Sequence[Play]) -> list[FakeTransport]:
    """As many clients as there are ways to cut the response; each has its response."""
    stage.words = b""
    clients = await stage.play([[case.request]] * len(plays))
    ends: list[RecordingEnd] = list(stage.ends)
    assert [len(end.got) for end in ends] == [1] * len(plays), "every request came, each on a connection"
    for (_, pieces), end in zip(plays, ends, strict=True):
        for piece in pieces:
            end.say(piece)
        if case.closes:
            end.end()
    await stage.settle()
    for client, end in zip(clients, ends, strict=True):
        assert set(_ID.findall(client.written)) <= {_id_of(end.got[0])}, "the responses went to others"
    return clients


async def test_responses_that_nobody_asked_for(stage: Stage) -> None:
    """Said to a connection that is kept: it is closed, and the next client gets what it asked for."""
    request = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
    for case in load_corpus("response"):
        for words in filter(None, (case.data, case.data[:1])):
            [first] = await stage.play([[request]])
            [end] = stage.ends
            assert not end.closed
            end.say(words)
            assert end.closed
            [second] = await stage.play([[request]])
            assert len(stage.ends) == 2, "it has a connection of its own"
            assert _VARYING.sub(b"", second.written) == _VARYING.sub(b"", first.written)
            await stage.clear()
