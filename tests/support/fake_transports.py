"""Transports without sockets: they keep what is written, and fail on a write after close."""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

from edge.net.transport.small_reads import SmallReads

LAST_CHUNK = re.compile(rb"(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n")
"With its trailers."


class FakeTransport(asyncio.Transport):
    """The other end is the test. `written` is what came out, `closed` how it ended."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.closed = ""
        self.paused = False
        self.full = False
        "Whether the next write is one too many."
        self.waiting = 0
        "Bytes that the other end has not taken."
        self.small_reads = False
        self._limits = (0, 64 * 1024)
        self._sockets: list[socket.socket] = []
        protocol.connection_made(self)

    @property
    def sockets(self) -> list[socket.socket]:
        """A pair that stands for the connection where somebody asks the kernel about it."""
        if not self._sockets:
            self._sockets += socket.socketpair()
        return self._sockets

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self.sockets[0]
        return ("192.0.2.7", 5000) if name == "peername" else default

    def write(self, data: Any) -> None:
        assert not self.closed, f"write after {self.closed}"
        self.written += bytes(data)
        if self.full:
            self.full = False
            self.protocol.pause_writing()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._limits = (high // 4 if low is None else low, high)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._limits

    def write_eof(self) -> None:
        assert not self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.small_reads = isinstance(protocol, SmallReads)
        self.protocol = protocol.protocol if self.small_reads else protocol

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        if not self.closed:
            self.closed = how
            asyncio.get_running_loop().call_soon(self.lose)

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone, as the loop would tell."""
        self.closed = self.closed or "lost"
        for sock in self._sockets:
            sock.close()
        self.protocol.connection_lost(error)


class AnsweringTransport(FakeTransport):
    """The end of a backend: answers every request that has come whole, in the next turn of the loop."""

    requests: list[bytes]

    def __init__(self, protocol: Any, response: bytes) -> None:
        self.answer = response
        self.requests = []
        self._held = b""
        super().__init__(protocol)

    def write(self, data: Any) -> None:
        super().write(data)
        self._held += bytes(data)
        if b"Expect: 100-continue" in self._held and self._held.find(b"\r\n\r\n") == len(self._held) - 4:
            asyncio.get_running_loop().call_soon(self.protocol.data_received, b"HTTP/1.1 100 Continue\r\n\r\n")
        while (size := whole(self._held)) is not None:
            self.requests.append(self._held[:size])
            self._held = self._held[size:]
            asyncio.get_running_loop().call_soon(self.protocol.data_received, self.answer)


def whole(data: bytes) -> int | None:
    """Bytes of the first request in `data`, if all of it is there."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    if b"Transfer-Encoding: chunked" in head:
        end = LAST_CHUNK.search(body)
        return None if end is None else len(head) + 4 + end.end()
    _, found, length = head.partition(b"Content-Length: ")
    size = int(length.split(b"\r\n")[0]) if found else 0
    return len(head) + 4 + size if len(body) >= size else None


class FakeLoop:
    """A loop whose connections lead to `AnsweringTransport`s and whose timers the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        "Of the backends that are connected to from now on."
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.transports: list[AnsweringTransport] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.timers.append((self.now, lambda: call(*args)))

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Any:
        timer = (self.now + delay, lambda: call(*args))
        self.timers.append(timer)

        class Handle:
            def cancel(_) -> None:
                self.timers.remove(timer)

        return Handle()

    def pass_time(self, seconds: float) -> None:
        """Run what is due until then, in order."""
        end = self.now + seconds
        while due := sorted((t for t in self.timers if t[0] <= end), key=lambda t: t[0]):
            self.timers.remove(due[0])
            when, call = due[0]
            self.now = max(self.now, when)
            call()
        self.now = end

    def create_task(self, coroutine: Any, **kwargs: Any) -> Any:
        return asyncio.get_running_loop().create_task(coroutine, **kwargs)

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        protocol = factory()
        self.transports.append(AnsweringTransport(protocol, self.answer))
        return self.transports[-1], protocol


async def turns(count: int = 10) -> None:
    """Let the loop run what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)
