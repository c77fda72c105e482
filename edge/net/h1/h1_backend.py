"""One HTTP/1.1 connection to a backend: requests out, responses in.

    idle ──acquire──► attached to an exchange ──response complete──► idle again, or closed

The connection parses responses and passes them to the exchange, or shadow probe, that it is attached to; it decides
nothing about them. A response that cannot be parsed ends the connection: no byte of it may reach the next client.
"""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol, cast

from edge.net.h1.head_reader import HeadReader
from edge.net.h1.response_handler import ResponseHandler
from edge.net.tls.client_tls import is_certificate_refusal
from edge.net.transport.read_budget import SHORT, ReadBudget
from edge.net.transport.read_control import ReadControl, discard
from edge.net.transport.small_reads import FIRST, LARGEST, LONG, NEXT, WRITE_BUFFER
from edge.net.transport.socket_state import input_poll, set_user_timeout, unread
from edge.rules.http.framing import NO_BODY, BadResponse, Body, CloseBody, Framing, ResponseTooLarge, body_of
from edge.rules.http.head_size import has_bare_lf
from edge.rules.http.head_validation import Response
from edge.rules.http.messages import ResponseHead
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

CRLF2: Final = b"\r\n\r\n"
MAX_INTERIMS: Final = 64
"1xx responses to one request, at most; backends send 103 once or twice, 102 every few seconds."
MAX_READ_AFTER_RESET: Final = 256 * 1024
"Bytes of a response that are read from a connection after a write has failed."
MAX_INTERIM_BYTES: Final = 64 * 1024
"Bytes of all 1xx responses to one request, at most: parsing heads costs many times what reading a body does."
INTERIMS_AT_ONCE: Final = 4
"1xx responses that are parsed in one turn of the loop; each may take 100 microseconds."
_LENGTH: Final = Framing.LENGTH


class ConnectionOwner(Protocol):
    """The pool, as a connection to a backend sees it."""

    __slots__ = ()

    def remove(self, connection: "H1Backend") -> bool:
        """Forget this connection: it must not be used again. Returns whether it was idle."""

    def lost(self, connection: "H1Backend") -> None:
        """Count this connection as closed, by either side."""

    def record_too_large(self, connection: "H1Backend", error: ResponseTooLarge) -> None:
        """Report a response whose head is beyond the limits."""

    def record_stale(self, connection: "H1Backend") -> None:
        """Record that the backend closed this connection while it was idle, which was noticed on its next use."""


