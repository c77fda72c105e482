"""One stream of an HTTP/2 connection: one request and its response (RFC 9113, section 5).

    H2Connection ──head, body──► H2Stream ──► Exchange
                 ◄─ H2Session ──         ◄──  responses, by meaning

The second implementation of `Client`. A stream whose body the backend does not take gives no credit back, and a
stream whose response the client does not take has its backend paused; in both cases the other streams go on.
"""

import logging
import sys
from math import inf
from time import time
from typing import Final, Protocol

from edge.net.checked_exchange import checked_exchange
from edge.net.client import Client, TunnelSide
from edge.net.deadlines import Deadline
from edge.net.exchange import Exchange
from edge.net.h2.h2_services import H2Services
from edge.net.h2.h2_session import H2Session
from edge.net.h2.h2_tunnel import StreamTransport
from edge.net.worker_context import WorkerContext
from edge.rules.h2.h2_encode import fields_of, interim_fields, local_reply_fields, tunnel_fields
from edge.rules.h2.h2_frames import ErrorCode
from edge.rules.h2.h2_request import CountedBody
from edge.rules.http.framing import BadBody, Framing
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReply, date_line
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.http.websocket_key import is_accepted
from edge.rules.outcomes import Cause, Phase

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_NO_REQUEST: Final = Request.refused()
new_exchange: type[Exchange] = checked_exchange() if sys.flags.dev_mode else Exchange

log = logging.getLogger("styx.client")


class StreamOwner(Protocol):
    """The connection, as its streams see it."""

    __slots__ = ()
    session: H2Session
    services: H2Services
    written: int
    "Bytes that were written on the connection so far."

    def sent(self, stream: "H2Stream", size: int, *, done: bool) -> None:
        """`size` bytes for this stream are in the session; `done`: the response is complete."""

    def answered(self, stream: "H2Stream", now: float) -> None:
        """The exchange of this stream is over."""

    def note(self) -> None:
        """The connection may hold more bytes than before."""


