"""The recording backend of the fuzzer finds each kind of request that no proxy may send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bench.fuzz.mutations import Act, Step
from bench.fuzz.recording_backend import RecordingBackend

CLIENT = "127.1.0.1"
MARKS = (
    f"Host: a.test\r\nX-Request-Id: 1\r\nVia: 1.1 styx\r\nX-Styx-Backend: b1\r\nX-Styx-Attempt: 1\r\n"
    f"X-Forwarded-For: {CLIENT}\r\nX-Forwarded-Host: a.test\r\n"
).encode()
GET = b"GET / HTTP/1.1\r\n" + MARKS + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + MARKS
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Send = Callable[..., Awaitable[bytes]]


class Recorded(RecordingBackend):
    """Keeps what it was called with."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str, str]] = []
        super().__init__(lambda *words: self.faults.append(words))

    @property
    def kinds(self) -> set[str]:
        return {kind for _, kind, _ in self.faults}


@pytest.fixture
async def backend() -> AsyncIterator[Recorded]:
    recorded = Recorded()
    async with recorded.serving():
        yield recorded


@pytest.fixture
async def send(backend: Recorded) -> Send:
    """send(*pieces) -> all that comes back. Each piece waits for a response to the one before."""

    async def sent_to(*pieces: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", backend.port)
        received = b""
        try:
            async with asyncio.timeout(100):
                for piece in pieces[:-1]:
                    writer.write(piece)
                    received += await reader.read(65536)
                writer.write(pieces[-1])
                writer.write_eof()
                received += await reader.read()
        except ConnectionError:  # how it ends a connection that it cannot read
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return received

    return sent_to


async def test_a_clean_request_is_recorded_and_echoed(backend: Recorded, send: Send):
    received = await send(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", GET)
    assert backend.faults == []
    assert [arrival.request.payload.content for arrival in backend.arrivals[CLIENT]] == [b"hello", b""]
    assert all(arrival.whole for arrival in backend.arrivals[CLIENT])
    assert received.count(CLIENT.encode()) == 2


@pytest.mark.parametrize(
    "data",
    [
        GET.replace(b"Host: a.test\r\n", b"", 1),
        GET.replace(b"Host: a.test\r\n", b"Host: a.test\r\nHost: b.test\r\n", 1),
        GET.replace(b"X-Request-Id: 1\r\n", b""),
        GET.replace(b"Via: 1.1 styx\r\n", b"Via: 1.1 a\r\nVia: 1.1 styx\r\n"),
        GET.replace(b"X-Styx-Backend", b"X_Styx_Backend: b2\r\nX-Styx-Backend"),
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GET.replace(b"GET / ", b"GET http://a.test/ "),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: Host\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: a\nY: b\r\n\r\n"),
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        b"\r\n" + GET,
    ],
)
async def test_ambiguous_requests_are_reported(backend: Recorded, send: Send, data: bytes):
    await send(data)
    assert backend.kinds == {"forwarded"}


async def test_a_smuggled_request_is_reported(backend: Recorded, send: Send):
    await send(POST + b"Content-Length: 2\r\n\r\nok" + GET)
    assert "pipelined" in backend.kinds


async def test_half_a_request_stays_half(backend: Recorded, send: Send):
    await send(POST + b"Content-Length: 20\r\nExpect: 100-continue\r\n\r\nok")
    assert backend.faults == []
    assert [arrival.whole for arrival in backend.arrivals[CLIENT]] == [False]


@pytest.mark.parametrize(
    "response",
    [
        WHOLE + b"more",
        WHOLE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"Content-Length: 2", b"Content-Length: 3"),
        WHOLE.replace(b"Content-Length: 2", b"Content-Length: two"),
        WHOLE.replace(b"Content-Length: 2\r\n", b""),
        b"HTTP/1.1 200",
    ],
)
async def test_a_connection_that_is_used_again_after_such_a_response_is_reported(
    backend: Recorded, send: Send, response: bytes
):
    backend.scripts[CLIENT] = [Step(Act.SEND, response)]
    await send(GET, GET)
    assert backend.kinds == {"reused"}


async def test_a_connection_may_be_used_again_after_a_whole_response(backend: Recorded, send: Send):
    backend.scripts[CLIENT] = [Step(Act.SEND, WHOLE[:20]), Step(Act.SEND, WHOLE[20:])]
    assert (await send(GET, GET)).count(b"HTTP/1.1 200") == 2
    assert backend.faults == []


async def test_after_a_101_everything_is_the_tunnel(backend: Recorded, send: Send):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    backend.scripts[CLIENT] = [Step(Act.SEND, b"HTTP/1.1 101 Go\r\n" + upgrade + b"\r\nhello")]
    await send(GET[:-2] + upgrade + b"\r\n", b"GET / is not a request here")
    assert backend.faults == []
    [arrival] = backend.arrivals[CLIENT]
    assert bytes(arrival.tunnelled) == b"GET / is not a request here"


async def test_an_early_response_comes_before_the_body_and_the_body_is_recorded_all_the_same(
    backend: Recorded, send: Send
):
    backend.scripts[CLIENT] = [Step(Act.SEND, WHOLE)]
    backend.hasty.add(CLIENT)
    received = await send(POST + b"Content-Length: 5\r\n\r\nhe", b"llo" + GET)
    assert received.startswith(WHOLE)
    # The response was complete: what follows the body is the next request.
    assert backend.faults == []
    assert [arrival.request.payload.content for arrival in backend.arrivals[CLIENT]] == [b"hello", b""]


async def test_a_request_behind_a_body_is_smuggled_while_the_response_is_under_way(backend: Recorded, send: Send):
    backend.scripts[CLIENT] = [Step(Act.SEND, WHOLE[:20]), Step(Act.PAUSE, seconds=0.2), Step(Act.SEND, WHOLE[20:])]
    backend.hasty.add(CLIENT)
    await send(POST + b"Content-Length: 5\r\n\r\nhe", b"llo" + GET)
    assert "pipelined" in backend.kinds
