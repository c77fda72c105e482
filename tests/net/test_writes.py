"""How many writes a message takes: each is a system call."""

from typing import Any

import pytest

from tests.net.conftest import Bench
from tests.support.fake_transports import AnsweringTransport, turns

HEAD = b"POST / HTTP/1.1\r\nHost: shop.test\r\n"


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written to backends, write by write."""
    recorded: list[bytes] = []
    write = AnsweringTransport.write

    def record(transport: AnsweringTransport, data: Any) -> None:
        recorded.append(bytes(data))
        write(transport, data)

    monkeypatch.setattr(AnsweringTransport, "write", record)
    return recorded


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 40000\r\n\r\n" + b"x" * 40000,
    ],
    ids=["length", "chunked", "long"],
)
async def test_a_request_that_is_complete_is_one_write(bench: Bench, writes: list[bytes], framing: bytes) -> None:
    """On a new connection, and on one that was idle."""
    for number in (1, 2):
        client = bench.client()
        client.protocol.data_received(HEAD + framing)
        await turns()
        assert client.written.startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(writes) == number
        assert writes[-1].endswith(framing.partition(b"\r\n\r\n")[2])
    assert len(bench.loop.transports) == 1


async def test_what_comes_later_is_written_as_it_comes(bench: Bench, writes: list[bytes]) -> None:
    client = bench.client()
    client.protocol.data_received(HEAD + b"Content-Length: 10\r\n\r\nhello")
    await turns()
    client.protocol.data_received(b"world")
    await turns()
    assert [data[-5:] for data in writes] == [b"hello", b"world"]
    assert client.written.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_head_whose_body_is_still_to_come_is_written_at_once(bench: Bench, writes: list[bytes]) -> None:
    for framing in (b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        writes.clear()
        client = bench.client()
        client.protocol.data_received(HEAD + framing)
        await turns()
        assert [data[-4:] for data in writes] == [b"\r\n\r\n"]
        client.lose()
        await turns()
