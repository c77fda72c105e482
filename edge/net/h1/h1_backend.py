"""One connection to a backend: requests out, answers in.

    idle ──take──► lent to an exchange ──answer complete──► idle again, or closed

It reads heads and bodies and hands them to the exchange that has it; it decides nothing about them. What
it cannot read ends the connection: nothing of it may reach the next client.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Protocol, cast

from edge.net.h1.head_reader import HeadReader
from edge.net.transport.read_budget import SHORT, ReadBudget
from edge.net.transport.read_control import ReadControl
from edge.net.transport.small_reads import FIRST, LARGEST, NEXT, WRITE_BUFFER
from edge.net.transport.socket_state import input_poll, unread
from edge.rules.http.framing import NO_BODY, BadResponse, Body, CloseBody, Framing, ResponseTooLarge, body_of
from edge.rules.http.head_validation import Response, has_bare_lf
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

CRLF2 = b"\r\n\r\n"
MAX_INTERIMS = 64
"1xx responses to one request; 103 is sent once or twice, 102 every few seconds."
MAX_LAST_WORDS = 256 * 1024
"Bytes of a response that are read of a connection after a write has failed."
MAX_INTERIM_BYTES = 64 * 1024
"All of them together: they are read as heads, which costs many times what a body does."
INTERIMS_AT_ONCE = 4
"Of those that come together, so many are read before others have their turn; each may cost 100 microseconds."
_LENGTH = Framing.LENGTH


class ResponseHandler(Protocol):
    """The exchange that a connection is lent to."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer; the final one is still to come."""

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        """101: what follows is another protocol, and `rest` its first bytes. False = nobody offered that."""

    def trailers(self, fields: Fields) -> None:
        """The fields behind the body whose end is told next."""

    def answered(self, answer: Response, pieces: list[bytes], done: bool) -> None:
        """The final answer's head, with what came of its body. `done`: that is all of it."""

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the body."""

    def link_lost(self, cause: Cause) -> None:
        """The connection ended, or its answer could not be read."""

    def backend_blocked(self) -> None:
        """The backend takes no more bytes for now."""

    def backend_writable(self) -> None:
        """It takes bytes again."""


class ConnectionOwner(Protocol):
    """Who keeps idle connections."""

    def remove(self, connection: "H1Backend") -> bool:
        """This connection is no longer to be used. Returns whether it was idle."""

    def lost(self, connection: "H1Backend") -> None:
        """This connection is closed, whoever did it."""

    def too_large(self, connection: "H1Backend", error: ResponseTooLarge) -> None:
        """A response came with a head beyond the limits."""

    def found_stale(self, connection: "H1Backend") -> None:
        """The backend closed this connection while it was idle, which showed when it was used."""


def _nowhere(data: bytes) -> None:
    """Where bytes for a backend go that has closed the connection."""


class H1Backend(ReadControl):
    """See the module."""

    __slots__ = (
        "_body",
        "_borrower",
        "_head_reader",
        "_interim_bytes",
        "_interims",
        "_limits",
        "_longest_head",
        "_owner",
        "_poll",
        "_to_head",
        "_watchful",
        "closed",
        "endpoint",
        "idle_since",
        "kept_for",
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
        self._longest_head = limits.response_head
        self._watchful = False
        self._poll: Callable[[], Sequence[object]] | None = None
        self.write: Callable[[bytes], object] = _nowhere
        "Sends bytes of the request; the transport's own method, which saves a call."
        self.closed = False
        "By us, or by the backend as far as the loop knows."
        self.endpoint = endpoint
        self.idle_since = 0.0
        self.kept_for = inf
        "Seconds for which the backend keeps it when it is idle, as it says."
        self.writable = True
        self.used = 0
        "Requests sent so far, this one included."
        # for the request in hand
        self._borrower: ResponseHandler | None = None
        self._to_head = False
        self._interims = self._interim_bytes = 0
        self._body: Body | None = None
        self.reusable = True
        "Whether another request may follow."

    def __repr__(self) -> str:
        return f"<BackendConnection {self.endpoint} {'lent' if self._borrower else 'idle'}>"

    # lent and given back

    def attach(self, borrower: ResponseHandler, *, to_head: bool) -> None:
        """From now on this is the connection of one exchange."""
        self._borrower = borrower
        self._to_head = to_head
        self._interims = self._interim_bytes = 0
        self.used += 1

    def be_watchful(self, seconds: float) -> None:
        """End it when what was written is not acknowledged within so many seconds: nobody is there (RFC 5482)."""
        if seconds:
            self._set_user_timeout(seconds)
            self._watchful = True

    def be_patient(self) -> None:
        """No longer: a backend may leave a body, or what comes through a tunnel, lie for a while."""
        if self._watchful:
            self._set_user_timeout(0.0)
            self._watchful = False

    def _set_user_timeout(self, seconds: float) -> None:
        if self._transport is not None:
            with suppress(OSError):  # sockets that are not of TCP cannot
                self._transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000)
                )

    def release(self) -> bool:
        """The exchange is done with it. Returns whether it may be kept."""
        self._borrower = None
        body = self._body
        self._body = None
        if self.paused:  # the end of the answer filled its client; the next one is not to blame
            self.resume()
        if not self.reusable or body is None or not body.done or self.closed or self._transport is None:
            return False
        return not self._transport.get_write_buffer_size()

    def hand_over(self) -> asyncio.Transport:
        """Give the connection to a tunnel."""
        assert self._transport is not None
        self._borrower = None
        self.reusable = False
        self.be_patient()
        return self._transport

    @property
    def spoke_first(self) -> bool:
        """Whether bytes came before there was a request."""
        return self.closed and bool(self._held)

    @property
    def unsent(self) -> int:
        """Bytes that were written and wait for the backend to take them."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write_all(self, parts: list[bytes]) -> None:
        """Send several pieces with one system call; no copies are made."""
        if len(parts) == 1:
            self.write(parts[0])
        elif parts and self._transport is not None and self.write is not _nowhere:
            self._transport.writelines(parts)

    @property
    def unread(self) -> int:
        """Bytes that it brought and nobody has taken."""
        return len(self._held)

    def read_buffer(self) -> memoryview:
        """For `SmallReads`."""
        return FIRST if self._body is None else NEXT

    def is_quiet(self) -> bool:
        """Whether there is neither a byte nor an end to read, of which the loop may not have told yet.

        What lies there would be taken for the beginning of the next answer, and after an end the request would be
        lost.
        """
        if self._poll is None:
            assert self._transport is not None
            self._poll = input_poll(self._transport)
        return not self._poll()

    def close(self) -> None:
        """End the connection at once, whatever is under way."""
        self._borrower = None
        self.closed = True
        self.write = _nowhere
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """The exchange takes more of the answer. What is here already comes first."""
        self.stopped = False
        if self._borrower is None:
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
        borrower = self._borrower
        if borrower is None:  # bytes that nobody asked for
            self._held = data
            self._owner.remove(self)
            self.close()
            return
        try:
            if self._body is not None:
                self._read_body(borrower, self._body, data)
            elif not self._held:
                self._read_head(borrower, data)
            else:  # half a head, which has been looked at; or some that wait for a later turn
                self._read_head(borrower, self._held + data, 0 if self._read_is_deferred else len(self._held))
        except (BadResponse, ValueError) as error:
            self._unreadable(borrower, error)

    def eof_received(self) -> None:
        """It sends no more. The loop closes behind what we have still to send, which it may never take."""
        self.closed = True
        if self.unsent and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._borrower is not None:
            self._read_last_words(ended=isinstance(exc, BrokenPipeError))
        borrower = self._borrower
        self.reusable = False
        self.closed = True
        self.write = _nowhere
        self._owner.lost(self)
        if borrower is not None and self._body is not None:
            self._read_all_held(borrower, self._body)
        if borrower is None or self._borrower is not borrower:
            return
        self._borrower = None
        if self._body is not None and isinstance(self._body, CloseBody) and exc is None:
            self._body.done = True
            borrower.answer_body([], True)
        elif self._body is not None:
            borrower.link_lost(Cause.TRUNCATED)
        elif isinstance(exc, TimeoutError):
            borrower.link_lost(Cause.CONNECTION_UNACKNOWLEDGED)
        elif self.used > 1 and not self._held and not self._interims:
            self._owner.found_stale(self)
            borrower.link_lost(Cause.STALE_CONNECTION)
        else:
            borrower.link_lost(Cause.CLOSED_EARLY)

    def pause_writing(self) -> None:
        self.writable = False
        if self._borrower is not None:
            self._borrower.backend_blocked()

    def resume_writing(self) -> None:
        self.writable = True
        if self._borrower is not None:
            self._borrower.backend_writable()

    # the answer

    def _unreadable(self, borrower: ResponseHandler, error: Exception) -> None:
        self.reusable = False
        self.close()
        if isinstance(error, ResponseTooLarge):
            self._owner.too_large(self, error)
        cause = error.cause if isinstance(error, BadResponse) else Cause.BAD_ANSWER
        borrower.link_lost(cause if self._body is None else Cause.TRUNCATED)

    def _read_last_words(self, *, ended: bool) -> None:
        """A backend may respond early and close, as with 413: then writing the rest of the body fails while its
        response waits to be read. `ended`: it had ended its side, which makes EPIPE of the reset (tcp_reset in
        Linux), so what ends with the connection is complete."""
        assert self._transport is not None
        self.reusable = False
        self.closed = True
        self.write = _nowhere
        data = unread(self._transport, MAX_LAST_WORDS)
        if data:
            self.data_received(data)
        borrower, body = self._borrower, self._body
        if ended and borrower is not None and isinstance(body, CloseBody) and len(data) < MAX_LAST_WORDS:
            body.done = True
            borrower.answer_body([], True)

    def _read_head(self, borrower: ResponseHandler, data: bytes, seen: int = 0) -> None:
        """`seen`: so much of it was here before, and has been looked at."""
        end, most = data.find(CRLF2, seen - 3 if seen > 3 else 0), self._longest_head
        if end < 0 or end > most:
            if len(data) > most:
                raise ResponseTooLarge("limits.response_head", end + 4 if end > 0 else len(data), most)
            if has_bare_lf(data, seen):
                raise BadResponse("a bare line feed in the head")
            self._held = data
            return
        self._held = b""
        rest = data[end + 4 :]
        answer = self._head_reader.answer(data[: end + 4] if rest else data, to_head=self._to_head)
        if isinstance(answer, ResponseHead):
            self._interim_bytes += end + 4
            self._interim(borrower, answer, rest)
            return
        self.reusable = answer.keep_alive
        self.kept_for = answer.kept_for
        if answer.framing is _LENGTH and len(rest) == answer.length:  # all of it came at once, as most answers do
            self._body = NO_BODY
            borrower.answered(answer, [rest], True)
            return
        body = body_of(answer.framing, answer.length, self._limits)
        pieces = (
            self._feed(borrower, body, rest) if rest else []
        )  # broken already? nothing was told yet: a bad answer
        self._body = body
        if not body.done and (answer.framing is not _LENGTH or answer.length - len(rest) > LARGEST):
            self._read_in_small_pieces()
        borrower.answered(answer, pieces, body.done)

    def _interim(self, borrower: ResponseHandler, head: ResponseHead, rest: bytes) -> None:
        self._interims += 1
        if self._interims > MAX_INTERIMS or self._interim_bytes > MAX_INTERIM_BYTES:
            raise BadResponse(
                f"more than {MAX_INTERIMS} interim responses to one request, or {MAX_INTERIM_BYTES} bytes of them"
            )
        if head.status == 101:
            if not borrower.switched(head, rest):
                raise BadResponse("101 Switching Protocols, which nobody asked for")
            return
        borrower.interim(head)
        if not rest or self._borrower is not borrower:
            return
        if not self._interims % INTERIMS_AT_ONCE:
            self._hold(rest)
            self._read_later()
        else:
            self._read_head(borrower, rest)

    def _read_body(self, borrower: ResponseHandler, body: Body, data: bytes) -> None:
        if body.done:
            self.reusable = False
        elif self._held:
            self._held += data
        elif len(data) <= SHORT or self._reading.begin():
            borrower.answer_body(self._feed(borrower, body, data), body.done)
        else:
            self._hold(data)
            self._read_later()

    def _feed(self, borrower: ResponseHandler, body: Body, data: bytes) -> list[bytes]:
        """Pieces of the body. What is more than an answer is nobody's; what is much at once is read in turns."""
        pieces, rest = body.feed(data)
        if rest and body.done:
            self.reusable = False
        elif rest:
            self._hold(rest)
            self._read_later()
        if body.trailers:
            borrower.trailers(body.trailers)
        return pieces

    # in turns

    def _read_all_held(self, borrower: ResponseHandler, body: Body) -> None:
        """The connection is lost, but this came before."""
        try:
            while self._held and not body.done and self._borrower is borrower:
                data, self._held = self._held, b""
                borrower.answer_body(self._feed(borrower, body, data), body.done)
        except ValueError as error:
            self._unreadable(borrower, error)

    def _read_on(self) -> None:
        """Others had their turn: what is held, for as long as one connection may be read in a turn, and the client
        takes more."""
        self._read_is_deferred = False
        borrower, reading = self._borrower, self._reading
        end = reading.slice_end()
        while borrower is not None and not self.stopped:
            data, self._held = self._held, b""
            if data:
                self.data_received(data)
            if self._borrower is not borrower or self.stopped:
                return
            if not self._held or (self._body is None and not self._read_is_deferred):  # the latter: half a head
                reading.begin_to_listen()
                self._start_reading()
                return
            if reading.is_over(end):
                self._read_later()
                return
