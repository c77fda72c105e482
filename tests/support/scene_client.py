"""A raw client: writes bytes, reads replies with h11, so that an independent parser judges what we send."""

import asyncio
import socket
import struct
from dataclasses import dataclass, field

import h11

from tests.support.scene_backends import DEADLINE


@dataclass
class Reply:
    """One answer as a client understands it."""

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    "Status codes of the 1xx answers before it."
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    "The fields behind the body."

    def values(self, name: str) -> list[bytes]:
        return [value for n, value in self.fields if n == name.lower().encode()]

    def __getitem__(self, name: str) -> str:
        """The value of a field that must be there once."""
        [value] = self.values(name)
        return value.decode("latin-1")

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))

    @property
    def error(self) -> str | None:
        """X-Styx-Error: why the edge answered itself."""
        values = self.values("x-styx-error")
        return values[0].decode() if values else None


class CutShort(Exception):
    """The connection ended before the response was complete. `reply` is what came, None = not even a head."""

    def __init__(self, reply: Reply | None, why: str) -> None:
        super().__init__(why)
        self.reply = reply


class Client:
    """One connection to the edge."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self.sent = 0
        "Bytes taken so far of what is being written."
        self.received = 0
        "Bytes in all."

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int = 0, source: str = "") -> "Client":
        """`source`: any address of 127.0.0.0/8, to be a client of its own."""
        sock = socket.socket()
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    def receive_faster(self) -> None:
        """A small receive buffer has served its purpose: the rest needs no thousand rounds."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE) as limit:
            for at in range(0, len(data), 1 << 16):
                limit.reschedule(self._loop.time() + DEADLINE)  # for each piece
                await self._loop.sock_sendall(self._sock, data[at : at + (1 << 16)])
                self.sent = at + (1 << 16)

    def send_now(self, data: bytes) -> None:
        """Write without a turn of the loop, as much as there is room for."""
        self._sock.send(data)

    async def read_some(self) -> bytes:
        """What comes next; b"" = the edge has closed. Raises ConnectionResetError."""
        async with asyncio.timeout(DEADLINE):
            data = await self._loop.sock_recv(self._sock, 1 << 18)
        self.received += len(data)
        return data

    async def read_reply(self, method: str = "GET") -> Reply:
        """The next response. Raises CutShort when the connection ends before the response does."""
        judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        judge.send(h11.Request(method=method, target="/", headers=[("Host", "judge")]))
        judge.send(h11.EndOfMessage())
        reply: Reply | None = None
        interim: list[int] = []
        body: list[bytes] = []
        judge.receive_data(self._held) if self._held else None
        self._held = b""
        while True:
            try:
                event = judge.next_event()
                if event is h11.NEED_DATA:
                    judge.receive_data(await self.read_some())
                    continue
            except (h11.RemoteProtocolError, ConnectionError) as error:
                if reply is not None:
                    reply.body = b"".join(body)
                raise CutShort(reply, f"{type(error).__name__}: {error}") from error
            match event:
                case h11.InformationalResponse():
                    interim.append(event.status_code)
                case h11.Response():
                    assert event.http_version == b"1.1"
                    reply = Reply(event.status_code, event.reason, list(event.headers), interim=interim)
                case h11.Data():
                    body.append(bytes(event.data))
                case h11.EndOfMessage():
                    assert reply is not None
                    reply.body = b"".join(body)
                    reply.trailers = list(event.headers)
                    self._held = judge.trailing_data[0]
                    return reply
                case h11.ConnectionClosed():
                    raise CutShort(None, "closed without an answer")

    async def rest(self) -> bytes:
        """Everything until the edge closes. Raises ConnectionResetError when it resets."""
        data, self._held = self._held, b""
        while more := await self.read_some():
            data += more
        return data

    async def closed(self) -> bool:
        """Wait for the end; whether nothing came before it."""
        try:
            return not await self.rest()
        except ConnectionResetError:
            return True

    def leave(self) -> None:
        """Close."""
        self._sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def half_close(self) -> None:
        """Say that no more will come; still read."""
        self._sock.shutdown(socket.SHUT_WR)
