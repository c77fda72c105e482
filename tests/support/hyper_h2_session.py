"""A second `H2Session`, on the library h2: slow and well kept. It could stand in for nghttp2, which it judges.

It differs where RFC 9113 leaves a choice: a malformed message ends the connection, and so does a stream too many.
"""

from collections import deque
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from edge.net.h2.h2_session import SessionError, SessionHandler, SessionLimits
from edge.rules.h2.h2_frames import ErrorCode
from edge.rules.http.messages import Fields

_CODES = h2.settings.SettingCodes


class _Queue:
    """What is to be sent on one stream."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.trailers: Fields = []
        self.ended = False

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))


class HyperH2Session:
    """The session of h2."""

    def __init__(self, handler: SessionHandler, limits: SessionLimits) -> None:
        self._handler = handler
        self._limits = limits
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, normalize_inbound_headers=False)
        )
        self._queues: dict[int, _Queue] = {}
        self._client_ended: set[int] = set()
        self._open: set[int] = set()
        self._closed: list[tuple[int, int]] = []
        "Streams to report, with their codes."

    def begin(self) -> None:
        limits = self._limits
        values = {
            _CODES.MAX_CONCURRENT_STREAMS: limits.streams,
            _CODES.INITIAL_WINDOW_SIZE: limits.window,
            _CODES.MAX_HEADER_LIST_SIZE: limits.header_list,
        }
        if limits.tunnels:
            values[_CODES.ENABLE_CONNECT_PROTOCOL] = 1
        self._h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(limits.streams * limits.window - 65_535)

    def receive(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise SessionError(ErrorCode(error.error_code), str(error)) from error
        for event in events:
            self._report(event)
        self._report_closed()

    def _report(self, event: h2.events.Event) -> None:
        handler = self._handler
        match event:
            case h2.events.RequestReceived():
                self._open.add(event.stream_id)
                headers = tuple((bytes(n), bytes(v)) for n, v in event.headers)
                handler.request_received(event.stream_id, headers, ended=event.stream_ended is not None)
            case h2.events.DataReceived():
                padding = event.flow_controlled_length - len(event.data)
                if padding:
                    self._h2.acknowledge_received_data(padding, event.stream_id)
                handler.body_received(event.stream_id, bytes(event.data), ended=event.stream_ended is not None)
            case h2.events.TrailersReceived():
                handler.trailers_received(event.stream_id, tuple((bytes(n), bytes(v)) for n, v in event.headers))
            case h2.events.StreamEnded():
                self._client_ended.add(event.stream_id)
            case h2.events.StreamReset():
                self._forget(event.stream_id)
                handler.stream_closed(event.stream_id, int(event.error_code), by_client=event.remote_reset)
            case h2.events.ConnectionTerminated():
                handler.client_leaves()

    def _forget(self, stream: int) -> None:
        self._open.discard(stream)
        self._queues.pop(stream, None)

    def _report_closed(self) -> None:
        closed, self._closed = self._closed, []
        for stream, code in closed:
            self._handler.stream_closed(stream, code, by_client=False)

    @property
    def has_output(self) -> bool:
        return True

    def take_output(self, most: int) -> bytes:
        for stream in list(self._queues):
            self._pump(stream)
        output = self._h2.data_to_send(most)
        self._report_closed()
        return output

    def _pump(self, stream: int) -> None:
        """Make frames of what is queued, as far as the client has given credit."""
        queue = self._queues[stream]
        while queue.pieces:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            piece = queue.pieces[0]
            if room <= 0:
                return
            if len(piece) > room:
                queue.pieces[0] = piece[room:]
                self._h2.send_data(stream, piece[:room])
            else:
                queue.pieces.popleft()
                is_last = queue.ended and not queue.pieces and not queue.trailers
                self._h2.send_data(stream, piece, end_stream=is_last)
                if is_last:
                    self._finish(stream)
                    return
        if queue.trailers:
            self._h2.send_headers(stream, queue.trailers, end_stream=True)
            self._finish(stream)
        elif queue.ended:
            self._h2.end_stream(stream)
            self._finish(stream)

    def _finish(self, stream: int) -> None:
        self._queues.pop(stream, None)
        if stream in self._client_ended:
            self._open.discard(stream)
            self._closed.append((stream, 0))

    def send_head(self, stream: int, headers: Fields, *, ended: bool) -> None:
        if stream in self._open:
            self._h2.send_headers(stream, headers, end_stream=ended)
            if ended:
                self._finish(stream)
            else:
                self._queues[stream] = _Queue()

    def send_interim(self, stream: int, headers: Fields) -> None:
        if stream in self._open:
            self._h2.send_headers(stream, headers)

    def send_body(self, stream: int, data: bytes, *, ended: bool) -> None:
        queue = self._queues.get(stream)
        if queue is not None:
            if data:
                queue.pieces.append(data)
            queue.ended = ended

    def send_trailers(self, stream: int, headers: Fields) -> None:
        queue = self._queues.get(stream)
        if queue is not None:
            queue.trailers = headers

    def reset(self, stream: int, code: ErrorCode) -> None:
        if stream in self._open:
            self._h2.reset_stream(stream, code)
            self._forget(stream)
            self._closed.append((stream, int(code)))

    def credit(self, stream: int, size: int) -> None:
        if size:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.acknowledge_received_data(size, stream)

    def queued(self, stream: int) -> int:
        return self._queues[stream].size if stream in self._queues else 0

    def queued_in_all(self) -> int:
        return sum(queue.size for queue in self._queues.values())

    def room(self, stream: int) -> int:
        return self._h2.streams[stream].outbound_flow_control_window if stream in self._h2.streams else 0

    def interleave(self, stream: int) -> None:
        """It does so anyway, in pieces of a window."""

    def announce_end(self) -> None:
        """h2 has no GOAWAY that announces another one."""

    def refuse_more(self) -> None:
        """h2 accepts nothing more after a GOAWAY; the connection ends with its streams."""

    def terminate(self, code: ErrorCode) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self._h2.close_connection(code)

    def release(self) -> None:
        """Its cycles are left to the garbage collector."""

    @property
    def failure(self) -> ErrorCode | None:
        return None
