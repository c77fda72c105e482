"""A stream as the transport of a tunnel: a WebSocket over HTTP/2 (RFC 8441).

Tunnel ──write, pause_reading──► StreamTransport ──► H2Stream, H2Session
       ◄── data_received, pause_writing ──
"""

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Protocol, cast

from edge.net.h2.h2_session import H2Session
from edge.rules.h2.h2_frames import ErrorCode


class TunnelledStream(Protocol):
    """The stream, as the transport sees it."""

    stream: int
    ended: bool
    closed: bool
    done: bool
    writable: bool

    @property
    def session(self) -> H2Session:
        """The session of its connection."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def reset(self, code: ErrorCode) -> None: ...

    def flush(self, size: int) -> None:
        """`size` bytes more are in the session."""


class _NoDescriptor:
    """Stands for the socket of a stream, which has none of its own."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *args: object) -> None:
        """Do nothing: the socket is that of the connection."""


class StreamTransport(asyncio.Transport):
    """The transport whose other end is the client of one stream."""

    def __init__(self, stream: TunnelledStream, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._stream = stream
        self._loop = loop
        self._protocol: asyncio.Protocol | None = None
        self._closing = self._lost = self._told_end = False

    # for the stream

    def receive(self, data: bytes, *, ended: bool) -> None:
        """Bytes of the client came. `ended`: no more will."""
        protocol = self._protocol
        if protocol is None or self._closing:
            return
        if data:
            protocol.data_received(data)
        if ended and not self._told_end:
            self._told_end = True
            protocol.eof_received()

    def block(self) -> None:
        """The client does not take what is written."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def unblock(self) -> None:
        """The client has taken what was written."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def lose(self, *, by_client: bool) -> None:
        """The stream is closed. `by_client`: before its end."""
        self._lose(ConnectionResetError() if by_client and not self._closing else None)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            protocol, self._protocol = self._protocol, None
            if protocol is not None:
                self._loop.call_soon(protocol.connection_lost, error)

    # asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _NoDescriptor() if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._stream.pause_body()

    def resume_reading(self) -> None:
        self._stream.resume_body()

    def write(self, data: Any) -> None:
        if not self._closing:
            self._stream.session.send_body(self._stream.stream, bytes(data), ended=False)
            self._stream.flush(len(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._stream.done:
            self._stream.done = True
            self._stream.session.send_body(self._stream.stream, b"", ended=True)
            self._stream.flush(0)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._stream.session.queued(self._stream.stream)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The lower one is passed exactly while the stream is blocked: a tunnel asks when it begins, because it may
        have missed `pause_writing`."""
        return 0, -1 if not self._stream.writable else sys.maxsize

    def close(self) -> None:
        """End the stream behind what is written; it is lost when the client has taken that."""
        if not self._closing:
            self._closing = True
            self.write_eof()
            if self._stream.closed:
                self._lose(None)

    def abort(self) -> None:
        self._closing = True
        self._stream.reset(ErrorCode.CANCEL)
        self._lose(None)
