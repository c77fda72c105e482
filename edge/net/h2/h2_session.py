"""The protocol state of an HTTP/2 connection: bytes in, events out, and back (RFC 9113).

    received bytes ─► H2Session ─► SessionHandler: requests, bodies, ends of streams
    written bytes  ◄─┘        ◄─── heads, bodies, resets

It knows frames, HPACK, flow control and the states of streams, and nothing of sockets or requests. `Ngh2Session` is
nghttp2 by way of the package ngh2, which is young: nothing else imports it, and tests run a second implementation.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import ngh2
from ngh2 import DataReceived, GoAwayReceived, RequestReceived, StreamClosed, StreamReset, TrailersReceived

from edge.rules.h2.h2_frames import BURST, ErrorCode
from edge.rules.h2.output_frames import OutputFrames
from edge.rules.http.messages import Fields

HeaderList = Iterable[tuple[bytes, bytes]]

_TABLE: Final = 1024
"""Bytes of the table with which heads of responses are compressed. Fields that are in it take one byte and are not
Huffman-coded: 2 % less for a request, and a third of the bytes. With 4 KiB, the searches cost more than that."""

_DEFAULT: Final = ngh2.Priority()
_IN_TURNS: Final = ngh2.Priority(incremental=True)


class SessionLimits(NamedTuple):
    """What a client may do on one connection."""

    streams: int
    "Requests in flight."
    window: int
    "Bytes of one request body that may come before the edge takes them."
    header_list: int
    "Bytes of a header list as the client is told; a longer one is a stream error, or a 431."
    header_count: int
    "Fields in a header list beyond which the connection ends."
    tunnels: bool
    "Whether extended CONNECT is offered (RFC 8441)."


class SessionError(Exception):
    """The session cannot go on. `code`: of the GOAWAY that tells the client."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        super().__init__(why)
        self.code = code


class SessionHandler(Protocol):
    """The connection, which acts on what the session finds in the bytes."""

    __slots__ = ()

    def request_received(self, stream: int, headers: HeaderList, *, ended: bool) -> None:
        """The head of a request. `ended`: it has no body."""

    def body_received(self, stream: int, data: bytes, *, ended: bool) -> None:
        """More of a body; its credit is to be given back."""

    def trailers_received(self, stream: int, headers: HeaderList) -> None:
        """The trailers, and the end, of a request."""

    def stream_closed(self, stream: int, code: int, *, by_client: bool) -> None:
        """Both sides have ended it, or it was reset, `by_client` or not. It may never have been reported as a
        request."""

    def client_leaves(self) -> None:
        """A GOAWAY of the client: no more requests will come."""


