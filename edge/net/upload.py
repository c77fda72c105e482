"""The body of a request on its way from the client to a backend.

    client ─► Upload: replay buffer ─► BodySender ─► backend, once for each attempt

It is never held whole: what comes is sent on as it is. Only its beginning, up to `retries.replay_buffer` bytes,
stays in memory, so that the request can be sent again.
"""

import asyncio
from enum import Enum
from typing import Final, Protocol

from edge.net.balancing.balancer import Attempt
from edge.net.client import Client
from edge.net.deadlines import Deadline
from edge.net.h1.h1_backend import H1Backend
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.expect_support import ExpectMemory
from edge.rules.http.framing import Framing
from edge.rules.http.h1_encode import chunk, joined
from edge.rules.http.head_validation import Request
from edge.rules.http.hop_by_hop import EXPECT_LINE, last_chunk
from edge.rules.http.messages import ResponseHead
from edge.rules.outcomes import Cause, Phase

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_SMALL: Final = 16 * 1024
"Bytes of a body that are too few to count, and that are joined with the head."
_CONTINUE_GRACE: Final = 0.025
"""Seconds between a backend's 100 and a body that can be sent once only. nginx sends a 100 even when it refuses,
because it discards the body; the refusal follows with the next write, but on a busy server another process may run
in between: Linux gives each its turn within 6 to 24 ms (`sched_latency_ns` of CFS)."""


class Upload:
    """The part of a request body that was received, and how much of that can be sent again."""

    __slots__ = (
        "_chunked",
        "_kept",
        "_period_start",
        "_replay_limit",
        "client_asks",
        "done",
        "large",
        "replayable",
        "sent",
        "size",
        "trailers",
    )

    def __init__(self, framing: Framing, length: int, replay_limit: int, *, client_asks: bool = False) -> None:
        """`replay_limit`: bytes of it that may be kept for another attempt."""
        self._chunked = framing is _CHUNKED
        self.large = self._chunked or length > replay_limit
        "Whether it may not fit into the replay buffer."
        self._replay_limit = replay_limit
        self._kept: list[bytes] = []
        self.client_asks = client_asks
        "Whether the client has sent `Expect: 100-continue`."
        self.size = 0
        "Bytes taken from the client."
        self.done = framing is _NONE
        self.sent = self.done
        "Whether its end was written to the backend of the attempt under way."
        self.replayable = True
        "Whether everything sent so far can be sent again."
        self.trailers = b""
        "Its trailer lines."
        self._period_start = 0
        "Its size at the beginning of the period within which more must come."

    @property
    def may_fit(self) -> bool:
        """Whether a body of unknown length may still turn out to fit into the replay buffer."""
        return self._chunked and self.size <= self._replay_limit

    def take(self, pieces: list[bytes], *, done: bool) -> None:
        """More came from the client. It is kept until it is sent, and while the replay buffer has room."""
        if self.replayable:
            self._kept += joined(pieces)
        self.size += sum(map(len, pieces))
        self.done = done

    def begin_again(self) -> None:
        """Another attempt begins: it will be sent from its beginning."""
        self.sent = False

    def send_all(self, connection: H1Backend, head: bytes) -> None:
        """Send `head`, which may be empty, and all of the body that has come, in one write."""
        self.send(connection, self._kept if self.size else [], head)

    def send(self, connection: H1Backend, pieces: list[bytes], head: bytes = b"") -> None:
        """Send `head`, what has just come, and its end if that came too."""
        parts = pieces
        if self._chunked:
            parts = chunk(pieces)
            if self.done:
                parts.append(last_chunk(self.trailers))
        if not head:
            connection.write_all(parts)
        elif self.size < _SMALL:
            connection.write(b"".join((head, *parts)))
        else:
            connection.write_all([head, *parts])
        self.sent = self.done
        if self.size > self._replay_limit:
            self.replayable = False
            self._kept = []

    def begin_period(self) -> None:
        """Begin a period within which more must come."""
        self._period_start = self.size

    @property
    def kept(self) -> int:
        """Bytes that are kept to be sent again."""
        return self.size if self.replayable else 0

    @property
    def came(self) -> int:
        """Bytes that came within this period."""
        return self.size - self._period_start


NO_UPLOAD: Final = Upload(Framing.NONE, 0, 0)
"Shared by all requests without a body: there is nothing in it to change."


