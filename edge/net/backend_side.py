"""One connection to a backend: requests out, answers in.

    idle ──take──► lent to an exchange ──answer complete──► idle again, or closed

It reads heads and bodies and hands them to the exchange that has it; it decides nothing about them. What
it cannot read ends the connection: nothing of it may reach the next client.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from edge.net.intake import Intake
from edge.net.small_reads import FIRST, LARGEST, NEXT, WRITE_BUFFER, read_in_small_pieces
from edge.rules.admission import Answer, has_bare_lf
from edge.rules.framing import NO_BODY, BadAnswer, Body, CloseBody, Framing, body_of
from edge.rules.messages import AnswerHead, Fields
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

CRLF2 = b"\r\n\r\n"
MAX_INTERIMS = 64
"1xx answers to one request; 103 is sent once or twice, 102 every few seconds."
_LENGTH = Framing.LENGTH


class Borrower(Protocol):
    """The exchange that a connection is lent to."""

    def interim(self, head: AnswerHead) -> None:
        """A 1xx answer; the final one is still to come."""

    def switched(self, head: AnswerHead, rest: bytes) -> bool:
        """101: what follows is another protocol, and `rest` its first bytes. False = nobody offered that."""

    def trailers(self, fields: Fields) -> None:
        """The fields behind the body whose end is told next."""

    def answered(self, answer: Answer, pieces: list[bytes], done: bool) -> None:
        """The final answer's head, with what came of its body. `done`: that is all of it."""

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the body."""

    def link_lost(self, cause: Cause) -> None:
        """The connection ended, or its answer could not be read."""

    def backend_full(self) -> None:
        """The backend takes no more bytes for now."""

    def backend_drained(self) -> None:
        """It takes bytes again."""


class Owner(Protocol):
    """Who keeps idle connections."""

    def forget(self, link: "BackendConnection") -> None:
        """This idle connection is no longer to be used."""

    def lost(self, link: "BackendConnection") -> None:
        """This connection is closed, whoever did it."""


def _nowhere(data: bytes) -> None:
    """Where bytes for a backend go that has closed the connection."""


class BackendConnection(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_body",
        "_borrower",
        "_held",
        "_intake",
        "_interims",
        "_limits",
        "_longest_head",
        "_owner",
        "_poll",
        "_to_head",
        "_transport",
        "_watchful",
        "closed",
        "idle_since",
        "paused",
        "place",
        "reusable",
        "stopped",
        "used",
        "writable",
        "write",
    )

    def __init__(self, owner: Owner, place: str, intake: Intake, limits: LimitSettings) -> None:
        self._owner = owner
        self._intake = intake
        self._limits = limits
        self._longest_head = limits.answer_head
        self._transport: asyncio.Transport | None = None
        self._watchful = False
        self._poll: Callable[[int], list[tuple[int, int]]] | None = None
        self.write: Callable[[bytes], object] = _nowhere
        "Sends bytes of the request; the transport's own method, which saves a call."
        self.closed = False
        "By us, or by the backend as far as the loop knows."
        self.place = place
        self.idle_since = 0.0
        self.writable = True
        self.paused = False
        "Nothing is read from the socket."
        self.stopped = False
        "The exchange takes no more of the answer."
        self.used = 0
        "Requests sent so far, this one included."
        # for the request in hand
        self._borrower: Borrower | None = None
        self._to_head = False
        self._held = b""
        self._interims = 0
        self._body: Body | None = None
        self.reusable = True
        "Whether another request may follow."

    def __repr__(self) -> str:
        return f"<BackendConnection {self.place} {'lent' if self._borrower else 'idle'}>"

    # lent and given back

    def lend(self, borrower: Borrower, *, to_head: bool) -> None:
        """From now on this is the connection of one exchange."""
        self._borrower = borrower
        self._to_head = to_head
        self._interims = 0
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

    @property
    def unread(self) -> int:
        """Bytes that it brought and nobody has taken."""
        return len(self._held)

    def read_buffer(self) -> memoryview:
        """For `SmallReads`."""
        return FIRST if self._body is None else NEXT

    def is_quiet(self) -> bool:
        """Whether there is neither a byte nor an end to read, of which the loop may not have told yet.

        0.4 microseconds on bare metal, five and more in a virtual machine. What lies there would be taken for the
        beginning of the next answer, and after an end the request would be lost.
        """
        if self._poll is None:
            assert self._transport is not None
            poll = select.poll()
            poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
            self._poll = poll.poll
        return not self._poll(0)

    def close(self) -> None:
        """End the connection at once, whatever is under way."""
        self._borrower = None
        self.closed = True
        self.write = _nowhere
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """The client is slower than the backend."""
        self.stopped = True
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self.closed and not self.paused:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.stopped = False
        if self._held and self._borrower is not None and self._body is not None:
            asyncio.get_running_loop().call_soon(self._read_on, self._borrower)
        elif self._transport is not None and not self.closed and self.paused:
            self.paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self.write = self._transport.write

    def data_received(self, data: bytes) -> None:
        borrower = self._borrower
        if borrower is None:  # bytes that nobody asked for
            self._held = data
            self._owner.forget(self)
            self.close()
            return
        try:
            if self._body is not None:
                self._read_body(borrower, self._body, data)
            else:
                self._read_head(borrower, self._held + data, len(self._held))
        except (BadAnswer, ValueError):
            self.reusable = False
            self.close()
            borrower.link_lost(Cause.BAD_ANSWER if self._body is None else Cause.CUT_SHORT)

    def eof_received(self) -> None:
        """It sends no more. The loop closes behind what we have still to send, which it may never take."""
        self.closed = True
        if self.unsent and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        borrower = self._borrower
        self._borrower = None
        self.reusable = False
        self.closed = True
        self.write = _nowhere
        self._owner.lost(self)
        if borrower is None:
            return
        if self._body is not None and isinstance(self._body, CloseBody) and exc is None:
            self._body.done = True
            borrower.answer_body([], True)
        elif self._body is not None:
            borrower.link_lost(Cause.CUT_SHORT)
        elif isinstance(exc, TimeoutError):
            borrower.link_lost(Cause.LINK_DEAD)
        elif self.used > 1 and not self._held and not self._interims:
            borrower.link_lost(Cause.STALE_LINK)
        else:
            borrower.link_lost(Cause.CLOSED_EARLY)

    def pause_writing(self) -> None:
        self.writable = False
        if self._borrower is not None:
            self._borrower.backend_full()

    def resume_writing(self) -> None:
        self.writable = True
        if self._borrower is not None:
            self._borrower.backend_drained()

    # the answer

    def _read_head(self, borrower: Borrower, data: bytes, seen: int = 0) -> None:
        """`seen`: so much of it was here before, and has been looked at."""
        end, most = data.find(CRLF2, seen - 3 if seen > 3 else 0), self._longest_head
        if end < 0 or end > most:
            if len(data) > most:
                raise BadAnswer(f"head larger than {most} bytes")
            if has_bare_lf(data, seen):
                raise BadAnswer("a bare line feed in the head")
            self._held = data
            return
        self._held = b""
        rest = data[end + 4 :]
        answer = self._intake.answer(data[: end + 4] if rest else data, to_head=self._to_head)
        if isinstance(answer, AnswerHead):
            self._interim(borrower, answer, rest)
            return
        self.reusable = answer.keep_alive
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
            assert self._transport is not None
            read_in_small_pieces(self._transport, self)
        borrower.answered(answer, pieces, body.done)

    def _interim(self, borrower: Borrower, head: AnswerHead, rest: bytes) -> None:
        self._interims += 1
        if self._interims > MAX_INTERIMS:
            raise BadAnswer(f"more than {MAX_INTERIMS} interim answers to one request")
        if head.status == 101:
            if not borrower.switched(head, rest):
                raise BadAnswer("101 Switching Protocols, which nobody asked for")
            return
        borrower.interim(head)
        if rest and self._borrower is borrower:
            self._read_head(borrower, rest)

    def _read_body(self, borrower: Borrower, body: Body, data: bytes) -> None:
        if body.done:
            self.reusable = False
        elif self._held:
            self._held += data
        else:
            borrower.answer_body(self._feed(borrower, body, data), body.done)

    def _feed(self, borrower: Borrower, body: Body, data: bytes) -> list[bytes]:
        """Pieces of the body. What is more than an answer is nobody's; what is much at once is read in turns."""
        pieces, rest = body.feed(data)
        if rest and body.done:
            self.reusable = False
        elif rest:
            self._held = rest
            self._stop_reading()
            asyncio.get_running_loop().call_soon(self._read_on, borrower)
        if body.trailers:
            borrower.trailers(body.trailers)
        return pieces

    def _read_on(self, borrower: Borrower) -> None:
        """Others had their turn, and the client takes more: the rest of what has come of the body."""
        if self._borrower is not borrower or self._body is None or self.stopped or not self._held:
            return
        data, self._held = self._held, b""
        self.data_received(data)
        if not self._held and not self.stopped:
            self.resume()
