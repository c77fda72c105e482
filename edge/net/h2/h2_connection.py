"""One HTTP/2 connection of a client (RFC 9113).

    bytes ─► FrameGuard ─► H2Session ─► H2Stream ─► Exchange     one stream for each request
                └─────────────┴─► GOAWAY, with a reason

What comes in one read is handled in one go, and what is to be written is written once behind it; responses that
come in the same turn of the loop are written together.
"""

import secrets
from collections.abc import Iterable
from functools import partial
from math import inf
from typing import Final

from edge.net.h2.h2_lifetime import FIRST_OUTPUT, HIGH, LARGE, LOW, MOST_OUTPUT, WRITE_BUFFER, H2Lifetime
from edge.net.h2.h2_session import SessionError
from edge.net.h2.h2_stream import H2Stream
from edge.net.transport.read_budget import SHORT
from edge.rules.h2.h2_frames import REASON_OF_CODE, ErrorCode, GoAwayReason, Violation
from edge.rules.h2.h2_request import trailer_fields
from edge.rules.http.framing import BadBody, RejectedRequest
from edge.rules.http.head_validation import Request
from edge.rules.http.messages import RequestHead
from edge.rules.http.websocket_key import websocket_accept, websocket_key
from edge.rules.outcomes import Cause, Phase

FEW: Final = 32
"Requests that may come in one read and are parsed in one go."
SLICE: Final = 4096
"Bytes of a read with more requests that are parsed between two looks at the clock."
_CONTINUE: Final = [(b":status", b"100")]


