"""One connection from a client: requests in, answers out, one exchange at a time.

    bytes ─► head complete? ─► admitted? ─► Exchange ─► (answer) ─► next request, or close

Requests that come before the one in hand is answered (pipelining, RFC 9112, section 9.3.2) wait as bytes,
unread, and reading is paused meanwhile: the queue is bounded by what one read brings.
"""

import asyncio
import logging
import sys
from math import inf

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.checked_exchange import CheckedExchange
from edge.net.client import TunnelSide
from edge.net.exchange import Exchange
from edge.net.h1.h1_response import ResponseWriter, discard
from edge.net.limits.buffer_limit import SMALL
from edge.net.limits.watched_client import WatchedClient
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import LARGEST, WRITE_BUFFER
from edge.net.transport.socket_state import drop, has_come, reset
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, BadBody, CloseBody, Framing, RejectedRequest, body_of
from edge.rules.http.head_validation import Request
from edge.rules.outcomes import Cause

CRLF2 = b"\r\n\r\n"
_NONE, _CHUNKED = Framing.NONE, Framing.CHUNKED

new_exchange: type[Exchange] = CheckedExchange if sys.flags.dev_mode else Exchange

log = logging.getLogger("styx.client")


class H1Connection(WatchedClient, ResponseWriter):
    """See the module."""

    __slots__ = (
        "_exchange",
        "_permit",
        "_unsent",
        "deadline",
        "deferred",
        "info",
        "writable",
    )

    def __init__(self, context: WorkerContext, connection: NewConnection) -> None:
        super().__init__(context)
        # for the connection
        self._transport = connection.transport
        self.write = connection.transport.write
        self.info = connection.info
        self._permit = connection.permit
        self.deadline = inf
        self.deferred = False
        "Its last request was for a site that nobody has: before the next is read, others have their turn."
        # for the request in hand
        self._exchange: Exchange | None = None
        self.writable = True
        self._unsent = 0
        "Bytes that waited for the client when it was last looked at."

    def __repr__(self) -> str:
        return f"<ClientConnection {self.info.address} {self._exchange or 'idle'}>"

    def begin(self, data: bytes) -> None:
        """The last step of accepting: from now on requests are read. `data` came before."""
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
                self._make_way(data)
            else:
                self._read_head(self._held + data, len(self._held))
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
        self._watch_no_more()
        context.counts.connections -= 1
        context.connection_limiter.leave(self._permit)
        self._transport = None
        self.write = discard
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """A client that sends no more is taken for gone, as nginx does; its connection is closed behind this."""
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
        """`seen`: so much of it was here before, and has been looked at."""
        context = self._context
        # RFC 9112, section 2.2: an empty line before a request is ignored. One: more would only keep us busy.
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(CRLF2, seen - 3 if seen > 5 else start)
        try:
            if end < 0:
                self._wait_for_head(data, seen)
                return
            if start and data[2:4] == b"\r\n":
                raise RejectedRequest(Cause.BAD_REQUEST, "more than one empty line before a request")
            rest = data[end + 4 :]
            request = context.head_reader.request(data[start : end + 4] if rest or start else data)
        except RejectedRequest as refusal:
            self._held = b""
            self.refuse(refusal.cause, str(refusal), Request.refused(refusal.head, data[start:]))
            return
        self.requests += 1
        self._request = request
        self._held = b""
        if request.framing is _NONE:
            self.body = NO_BODY
        else:
            self.body = body_of(request.framing, request.length, context.limits)
            if request.framing is _CHUNKED or request.length > LARGEST:
                self._read_in_small_pieces()
        self._exchange = exchange = new_exchange(self, context, request)
        self.stopped = False
        if not rest:
            exchange.begin()
            return
        if self.body.done:
            self._hold(rest)
        else:  # first: whether that is all of the body decides how it is sent
            self._read_body(exchange, rest)
        if self._exchange is exchange:
            exchange.begin()

    def _wait_for_head(self, data: bytes, seen: int) -> None:
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
        """Others had their turn: the next request, or more of the body of this one."""
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
        """For as long as one connection may be read in a turn, and the backend takes more."""
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
                    reading.begin_to_listen()
                    self._start_reading()
                return
            if reading.is_over(end):
                self._read_later()
                return

    def refuse(self, cause: Cause, why: str, request: Request) -> None:
        """Answer a request that was not admitted, and close."""
        log.debug(
            "request rejected",
            extra={"code": "request_rejected", "client": self.info.address, "cause": cause.value, "reason": why},
        )
        self._request = request
        self.body = CloseBody()  # nobody knows where it ends
        self._exchange = new_exchange(self, self._context, request)
        self._exchange.refuse(cause)

    def _refuse_held(self, cause: Cause, why: str) -> None:
        held, self._held = self._held, b""
        self.refuse(cause, why, Request.refused(data=held))

    # what the exchange says

    def hand_over(self) -> TunnelSide:
        """Give the connection to a tunnel, with the bytes that came behind the request."""
        assert self._transport is not None
        held, self._held = self._held, b""
        self._exchange = None
        self.deadline = inf
        self._context.deadline_sweep.discard(self)  # the tunnel is watched instead
        self._watch_no_more()
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
        """The exchange takes no more of the body for now."""
        self.stopped = True
        self._stop_reading()

    def resume_body(self) -> None:
        """The exchange takes more of the body. What is here already comes first."""
        self.stopped = False
        if self._exchange is None or self.body.done:
            if not self._held:
                self._start_reading()
        elif self._held:
            self._read_later()
        else:
            self._start_reading_again()

    def note_buffers(self) -> None:
        """The exchange keeps more of the body in memory than before."""
        self._context.buffers.note(self)

    def end(self, now: float) -> None:
        """The response is complete. Go on with the next request, or close."""
        self._exchange = None
        if not self._keep_alive:
            self._close()
            return
        if self.writable:
            self._go_on(now)
        else:  # it does not read its answers: what else it asks for waits, or they would pile up here
            self._mark_unsent()
            self._stop_reading()

    def _go_on(self, now: float) -> None:
        """The next request: one that waits, in a later turn of the loop, or one that is still to come."""
        context = self._context
        self.deadline = now + context.hot.keep_alive
        if not self._held:
            if self.paused:
                self._start_reading()
        else:
            self._read_later()

    def _make_way(self, data: bytes) -> None:
        """Read this when those that are served have had their turn; of more that comes, what one read brings."""
        self._held += data
        if self._read_is_deferred:
            self._stop_reading()
        else:
            self._read_is_deferred = True
            self._context.deferred_queue.add(self._read_on)

    def hurry(self, now: float, idle: float) -> None:
        """The worker is about to go: close when the client has been silent for `idle` seconds. One that has asked
        for nothing yet connected to do so: it has the time that it always has."""
        if self.requests and self._exchange is None and not self._held:
            silent_since = self.deadline - self._context.hot.keep_alive
            self.deadline = min(self.deadline, max(now, silent_since + idle))

    def _close(self) -> None:
        """Close; but when the client is still sending, first read on for a while, or it loses the answer
        to the reset that unread bytes cause (RFC 9112, section 9.6). What waits is not carried out."""
        transport = self._transport
        if transport is None:
            return
        if self.body.done and not self._held:
            self._mark_unsent()
            transport.close()
            return
        self._context.deadline_sweep.discard(self)
        self._watch_no_more()
        self._held = b""
        self._transport = None
        self.write = discard
        LingeringClose(self._context, transport, self._permit).begin()

    def abort(self) -> None:
        """End a connection whose response is not complete, so that the client can tell.

        A response that ends with the connection looks whole after an orderly end: that one is reset.
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
        """The edge stops: whoever waits for a response is told so, and the connection is closed. What has come
        already is read first, and refused."""
        transport = self._transport
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        elif transport is None or transport.is_closing():
            return
        elif self._held.strip(b"\r\n"):
            held, self._held = self._held, b""
            self.refuse(Cause.EDGE_STOPPED, "the edge stops", Request.refused(data=held))
        elif self.paused or not has_come(transport):
            self._mark_unsent()
            transport.close()

    def drop(self) -> None:
        """The edge stops now."""
        if self._exchange is not None:
            self._exchange.abandon(Cause.EDGE_STOPPED)
        if self._transport is not None:
            drop(self._transport)

    # time

    def _mark_unsent(self) -> None:
        """From now on the client must take some of what waits for it, every `write_stall` seconds."""
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = self._context.clock() + self._context.timeouts.write_stall

    def _takes_bytes(self, transport: asyncio.Transport) -> bool:
        """Whether the client took some since the last look."""
        return transport.get_write_buffer_size() < self._unsent

    def deadline_passed(self, now: float) -> None:
        """The deadline has passed. Called by the sweep."""
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
            drop(transport)  # it does not take the end of its answer
        elif self._held.strip(b"\r\n"):
            self._refuse_held(Cause.REQUEST_TIMEOUT, "the head did not come in time")
        elif not self.paused and has_come(transport):
            self.deadline = now + self._context.timeouts.head  # read in this turn of the loop: it would be lost
        else:
            self._mark_unsent()
            transport.close()