def upload_of(request: Request, replay_limit: int) -> Upload:
    """The body of this request. `replay_limit`: bytes of it that may be kept for another attempt."""
    if request.framing is _NONE or (request.framing is _LENGTH and not request.length):
        return NO_UPLOAD
    return Upload(request.framing, request.length, replay_limit, client_asks=b"expect" in request.found)


class Sending(Enum):
    """Whether the body of a request is sent to the backend, or waits for a 100."""

    ASKED = "asked"  # the edge has sent Expect: 100-continue, and holds the body
    CLIENT_ASKED = "client_asked"  # the client has, and sends no body before a 100 comes
    FLOWING = "flowing"  # what comes from the client is sent on


_ASKED: Final = Sending.ASKED
_CLIENT_ASKED: Final = Sending.CLIENT_ASKED
_FLOWING: Final = Sending.FLOWING


class UploadOwner(Protocol):
    """The exchange that a body belongs to."""

    phase: Phase

    def expect(self, what: Deadline, seconds: float) -> None:
        """Wait for this from now on, for so many seconds."""

    def expect_response(self, what: Deadline) -> None:
        """Wait for this from now on, for as long as a response may take to begin."""

    def request_sent(self, attempt: Attempt) -> None:
        """The whole request is written."""


class BodySender:
    """Sends a request with a body to one backend: one attempt."""

    __slots__ = (
        "_attempt",
        "_client",
        "_connection",
        "_context",
        "_held_continue",
        "_memory",
        "_owner",
        "_state",
        "_timer",
        "_unsent",
        "_upload",
    )

    def __init__(
        self,
        owner: UploadOwner,
        context: WorkerContext,
        client: Client,
        upload: Upload,
        *,
        attempt: Attempt,
        connection: H1Backend,
        memory: ExpectMemory,
    ) -> None:
        """`memory`: what is known of how the backends of this environment respond to `Expect`."""
        self._owner = owner
        self._context = context
        self._client = client
        self._upload = upload
        self._attempt = attempt
        self._connection = connection
        self._memory = memory
        self._state = _FLOWING
        self._timer: asyncio.TimerHandle | None = None
        "Sends the body, or the 100 to the client, when no 100 comes in time, or a moment after it has come."
        self._held_continue: ResponseHead | None = None
        "The backend's 100, for which the client waits, during that moment."
        self._unsent = 0
        "Bytes that waited for the backend when that was last checked."

    # to the backend

    def begin(self, head: bytes, lines: bytes, *, may_ask: bool) -> None:
        """Send the head, and of the body what may be sent at once. `lines`: the end of the head; `may_ask`: whether
        the backend may be asked first."""
        upload, connection, client = self._upload, self._connection, self._client
        upload.begin_again()
        connection.clear_user_timeout()
        if upload.client_asks and not upload.size and not upload.done:
            # The client waits for the backend's 100: the deadline is that of the backend.
            self._state = _CLIENT_ASKED
            connection.write(head + lines)
            self._owner.expect_response(Deadline.CONTINUE)
            client.resume_body()
        elif may_ask and upload.large and not (upload.done or upload.client_asks) and self._ask():
            connection.write(head + EXPECT_LINE + lines)
            if upload.may_fit:
                client.resume_body()
        else:
            self._send_held(head + lines)

    def _ask(self) -> bool:
        """A body larger than the replay buffer can be sent once only: send `Expect` first, if backends here respond
        to it. Without a response the body is sent all the same (see `rules/balancing/expect_support.py`). Returns
        whether `Expect` is to be sent."""
        context = self._context
        now, asking = context.clock(), context.retries.ask_before_upload
        timeout = self._memory.timeout(asking, now, self._attempt.connect_ms / 1000.0)
        if not timeout:
            return False
        self._memory.record_expect(now, timeout)
        self._state = _ASKED
        self._timer = context.loop.call_later(timeout, self._permission_timed_out)
        self._owner.expect_response(Deadline.PERMISSION)
        return True

    def _permission_timed_out(self) -> None:
        if self._state is _ASKED:
            self._memory.record_silence(self._context.clock())
        self._send_permitted()

    def _send_permitted(self) -> None:
        if self._state is _ASKED and self._owner.phase is Phase.SEND:
            self._send_held()

    def _send_held(self, head: bytes = b"") -> None:
        """Send what has come of the body, behind `head`; from now on what comes is sent at once."""
        self.stop()
        self._upload.send_all(self._connection, head)
        if self._upload.done:
            self._owner.request_sent(self._attempt)
        elif not self._connection.writable:
            return  # the client stays paused until these bytes are written
        else:
            self._await_more()
        self._client.resume_body()

    def take(self, pieces: list[bytes]) -> None:
        """These pieces have just come, and are in the upload already."""
        upload = self._upload
        if self._state is _ASKED:
            # A complete body that can be sent again does not wait for a 100.
            if not upload.may_fit:
                self._client.pause_body()
            elif upload.done:
                self._send_permitted()
            return
        upload.send(self._connection, pieces)
        if upload.kept > _SMALL:
            self._client.note_buffers()
        if upload.done:
            self._owner.request_sent(self._attempt)
        elif self._state is _CLIENT_ASKED:
            self._client_goes_on()

    def _client_goes_on(self) -> None:
        """The client no longer waits for a 100, because one came or its own timeout has passed."""
        self.stop()
        self._state = _FLOWING
        self._await_more()

    def _await_more(self) -> None:
        """The client has `timeouts.body` seconds from now on to send enough more."""
        self._upload.begin_period()
        self._expect(Deadline.REQUEST_BODY, self._context.timeouts.body)

    def _expect(self, what: Deadline, seconds: float) -> None:
        if self._owner.phase is Phase.SEND:
            self._owner.expect(Deadline.CONTINUE if self._state is _CLIENT_ASKED else what, seconds)

    # from the backend

    def continued(self, head: ResponseHead) -> bool:
        """A 100 came from the backend. Returns whether it is held back: a client that waits for it gets it a moment
        later if what it then sends may be more than can be sent again."""
        context = self._context
        if not self._upload.client_asks:
            self._memory.record_response()
        if self._state is _ASKED:
            self._cancel_timer()
            self._timer = context.loop.call_later(_CONTINUE_GRACE, self._send_permitted)
        elif self._state is _CLIENT_ASKED and self._upload.large and not self._upload.size:
            self._held_continue = head
            self._await_more()
            self._timer = self._timer or context.loop.call_later(_CONTINUE_GRACE, self._permit_client)
            return True
        elif self._state is _CLIENT_ASKED:
            self._client_goes_on()
        return False

    def _permit_client(self) -> None:
        head = self._held_continue
        if head is not None and self._owner.phase is Phase.SEND:
            self._client.send_interim(head)
            self._client_goes_on()

    def is_refused(self, status: int) -> bool:
        """Whether a response of this status refuses the edge's own `Expect` (RFC 9110, section 10.1.1)."""
        return self._state is _ASKED and status == 417

    def record_response(self, status: int, now: float) -> None:
        """The response is about to begin: record whether the backend responds to `Expect`."""
        if status < 400:
            self._permit_client()
        if self._state is not _ASKED:
            return
        if status == 417:
            self._memory.record_silence(now)
        else:
            self._memory.record_response()

    def response_began(self, status: int) -> None:
        """The backend responds before it has the body, and will send no 100: send the body now."""
        if self._state is _ASKED and status < 400:
            self._send_held()

    def backend_blocked(self) -> None:
        """The backend takes no more for now."""
        self._unsent = self._connection.unsent
        self._expect(Deadline.BACKEND_WRITE, self._write_timeout())

    def backend_writable(self) -> None:
        """The backend takes bytes again."""
        self._await_more()

    def _write_timeout(self) -> float:
        """Seconds within which the backend must take more. It has longer while it is being started."""
        timeouts = self._context.timeouts
        return timeouts.first_byte_cold if self._attempt.cold else timeouts.between_bytes

    # time

    def renew(self, what: Deadline) -> bool:
        """This deadline has passed. If there was progress, wait again. Returns whether it does."""
        if self._state is _ASKED:
            self._send_permitted()
            return True
        if what is Deadline.BACKEND_WRITE:
            before, self._unsent = self._unsent, self._connection.unsent
            if self._unsent < before:
                self._expect(what, self._write_timeout())
                return True
            return False
        if self._upload.came < self._context.hot.least_body:
            return False
        self._await_more()
        return True

    def renew_response(self) -> Cause | None:
        """Nothing of the response came in time. Returns None to wait again, because the request body is still
        coming; else the cause of the failure."""
        upload = self._upload
        if upload.done or not self._connection.writable:
            return Cause.STALLED
        if upload.came < self._context.hot.least_body:
            return Cause.REQUEST_TIMEOUT
        upload.begin_period()
        return None

    # the end

    def stop(self) -> None:
        """The body is no longer held back, or no longer wanted."""
        if self._state is _ASKED:
            self._state = _FLOWING
        self._held_continue = None
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