class H2Connection(H2Lifetime):
    """An HTTP/2 connection of a client; the last step of accepting."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<H2Connection {self.info.address} streams={len(self._streams)}>"

    def begin(self, data: bytes) -> None:
        """Begin to read. `data`: bytes that were read before."""
        context = self._context
        assert self._transport is not None
        self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self.services.connections += 1
        self.deadline = context.clock() + context.timeouts.head
        context.deadline_sweep.add(self)
        self.session.begin()
        self._flush()
        if data:
            self.data_received(data)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._held or self._unparsed:
            self._held += data
        elif len(data) > SHORT and not self._context.reading.begin():
            self._held = data
            transport.pause_reading()
            self._context.reading.defer(self._read_on)
        else:
            self._read(data)

    def _read_on(self) -> None:
        """Continue a deferred read."""
        transport, reading = self._transport, self._context.reading
        if transport is None or transport.is_closing():
            return
        reading.begin_resuming()
        if self._unparsed:
            data, self._unparsed = self._unparsed, b""
            self._parse(data, self._context.clock())
        if self._unparsed:
            reading.defer(self._read_on)
        elif not transport.is_closing():
            data, self._held = self._held, b""
            transport.resume_reading()
            if data:
                self._read(data)

    def _read(self, data: bytes) -> None:
        guard, now = self._guard, self._context.clock()
        violation = guard.scan(data, self._streams, now)
        if violation is not None:
            self._fail(violation)
            return
        self._parse(data, now)
        transport = self._transport
        if self._unparsed and transport is not None and not transport.is_closing():
            transport.pause_reading()
            self._context.reading.defer(self._read_on)

    def _parse(self, data: bytes, now: float) -> None:
        """Give this to the session, and begin the requests in it. Many requests take long: of those, as much as one
        connection may do in a turn; the rest is left in `_unparsed`."""
        guard, reading = self._guard, self._context.reading
        size = len(data) if guard.opened is None or len(guard.opened) <= FEW else SLICE
        end = 0.0 if size == len(data) else reading.slice_end()
        self._is_batching = True
        try:
            self.session.receive(data[:size])
            if self._fresh:
                self._begin_fresh(now)
            while size < len(data) and self._pending is None and not reading.is_over(end):
                self.session.receive(data[size : size + SLICE])
                self._begin_fresh(now)
                size += SLICE
        except SessionError as error:
            self._fail(Violation(error.code, _reason_of(error), str(error)))
            return
        finally:
            self._is_batching = False
        self._unparsed = data[size:]
        if guard.opened is not None and not self._unparsed:
            for stream in guard.opened:
                if stream not in self._streams:  # the session has refused it: too many, or malformed
                    guard.record_reset(stream)
                    self._pending = self._pending or guard.charge_reset(now)
            guard.opened = None
        self._flush()

    def eof_received(self) -> None:
        """Treat a client that has closed its sending side as gone. The loop closes the connection."""
        self._lose_streams(by_client=True)

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        self._leave_worker()
        context.counts.connections -= 1
        self.info.listener.connections -= 1
        context.connection_limiter.leave(self._permit)
        self._lose_streams(by_client=True)
        self.session.release()

    def pause_writing(self) -> None:
        self.writable = False
        self._mark_unsent()
        self._context.buffers.note(self)

    def resume_writing(self) -> None:
        self.writable = True
        self.deadline = inf
        self._context.buffers.note(self)
        self._flush()

    # SessionHandler

    def request_received(self, stream: int, headers: Iterable[tuple[bytes, bytes]], *, ended: bool) -> None:
        """A request has come; it begins when all of this read is parsed."""
        begun = H2Stream(self, self._context, self.info, stream)
        begun.ended = ended
        self._streams[stream] = begun
        fresh = self._fresh = self._fresh or []
        fresh.append((begun, headers, not ended))
        self.services.streams += 1

    def body_received(self, stream: int, data: bytes, *, ended: bool) -> None:
        """More of a body."""
        receiver = self._streams.get(stream)
        if receiver is not None:
            receiver.take_body(data, ended=ended)

    def trailers_received(self, stream: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The end of a body, with trailers."""
        receiver = self._streams.get(stream)
        if receiver is None:
            return
        try:
            fields = trailer_fields(headers, self._context.limits)
        except BadBody as error:
            receiver.refuse_body(error)
        else:
            receiver.take_trailers(fields)

    def stream_closed(self, stream: int, code: int, *, by_client: bool) -> None:
        """A stream is closed. It was never reported when its head was malformed."""
        if self._transport is None:
            return
        closed = self._streams.pop(stream, None)
        if code:
            self.services.resets += 1
            if not by_client:
                self._guard.record_reset(stream)
        if closed is None:
            if code == ErrorCode.PROTOCOL_ERROR:
                self._record_malformed(stream)
            return
        if self._blocked:
            self._blocked.pop(closed, None)
        if self._to_reset:
            self._to_reset.pop(closed, None)
        if code and not by_client and not closed.done:  # the session has reset it, because of the client
            self._pending = self._pending or self._guard.charge_reset(self._context.clock())
        closed.lose(by_client=by_client)

    # requests

    def _begin_fresh(self, now: float) -> None:
        """Begin the exchanges of the requests of this read."""
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            return
        for stream, headers, has_body in fresh:
            self.requests += 1
            self.deadline = inf if self.writable else self.deadline
            if stream.closed:
                continue
            if self.deferred:
                self._context.deferred_queue.add(partial(self._begin_later, stream, headers, has_body))
            else:
                self._begin_stream(stream, headers, has_body=has_body)
        if self._leaving is None:
            if self._context.draining:
                self._announce_end(GoAwayReason.DRAIN, now)
            elif self.requests >= self._context.hot.requests_per_connection:
                self._announce_end(GoAwayReason.REQUESTS, now)

    def _begin_later(self, stream: H2Stream, headers: Iterable[tuple[bytes, bytes]], has_body: bool) -> None:
        self.deferred = False
        if not stream.closed:
            self._begin_stream(stream, headers, has_body=has_body)

    def _begin_stream(self, stream: H2Stream, headers: Iterable[tuple[bytes, bytes]], *, has_body: bool) -> None:
        """Validate a head, and begin its exchange."""
        scheme = b"" if self.info.trusted else self.info.scheme
        requests, reader = self.services.requests, self._context.head_reader
        if not has_body:
            repeated = requests.repeated(headers, scheme)
            if repeated is not None and reader.is_current(repeated):
                stream.begin(repeated)
                return
        key = b""
        if has_body and _is_connect(headers) and self._context.settings.forwarding.upgrades != "none":
            key = websocket_key(secrets.token_bytes(16))
            stream.websocket_accept = websocket_accept(key)
        try:
            head = requests.request_head(headers, scheme=scheme, has_body=has_body, websocket_key=key)
            request = reader.request(head)
        except RejectedRequest as rejection:
            stream.refuse(rejection.cause, str(rejection), Request.refused(rejection.head or _likely(headers)))
        else:
            if not has_body:
                requests.remember(headers, scheme, request)
            stream.begin(request)
            if has_body and b"expect" in request.found and self._waits_for_end(stream):
                # The body is empty, but the client may wait for 100 (Continue) before it ends the stream.
                self.session.send_interim(stream.stream, _CONTINUE)
                self.sent(stream, 0, done=False)

    @staticmethod
    def _waits_for_end(stream: H2Stream) -> bool:
        """Whether the request of this stream will be forwarded when the client has ended it."""
        return stream.exchange is not None and stream.exchange.phase is Phase.HEAD

    def _record_malformed(self, stream: int) -> None:
        """Record a request that the session has refused: no response is sent, but it has its line in the log."""
        refused = H2Stream(self, self._context, self.info, stream)
        refused.closed = True
        refused.refuse(Cause.BAD_REQUEST, "malformed header list", Request.refused())
        self._context.deadline_sweep.discard(refused)

    # called by streams

    def sent(self, stream: H2Stream, size: int, *, done: bool) -> None:
        """Something for this stream is in the session: write it, now or at the end of this turn of the loop."""
        self._guard.explain_updates(size)
        if not stream.closed:
            touched = self._touched = self._touched or {}
            touched[stream] = None
        if self._is_batching:
            return
        if size > LARGE:
            self._flush(MOST_OUTPUT)
        elif done and len(self._streams) == 1:
            self._flush()
        else:
            self._flush_later()

    def answered(self, stream: H2Stream, now: float) -> None:
        """The exchange of this stream is over."""
        if stream.deferred:
            self.deferred = True
        if not stream.ended and not stream.closed:
            self._to_reset = self._to_reset or {}
            self._to_reset[stream] = None
            touched = self._touched = self._touched or {}
            touched[stream] = None
            if not self._is_batching:
                self._flush_later()

    def note(self) -> None:
        """Update the count of buffered bytes."""
        self._context.buffers.note(self)

    # writing

    def _flush_due(self) -> None:
        self._is_flush_due = False
        self._flush()

    def _flush(self, most: int = FIRST_OUTPUT) -> None:
        """Write what the session has, as far as the client takes it. `most`: bytes that are taken at once first."""
        transport, session = self._transport, self.session
        if transport is None:
            return
        is_open = False
        self._is_batching = True
        try:
            while self.writable and (session.has_output or self._is_mid_frame):
                if transport.is_closing():
                    return
                is_open = True
                output = session.take_output(most)
                if output:
                    transport.write(output)
                    self.written += len(output)
                self._is_mid_frame = len(output) == most
                if not self._is_mid_frame:
                    break
                most = MOST_OUTPUT
            if self._touched or self._blocked or self._to_reset:
                self._set_pace()
        except SessionError as error:
            self._fail(Violation(error.code, _reason_of(error), str(error)))
            return
        finally:
            self._is_batching = False
        failure = session.failure
        if self._pending is not None:
            self._fail(self._pending)
        elif failure is not None:
            self._fail(Violation(failure, REASON_OF_CODE.get(failure, GoAwayReason.PROTOCOL), "protocol error"))
        elif not self._streams and self._guard.is_begun and (is_open or not transport.is_closing()):
            self._wait(self._context.clock())

    def _set_pace(self) -> None:
        """Pause what comes faster than clients take it, and resume what they have taken."""
        session = self.session
        if self._to_reset is not None:
            self._reset_answered(self._to_reset)
        touched, self._touched = self._touched, None
        if touched is not None:
            for stream in touched:
                if stream.closed:
                    continue
                if stream.exchange is None and stream.done:
                    stream.mark_unsent(self._context.clock())
                elif stream.writable and session.queued(stream.stream) > HIGH:
                    self._blocked = self._blocked or {}
                    self._blocked[stream] = None
                    stream.block()
                    self.note()
        if self._blocked is not None:
            self._unblock(self._blocked)

    def _reset_answered(self, waiting: dict[H2Stream, None]) -> None:
        """Reset those whose response is written while the client still sends (RFC 9113, section 8.1)."""
        for stream in tuple(waiting):
            if not self.session.queued(stream.stream):
                waiting.pop(stream, None)
                self._guard.record_reset(stream.stream)
                stream.reset(ErrorCode.NO_ERROR)
                self._flush_later()
        if not waiting:
            self._to_reset = None

    def _unblock(self, blocked: dict[H2Stream, None]) -> None:
        """Resume those whose clients have taken enough."""
        for stream in tuple(blocked):
            if self.session.queued(stream.stream) <= LOW:
                blocked.pop(stream, None)
                stream.unblock()
                self.note()
        if not blocked:
            self._blocked = None

    def _flush_later(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._context.loop.call_soon(self._flush_due)


def _reason_of(error: SessionError) -> GoAwayReason:
    if error.code is ErrorCode.ENHANCE_YOUR_CALM and "header list" in str(error):
        return GoAwayReason.HEADER_LIST
    return REASON_OF_CODE.get(error.code, GoAwayReason.PROTOCOL)


def _is_connect(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b":method" and value == b"CONNECT" for name, value in headers)


def _likely(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """What the log shows of a request whose header list is not valid."""
    fields = list(headers)
    pseudo = dict(fields)
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    return RequestHead(method[:20], target, 1, [(n, v) for n, v in fields if n[:1] != b":"])
