"""One HTTP/1.1 connection of a client: requests in, responses out, one exchange at a time.

    bytes ─► head complete? ─► valid? ─► Exchange ─► (response) ─► next request, or close

Pipelined requests (RFC 9112, section 9.3.2) wait as unparsed bytes until the response to the current request is
complete. Reading is paused meanwhile, so the queue is bounded by the size of one read.
"""

import asyncio
import logging
import sys
from math import inf
from typing import Final

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.checked_exchange import checked_exchange
from edge.net.client import Client, TunnelSide
from edge.net.exchange import Exchange
from edge.net.h1.h1_response import discard
from edge.net.h1.head_reader import LONGEST
from edge.net.limits.buffer_limit import SMALL
from edge.net.limits.watched_client import WatchedClient
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import LARGEST, WRITE_BUFFER
from edge.net.transport.socket_state import drop, has_input, reset
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, BadBody, CloseBody, Framing, RejectedRequest, body_of
from edge.rules.http.head_validation import Request
from edge.rules.outcomes import Cause

CRLF2: Final = b"\r\n\r\n"
_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED

checked: type[Exchange] | None = checked_exchange() if sys.flags.dev_mode else None
"""A class to use in place of `Exchange`; a worker that traces requests sets it to `TracedExchange`. A compiled styx
makes an `Exchange` without a call of Python."""

log = logging.getLogger("styx.client")


