"""One HTTP/2 connection of a client (RFC 9113).

    bytes ─► FrameGuard ─► H2Session ─► H2Stream ─► Exchange     one stream for each request
                └─────────────┴─► GOAWAY, with a reason

What comes in one read is handled in one go, and what is to be written is written once behind it; responses that come
in the same turn of the loop are written together.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from math import inf

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.h2.h2_services import websocket_key
from edge.net.h2.h2_session import H2Session, Ngh2Session, SessionError, SessionHandler, SessionLimits
from edge.net.h2.h2_stream import HIGH, LOW, H2Stream
from edge.net.transport.read_budget import SHORT
from edge.net.transport.socket_state import drop, has_input
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import BadBody, RejectedRequest
from edge.rules.http.h2_frames import REASON_OF_CODE, ErrorCode, FrameGuard, GoAwayReason, Violation, goaway_frame
from edge.rules.http.h2_request import trailer_fields
from edge.rules.http.head_validation import Request
from edge.rules.http.messages import RequestHead
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause

WINDOW = 65_535
"Bytes of one request body that may come before the edge takes them (nginx: http2_body_preread_size)."
LARGE = 16 * 1024
"Bytes of a body that are written at once, so that the backend is paused before it sends more."
MOST_OUTPUT = 64 * 1024
"Bytes that are taken from the session at once."
WRITE_BUFFER = 32 * 1024
"High watermark of the write buffer, in bytes."
LAST_STREAMS = 1.0
"Seconds in which streams are accepted that a client began before it has read that the connection ends."

log = logging.getLogger("styx.client")

new_session: Callable[[SessionHandler, SessionLimits], H2Session] = Ngh2Session


class H2Connection:
    """An HTTP/2 connection of a client; the last step of accepting."""

    __slots__ = (
        "_blocked",
        "_context",
        "_accepts_none",
        "_fresh",
        "_guard",
        "_held",
        "_is_batching",
        "_is_flush_due",
        "_is_mid_frame",
        "_leaving",
        "_pending",
        "_permit",
        "_streams",
        "_to_reset",
        "_touched",
        "_transport",
        "_unsent",
        "deadline",
        "deferred",
        "info",
        "requests",
        "services",
        "session",
        "writable",
    )

    def __init__(self, context: WorkerContext, connection: NewConnection) -> None:
        limits = context.limits
        self._context = context
        self._transport: asyncio.Transport | None = connection.transport
        self._permit = connection.permit
        self.info = connection.info.over_h2()
        self.services = context.h2
        self.session = new_session(
            self,
            SessionLimits(
                streams=limits.streams,
                window=WINDOW,
                header_list=limits.head,
                header_count=2 * limits.fields,
                tunnels=context.settings.forwarding.upgrades != "none",
            ),
        )
        self._guard = FrameGuard()
        self._streams: dict[int, H2Stream] = {}
        "Those that are not closed, by id."
        self._fresh: list[tuple[H2Stream, Iterable[tuple[bytes, bytes]], bool]] = []
        "Requests of this read, which begin when all of it is parsed; with their header lists."
        self._touched: set[H2Stream] = set()
        "Streams for which something was queued since the last flush."
        self._blocked: set[H2Stream] = set()
        "Streams whose clients take too little."
        self._to_reset: set[H2Stream] = set()
        "Streams whose response is complete, while the client still sends."
        self._held = b""
        "A read that is left to a later turn of the loop."
        self._is_batching = False
        self._is_flush_due = False
        self._unsent = 0
        self._leaving: GoAwayReason | None = None
        "Why the connection ends, once that was announced."
        self._accepts_none = False
        "Whether no more requests will come: it closes when the last stream does."
        self._is_mid_frame = False
        "Whether the last bytes that were written may be part of a frame."
        self._pending: Violation | None = None
        "Found while the session was busy."
        self.deadline = inf
        self.deferred = False
        "Whether a request was for an unknown host: the next ones begin after those of other clients."
        self.requests = 0
        "Requests received so far."
        self.writable = True

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
        if self._held or (len(data) > SHORT and not self._context.reading.begin()):
            if not self._held:
                transport.pause_reading()
                self._context.reading.defer(self._read_on)
            self._held += data
        else:
            self._read(data)

    def _read_on(self) -> None:
        """Continue a deferred read."""
        data, self._held = self._held, b""
        if self._transport is not None and not self._transport.is_closing():
            self._context.reading.begin_resuming()
            self._transport.resume_reading()
            self._read(data)

    def _read(self, data: bytes) -> None:
        guard, now = self._guard, self._context.clock()
        violation = guard.scan(data, self._streams, now)
        if violation is not None:
            self._fail(violation)
            return
        self._is_batching = True
        try:
            self.session.receive(data)
            self._begin_fresh(now)
        except SessionError as error:
            self._fail(Violation(error.code, _reason_of(error), str(error)))
            return
        finally:
            self._is_batching = False
        for stream in guard.opened:
            if stream not in self._streams:  # the session has refused it: too many, or malformed
                guard.record_reset(stream)
                self._pending = self._pending or guard.charge_reset(now)
        self._flush()

    def eof_received(self) -> None:
        """Treat a client that has closed its sending side as gone. The loop closes the connection."""
        self._lose_streams(by_client=True)

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        self._leave_worker()
        context.counts.connections -= 1
        context.connection_limiter.leave(self._permit)
        self._lose_streams(by_client=True)

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
        self._fresh.append((begun, headers, not ended))
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
        self._blocked.discard(closed)
        self._to_reset.discard(closed)
        if code and not by_client and not closed.done:  # the session has reset it, because of the client
            self._pending = self._pending or self._guard.charge_reset(self._context.clock())
        closed.lose(by_client=by_client)

    def client_leaves(self) -> None:
        """No more requests will come."""
        self._accepts_none = True

    # requests

    def _begin_fresh(self, now: float) -> None:
        """Begin the exchanges of the requests of this read."""
        fresh, self._fresh = self._fresh, []
        for stream, headers, has_body in fresh:
            self.requests += 1
            self.deadline = inf if self.writable else self.deadline
            if stream.closed:
                continue
            if self.deferred:
                self._context.deferred_queue.add(partial(self._begin_later, stream, headers, has_body))
            else:
                self._begin_stream(stream, headers, has_body=has_body)
        if fresh and self._leaving is None:
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
        scheme = b"" if self.info.trusted else b"http"
        key = websocket_key() if has_body and _is_connect(headers) else b""
        if key and self._context.settings.forwarding.upgrades == "none":
            key = b""
        try:
            head = self.services.requests.request_head(headers, scheme=scheme, has_body=has_body, websocket_key=key)
            request = self._context.head_reader.request(head)
        except RejectedRequest as rejection:
            stream.refuse(rejection.cause, str(rejection), Request.refused(rejection.head or _likely(headers)))
        else:
            stream.begin(request)

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
            self._touched.add(stream)
        if self._is_batching:
            return
        if size > LARGE or (done and len(self._streams) == 1):
            self._flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._context.loop.call_soon(self._flush_due)

    def answered(self, stream: H2Stream, now: float) -> None:
        """The exchange of this stream is over."""
        if stream.deferred:
            self.deferred = True
        if not stream.ended and not stream.closed:
            self._to_reset.add(stream)
            self._touched.add(stream)
            if not self._is_batching and not self._is_flush_due:
                self._is_flush_due = True
                self._context.loop.call_soon(self._flush_due)

    def note(self) -> None:
        """Update the count of buffered bytes."""
        self._context.buffers.note(self)

    # writing

    def _flush_due(self) -> None:
        self._is_flush_due = False
        self._flush()

    def _flush(self) -> None:
        """Write what the session has, as far as the client takes it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._is_batching = True
        try:
            while self.writable:
                output = self.session.take_output(MOST_OUTPUT)
                if not output:
                    break
                self._is_mid_frame = len(output) == MOST_OUTPUT
                transport.write(output)
            self._set_pace()
        except SessionError as error:
            self._fail(Violation(error.code, _reason_of(error), str(error)))
            return
        finally:
            self._is_batching = False
        failure = self.session.failure
        if failure is not None:
            self._fail(Violation(failure, REASON_OF_CODE.get(failure, GoAwayReason.PROTOCOL), "protocol error"))
        elif self._pending is not None:
            self._fail(self._pending)
        elif not self._streams and self._guard.is_begun:
            self._wait(self._context.clock())

    def _set_pace(self) -> None:
        """Pause what comes faster than clients take it, and resume what they have taken."""
        session, touched = self.session, self._touched
        for stream in self._to_reset.copy() if self._to_reset else ():
            if not session.queued(stream.stream):  # RFC 9113, section 8.1
                self._to_reset.discard(stream)
                self._guard.record_reset(stream.stream)
                stream.reset(ErrorCode.NO_ERROR)
                self._flush_later()
        if touched:
            for stream in touched:
                if stream.writable and not stream.closed and session.queued(stream.stream) > HIGH:
                    self._blocked.add(stream)
                    stream.block()
            touched.clear()
        for stream in tuple(self._blocked) if self._blocked else ():
            if session.queued(stream.stream) <= LOW:
                self._blocked.discard(stream)
                stream.unblock()

    def _flush_later(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._context.loop.call_soon(self._flush_due)

    # the end

    def _wait(self, now: float) -> None:
        """No stream is left: wait for the next request, or close."""
        if self._accepts_none:
            self._close(self._leaving)
        elif self.writable:
            self.deadline = now + self._context.hot.keep_alive

    def hurry(self, now: float, idle: float) -> None:
        """The worker drains: tell the client, and end the connection when its streams are served."""
        if self._leaving is None:
            self._announce_end(GoAwayReason.DRAIN, now)

    def _announce_end(self, reason: GoAwayReason, now: float) -> None:
        self._leaving = reason
        self.session.announce_end()
        self._context.loop.call_later(LAST_STREAMS, self._refuse_more)
        self._flush_later()

    def _refuse_more(self) -> None:
        """Accept no more streams; close when those that are open are served."""
        if self._transport is None or self._transport.is_closing():
            return
        self.session.refuse_more()
        self._accepts_none = True
        self._flush()

    def _close(self, reason: GoAwayReason | None) -> None:
        """Close an orderly connection, with a GOAWAY if it was not announced."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if reason is not None:
            self.services.goaways[reason] += 1
        if not self._accepts_none:
            self._accepts_none = True
            self.session.terminate(ErrorCode.NO_ERROR)
            if self.writable:
                transport.write(self.session.take_output(MOST_OUTPUT))
        self._mark_unsent()
        transport.close()

    def _fail(self, violation: Violation) -> None:
        """End the connection because of its client: a GOAWAY, a log event, and an end of all exchanges."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.services.goaways[violation.reason] += 1
        left_out = self.services.events.take(self._context.clock())
        if left_out is not None:
            log.warning(
                "HTTP/2 connection ended",
                extra={
                    "code": "http2_connection_ended",
                    "client": self.info.address,
                    "reason": violation.reason.value,
                    "error": violation.why,
                    "streams": len(self._streams),
                    "left_out_before": left_out,
                },
            )
        self._lose_streams(by_client=False)
        self._leave_worker()
        if self.session.failure is None:
            self._write_goaway(transport, violation.code)
        LingeringClose(self._context, transport, self._permit).begin()

    def _write_goaway(self, transport: asyncio.Transport, code: ErrorCode) -> None:
        self.session.terminate(code)
        try:
            output = self.session.take_output(MOST_OUTPUT)
        except SessionError:
            output = b""
        if not output and not self._is_mid_frame:
            output = goaway_frame(self._guard.highest, code)
        transport.write(output)

    def _lose_streams(self, *, by_client: bool) -> None:
        streams, self._streams = self._streams, {}
        self._fresh = []
        self._is_batching = True
        for stream in streams.values():
            stream.lose(by_client=by_client)
        self._is_batching = False
        self._blocked.clear()
        self._touched.clear()
        self._to_reset.clear()

    def _leave_worker(self) -> None:
        """Leave the limits and counts of the worker."""
        if self._transport is not None:
            self.services.connections -= 1
        self._context.deadline_sweep.discard(self)
        self._context.buffers.forget(self)
        self._transport = None
        self._held = b""

    def stop(self) -> None:
        """Close because the edge stops. Requests in flight get a local reply."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for stream in tuple(self._streams.values()):
            stream.stop(Cause.EDGE_STOPPED)
        self._flush()
        if not self.session.queued_in_all():
            self._close(GoAwayReason.DRAIN)

    def drop(self) -> None:
        """Close at once because the edge stops."""
        for stream in tuple(self._streams.values()):
            stream.stop(Cause.EDGE_STOPPED)
        if self._transport is not None:
            drop(self._transport)

    # limits of the worker

    @property
    def client(self) -> ClientKey:
        """The client that its memory is counted for. Called by `BufferLimit`."""
        return client_key(self.info.address)

    @property
    def held_bytes(self) -> int:
        """Bytes that are buffered for it. Called by `BufferLimit`."""
        if self._transport is None:
            return 0
        held = len(self._held) + self._transport.get_write_buffer_size() + self.session.queued_in_all()
        return held + sum(stream.held_bytes for stream in self._streams.values())

    def cut_off(self) -> None:
        """Close at once because it holds more than its share of memory. Called by `BufferLimit`."""
        self.services.goaways[GoAwayReason.BUFFER_LIMIT] += 1
        for stream in tuple(self._streams.values()):
            stream.stop(Cause.BUFFER_LIMIT)
        if self._transport is not None:
            drop(self._transport)

    def idle_since(self) -> float | None:
        """When it began to wait for a request; None = it does not wait. Called by `IdleConnections`."""
        if self._streams or self._held or not self.writable or self._transport is None:
            return None
        timeout = self._context.hot.keep_alive if self.requests else self._context.timeouts.head
        return None if self._transport.is_closing() else self.deadline - timeout

    def close_idle(self) -> bool:
        """Close to make room. False = something has just arrived. Called by `IdleConnections`."""
        if self._transport is None or has_input(self._transport):
            return False
        self._close(GoAwayReason.IDLE)
        return True

    # timeouts

    def _mark_unsent(self) -> None:
        """Require the client to take some of the write buffer within each `timeouts.write_stall` seconds."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = self._context.clock() + self._context.timeouts.write_stall

    def deadline_passed(self, now: float) -> None:
        """Act on the deadline. Called by the deadline sweep."""
        self.deadline = inf
        transport = self._transport
        if transport is None:
            return
        if not self.writable or transport.is_closing():
            if transport.get_write_buffer_size() < self._unsent:
                self._mark_unsent()  # slow, but alive
                return
            self.services.goaways[GoAwayReason.WRITE_STALL] += 1
            self._lose_streams(by_client=True)
            drop(transport)
        elif has_input(transport):
            self.deadline = now + self._context.timeouts.head  # something has arrived, and is read in this turn
        elif not self._streams:
            self._close(GoAwayReason.IDLE if self.requests else GoAwayReason.HEAD_TIMEOUT)


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