class H2Stream(Client):
    """One stream; the `Client` of its exchange."""

    __slots__ = (
        "_context",
        "_counted",
        "_exchange",
        "_held",
        "_is_deferred",
        "_is_held",
        "_is_ranked",
        "_owner",
        "_refused",
        "_request",
        "_trailers",
        "_unsent",
        "_written_before",
        "closed",
        "deadline",
        "deferred",
        "done",
        "ended",
        "info",
        "paused",
        "protocol",
        "stream",
        "tunnel",
        "websocket_accept",
        "writable",
    )

    def __init__(self, owner: StreamOwner, context: WorkerContext, info: ClientInfo, stream: int) -> None:
        self._owner = owner
        self._context = context
        self.info = info
        self.protocol = "h2"
        self.stream = stream
        "Its id."
        self.deadline = inf
        self.writable = True
        self.paused = True
        "Whether the exchange takes no more of the body; at first, because there is none."
        self.deferred = False
        self._is_deferred = False
        "Whether held bytes will be read in a later turn of the loop."
        self._exchange: Exchange | None = None
        self._request = _NO_REQUEST
        self._held: list[bytes] = []
        "Bytes of the body that the exchange did not take yet; as many as the window at most."
        self._is_held = False  # or only the end of the body
        self._counted: CountedBody | None = None
        "The body, if its length was told."
        self._unsent = 0
        "Bytes that the client had not taken at the last check whether it still takes some."
        self._written_before = 0
        "Bytes that had been written on the connection at that check."
        self._is_ranked = False
        "Whether its place among the streams that wait for the same connection is settled."
        self._trailers: Fields = []
        "Of the request."
        self._refused: Cause | None = None
        "Why the body was refused before the exchange began."
        self.ended = False
        "Whether the client has ended its half."
        self.done = False
        "Whether the response is complete in the session."
        self.closed = False
        "Whether both halves are ended, or the stream was reset."
        self.tunnel: StreamTransport | None = None
        self.websocket_accept = b""
        "What the backend must make of the key that the edge has sent for it; empty = it is no extended CONNECT."

    def __repr__(self) -> str:
        return f"<H2Stream {self.stream} {self.info.address} {self._exchange or 'idle'}>"

    @property
    def exchange(self) -> Exchange | None:
        """The exchange of its request; None = it is over."""
        return self._exchange

    @property
    def held_bytes(self) -> int:
        """Bytes of its request that are in memory."""
        exchange = self._exchange
        return sum(map(len, self._held)) + (exchange.held_bytes if exchange is not None else 0)

    # the request

    def begin(self, request: Request) -> None:
        """Begin the exchange of this request. What has come of its body is in hand."""
        self._request = request
        self._context.deadline_sweep.add(self)
        new, context = new_exchange, self._context
        # Written out, the call of a class that the compiler knows takes a third less.
        exchange = Exchange(self, context, request) if new is Exchange else new(self, context, request)
        self._exchange = exchange
        if request.framing is _LENGTH:
            self._counted = CountedBody(request.length)
        self.paused = False
        if self._refused is not None:
            exchange.abandon(self._refused)
        elif request.framing is not _NONE and (self._held or self.ended):
            self._give(exchange)
        if self.exchange is not exchange:  # not `_exchange`: the compiler takes for certain what was assigned above
            return
        if self.ended or not self._takes_none:
            exchange.begin()
        else:  # with bytes in spite of its length of 0, it must not be forwarded (RFC 9113, section 8.1.1)
            exchange.expect(Deadline.REQUEST_BODY, self._context.timeouts.body)

    def refuse(self, cause: Cause, why: str, request: Request) -> None:
        """Respond to a rejected request with a local reply."""
        log.debug(
            "request rejected",
            extra={"code": "request_rejected", "client": self.info.address, "cause": cause.value, "reason": why},
        )
        self._request = request
        self._context.deadline_sweep.add(self)
        self._exchange = new_exchange(self, self._context, request)
        self._exchange.refuse(cause)

    def take_body(self, data: bytes, *, ended: bool) -> None:
        """More of the body came, or bytes of a tunnel. `ended`: this is its end."""
        self.ended = ended
        if self.done or self._takes_none:
            self._owner.session.credit(self.stream, len(data))  # nobody wants it
            if ended and self._exchange is not None and self._exchange.phase is Phase.HEAD:
                self._exchange.completed_late()
                self._exchange.begin()
        elif self.paused or self._is_held or self._waits_for_tunnel:
            self._is_held = True
            if data:
                self._held.append(data)
                self._owner.note()
        elif self.tunnel is not None:
            self._owner.session.credit(self.stream, len(data))
            self.tunnel.receive(data, ended=ended)
        elif self._exchange is not None:
            if ended and self._trailers:
                self._exchange.body_trailers(self._trailers)
            self._exchange.body(self._passed_on([data] if data else []), done=ended)
            self._owner.session.credit(self.stream, len(data))

    def take_trailers(self, fields: Fields) -> None:
        """The trailers came, and with them the end of the body."""
        self._trailers = fields
        self.take_body(b"", ended=True)

    def refuse_body(self, error: BadBody) -> None:
        """The body, or what is behind it, is not valid."""
        log.debug(
            "request body rejected",
            extra={"code": "request_body_rejected", "client": self.info.address, "error": str(error)},
        )
        self.ended = True
        self._refused = error.cause
        self.stop(error.cause)

    @property
    def _takes_none(self) -> bool:
        """Whether the request that was begun has no body, though its stream was not ended at once."""
        request = self._request
        if self._exchange is None or self.tunnel is not None or request.offers:
            return False
        return request.framing is _NONE or (request.framing is _LENGTH and not request.length)

    @property
    def _waits_for_tunnel(self) -> bool:
        """Whether a tunnel was asked for that has not begun: what comes is for it, not for the exchange."""
        return bool(self.websocket_accept) and self.tunnel is None

    def _give(self, exchange: Exchange) -> None:
        """Give the held part of the body to the exchange."""
        if self._takes_none:
            return
        held, self._held = self._held, []
        if self.ended and self._trailers:
            exchange.body_trailers(self._trailers)
        self._is_held = False
        exchange.body(self._passed_on(held), done=self.ended)
        self._owner.session.credit(self.stream, sum(map(len, held)))

    def _passed_on(self, pieces: list[bytes]) -> list[bytes]:
        """What the exchange may have when these pieces came."""
        return pieces if self._counted is None else self._counted.take(pieces, ended=self.ended)

    def _read_on(self) -> None:
        """Continue a deferred read."""
        self._is_deferred = False
        if self.paused or self.closed or not self._is_held or self._waits_for_tunnel:
            return
        self._is_held = False
        if self.tunnel is not None:
            held, self._held = b"".join(self._held), []
            self._owner.session.credit(self.stream, len(held))
            self.tunnel.receive(held, ended=self.ended)
        elif self._exchange is not None:
            self._give(self._exchange)
        self._owner.sent(self, 0, done=False)  # the credit is to be written

    # Client

    def pause_body(self) -> None:
        """Take no more of the body: the client gets no credit for what comes."""
        self.paused = True

    def resume_body(self) -> None:
        """Take the body again, first what is held."""
        self.paused = False
        if self._is_held and not self._is_deferred:
            self._is_deferred = True
            self._context.reading.defer(self._read_on)

    def note_buffers(self) -> None:
        """Update the count of buffered bytes."""
        self._owner.note()

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response."""
        lines = b"".join(self._context.head_reader.interim_lines(head))
        self._owner.session.send_interim(self.stream, interim_fields(head, lines))
        self._owner.sent(self, 0, done=False)

    def send_response(
        self,
        answer: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        size: int,
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        """Send the head of the final response, and what came of its body."""
        owner, known = self._owner, self._owner.services.responses.of_response(answer)
        fields = [*known, (b"x-request-id", request_id), *owner.services.own_fields(backend)]
        if not answer.has_date:
            fields += fields_of(date_line(int(time())))
        ended = done and not size and not trailers
        owner.session.send_head(self.stream, fields, ended=ended)
        if not ended and (size or done):
            self.send_body(pieces, done=done, trailers=trailers)
        else:
            self.done = ended
            owner.sent(self, 0, done=ended)

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """Send more of the body."""
        owner, data = self._owner, pieces[0] if len(pieces) == 1 else b"".join(pieces)
        owner.session.send_body(self.stream, data, ended=done and not trailers)
        if done and trailers:
            owner.session.send_trailers(self.stream, fields_of(trailers))
        self.done = done
        owner.sent(self, len(data), done=done)

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """Send a local reply: head and body."""
        own = b"".join((date_line(int(time())), b"X-Request-Id: ", request_id, self._context.edge_line, b"\r\n"))
        body = b"" if self._request.method == b"HEAD" else page.body
        self._owner.session.send_head(self.stream, local_reply_fields(page, own), ended=not body)
        if body:
            self._owner.session.send_body(self.stream, body, ended=True)
        self.done = True
        self._owner.sent(self, len(body), done=True)

    def may_switch(self, head: ResponseHead) -> bool:
        """Whether the backend has read the key of the edge, which checks that in place of the client."""
        return is_accepted(head.fields, self.websocket_accept)

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """Send the 200 response with which a tunnel begins, and give the stream to the tunnel."""
        lines = b"".join(self._context.head_reader.interim_lines(head))
        own = b"".join((b"X-Request-Id: ", request_id, self._context.edge_line, backend))
        self._owner.session.send_head(self.stream, tunnel_fields(lines + own), ended=False)
        self._exchange = None
        self.deadline = inf
        self._context.deadline_sweep.discard(self)
        held, self._held = b"".join(self._held), []
        self._owner.session.credit(self.stream, len(held))
        self.paused = False
        self.tunnel = StreamTransport(self, self._context.loop)
        self._owner.sent(self, 0, done=False)
        return TunnelSide(self.tunnel, self, held)

    def end(self, now: float) -> None:
        """The response is complete."""
        self._exchange = None
        self._owner.answered(self, now)

    def abort(self) -> None:
        """The response that was begun will not be completed: reset the stream, so that the client can tell."""
        self._exchange = None
        self.reset(ErrorCode.INTERNAL_ERROR)

    # flow control of the response

    def block(self) -> None:
        """The client does not take the response as fast as it comes."""
        self.writable = False
        if not self._is_ranked:
            self._is_ranked = True
            if all(name != b"priority" for name, _ in self._request.fields):
                # By default (RFC 9218, section 4) it would wait for the end of each one that was begun earlier.
                self._owner.session.interleave(self.stream)
        if self.tunnel is not None:
            self.tunnel.block()
        elif self._exchange is not None:
            self._mark()
            self._exchange.client_blocked()

    def unblock(self) -> None:
        """The client has taken what there was."""
        self.writable = True
        if self.tunnel is not None:
            self.tunnel.unblock()
        elif self._exchange is not None:
            self._exchange.client_writable()

    # for its tunnel

    @property
    def session(self) -> H2Session:
        """The session of its connection."""
        return self._owner.session

    def flush(self, size: int) -> None:
        """`size` bytes more are in the session."""
        self._owner.sent(self, size, done=self.done)

    # the end

    def reset(self, code: ErrorCode) -> None:
        """End the stream at once."""
        if not self.closed:
            self.done = True
            self._owner.session.reset(self.stream, code)
            self._owner.sent(self, 0, done=True)

    def lose(self, *, by_client: bool, cause: Cause = Cause.BAD_REQUEST) -> None:
        """The stream is closed: by its end, by a reset, or with its connection. `cause`: for the log, if it was not
        the client that left."""
        self.closed = True
        self._context.deadline_sweep.discard(self)
        exchange, tunnel = self._exchange, self.tunnel
        self._held, self.tunnel = [], None
        if tunnel is not None:
            tunnel.lose(by_client=by_client)
        elif exchange is None or self.done:
            return
        elif by_client:
            self._exchange = None
            exchange.client_gone()
        else:
            exchange.abandon(cause)

    def connection_lost(self, exc: Exception | None) -> None:
        """The tunnel that had the stream is over."""

    def stop(self, cause: Cause) -> None:
        """End its exchange, with a local reply if no response was begun."""
        if self._exchange is not None:
            self._exchange.abandon(cause)

    def mark_unsent(self, now: float) -> None:
        """Require the client to take some of what is queued within each `timeouts.write_stall` seconds."""
        self._mark()
        self.deadline = now + self._context.timeouts.write_stall

    def _mark(self) -> None:
        self._unsent = self._owner.session.queued(self.stream)
        self._written_before = self._owner.written

    @property
    def _is_taken(self) -> bool:
        """Whether the client has taken some of it since the last check, or something that goes before it."""
        session = self._owner.session
        is_behind_others = self._owner.written > self._written_before and session.room(self.stream) > 0
        return is_behind_others or session.queued(self.stream) < self._unsent

    def deadline_passed(self, now: float) -> None:
        """Act on the deadline. Called by the deadline sweep."""
        self.deadline = inf
        if (not self.writable or self.done) and self._is_taken:
            self.mark_unsent(now)  # slow, but alive
        elif self._exchange is not None:
            self._exchange.deadline_passed(now)
        elif not self.closed:
            self.reset(ErrorCode.CANCEL)
