"""The client of a scene over HTTP/2: takes the same bytes as the raw one, and speaks frames.

What a scene writes as HTTP/1.1 becomes streams: the library h2 encodes them and judges what the edge sends, so that
an independent implementation stands on the other side. Requests that HTTP/2 cannot express fail in here.
"""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h11

from tests.support.scene_client import Client, CutShort, Reply

_OF_CONNECTION = {b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"host", b"sec-websocket-key"}


@dataclass
class Stream:
    """What came on one stream."""

    reply: Reply | None = None
    interim: list[int] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None


class H2Client(Client):
    """One connection to the edge, with as many streams as requests are written."""

    scheme = b"http"

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.order: list[int] = []
        "Streams whose replies were not read yet."
        self.settings_acknowledged = False
        self.goaway: int | None = None
        "The code of the GOAWAY that came."
        self.is_gone = False
        self._unparsed = b""
        self._parser: h11.Connection | None = None
        self._current = 0
        "The stream of the request that is being written."

    # writing

    async def write(self, data: bytes) -> None:
        """Write requests, or parts of them, as HTTP/1.1."""
        before = self._unparsed
        self._unparsed = b""
        await self._parse(before + data)

    def send_now(self, data: bytes) -> None:
        raise NotImplementedError("frames are written when there is credit")

    async def _parse(self, data: bytes) -> None:
        while data or self._parser is not None:
            if self._parser is None:
                self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
            if data:
                self._parser.receive_data(data)
                data = b""
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                break
            match event:
                case h11.Request():
                    await self._begin(event)
                case h11.Data():
                    await self._send_data(bytes(event.data))
                case h11.EndOfMessage():
                    if event.headers:
                        self.h2.send_headers(self._current, list(event.headers), end_stream=True)
                    elif self._current not in self._ended_with_head:
                        self._end()
                    data = self._parser.trailing_data[0]
                    self._parser = None
                case _:
                    self._parser = None
                    break
        await self.flush()

    _ended_with_head: set[int] = set()  # noqa: RUF012 - replaced for each client

    async def _begin(self, event: h11.Request) -> None:
        fields = [(name, value) for name, value in event.headers if name not in _OF_CONNECTION]
        names = dict(event.headers)
        has_body = b"transfer-encoding" in names or names.get(b"content-length", b"0").strip(b"0") != b""
        head = [
            (b":method", bytes(event.method)),
            (b":scheme", self.scheme),
            (b":authority", names.get(b"host", b"")),
            (b":path", bytes(event.target)),
        ]
        self._current = self.h2.get_next_available_stream_id()
        self.streams[self._current] = Stream()
        self.order.append(self._current)
        self.h2.send_headers(self._current, head + fields, end_stream=not has_body)
        if not has_body:
            self._ended_with_head = self._ended_with_head | {self._current}
        await self.flush()

    async def _send_data(self, data: bytes) -> None:
        stream, at = self._current, 0
        while at < len(data):
            if self.streams[stream].reset is not None or self.is_gone:
                return  # nobody takes the rest; the reader sees why
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                await self.receive()
                continue
            self.h2.send_data(stream, data[at : at + room])
            at += room
            await self.flush()

    def _end(self) -> None:
        if self.streams[self._current].reset is None:
            self.h2.end_stream(self._current)

    async def flush(self) -> None:
        """Write the frames that are ready."""
        data = self.h2.data_to_send()
        if data:
            await super().write(data)

    # reading

    async def receive(self) -> bool:
        """Read once. Returns whether the connection is still there."""
        data = await self.read_some()
        if not data:
            self.is_gone = True
            return False
        for event in self.h2.receive_data(data):
            self._take(event)
        await self.flush()
        return True

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived():
                self.streams[event.stream_id].interim.append(int(dict(event.headers)[b":status"]))
            case h2.events.ResponseReceived():
                stream = self.streams[event.stream_id]
                status = int(dict(event.headers)[b":status"])
                fields = [(n, v) for n, v in event.headers if n != b":status"]
                stream.reply = Reply(status, b"", fields, interim=stream.interim)
            case h2.events.DataReceived():
                self.streams[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.streams[event.stream_id].trailers = list(event.headers)
            case h2.events.StreamEnded():
                self.streams[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.streams[event.stream_id].reset = event.error_code
            case h2.events.SettingsAcknowledged():
                self.settings_acknowledged = True
            case h2.events.ConnectionTerminated():
                self.goaway = int(event.error_code)

    async def read_reply(self, method: str = "GET") -> Reply:
        """The response to the next request, in the order of the requests."""
        number = self.order.pop(0)
        stream = self.streams[number]
        try:
            while not stream.ended and stream.reset is None:
                if not await self.receive():
                    break
        except (ConnectionError, h2.exceptions.ProtocolError) as error:
            raise CutShort(stream.reply, f"{type(error).__name__}: {error}") from error
        if stream.reply is not None:
            stream.reply.body = bytes(stream.body)
            stream.reply.trailers = stream.trailers
        if stream.reply is None or not stream.ended:
            raise CutShort(stream.reply, f"closed: reset {stream.reset}, GOAWAY {self.goaway}")
        return stream.reply

    async def rest(self) -> bytes:
        """Wait for the end of the connection."""
        while await self.receive():
            pass
        return b""

    async def closed(self) -> bool:
        """Wait for the end; whether no response came before it."""
        with suppress(ConnectionResetError):
            await self.rest()
        return not any(stream.reply for stream in self.streams.values())

    async def until_goaway(self) -> int:
        """Wait for a GOAWAY. Returns its code."""
        async with asyncio.timeout(100):
            while self.goaway is None:
                assert await self.receive(), "closed without a GOAWAY"
        return self.goaway
