"""Every case of the corpus once over real sockets, whole: one worker for all cases of a file.

The backend is raw: it keeps every byte and reads it with a reader of its own (`tests/support/recorder.py`). Cuts,
and what becomes of connections behind a response, are tried without sockets in `tests/net/test_corpus.py`.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from edge.rules.routing.route_response import Backend as RoutedBackend
from edge.rules.routing.route_response import RouteResponse
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
from tests.support.recorder import Recorder, usual
from tests.support.scene import Backend, Client, Scene
from tests.support.strict_reader import Message, Unfinished, Unreadable, read_response

TIMEOUT = 60.0
"Seconds after which a response to a case is missed."


class RecordingBackend(Backend):
    """A backend on a real port whose connections are read by `Recorder`s."""

    def __init__(self, name: str) -> None:
        super().__init__(name, self._unused)
        self.recorders: list[Recorder] = []
        self.words: bytes | None = None
        "What is said to every request instead of the usual."
        self.closes = False
        "Whether it closes behind that."

    async def _unused(self, *_: object) -> None:
        """Its connections have no script."""

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RecordingWire(self), sock=self._sockets[0])

    @property
    def got(self) -> dict[bytes, Message]:
        """The whole requests by their ids. Every one is the edge's own."""
        found: dict[bytes, Message] = {}
        for recorder in self.recorders:
            assert not recorder.fault, recorder.fault
            for message in recorder.got:
                [id] = message.values(b"x-request-id")
                assert id not in found, f"twice the same request: {message}"
                found[id] = message
        return found


class RecordingWire(asyncio.Protocol):
    """One connection to it."""

    def __init__(self, backend: RecordingBackend) -> None:
        self._backend = backend

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._recorder = Recorder(transport.write, self._response)
        self._backend.recorders.append(self._recorder)

    def data_received(self, data: bytes) -> None:
        self._recorder.feed(data)

    def _response(self, message: Message) -> bytes:
        if self._backend.closes:
            asyncio.get_running_loop().call_soon(self._transport.close)
        return usual(message) if self._backend.words is None else self._backend.words


def files(kind: str) -> list[object]:
    """The files of the corpus, as parameters of a test."""
    chosen: dict[str, list[Case]] = {}
    for case in load_corpus(kind):
        chosen.setdefault(case.file.partition("/")[2], []).append(case)
    return [pytest.param(cases, id=name) for name, cases in chosen.items()]


async def stage(scene: Scene, cases: list[Case]) -> tuple[RecordingBackend, Edge]:
    """A backend for all hostnames of these cases, and what the edge says of itself."""
    backend = RecordingBackend("b0")
    scene.backends.append(backend)
    legal = [case for case in cases if case.kind == "request" and not case.hostile]
    hosts = {hostname(message) for case in legal for message in requests_of(case)}
    scene.route("shop.test", [backend])
    worker = await scene.edge()
    for host in hosts:  # some are no names that the edge would ask for, as [::1]
        context, endpoint = worker.context, RoutedBackend("b0", "127.0.0.1", backend.port)
        response = RouteResponse(host, host, "live", 1, (endpoint,))
        context.table.put(host, response, cache_control="max-age=1000", now=time.monotonic(), rand=0.0)
    return backend, Edge(client=b"127.0.0.1", port=b"%d" % worker.ports[0])


async def told(client: Client, methods: list[bytes], *, to_the_end: bool) -> tuple[list[Message], bytes]:
    """The responses to requests of these methods, and what followed; `to_the_end`: until the edge closes."""
    data = await client.rest() if to_the_end else b""
    found: list[Message] = []
    at = 0
    while len(found) < len(methods):
        try:
            message, at = read_response(data, at, method=methods[len(found)], ended=to_the_end)
            found.append(message)
        except Unfinished:
            more = b"" if to_the_end else await client.read_some()
            if not more:
                raise
            data += more
    return found, data[at:]


def fail(wrong: list[str], cases: list[Case]) -> None:
    if wrong:
        pytest.fail(f"{len(wrong)} of {len(cases)} cases:\n  " + "\n  ".join(wrong), pytrace=False)