class H2Session(Protocol):
    """One connection, seen by the server."""

    __slots__ = ()

    def begin(self) -> None:
        """Queue the SETTINGS of the server."""

    def receive(self, data: bytes) -> None:
        """Parse bytes of the client, and call the handler. Raises SessionError."""

    @property
    def has_output(self) -> bool:
        """Whether there is something to be written, besides the rest of what was cut at `most` bytes."""

    def take_output(self, most: int) -> bytes:
        """Take up to `most` bytes that are to be written, and call the handler for the streams that end with them.
        Raises SessionError."""

    def send_head(self, stream: int, headers: Fields, *, ended: bool) -> None:
        """Queue the head of a final response. Here and below, nothing is done for a stream that is closed."""

    def send_interim(self, stream: int, headers: Fields) -> None:
        """Queue a 1xx response."""

    def send_body(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Queue a piece of a body, however large; see `queued`."""

    def send_trailers(self, stream: int, headers: Fields) -> None:
        """Queue trailers, which end the stream."""

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream at once."""

    def credit(self, stream: int, size: int) -> None:
        """So many bytes of its body were taken: the client may send as many more."""

    def queued(self, stream: int) -> int:
        """Bytes of its body that were queued and not taken as output."""

    def queued_in_all(self) -> int:
        """Bytes of the bodies of all streams that were queued and not taken as output."""

    def room(self, stream: int) -> int:
        """Bytes that the window of this stream has left; that of the connection may have less."""

    def interleave(self, stream: int) -> None:
        """Send its body in turns with those of the same urgency, not behind them (RFC 9218, section 4.2), unless a
        PRIORITY_UPDATE of the client says otherwise."""

    def announce_end(self) -> None:
        """Tell the client that the connection will end: it shall begin no more streams, but those that it has
        begun meanwhile are served (RFC 9113, section 6.8)."""

    def refuse_more(self) -> None:
        """Accept no further streams; those that were opened go on."""

    def terminate(self, code: ErrorCode) -> None:
        """Queue a GOAWAY, and read no more."""

    def release(self) -> None:
        """The connection is lost: call its handler no more, and let go of it. Without that both would stay in
        memory until the garbage collector comes by."""

    @property
    def failure(self) -> ErrorCode | None:
        """The code of the GOAWAY with which the session has ended the connection by itself; None = it has not."""


@lru_cache(maxsize=4)
def _configuration(limits: SessionLimits) -> ngh2.Configuration:
    """What all sessions with these limits share."""
    return ngh2.Configuration(
        auto_window_update=False,
        max_deflate_dynamic_table_size=_TABLE,
        max_inbound_header_list_size=2 * limits.header_list + 32 * limits.header_count,
        max_inbound_header_count=limits.header_count,
        # The budgets of FrameGuard come first; these are the second line.
        stream_reset_rate_limit=(2 * int(BURST), int(BURST)),
        max_outbound_ack=2 * int(BURST),
    )


class Ngh2Session(H2Session):
    """The session of nghttp2."""

    __slots__ = ("_connection", "_cut", "_failure", "_handler", "_limits", "_terminated")

    def __init__(self, handler: SessionHandler, limits: SessionLimits) -> None:
        self._handler: SessionHandler | None = handler
        self._limits = limits
        self._failure: ErrorCode | None = None
        self._cut: OutputFrames | None = None
        "Of the output, after a piece that has ended within one of them; None = it has not."
        self._terminated = False
        self._connection = ngh2.Connection(ngh2.Role.SERVER, _configuration(limits))

    def begin(self) -> None:
        limits, setting = self._limits, ngh2.Setting
        settings = {
            setting.MAX_CONCURRENT_STREAMS: limits.streams,
            setting.INITIAL_WINDOW_SIZE: limits.window,
            setting.MAX_HEADER_LIST_SIZE: limits.header_list,
            setting.NO_RFC7540_PRIORITIES: 1,
        }
        if limits.tunnels:
            settings[setting.ENABLE_CONNECT_PROTOCOL] = 1
        self._connection.initiate_connection(settings)
        # As much as all streams together: one whose body is not taken must not hold up the others.
        self._connection.set_local_window_size(limits.streams * limits.window)

    def receive(self, data: bytes) -> None:
        connection = self._connection
        try:
            connection.receive_data(data)
        except ngh2.DenialOfServiceError as error:
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        except ngh2.NGH2Error as error:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, str(error)) from error
        self._report()

    def _report(self) -> None:
        handler, reset = self._handler, 0
        if handler is None:
            return
        for event in self._connection.events():
            if isinstance(event, RequestReceived):
                handler.request_received(event.stream_id, event.headers, ended=event.end_stream)
            elif isinstance(event, StreamClosed):
                stream = event.stream_id
                handler.stream_closed(stream, event.error_code, by_client=stream == reset)
            elif isinstance(event, DataReceived):
                handler.body_received(event.stream_id, event.data, ended=event.end_stream)
            elif isinstance(event, StreamReset):
                reset = event.stream_id
            elif isinstance(event, TrailersReceived):
                handler.trailers_received(event.stream_id, event.headers)
            elif isinstance(event, GoAwayReceived):
                handler.client_leaves()

    @property
    def has_output(self) -> bool:
        return self._connection.want_write

    def take_output(self, most: int) -> bytes:
        connection = self._connection
        try:
            output = connection.data_to_send(most)
        except ngh2.NGH2Error as error:
            raise SessionError(ErrorCode.INTERNAL_ERROR, str(error)) from error
        is_over = not connection.want_read and not self._terminated
        if is_over or len(output) == most or self._cut is not None:
            frames = self._cut or OutputFrames()
            code = frames.follow(output)
            self._cut = frames if frames.is_cut else None
            if is_over and code:
                self._failure = ErrorCode(code)
        if output:
            self._report()
        return output

    def send_head(self, stream: int, headers: Fields, *, ended: bool) -> None:
        try:
            self._connection.send_response(stream, headers, end_stream=ended)
        except ngh2.NGH2Error:
            return

    def send_interim(self, stream: int, headers: Fields) -> None:
        try:
            self._connection.send_informational_response(stream, headers)
        except ngh2.NGH2Error:
            return

    def send_body(self, stream: int, data: bytes, *, ended: bool) -> None:
        try:
            if data:
                self._connection.send_data(stream, data, end_stream=ended)
            elif ended:
                self._connection.end_stream(stream)
        except ngh2.NGH2Error:
            return

    def send_trailers(self, stream: int, headers: Fields) -> None:
        try:
            self._connection.send_trailers(stream, headers)
        except ngh2.NGH2Error:
            return

    def reset(self, stream: int, code: ErrorCode) -> None:
        try:
            self._connection.reset_stream(stream, code)
        except ngh2.NGH2Error:
            return

    def credit(self, stream: int, size: int) -> None:
        if size:
            try:
                self._connection.acknowledge_received_data(size, stream)
            except ngh2.NGH2Error:
                return

    def queued(self, stream: int) -> int:
        try:
            return self._connection.queued_body_size(stream)
        except ngh2.NGH2Error:
            return 0

    def queued_in_all(self) -> int:
        return self._connection.queued_body_size()

    def room(self, stream: int) -> int:
        try:
            return self._connection.stream_remote_window_size(stream)
        except ngh2.NGH2Error:
            return 0

    def interleave(self, stream: int) -> None:
        try:
            if self._connection.get_stream_priority(stream) == _DEFAULT:
                self._connection.set_stream_priority(stream, _IN_TURNS)
        except ngh2.NGH2Error:
            return

    def announce_end(self) -> None:
        try:
            self._connection.send_shutdown_notice()
        except ngh2.NGH2Error:
            return

    def refuse_more(self) -> None:
        try:
            self._connection.send_goaway(ErrorCode.NO_ERROR)
        except ngh2.NGH2Error:
            return

    def terminate(self, code: ErrorCode) -> None:
        self._terminated = True
        try:
            self._connection.terminate_connection(code)
        except ngh2.NGH2Error:
            return

    def release(self) -> None:
        self._handler = None

    @property
    def failure(self) -> ErrorCode | None:
        return self._failure