class H1Connection(WatchedClient, Client):
    """An HTTP/1.1 connection of a client; the `Client` of each exchange on it."""

    __slots__ = ("_permit", "_unsent", "deferred")

    protocol = ""
    stream = 0

    def __init__(self, context: WorkerContext, connection: NewConnection) -> None:
        super().__init__(context, connection.info)
        self._transport = connection.transport
        self.write = connection.transport.write
        self._permit = connection.permit
        self.deferred = False
        "Whether its last request was for an unknown host: the next one is read after those of other clients."
        self._unsent = 0
        "Bytes in the write buffer at the last check whether the client still takes some."

    def __repr__(self) -> str:
        return f"<H1Connection {self.info.address} {self._exchange or 'idle'}>"

    def begin(self, data: bytes) -> None:
        """Begin to read requests; the last step of accepting. `data`: bytes that were read before."""
        context = self._context
        if self._transport is not None:
            self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self.deadline = context.clock() + context.timeouts.head
        context.deadline_sweep.add(self)
        if data:
            self.data_received(data)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._exchange is None and not self.paused:
            if self.deferred:
                self._defer_request(data)
            else:
                held = self._held
                self._read_head(held + data if held else data, len(held))
        elif self._exchange is None or self.body.done or self._held:
            self._hold(self._held + data)
        elif len(data) <= SHORT or self._reading.begin():
            self._read_body(self._exchange, data)
        else:
            self._hold(data)
            self._read_later()

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.deadline_sweep.discard(self)
        self._leave_limits()
        context.counts.connections -= 1
        self.info.listener.connections -= 1
        context.connection_limiter.leave(self._permit)
        self._transport = None
        self.write = discard
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """Treat a client that has closed its sending side as gone, as nginx does. The loop closes the connection
        after this call."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            truncated = exchange.is_responding and self.is_close_delimited
            exchange.client_gone()
            if truncated:
                self.abort()

    def pause_writing(self) -> None:
        self.writable = False
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
        self._context.buffers.note(self)
        if self._exchange is not None:
            self._exchange.client_blocked()

    def resume_writing(self) -> None:
        self.writable = True
        self._context.buffers.note(self)
        if self._exchange is not None:
            self._exchange.client_writable()
        elif self._transport is not None and not self._transport.is_closing():
            self._go_on(self._context.clock())

    # the request

    def _read_head(self, data: bytes, seen: int = 0) -> None:
        """Parse a head once it is complete, and begin its exchange. `seen`: length of the part of `data` that was
        searched before."""
        reader, rest = self._context.head_reader, b""
        try:
            request = None
            if not seen and len(data) <= LONGEST and data.endswith(CRLF2):
                request = reader.only_request(data, self._request)
            if request is None:
                end = self._end_of_head(data, seen)
                if end < 0:
                    return
                rest = data[end:]
                data = data[2 if data.startswith(b"\r\n") else 0 : end]
                request = reader.request(data)
        except RejectedRequest as refusal:
            self._held = b""
            self.refuse(refusal.cause, str(refusal), Request.refused(refusal.head, data.removeprefix(b"\r\n")))
            return
        context = self._context
        self.requests += 1
        self._request = request
        self._held = b""
        if request.framing is _NONE:
            self.body = NO_BODY
        else:
            self.body = body_of(request.framing, request.length, context.limits)
            if request.framing is _CHUNKED or request.length > LARGEST:
                self._read_in_small_pieces()
        exchange = Exchange(self, context, request) if checked is None else checked(self, context, request)
        self._exchange = exchange
        self.stopped = False
        if not rest:
            exchange.begin()
            return
        if self.body.done:
            self._hold(rest)
        else:  # before `begin`: how the body is sent depends on whether all of it is here
            self._read_body(exchange, rest)
        if self.exchange is exchange:  # (the property: mypy, and so the compiled module, take `_exchange` for it)
            exchange.begin()

    def _end_of_head(self, data: bytes, seen: int) -> int:
        """Where the head ends; -1 = it is incomplete, and held until there is more. Raises RejectedRequest."""
        # RFC 9112, section 2.2: an empty line before a request is ignored. Only one: more would waste our time.
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(CRLF2, seen - 3 if seen > 5 else start)
        if end < 0:
            self._wait_for_head(data, seen)
            return -1
        if start and data[2:4] == b"\r\n":
            raise RejectedRequest(Cause.BAD_REQUEST, "more than one empty line before a request")
        return end + 4

    def _wait_for_head(self, data: bytes, seen: int) -> None:
        """Hold an incomplete head, until the timeout of the head. Raises RejectedRequest."""
        if data and not self._held:
            self.deadline = self._context.clock() + self._context.timeouts.head
        self._held = data
        if data[:4] == CRLF2:
            raise RejectedRequest(Cause.BAD_REQUEST, "more than one empty line before a request")
        self._context.head_reader.partial_request(data, seen)
        if len(data) >= SMALL:
            self._context.buffers.note(self)
        self._start_reading()

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        try:
            pieces, rest = self.body.feed(data)
        except BadBody as error:
            log.debug(
                "request body rejected",
                extra={"code": "request_body_rejected", "client": self.info.address, "error": str(error)},
            )
            exchange.abandon(error.cause)
            return
        if rest:
            self._hold(rest)
            if not self.body.done:
                self._read_later()
        if self.body.trailers:
            exchange.body_trailers(self.body.trailers)
        exchange.body(pieces, done=self.body.done)

    def _read_on(self) -> None:
        """Continue a deferred read: more of the body of this request, or the next request."""
        self._read_is_deferred = False
        transport, exchange = self._transport, self._exchange
        if transport is None or transport.is_closing():
            return
        if exchange is not None:
            self._read_held_body(exchange)
        elif self._held and self.writable:
            self.deferred = False
            data, self._held = self._held, b""
            self._read_head(data)

    def _read_held_body(self, exchange: Exchange) -> None:
        """Decode held bytes of the body until the backend blocks or the time that one connection has in a turn is
        used up."""
        reading = self._reading
        end = reading.slice_end()
        while not self.body.done and not self.stopped:
            data, self._held = self._held, b""
            if data:
                self._read_body(exchange, data)
            if self._exchange is not exchange:
                return
            if not self._held:
                if not self.stopped:
                    reading.begin_resuming()
                    self._start_reading()
                return
            if reading.is_over(end):
                self._read_later()
                return

    def refuse(self, cause: Cause, why: str, request: Request) -> None:
        """Respond to a rejected request with a local reply, and close."""
        log.debug(
            "request rejected",
            extra={"code": "request_rejected", "client": self.info.address, "cause": cause.value, "reason": why},
        )
        self._request = request
        self.body = CloseBody()  # its end is unknown
        self._exchange = exchange = (checked or Exchange)(self, self._context, request)
        exchange.refuse(cause)

    def _refuse_held(self, cause: Cause, why: str) -> None:
        held, self._held = self._held, b""
        self.refuse(cause, why, Request.refused(data=held))

    # called by the exchange

    def hand_over(self) -> TunnelSide:
        """Give the connection to a tunnel, with the bytes that came behind the request."""
        assert self._transport is not None
        held, self._held = self._held, b""
        self._exchange = None
        self.deadline = inf
        self._context.deadline_sweep.discard(self)  # the tunnel has a deadline of its own
        self._leave_limits()
        return TunnelSide(self._transport, self, held)

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()
            self._context.hangups.watch(self)
            self._context.buffers.note(self)

    def _start_reading(self) -> None:
        if self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()
            self._context.hangups.unwatch(self)
            self._context.buffers.note(self)

    def pause_body(self) -> None:
        """Read no more of the body for now."""
        self.stopped = True
        self._stop_reading()

    def resume_body(self) -> None:
        """Read more of the body. Bytes that are held are decoded first."""
        self.stopped = False
        if self._exchange is None or self.body.done:
            if not self._held:
                self._start_reading()
        elif self._held:
            self._read_later()
        else:
            self._start_reading_again()

    def note_buffers(self) -> None:
        """Update the count of buffered bytes: the exchange holds more of the body in memory than before."""
        self._context.buffers.note(self)

    def end(self, now: float) -> None:
        """Finish the exchange, whose response is complete: read the next request, or close."""
        self._exchange = None
        if not self._keep_alive:
            self._close()
            return
        if self.writable:
            self._go_on(now)
        else:  # the client does not read: without a pause, responses to pipelined requests would pile up in memory
            self._mark_unsent()
            self._stop_reading()

    def _go_on(self, now: float) -> None:
        """Read the next request: a pipelined one in a later turn of the loop, or one that is still to come."""
        context = self._context
        self.deadline = now + context.hot.keep_alive
        if not self._held:
            if self.paused:
                self._start_reading()
        else:
            self._read_later()

    def _defer_request(self, data: bytes) -> None:
        """Read this request after those of clients whose hosts exist. At most one more read is held meanwhile."""
        self._held += data
        if self._read_is_deferred:
            self._stop_reading()
        else:
            self._read_is_deferred = True
            self._context.deferred_queue.add(self._read_on)

    def shorten_idle_timeout(self, now: float, idle: float) -> None:
        """Shorten the idle timeout to `idle` seconds, because the worker drains. A client without a request so far
        keeps the timeout that it always has: it connected in order to send one."""
        if self.requests and self._exchange is None and not self._held:
            silent_since = self.deadline - self._context.hot.keep_alive
            self.deadline = min(self.deadline, max(now, silent_since + idle))

    def _close(self) -> None:
        """Close the connection. If the client is still sending, read on for a while first: unread bytes would cause
        a reset, by which the client loses the response (RFC 9112, section 9.6). Pipelined requests are dropped."""
        transport = self._transport
        if transport is None:
            return
        if self.body.done and not self._held:
            self._mark_unsent()
            transport.close()
            return
        self._context.deadline_sweep.discard(self)
        self._leave_limits()
        self._held = b""
        self._transport = None
        self.write = discard
        LingeringClose(self._context, transport, self._permit, self.info.listener).begin()

    def abort(self) -> None:
        """End a connection whose response is incomplete, so that the client notices.

        A close-delimited response would look complete after an orderly close, so its connection is reset.
        """
        self._exchange = None
        transport = self._transport
        if transport is None:
            return
        if self.is_close_delimited:
            reset(transport)
        else:
            self._mark_unsent()
            transport.close()

    def stop(self) -> None:
        """Close the connection because the edge stops. A request in flight gets a local reply; bytes that have
        arrived already are read first, and rejected."""
        transport = self._transport
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        elif transport is None or transport.is_closing():
            return
        elif self._held.strip(b"\r\n"):
            held, self._held = self._held, b""
            self.refuse(Cause.EDGE_STOPPED, "the edge stops", Request.refused(data=held))
        elif self.paused or not has_input(transport):
            self._mark_unsent()
            transport.close()

    def drop(self) -> None:
        """Close the connection at once because the edge stops."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        if self._transport is not None:
            drop(self._transport)

    # timeouts

    def _mark_unsent(self) -> None:
        """Require the client to take some of the write buffer within each `timeouts.write_stall` seconds."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = self._context.clock() + self._context.timeouts.write_stall

    def _takes_bytes(self, transport: asyncio.Transport) -> bool:
        """Whether the client has taken bytes since the last check."""
        return transport.get_write_buffer_size() < self._unsent

    def deadline_passed(self, now: float) -> None:
        """Act on the deadline. Called by the deadline sweep."""
        self.deadline = inf
        transport = self._transport
        if transport is None:
            return
        stuck = not self.writable or transport.is_closing()
        if stuck and self._takes_bytes(transport):
            self._mark_unsent()  # slow, but alive
        elif self._exchange is not None:
            self._exchange.deadline_passed(now)
        elif stuck:
            drop(transport)  # the client does not take the end of its response
        elif self._held.strip(b"\r\n"):
            self._refuse_held(Cause.REQUEST_TIMEOUT, "timeout of the head")
        elif not self.paused and has_input(transport):
            self.deadline = now + self._context.timeouts.head  # a request has arrived, and is read in this turn
        else:
            self._mark_unsent()
            transport.close()