@pytest.mark.parametrize("cases", files("request"))
async def test_requests(scene: Scene, cases: list[Case]) -> None:
    """Hostile ones are refused and closed, legal ones arrive as they are, and nothing else arrives."""
    backend, edge = await stage(scene, cases)
    wrong = []
    claimed: set[bytes] = set()
    for case in cases:
        client = await scene.client()
        await client.write(case.data)
        backend.words = case.response
        try:
            async with asyncio.timeout(TIMEOUT):
                faults = [fault async for fault in _wrong(case, client, backend, edge, claimed)]
        except (Unfinished, Unreadable, ConnectionError, TimeoutError) as fault:
            faults = [f"{type(fault).__name__}: {fault}"]
        client.leave()
        wrong += [f"{case}: {fault}\n      {case.data[:300]!r}" for fault in faults[:1]]
    await scene.until(lambda: not scene.snapshot.exchanges)
    fail(wrong, cases)
    assert set(backend.got) == claimed, "requests came that nobody sent"


async def _wrong(case: Case, client: Client, backend: RecordingBackend, edge: Edge, claimed: set[bytes]) -> Any:
    sent = requests_of(case)
    methods = [message.first[0] for message in sent]
    if case.hostile:
        # A HEAD that is refused has a body or not, as much of it as was understood: it is not looked at.
        responses, _ = await told(client, [*methods, b"HEAD"], to_the_end=True)
        for fault in wrong_refusal(responses.pop(), case.status or 0, case.reason, edge):
            yield fault
    else:
        responses, rest = await told(client, methods, to_the_end=not keeps_alive(sent[-1]))
        if rest:
            yield f"behind the responses came {rest!r}"
    for number, (request, response) in enumerate(zip(sent, responses, strict=True)):
        first = number == 0
        if response.status != (case.status if first and not case.hostile and case.status else 200):
            yield f"the response was {response.first}"
        if first and case.own:
            continue
        [id] = response.values(b"x-request-id")
        claimed.add(id)
        if id not in backend.got:
            yield f"request {number} is not at the backend"
        else:
            for fault in wrong_request(request, backend.got[id], case if first else None, edge):
                yield fault


@pytest.mark.parametrize("cases", files("response"))
async def test_responses(scene: Scene, cases: list[Case]) -> None:
    """Hostile ones become a 502 or are cut short, legal ones arrive as they are; each reaches its own client."""
    backend, edge = await stage(scene, cases)
    wrong = []
    for case in cases:
        backend.words, backend.closes = case.data, case.closes
        client = await scene.client()
        await client.write(case.request)
        try:
            look = _wrong_hostile_response if case.hostile else _wrong_response
            async with asyncio.timeout(TIMEOUT):
                faults = list(await look(case, client, edge))
        except (Unfinished, Unreadable, ConnectionError, TimeoutError) as fault:
            faults = [f"{type(fault).__name__}: {fault}"]
        client.leave()
        backend.words, backend.closes = None, False
        after = await scene.get("shop.test", "/next")
        if (after.status, after.body) != (200, b"ok"):
            faults.append(f"the next request got {after}")
        wrong += [f"{case}: {fault}\n      {case.data[:300]!r}" for fault in faults[:1]]
    fail(wrong, cases)


async def _wrong_response(case: Case, client: Client, edge: Edge) -> Iterator[str]:
    request, response, rest = response_of(case)
    to_the_end = response.status != 101 and b"HTTP/1.0" in request.first
    [got], more = await told(client, [request.first[0]], to_the_end=to_the_end)
    while len(more) < len(rest):
        more += await client.read_some()
    faults = [*wrong_response(response, got, case, request, edge)]
    return iter(faults if more == rest else [*faults, f"behind the response came {more[:200]!r}"])


async def _wrong_hostile_response(case: Case, client: Client, edge: Edge) -> Iterator[str]:
    method = case.request.partition(b" ")[0]
    try:
        [got], _ = await told(client, [method], to_the_end=False)
    except (Unfinished, ConnectionResetError):
        return iter(() if case.cut else ("the response has no end",))
    if case.status == 502:
        return wrong_refusal(got, 502, case.reason, edge)
    return iter(() if got.status == case.status else (f"the response was {got.first}",))
