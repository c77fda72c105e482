"""A read that lies in the shared buffer comes to the same as its bytes, and the body in it is copied once."""

from typing import Any

import pytest

from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.head_reader import HeadReader
from edge.net.transport.read_budget import ReadBudget
from edge.net.transport.small_reads import LARGEST_FIRST, LONG, SmallReads
from edge.rules.http.head_validation import HeadValidator
from edge.rules.http.messages import ResponseHead
from edge.rules.outcomes import Cause
from edge.rules.settings import ForwardingSettings, Settings
from tests.net.conftest import PLAIN, new_pool
from tests.support.fake_transports import FakeLoop, FakeTransport

BODY = bytes(range(256)) * (LONG // 100)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Recorder:
    """A handler of responses that keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.pieces: list[bytes] = []

    def interim(self, head: ResponseHead) -> None:
        self.calls.append(("interim", head.status))

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        self.calls.append(("switched", rest))
        return True

    def trailers(self, fields: Any) -> None:
        self.calls.append(("trailers", fields))

    def response_received(self, response: Any, pieces: list[bytes], done: bool) -> None:
        self.calls.append(("response", response.status, response.lines, done))
        self.pieces += pieces

    def response_body(self, pieces: list[bytes], done: bool) -> None:
        self.calls.append(("body", done))
        self.pieces += pieces

    def backend_lost(self, cause: Cause) -> None:
        self.calls.append(("lost", cause))


def attached(*, requested: bool = True) -> tuple[H1Backend, Recorder, FakeTransport]:
    """A connection to a backend, with a handler that waits for a response unless nothing was `requested`."""
    loop: Any = FakeLoop()
    limits = Settings.model_validate(PLAIN).limits
    reader = HeadReader(HeadValidator(limits, ForwardingSettings()))
    backend = H1Backend(new_pool(loop), "b0", reader, limits, ReadBudget(loop, lambda: 0.0))
    recorder: Any = Recorder()
    transport = FakeTransport(backend)
    if requested:
        backend.attach(recorder, to_head=False)
    return backend, recorder, transport


READS = {
    "a whole response": HEAD + BODY,
    "more than the body": HEAD + BODY + b"x",
    "a part of the body": HEAD + BODY[:-1],
    "interim responses before it": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + HEAD + BODY,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"x" * LONG,
    "until the end": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    "a long head": HEAD[:-2] + b"Set-Cookie: a=b\r\n" * 100 + b"\r\n" + BODY,
    "a head longer than a short read": HEAD[:-2] + b"Set-Cookie: %b\r\n" % (b"x" * 9000) + b"\r\n" + BODY,
    "a part of a head": b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"x" * LONG,
    "a head that is too large": b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"x" * 70_000,
    "no response": b"\r\n\r\n" * LONG,
    "a bad head": b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n" + BODY,
}


@pytest.mark.parametrize("requested", [True, False], ids=["", "without a request"])
@pytest.mark.parametrize("data", READS.values(), ids=READS)
async def test_it_comes_to_the_same(data: bytes, requested: bool) -> None:
    results = []
    for long in (False, True):
        backend, recorder, transport = attached(requested=requested)
        if long:
            backend.take_long_read(memoryview(bytearray(data)))
        else:
            backend.data_received(data)
        results.append(
            (recorder.calls, b"".join(recorder.pieces), transport.closed, backend.unread, backend.reusable)
        )
        transport.abort()
    assert results[0] == results[1]
    assert results[0][0] or not requested or results[0][3], "something came of it"


async def test_bytes_behind_a_part_of_a_head_belong_to_it() -> None:
    backend, recorder, transport = attached()
    backend.data_received(HEAD[:20])
    backend.take_long_read(memoryview(HEAD[20:] + BODY))
    assert b"".join(recorder.pieces) == BODY
    transport.abort()


async def test_long_reads_lie_in_the_shared_buffer_from_the_second_response_on() -> None:
    """What is kept of a read is copied: the next one overwrites the buffer."""
    backend, recorder, transport = attached()
    backend.data_received(HEAD + BODY)
    assert transport.small_reads
    reads = SmallReads(backend)
    for _ in range(2):
        backend.release()
        backend.attach(recorder, to_head=False)  # type: ignore[arg-type]
        recorder.pieces.clear()
        buffer = reads.get_buffer(-1)
        assert len(buffer) == LARGEST_FIRST >= len(HEAD + BODY)
        buffer[: len(HEAD + BODY)] = HEAD + BODY
        reads.buffer_updated(len(HEAD + BODY))
        buffer[:] = bytes(len(buffer))
        assert b"".join(recorder.pieces) == BODY
    transport.abort()
