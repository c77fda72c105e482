"""Reads of 44 KiB where uvloop reads 256 KiB, and reads that are discarded without a copy."""

import asyncio
import socket
from typing import Any, cast

import uvloop

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.h1.h1_connection import H1Connection
from edge.net.transport.read_budget import ReadBudget
from edge.net.transport.small_reads import LARGEST, read_in_small_pieces
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.settings import Settings
from edge.run.worker import Worker
from tests.support.needs import needs_plain

MANY = 1 << 20
DEADLINE = 100.0


class Recorder(asyncio.Protocol):
    """Records the calls of the loop and the sizes of reads."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.calls: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def connected() -> tuple[Recorder, socket.socket]:
    """A connection of the loop, and its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MANY)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MANY)
    _, recorder = await asyncio.get_running_loop().connect_accepted_socket(Recorder, ours)
    return recorder, theirs


def test_reads_are_small_from_the_call_on() -> None:
    async def live() -> None:
        loop = asyncio.get_running_loop()
        recorder, theirs = await connected()
        sending = asyncio.ensure_future(loop.sock_sendall(theirs, b"x" * MANY))
        recorder.transport.resume_reading()
        async with asyncio.timeout(DEADLINE):
            await sending
            while sum(recorder.sizes) < MANY:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0)
        assert max(recorder.sizes) > LARGEST
        recorder.sizes.clear()
        read_in_small_pieces(recorder.transport, recorder)
        wrapper = recorder.transport.get_protocol()
        read_in_small_pieces(recorder.transport, recorder)
        assert recorder.transport.get_protocol() is wrapper, "once is enough"
        sending = asyncio.ensure_future(loop.sock_sendall(theirs, b"x" * MANY))
        async with asyncio.timeout(DEADLINE):
            await sending
            while sum(recorder.sizes) < MANY:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0)
        assert max(recorder.sizes) == LARGEST
        theirs.close()
        recorder.transport.close()
        await recorder.lost

    uvloop.run(live())


def test_other_events_reach_the_protocol() -> None:
    async def live() -> None:
        recorder, theirs = await connected()
        read_in_small_pieces(recorder.transport, recorder)
        recorder.transport.write(b"y" * 16 * MANY)
        assert recorder.calls == ["pause"]
        recorder.transport.resume_reading()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            got = 0
            while got < 16 * MANY:
                got += len(await loop.sock_recv(theirs, MANY))
            theirs.shutdown(socket.SHUT_WR)
            assert await recorder.lost is None
        assert recorder.calls == ["pause", "resume", "eof"]
        theirs.close()

    uvloop.run(live())


class DeferringBudget(ReadBudget):
    """Lets long reads begin only when they are deferred, and counts the others."""

    __slots__ = ("deferred_reads",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.deferred_reads = 0

    def begin(self) -> bool:
        self.deferred_reads += not self._is_reading_deferred
        return self._is_reading_deferred


@needs_plain
def test_discarded_reads_use_the_time_of_the_turn() -> None:
    """A client whose request was rejected goes on sending."""

    async def live() -> None:
        loop = asyncio.get_running_loop()
        settings = Settings.model_validate(
            {
                "listeners": ({"address": "127.0.0.1:0"},),
                "core_api": {"url": "http://127.0.0.1:1"},
                "access_log": {"path": ""},
            }
        )
        worker = Worker(settings)
        worker.context.reading = reading = DeferringBudget(loop, worker.context.clock)
        client = ClientInfo("192.0.2.7", port=80, trusted=False, via=b"styx")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(
            lambda: NewConnection(worker.context, lambda _: client, (H1Connection,)), ours
        )
        await loop.sock_sendall(theirs, b"GARBAGE\r\n\r\n" + b"z" * 100)
        async with asyncio.timeout(DEADLINE):
            assert (await loop.sock_recv(theirs, 100)).startswith(b"HTTP/1.1 400 ")
            assert isinstance(transport.get_protocol(), LingeringClose)
            await loop.sock_sendall(theirs, b"z" * 8 * MANY)
        assert reading.deferred_reads >= 8 * MANY // LARGEST // 2
        theirs.close()
        while worker.context.counts.connections:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.001)
        await worker.stop()

    uvloop.run(live())
