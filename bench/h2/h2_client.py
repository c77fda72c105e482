"""A client of HTTP/2 for load generators: one connection with many streams, frames by nghttp2."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

import ngh2

from bench.fuzz_h2 import frames as f
from bench.lab.availability_load import Lost, connected

WINDOW = 1 << 24
"Bytes of a response, and of all together, that may come before they are taken."
Fields = Iterable[tuple[bytes, bytes]]
REFUSED = 7
"REFUSED_STREAM."


class NotProcessed(Exception):
    """The server says that it has not begun the request: it may be sent again (RFC 9113, section 8.7)."""


class StreamResponse:
    """What came on one stream."""

    __slots__ = ("body", "done", "fields", "seen", "status")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.seen = 0.0
        "When it was complete."


class H2Wire(asyncio.Protocol):
    """One connection. It takes requests until the server says that it will end."""

    def __init__(self, sock: socket.socket, *, window: int = WINDOW) -> None:
        self.port: int = sock.getsockname()[1]
        self.is_leaving = self.is_gone = False
        self.streams: dict[int, StreamResponse] = {}
        self.goaway: int | None = None
        "The code of the GOAWAY."
        self.ended = asyncio.get_running_loop().create_future()
        self._last = 1 << 31
        "The last stream that the server will serve."
        self._sent = 0
        "The last stream whose head was written: beyond what the server takes at once, streams wait in nghttp2."
        self._transport: asyncio.Transport
        self._changed = asyncio.Event()
        self.unread: set[int] = set()
        "Streams whose client gives no credit back."
        self._window = window
        self._connection = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=False))

    @classmethod
    async def open(
        cls,
        port: int,
        source: str = "",
        *,
        window: int = WINDOW,
        tls: ssl.SSLContext | None = None,
        host: str | None = None,
    ) -> "H2Wire":
        """To a port of this machine, from an address of it. `host`: whose certificate must be shown, with TLS.

        Raises Lost.
        """
        return await connected(port, lambda sock: cls(sock, window=window), source=source, tls=tls, host=host)

    async def request(self, fields: Fields, body: bytes = b"") -> StreamResponse:
        """Send a request, and wait for the whole response. Raises Lost, NotProcessed."""
        response = self.begin(fields, body)
        await response.done
        return response

    def begin(self, fields: Fields, body: bytes = b"") -> StreamResponse:
        """Send a request. Raises NotProcessed when the connection takes none."""
        if self.is_leaving or self.is_gone or not self._connection.can_send_request:
            raise NotProcessed
        stream = self._connection.send_request(list(fields), end_stream=not body)
        if body:
            self._connection.send_data(stream, body, end_stream=True)
        response = StreamResponse(asyncio.get_running_loop().create_future())
        self.streams[stream] = response
        self._flush()
        return response

    @property
    def most_streams(self) -> int | None:
        """Streams that the server takes at once; None = it has not said so yet."""
        return self._connection.remote_settings.get(int(ngh2.Setting.MAX_CONCURRENT_STREAMS))

    async def until(self, condition: Callable[[], bool], time_limit: float = 10.0) -> None:
        """Until it holds, or the connection is gone. Raises Lost after `time_limit` seconds."""
        try:
            async with asyncio.timeout(time_limit):
                while not (self.is_gone or condition()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Lost(f"nothing came for {time_limit:g} s") from None

    def write(self, frames: bytes) -> None:
        """Write frames of one's own, past nghttp2."""
        self._transport.write(frames)

    def leave(self) -> None:
        """Take no more requests, and close when those that are there have been served."""
        self.is_leaving = True
        if not self.streams:
            self.close()

    def close(self) -> None:
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        setting = ngh2.Setting
        self._connection.initiate_connection({setting.ENABLE_PUSH: 0, setting.INITIAL_WINDOW_SIZE: self._window})
        self._connection.set_local_window_size(WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._take(event)
        except ngh2.NGH2Error as error:
            self._end(f"{type(error).__name__}: {error}")
            self._transport.abort()
            return
        self._changed.set()
        self._flush()

    def eof_received(self) -> None:
        self._end("closed")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed" if exc is None else "reset")
        if not self.ended.done():
            self.ended.set_result(None)

    def _take(self, event: ngh2.Event) -> None:
        match event:
            case ngh2.ResponseReceived():
                response = self.streams.get(event.stream_id)
                if response is not None:
                    (_, status), *fields = event.headers
                    response.status, response.fields = int(status), {n: v for n, v in fields}  # noqa: C416
            case ngh2.DataReceived():
                response = self.streams.get(event.stream_id)
                if response is not None:
                    response.body += event.data
                if event.stream_id not in self.unread:
                    with suppress(ngh2.NGH2Error):  # behind it in the same read, the connection may have ended
                        self._connection.acknowledge_received_data(len(event.data), event.stream_id)
            case ngh2.StreamClosed():
                self._close_stream(event.stream_id, event.error_code)
            case ngh2.GoAwayReceived():
                self.is_leaving = True
                self._last, self.goaway = event.last_stream_id, event.error_code
                self._drop_unsent()

    def _close_stream(self, number: int, code: int) -> None:
        response = self.streams.pop(number, None)
        if response is None or response.done.done():
            return
        if not code and response.status:
            response.seen = time.monotonic()
            response.done.set_result(None)
        elif code == REFUSED or number > self._last:
            response.done.set_exception(NotProcessed())
        else:
            response.done.set_exception(Lost(f"stream reset: {code}"))
        if self.is_leaving and not self.streams:
            self._transport.close()

    def _drop_unsent(self) -> None:
        """End the streams that were not sent before the GOAWAY: nghttp2 drops them without an event."""
        for number in [number for number in self.streams if number > self._sent]:
            response = self.streams.pop(number)
            if not response.done.done():
                response.done.set_exception(NotProcessed())
                response.done.exception()  # whoever does not wait for it is not told

    def _end(self, how: str) -> None:
        self.is_gone = True
        self._changed.set()
        streams, self.streams = self.streams, {}
        for number, response in streams.items():
            if not response.done.done():
                lost = Lost(f"{how}, GOAWAY {self.goaway}")
                is_begun = number <= min(self._last, self._sent)
                response.done.set_exception(lost if is_begun else NotProcessed())
                response.done.exception()  # whoever does not wait for it is not told

    def _flush(self) -> None:
        if not self._transport.is_closing():
            try:
                output = self._connection.data_to_send()
            except ngh2.NGH2Error as error:
                self._end(str(error))
                return
            self._sent = max([self._sent, *f.heads_of(output)])
            self._transport.write(output)


def get(
    host: str, path: str, *more: tuple[bytes, bytes], method: str = "GET", scheme: str = "http"
) -> list[tuple[bytes, bytes]]:
    """The header list of a request."""
    first = [(b":method", method.encode()), (b":scheme", scheme.encode()), (b":path", path.encode())]
    return [*first, (b":authority", host.encode()), *more]