class H1Backend(ReadControl):
    """An HTTP/1.1 connection to one backend: one request at a time, and idle in the pool between two."""

    __slots__ = (
        "_body",
        "_handler",
        "_head_reader",
        "_interim_bytes",
        "_interims",
        "_limits",
        "_max_head",
        "_owner",
        "_poll",
        "_previous",
        "_to_head",
        "_watchful",
        "closed",
        "endpoint",
        "idle_since",
        "keep_alive_timeout",
        "reusable",
        "used",
        "writable",
        "write",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        endpoint: str,
        head_reader: HeadReader,
        limits: LimitSettings,
        reading: ReadBudget,
    ) -> None:
        super().__init__(reading)
        self._owner = owner
        self._head_reader = head_reader
        self._limits = limits
        self._max_head = limits.response_head
        self._watchful = False
        self._poll: Callable[[], Sequence[object]] | None = None
        self._previous: Response | None = None
        "The latest response that was not one to a HEAD: the next one may have the same head."
        self.write: Callable[[bytes], object] = discard
        "Sends bytes of the request. It is the transport's own method, which saves a call."
        self.closed = False
        "Closed by the edge, or by the backend as far as the loop has reported."
        self.endpoint = endpoint
        self.idle_since = 0.0
        self.keep_alive_timeout = inf
        "Seconds for which the backend says that it keeps an idle connection (Keep-Alive: timeout)."
        self.writable = True
        self.used = 0
        "Requests sent so far, the current one included."
        # of the current request
        self._handler: ResponseHandler | None = None
        self._to_head = False
        self._interims = self._interim_bytes = 0
        self._body: Body | None = None
        self.reusable = True
        "Whether another request may follow."

    def __repr__(self) -> str:
        return f"<H1Backend {self.endpoint} {'attached' if self._handler else 'idle'}>"

    # attach and release

    def attach(self, handler: ResponseHandler, *, to_head: bool) -> None:
        """Attach this connection to one exchange. `to_head`: the request is a HEAD, whose response has no body."""
        self._handler = handler
        self._to_head = to_head
        self._interims = self._interim_bytes = 0
        self.used += 1

    def set_user_timeout(self, seconds: float) -> None:
        """Let the kernel end a connection whose data is unacknowledged for `seconds` (RFC 5482); 0 = do nothing."""
        if seconds and self._transport is not None:
            set_user_timeout(self._transport, seconds)
            self._watchful = True

    def clear_user_timeout(self) -> None:
        """Undo `set_user_timeout`: a backend may leave a request body, or the data of a tunnel, unread for a while,
        which TCP_USER_TIMEOUT would count as unacknowledged."""
        if self._watchful and self._transport is not None:
            set_user_timeout(self._transport, 0.0)
            self._watchful = False

    def release(self) -> bool:
        """Detach the exchange. Returns whether the connection may carry another request."""
        self._handler = None
        body, self._body = self._body, None
        if self.paused:  # by the client of this response, which does not concern the next one
            self.resume()
        if not self.reusable or body is None or not body.done or self.closed or self._transport is None:
            return False
        return not self._transport.get_write_buffer_size()

    def hand_over(self) -> asyncio.Transport:
        """Detach the exchange and give the transport to a tunnel."""
        assert self._transport is not None
        self._handler = None
        self.reusable = False
        self.clear_user_timeout()
        return self._transport

    @property
    def sent_before_request(self) -> bool:
        """Whether the backend sent bytes before the first request, which closed the connection."""
        return self.closed and bool(self._held)

    @property
    def unsent(self) -> int:
        """Bytes in the write buffer, which the backend has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write_all(self, parts: list[bytes]) -> None:
        """Send several pieces with one system call and without copies."""
        if len(parts) == 1:
            self.write(parts[0])
        elif parts and self._transport is not None and self.write is not discard:
            self._transport.writelines(parts)

    @property
    def unread(self) -> int:
        """Bytes that were received and are held unparsed."""
        return len(self._held)

    def read_buffer(self) -> memoryview:
        """The part of the shared buffer for the next read; called by `SmallReads`."""
        return FIRST if self._body is None else NEXT

    def take_long_read(self, data: memoryview) -> None:
        """The loop has read `data` into the shared buffer: copy the body apart from its head, and so once only."""
        handler = self._handler
        if handler is not None and self._body is None and not self._held:
            end = data[:SHORT].tobytes().find(CRLF2)
            if 0 <= end <= self._max_head:
                try:
                    self._head_received(handler, data[: end + 4].tobytes(), data[end + 4 :].tobytes())
                except (BadResponse, ValueError) as error:
                    self._unreadable(handler, error)
                return
        self.data_received(data.tobytes())

    def has_no_input(self) -> bool:
        """Whether the socket holds neither bytes nor an end of file that the loop has not reported yet.

        Bytes there would be taken for the next response, and after an end of file the request would be lost.
        """
        if self._poll is None:
            assert self._transport is not None
            self._poll = input_poll(self._transport)
        return not self._poll()

    def close(self) -> None:
        """Close the connection at once; a request in flight is dropped, and its exchange is not notified."""
        self._handler = None
        self.closed = True
        self.write = discard
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read more of the response for the exchange. Bytes that are held are parsed first."""
        self.stopped = False
        if self._handler is None:
            self._start_reading()
        elif self._held:
            self._read_later()
        else:
            self._start_reading_again()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self.write = self._transport.write

    def data_received(self, data: bytes) -> None:
        handler = self._handler
        if handler is None:  # bytes without a request
            self._held = data
            self._owner.remove(self)
            self.close()
            return
        try:
            if self._body is not None:
                self._read_body(handler, self._body, data)
            elif not self._held:
                self._read_head(handler, data)
            else:  # held: part of a head, searched before, or heads deferred to a later turn, not searched yet
                self._read_head(handler, self._held + data, 0 if self._read_is_deferred else len(self._held))
        except (BadResponse, ValueError) as error:
            self._unreadable(handler, error)

    def eof_received(self) -> None:
        """Abort if bytes are unsent: the loop would close behind them, and the backend may never take them."""
        self.closed = True
        if self.unsent and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._handler is not None:
            self._read_after_reset(ended=isinstance(exc, BrokenPipeError))
            if self._transport is not None:
                exc = self._transport.get_extra_info("tls_failure") or exc
        handler = self._handler
        self.reusable = False
        self.closed = True
        self.write = discard
        self._owner.lost(self)
        if handler is not None and self._body is not None:
            self._read_all_held(handler, self._body)
        if handler is None or self._handler is not handler:
            return
        self._handler = None
        if self._body is not None and isinstance(self._body, CloseBody) and exc is None:
            self._body.done = True
            handler.response_body([], True)
        elif self._body is not None:
            handler.backend_lost(Cause.TRUNCATED)
        elif isinstance(exc, TimeoutError):
            handler.backend_lost(Cause.CONNECTION_UNACKNOWLEDGED)
        elif self.used == 1 and is_certificate_refusal(exc) and not self._held and not self._interims:
            handler.backend_lost(Cause.CERTIFICATE_REFUSED)
        elif self.used > 1 and not self._held and not self._interims:
            self._owner.record_stale(self)
            handler.backend_lost(Cause.STALE_CONNECTION)
        else:
            handler.backend_lost(Cause.CLOSED_EARLY)

    def pause_writing(self) -> None:
        self.writable = False
        if self._handler is not None:
            self._handler.backend_blocked()

    def resume_writing(self) -> None:
        self.writable = True
        if self._handler is not None:
            self._handler.backend_writable()

    # the response

    def _unreadable(self, handler: ResponseHandler, error: Exception) -> None:
        """Close the connection after a response that cannot be parsed, and report the cause."""
        self.reusable = False
        self.close()
        if isinstance(error, ResponseTooLarge):
            self._owner.record_too_large(self, error)
        cause = error.cause if isinstance(error, BadResponse) else Cause.BAD_ANSWER
        handler.backend_lost(cause if self._body is None else Cause.TRUNCATED)

    def _read_after_reset(self, *, ended: bool) -> None:
        """Read the response that is left in the socket after a write has failed.

        A backend may respond early and close, as with 413; then a write fails while the response is still unread.
        `ended`: the backend had closed its sending half, for which Linux reports the reset as EPIPE (tcp_reset); a
        close-delimited body is complete then.
        """
        assert self._transport is not None
        self.reusable = False
        self.closed = True
        self.write = discard
        data = unread(self._transport, MAX_READ_AFTER_RESET)
        if data:
            self.data_received(data)
        handler, body = self._handler, self._body
        if ended and handler is not None and isinstance(body, CloseBody) and len(data) < MAX_READ_AFTER_RESET:
            body.done = True
            handler.response_body([], True)

    def _read_head(self, handler: ResponseHandler, data: bytes, seen: int = 0) -> None:
        """Parse a head once it is complete. `seen`: length of the part of `data` that was searched before."""
        previous = self._previous
        if (previous is not None and data.startswith(previous.whole) and not self._to_head) and (
            previous.received.validator is self._head_reader.validator
        ):  # quicker than to find its end and to hash it
            self._held = b""
            self._response_begun(handler, previous, data[len(previous.whole) :])
            return
        end, limit = data.find(CRLF2, seen - 3 if seen > 3 else 0), self._max_head
        if end < 0 or end > limit:
            if len(data) > limit:
                raise ResponseTooLarge("limits.response_head", end + 4 if end > 0 else len(data), limit)
            if has_bare_lf(data, seen):
                raise BadResponse("a bare line feed in the head")
            self._held = data
            return
        rest = data[end + 4 :]
        self._head_received(handler, data[: end + 4] if rest else data, rest)

    def _head_received(self, handler: ResponseHandler, head: bytes, rest: bytes) -> None:
        """Act on a complete head, and on `rest`, which came behind it. Raises BadResponse, ValueError."""
        self._held = b""
        response = self._head_reader.response(head, to_head=self._to_head)
        if isinstance(response, ResponseHead):
            self._interim_bytes += len(head)
            self._interim(handler, response, rest)
            return
        self._previous = response if response.whole and not self._to_head else None
        self._response_begun(handler, response, rest)

    def _response_begun(self, handler: ResponseHandler, response: Response, rest: bytes) -> None:
        """Act on the head of the final response, and on `rest`, which came behind it. Raises BadResponse,
        ValueError."""
        self.reusable = response.keep_alive
        self.keep_alive_timeout = response.keep_alive_timeout
        if len(rest) > LONG:
            self._read_in_small_pieces()
        if response.framing is _LENGTH and len(rest) == response.length:  # complete in one read, as most are
            self._body = NO_BODY
            handler.response_received(response, [rest], True)
            return
        body = body_of(response.framing, response.length, self._limits)
        # `_body` is set afterwards: a body that is malformed from its start is a bad response, not a truncated one.
        pieces = self._feed(handler, body, rest) if rest else []
        self._body = body
        if not body.done and (response.framing is not _LENGTH or response.length - len(rest) > LARGEST):
            self._read_in_small_pieces()
        handler.response_received(response, pieces, body.done)

    def _interim(self, handler: ResponseHandler, head: ResponseHead, rest: bytes) -> None:
        """Pass a 1xx response on, and go on with `rest`, which came behind it. Raises BadResponse."""
        self._interims += 1
        if self._interims > MAX_INTERIMS or self._interim_bytes > MAX_INTERIM_BYTES:
            raise BadResponse(f"more than {MAX_INTERIMS} interim responses, or {MAX_INTERIM_BYTES} bytes of them")
        if head.status == 101:
            if not handler.switched(head, rest):
                raise BadResponse("101 Switching Protocols without a request to upgrade")
            return
        handler.interim(head)
        if not rest or self._handler is not handler:
            return
        if not self._interims % INTERIMS_AT_ONCE:
            self._hold(rest)
            self._read_later()
        else:
            self._read_head(handler, rest)

    def _read_body(self, handler: ResponseHandler, body: Body, data: bytes) -> None:
        if body.done:
            self.reusable = False
        elif self._held:
            self._held += data
        elif len(data) <= SHORT or self._reading.begin():
            handler.response_body(self._feed(handler, body, data), body.done)
        else:
            self._hold(data)
            self._read_later()

    def _feed(self, handler: ResponseHandler, body: Body, data: bytes) -> list[bytes]:
        """Decode `data` and return pieces of the body. Bytes behind the end of the response make the connection
        unusable; a long read is decoded in several turns of the loop. Raises ValueError."""
        pieces, rest = body.feed(data)
        if rest and body.done:
            self.reusable = False
        elif rest:
            self._hold(rest)
            self._read_later()
        if body.trailers:
            handler.trailers(body.trailers)
        return pieces

    # several turns of the loop

    def _read_all_held(self, handler: ResponseHandler, body: Body) -> None:
        """Decode all held bytes now: they came before the connection was lost."""
        try:
            while self._held and not body.done and self._handler is handler:
                data, self._held = self._held, b""
                handler.response_body(self._feed(handler, body, data), body.done)
        except ValueError as error:
            self._unreadable(handler, error)

    def _read_on(self) -> None:
        """Continue a deferred read: parse held bytes until the client blocks or the time slice ends."""
        self._read_is_deferred = False
        handler, reading = self._handler, self._reading
        end = reading.slice_end()
        while handler is not None and not self.stopped:
            data, self._held = self._held, b""
            if data:
                self.data_received(data)
            if self._handler is not handler or self.stopped:
                return
            if not self._held or (self._body is None and not self._read_is_deferred):  # the latter: part of a head
                reading.begin_resuming()
                self._start_reading()
                return
            if reading.is_over(end):
                self._read_later()
                return
