"""A small HTTP/1.1 implementation for builtin containers: request head, body in pieces, response head.

It trusts its client (an edge under test): it accepts unusual framing, and rejects only what it cannot parse. The
edge has a strict parser of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 64 * 1024
PIECE = 64 * 1024

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class MalformedRequest(Exception):
    """The bytes are not a request."""


class Wire(asyncio.StreamReaderProtocol):
    """The protocol of one connection. Its task is cancelled when the connection is lost, even in a long wait."""

    def __init__(self, serve: Serve) -> None:
        super().__init__(asyncio.StreamReader(limit=MAX_HEAD), self._begin)
        self._serve = serve
        self._serving: asyncio.Future[None] | None = None

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving = asyncio.ensure_future(self._serve(reader, writer))

    def eof_received(self) -> bool:
        # False closes the transport: like nginx, take a client that stops sending as gone.
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._serving is not None:
            self._serving.cancel()


@dataclass(slots=True)
class ContainerRequest:
    """One request. `pieces` may be read once; `body_read` is true when the body was read to its end."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    raw_head: bytes
    body_read: bool

    @classmethod
    def parse(cls, raw: bytes) -> "ContainerRequest":
        """Parse a request head. Raises MalformedRequest."""
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        try:
            method, target, version = first.split(" ")
        except ValueError:
            raise MalformedRequest(f"not a request line: {first!r}") from None
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        return cls(method, target, version, headers, raw, body_read=not has_body)

    @property
    def keep_alive(self) -> bool:
        options = self.headers.get("connection", "").lower()
        return "close" not in options if self.version == "HTTP/1.1" else "keep-alive" in options

    async def pieces(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises MalformedRequest or asyncio.IncompleteReadError."""
        try:
            if "transfer-encoding" in self.headers:
                source = _chunked(reader)
            else:
                source = _counted(reader, int(self.headers.get("content-length", "0")))
            async for piece in source:
                yield piece
        except ValueError as error:
            raise MalformedRequest(f"the body's length cannot be read: {error}") from None
        self.body_read = True


async def _counted(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        async for piece in _counted(reader, size):
            yield piece
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers


def response_head(status: int, headers: Mapping[str, str | int]) -> bytes:
    """Encode status line and header section; the caller frames the body."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Special"
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
