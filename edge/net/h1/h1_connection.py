"""One HTTP/1.1 connection of a client: requests in, responses out, one exchange at a time.

    bytes ─► head complete? ─► valid? ─► Exchange ─► (response) ─► next request, or close

Pipelined requests (RFC 9112, section 9.3.2) wait as unparsed bytes until the response to the current request is
complete. Reading is paused meanwhile, so the queue is bounded by the size of one read.

A response body of unknown length is chunked for an HTTP/1.1 client, so that the client can distinguish a complete
response from a truncated one. For an HTTP/1.0 client the end of the connection delimits it.

How a connection waits and ends is in `h1_lifetime.py`.
"""

import logging
import sys
from time import time
from typing import Final

from edge.net.accept.accept_chain import NewConnection
from edge.net.checked_exchange import checked_exchange
from edge.net.client import Client, TunnelSide
from edge.net.exchange import Exchange
from edge.net.h1.h1_lifetime import H1Lifetime
from edge.net.h1.head_reader import LONGEST
from edge.net.limits.buffer_limit import SMALL
from edge.net.transport.read_budget import SHORT
from edge.net.transport.small_reads import LARGEST, WRITE_BUFFER
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, BadBody, CloseBody, Framing, RejectedRequest, body_of
from edge.rules.http.h1_encode import chunk, connection_line, own_head, passed_head, switching_head
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import last_chunk, status_line
from edge.rules.http.local_reply import LocalReply, date_line
from edge.rules.http.messages import ResponseHead
from edge.rules.outcomes import Cause

CRLF2: Final = b"\r\n\r\n"
_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE
_NO_REQUEST: Final = Request.refused()
_LAST_CHUNK: Final = last_chunk(b"")
LOOKUPS_AFTER_CHANGE: Final = 15
"""Requests whose fields are not compared with those of the one before, after a comparison in vain: as the memory of
an earlier request is in no cache of the CPU, it takes as long as a lookup by the hash of the fields. Those of a
browser change with each kind of resource."""
JOINED: Final = 16 * 1024
"Bytes of a body below which head and body are joined into one write; larger bodies are written without a copy."

checked: type[Exchange] | None = checked_exchange() if sys.flags.dev_mode else None
"""A class to use in place of `Exchange`; a worker that traces requests sets it to `TracedExchange`. A compiled styx
makes an `Exchange` without a call of Python."""

log = logging.getLogger("styx.client")


class H1Connection(H1Lifetime, Client):
    """An HTTP/1.1 connection of a client; the `Client` of each exchange on it."""

    __slots__ = ("_keep_alive", "_lookups_due", "_request", "deferred")

    protocol = ""
    stream = 0

    def __init__(self, context: WorkerContext, connection: NewConnection) -> None:
        super().__init__(context, connection)
        self.deferred = False
        "Whether its last request was for an unknown host: the next one is read after those of other clients."
        self._request = _NO_REQUEST
        self._lookups_due = 1
        "Requests whose fields are not compared with those of the one before: the first one has none before it."
        self._keep_alive = False
        "Whether the connection stays open after the latest response."

    def __repr__(self) -> str:
        return f"<H1Connection {self.info.address} {self._exchange or 'idle'}>"

    def begin(self, data: bytes) -> None:
        """Begin to read requests; the last step of accepting. `data`: bytes that were read before."""
        context = self._context
        if self._transport is not None:
            self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self.deadline = context.clock() + context.hot.head
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
                if self._lookups_due:
                    self._lookups_due -= 1
                else:
                    request = reader.with_same_fields(data, self._request)
                    if request is None:
                        self._lookups_due = LOOKUPS_AFTER_CHANGE
                if request is None:
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

    # called by the exchange: the request body

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

    # called by the exchange: the response

    def _allows_another(self) -> bool:
        """Whether another request may follow the current one."""
        context = self._context
        return (
            self._request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response. It is dropped for an HTTP/1.0 client (RFC 9110, section 15.2)."""
        if self._request.minor:
            lines = self._context.head_reader.interim_lines(head)
            self.write(b"".join((status_line(head.status, head.reason), *lines, b"\r\n")))

    def send_response(
        self,
        response: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        size: int,
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        """Send the head of the final response, and what came of its body, in `pieces` of `size` bytes together.
        `backend`: the field that names the backend; `done`: the body is complete, and `trailers` follow it."""
        request, context, framing = self._request, self._context, response.framing
        keep_alive = (
            request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )  # as `_allows_another`, inlined to save a call
        body, head = pieces, response.head
        if framing is _CHUNKED or framing is _CLOSE:
            framing = _CHUNKED if request.minor else _CLOSE
            keep_alive = keep_alive and framing is not _CLOSE
            head = passed_head(response, framing)
            if framing is _CHUNKED:
                body = _chunks(pieces, done=done, trailers=trailers)
        self._framing = framing
        self._keep_alive = keep_alive
        wire = [
            head,
            b"" if response.has_date else date_line(int(time())),
            b"X-Request-Id: ",
            request_id,
            context.edge_line,
            backend,
            b"\r\n" if keep_alive and request.minor else connection_line(request, keep_alive=keep_alive),
        ]
        if size < JOINED:
            wire += body
            self.write(b"".join(wire))
        else:
            self.write_all([b"".join(wire), *body])

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """Send more of the body. `done`: the body is complete, and `trailers` follow it."""
        if self._framing is not _CHUNKED:
            self.write_all(pieces)
            return
        parts = _chunks(pieces, done=done, trailers=trailers)
        if len(pieces) == 1 and len(pieces[0]) < JOINED:
            self.write(b"".join(parts))
        else:
            self.write_all(parts)

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """Send a local reply: head and body."""
        request = self._request
        self._keep_alive = keep_alive = self._allows_another()
        line = connection_line(request, keep_alive=keep_alive)
        own_lines = (date_line(int(time())), b"X-Request-Id: ", request_id, self._context.edge_line, line)
        self.write(own_head(request, page, own_lines) + (b"" if request.method == b"HEAD" else page.body))

    def may_switch(self, head: ResponseHead) -> bool:
        """Always: the client made the key, and checks what the backend made of it (RFC 6455, section 4.1)."""
        return True

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """Send the 101 response and give the connection to a tunnel."""
        lines = b"".join(self._context.head_reader.interim_lines(head))
        own_lines = (b"X-Request-Id: ", request_id, self._context.edge_line, backend)
        self.write(switching_head(head, lines, protocols, own_lines))
        return self.hand_over()

    def write_all(self, parts: list[bytes]) -> None:
        """Send several pieces without copies."""
        if self._transport is not None:
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)

    def end(self, now: float) -> None:
        """Finish the exchange, whose response is complete: read the next request, or close."""
        self._exchange = None
        if not self._keep_alive:
            self._close()
            return
        if self.writable and not self._held and not self.paused:  # as `_go_on`, without a call
            self.deadline = now + self._context.hot.keep_alive
        elif self.writable:
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


def _chunks(pieces: list[bytes], *, done: bool, trailers: bytes) -> list[bytes]:
    """Encode pieces of a body as chunks, with the last chunk when the body is `done`."""
    parts = chunk(pieces)
    if done:
        parts.append(last_chunk(trailers) if trailers else _LAST_CHUNK)
    return parts
