"""The lifetime of an HTTP/2 connection: idle timeout, drain, errors, and closing because of a limit of the worker.

begun ─► streams ─► idle ─► closed         orderly: GOAWAY with NO_ERROR
             ├─► announced ─► refuses more ─► closed when the last stream is
             └─► failed ─► GOAWAY with an error, a log event, and a line for every request in flight
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import inf
from typing import Final

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.h2.h2_session import H2Session, Ngh2Session, SessionError, SessionHandler, SessionLimits
from edge.net.h2.h2_stream import H2Stream, StreamOwner
from edge.net.transport.socket_state import drop, has_input
from edge.net.worker_context import WorkerContext
from edge.rules.h2.h2_frames import ErrorCode, FrameGuard, GoAwayReason, Violation
from edge.rules.h2.output_frames import goaway_frame
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.outcomes import Cause

WINDOW: Final = 65_535
"Bytes of one request body that may come before the edge takes them (nginx: http2_body_preread_size)."
LARGE: Final = 16 * 1024
"Bytes of a body that are written at once, so that the backend is paused before it sends more."
FIRST_OUTPUT: Final = 4 * 1024
MOST_OUTPUT: Final = 64 * 1024
"""Bytes that are taken from the session at once, at first and then. ngh2 makes room for all of them, which takes 10
microseconds for 64 KiB."""
HIGH: Final = 64 * 1024
LOW: Final = 16 * 1024
"Bytes of a response in the session above which its backend is paused, and below which it is resumed."
WRITE_BUFFER: Final = 32 * 1024
"High watermark of the write buffer, in bytes."
LAST_STREAMS = 1.0
"Seconds in which streams are accepted that a client began before it has read that the connection ends."

_WITHOUT_LINGERING: Final = (GoAwayReason.IDLE, GoAwayReason.HEAD_TIMEOUT)
"Reasons to close a connection that has sent all long ago, perhaps to make room at once."

log = logging.getLogger("styx.client")

new_session: Callable[[SessionHandler, SessionLimits], H2Session] = Ngh2Session


@lru_cache(maxsize=4)
def _session_limits(streams: int, head: int, fields: int, *, tunnels: bool) -> SessionLimits:
    """One object for all connections with the same settings."""
    return SessionLimits(streams=streams, window=WINDOW, header_list=head, header_count=2 * fields, tunnels=tunnels)


class H2Lifetime(SessionHandler, StreamOwner):
    """The waiting and ending part of an HTTP/2 connection."""

    __slots__ = (
        "_accepts_none",
        "_blocked",
        "_context",
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
        "_unparsed",
        "_unsent",
        "deadline",
        "deferred",
        "info",
        "requests",
        "services",
        "session",
        "writable",
        "written",
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
            _session_limits(
                limits.streams,
                limits.head,
                limits.fields,
                tunnels=context.settings.forwarding.upgrades != "none",
            ),
        )
        self._guard = FrameGuard()
        self._streams: dict[int, H2Stream] = {}
        "Those that are not closed, by id."
        self._fresh: list[tuple[H2Stream, Iterable[tuple[bytes, bytes]], bool]] | None = None
        """Requests of this read, which begin when all of it is parsed; with their header lists. None = there
        are none: here and below, what an idle connection does not use takes no memory."""
        self._touched: dict[H2Stream, None] | None = None
        "Streams for which something was queued since the last flush; None = there are none."
        self._blocked: dict[H2Stream, None] | None = None
        "Streams whose clients take too little; None = there are none."
        self._to_reset: dict[H2Stream, None] | None = None
        "Streams whose response is complete, while the client still sends; None = there are none."
        self._held = b""
        "A read that is left to a later turn of the loop."
        self._unparsed = b""
        "The rest of a read that the guard has scanned, and the session has not parsed yet."
        self._is_batching = self._is_flush_due = False
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
        self.written = 0
        "Bytes written so far."

    # of H2Connection

    def _flush(self, most: int = FIRST_OUTPUT) -> None:
        """Write what the session has, as far as the client takes it."""
        raise NotImplementedError

    def _flush_later(self) -> None:
        """Flush at the end of this turn of the loop."""
        raise NotImplementedError

    def client_leaves(self) -> None:
        """No more requests will come."""
        self._accepts_none = True

    # the end

    def _wait(self, now: float) -> None:
        """No stream is left: wait for the next request, or close."""
        self._streams.clear()  # frees the table of the dict, which is as large as it ever was
        if self._accepts_none:
            self._close(self._leaving)
        elif self.writable:
            self.deadline = now + self._context.hot.keep_alive

    def shorten_idle_timeout(self, now: float, idle: float) -> None:
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
        if reason in _WITHOUT_LINGERING:
            self._mark_unsent()
            transport.close()
        else:
            # The client may still read the last response, and sends WINDOW_UPDATE frames meanwhile: a closed socket
            # would respond to them with a reset, and what the client has not read would be lost.
            self._leave_worker()
            self.session.release()
            stall = self._context.timeouts.write_stall
            LingeringClose(self._context, transport, self._permit, self.info.listener, longest=stall).begin()

    def _fail(self, violation: Violation) -> None:
        """End the connection because of its client: a GOAWAY, a log event, and an end of all exchanges."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.services.goaways[violation.reason] += 1
        left_out = self.services.events.take(self._context.clock())
        if left_out is not None:
            log.warning(
                "HTTP2 connection ended",
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
        self.session.release()
        LingeringClose(self._context, transport, self._permit, self.info.listener).begin()

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
        self._fresh = None
        self._is_batching = True
        for stream in streams.values():
            stream.lose(by_client=by_client)
        self._is_batching = False
        self._blocked = self._to_reset = self._touched = None

    def _leave_worker(self) -> None:
        """Leave the limits and counts of the worker."""
        if self._transport is not None:
            self.services.connections -= 1
        self._context.deadline_sweep.discard(self)
        self._context.buffers.forget(self)
        self._transport = None
        self._held = self._unparsed = b""

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
        held = (
            len(self._held)
            + len(self._unparsed)
            + self._transport.get_write_buffer_size()
            + self.session.queued_in_all()
        )
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
        if self._streams or self._held or self._unparsed or not self.writable or self._transport is None:
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
