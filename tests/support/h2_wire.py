"""Reads frames of the edge, whatever was sent to it: no library that would object to illegal sequences."""

import asyncio
from dataclasses import dataclass, field

import hpack

from tests.support.scene_client import Client

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9


@dataclass
class Seen:
    """What came on one stream."""

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None


class H2Wire:
    """A connection on which a test writes frames by hand."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.streams: dict[int, Seen] = {}
        self.goaway: int | None = None
        self.pings: list[bytes] = []
        "ACKs of PING."
        self.frames: list[tuple[int, int, int, bytes]] = []
        "Kind, flags, stream, payload."
        self.is_gone = False
        self._held = b""
        self._decoder = hpack.Decoder()

    async def write(self, data: bytes) -> None:
        """Write; a connection that was closed meanwhile is no error."""
        try:
            await self.client.write(data)
        except ConnectionError:
            self.is_gone = True

    async def receive(self) -> bool:
        """Read once. Returns whether the connection is still there."""
        try:
            data = await self.client.read_some()
        except ConnectionError:
            data = b""
        if not data:
            self.is_gone = True
            return False
        self._held += data
        while len(self._held) >= 9:
            size = int.from_bytes(self._held[:3])
            if len(self._held) < 9 + size:
                break
            payload = self._held[9 : 9 + size]
            self._take(self._held[3], self._held[4], int.from_bytes(self._held[5:9]), payload)
            self._held = self._held[9 + size :]
        return True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.frames.append((kind, flags, stream, payload))
        seen = self.streams.setdefault(stream, Seen())
        if kind == _HEADERS:
            fields = [(bytes(n), bytes(v)) for n, v in self._decoder.decode(payload, raw=True)]
            if fields[0][0] == b":status":
                seen.status, seen.fields = int(fields[0][1]), fields[1:]
            else:
                seen.trailers = fields
        elif kind == _DATA:
            seen.body += payload
        elif kind == _RST:
            seen.reset = int.from_bytes(payload)
        elif kind == _GOAWAY:
            self.goaway = int.from_bytes(payload[4:8])
        elif kind == _PING and flags & 1:
            self.pings.append(payload)
        if kind in (_HEADERS, _DATA) and flags & 1:
            seen.ended = True

    def seen(self, stream: int) -> Seen:
        return self.streams.setdefault(stream, Seen())

    async def until(self, what: str, condition) -> None:  # type: ignore[no-untyped-def]
        """Read until something holds; fail when the connection ends before."""
        async with asyncio.timeout(100):
            while not condition():
                assert await self.receive(), f"closed before: {what}; GOAWAY {self.goaway}, {self.streams}"

    async def answered(self, stream: int) -> Seen:
        """Wait until the response of a stream is complete."""
        await self.until(f"{stream} is answered", lambda: self.seen(stream).ended)
        return self.seen(stream)

    async def was_reset(self, stream: int) -> int:
        await self.until(f"{stream} is reset", lambda: self.seen(stream).reset is not None)
        code = self.seen(stream).reset
        assert code is not None
        return code

    async def closed(self) -> int | None:
        """Wait until the edge has closed. Returns the code of its GOAWAY."""
        async with asyncio.timeout(100):
            while await self.receive():
                pass
        return self.goaway

    async def still_there(self) -> None:
        """The connection answers a PING."""
        await self.write(b"\0\0\x08\x06\0\0\0\0\0stilhere")
        await self.until("a PING is answered", lambda: b"stilhere" in self.pings)
