"""The body of a request on its way from the client to a backend.

    client ─► Upload: its beginning is kept ─► BodySender ─► backend, once for each attempt

It is never held whole: what came is handed on as it is. The one exception is its beginning, of which up to
`retries.replay_buffer` bytes are kept, so that a request can be sent again.
"""

import asyncio
from enum import Enum
from typing import Protocol

from edge.net.attempt import Attempt
from edge.net.client import Client
from edge.net.deadlines import Deadline
from edge.net.h1.h1_backend import H1Backend
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.expect_support import ExpectMemory
from edge.rules.http.framing import Framing
from edge.rules.http.h1_encode import chunk, joined
from edge.rules.http.head_validation import Request
from edge.rules.http.hop_by_hop import EXPECT_LINE, last_chunk
from edge.rules.outcomes import Cause, Phase

_NONE, _LENGTH, _CHUNKED = Framing.NONE, Framing.LENGTH, Framing.CHUNKED
_SMALL = 16 * 1024
"Bytes of a body whose memory is not worth counting."
_CONTINUE_GRACE = 0.005
"""Seconds between a backend's 100 and the body. nginx sends it even when it refuses, because it throws the body
away; then the refusal follows at its heels."""


class Upload:
    """What has come of a request body, and what of that could be sent again."""

    __slots__ = (
        "_chunked",
        "_kept",
        "_room",
        "_window",
        "client_asks",
        "done",
        "large",
        "replayable",
        "sent",
        "size",
        "trailers",
    )

    def __init__(self, framing: Framing, length: int, room: int, *, client_asks: bool = False) -> None:
        """`room`: bytes of it that may be kept."""
        self._chunked = framing is _CHUNKED
        self.large = self._chunked or length > room
        "Whether it may not fit into the replay buffer."
        self._room = room
        self._kept: list[bytes] = []
        self.client_asks = client_asks
        "Whether the client has sent `Expect: 100-continue`."
        self.size = 0
        "Bytes taken from the client."
        self.done = framing is _NONE
        self.sent = self.done
        "Whether its end was written to the backend in hand."
        self.replayable = True
        "Whether everything sent so far can be sent again."
        self.trailers = b""
        "The lines behind it."
        self._window = 0
        "Its size when the time began within which more must come."

    @property
    def may_fit(self) -> bool:
        """Whether a body of unknown length may still turn out to fit into the replay buffer."""
        return self._chunked and self.size <= self._room

    def take(self, pieces: list[bytes], *, done: bool) -> None:
        """More came from the client. Kept until it is sent, and as long as there is room."""
        if self.replayable:
            self._kept += joined(pieces)
        self.size += sum(map(len, pieces))
        self.done = done

    def begin_again(self) -> None:
        """Another backend is to get it, from its beginning."""
        self.sent = False

    def send_all(self, connection: H1Backend) -> None:
        """Send all of the body that has come: the beginning of an attempt."""
        if self.size or self._chunked:
            self.send(connection, self._kept)

    def send(self, connection: H1Backend, pieces: list[bytes]) -> None:
        """Send what has just come, and its end if that came too."""
        parts = pieces
        if self._chunked:
            parts = chunk(pieces)
            if self.done:
                parts.append(last_chunk(self.trailers))
        connection.write_all(parts)
        self.sent = self.done
        if self.size > self._room:
            self.replayable = False
            self._kept = []

    def begin_window(self) -> None:
        """From now on so much must come in so much time."""
        self._window = self.size

    @property
    def kept(self) -> int:
        """Bytes that are kept to be sent again."""
        return self.size if self.replayable else 0

    @property
    def came(self) -> int:
        """Bytes that came within this window."""
        return self.size - self._window


NO_UPLOAD = Upload(Framing.NONE, 0, 0)
"Shared by all requests without a body: there is nothing in it to change."


def upload_of(request: Request, room: int) -> Upload:
    """The body of this request. `room`: bytes of it that may be kept to be sent again."""
    if request.framing is _NONE or (request.framing is _LENGTH and not request.length):
        return NO_UPLOAD
    return Upload(request.framing, request.length, room, client_asks=b"expect" in request.found)


class Sending(Enum):
    """How far a backend is with the body of a request."""

    ASKED = "asked"  # by the edge, whether it takes the body; the body is held
    CLIENT_ASKED = "client_asked"  # by the client, which sends nothing before it has been told
    FLOWING = "flowing"  # what comes is sent on


_ASKED, _CLIENT_ASKED, _FLOWING = Sending.ASKED, Sending.CLIENT_ASKED, Sending.FLOWING


class UploadOwner(Protocol):
    """The exchange that a body belongs to."""

    phase: Phase

    def expect(self, what: Deadline, seconds: float) -> None:
        """From now on this is waited for, for so many seconds."""

    def expect_response(self, what: Deadline) -> None:
        """From now on this is waited for, for as long as a response may take to begin."""

    def request_sent(self, attempt: Attempt) -> None:
        """The request is written to its end."""


class BodySender:
    """Sends a request with a body to one backend: one attempt."""

    __slots__ = (
        "_attempt",
        "_client",
        "_context",
        "_link",
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
        """`memory`: whether the backends of this environment answer `Expect`."""
        self._owner = owner
        self._context = context
        self._client = client
        self._upload = upload
        self._attempt = attempt
        self._link = connection
        self._memory = memory
        self._state = _FLOWING
        self._timer: asyncio.TimerHandle | None = None
        "Sends the body when the answer to the edge's question takes too long, or a moment after it."
        self._unsent = 0
        "Bytes that waited for the backend when it was last looked at."

    # to the backend

    def begin(self, head: bytes, lines: bytes, *, may_ask: bool) -> None:
        """Send the head, and of the body what may be sent at once. `lines`: the end of the head; `may_ask`: whether
        the backend may be asked first."""
        upload, connection, client = self._upload, self._link, self._client
        upload.begin_again()
        connection.be_patient()
        if upload.client_asks and not upload.size and not upload.done:
            # The backend is asked, and the client waits for what it says: now it is the backend's time that runs.
            self._state = _CLIENT_ASKED
            connection.write(head + lines)
            self._owner.expect_response(Deadline.CONTINUE)
            client.resume_body()
        elif may_ask and upload.large and not (upload.done or upload.client_asks) and self._ask():
            connection.write(head + EXPECT_LINE + lines)
            if upload.may_fit:
                client.resume_body()
        else:
            connection.write(head + lines)
            self._send_held()

    def _ask(self) -> bool:
        """What is larger than the replay buffer can be sent once only: ask first, if that is of use here. Whoever
        does not answer gets the body all the same (see `rules/balancing/expect_support.py`)."""
        context = self._context
        now, asking = context.clock(), context.retries.ask_before_upload
        timeout = self._memory.timeout(asking, now, self._attempt.connect_ms / 1000.0)
        if not timeout:
            return False
        self._memory.record_question(now, timeout)
        self._state = _ASKED
        self._timer = context.loop.call_later(timeout, self._not_answered)
        self._owner.expect_response(Deadline.PERMISSION)
        return True

    def _not_answered(self) -> None:
        if self._state is _ASKED:
            self._memory.record_silence(self._context.clock())
        self._send_asked()

    def _send_asked(self) -> None:
        if self._state is _ASKED and self._owner.phase is Phase.SEND:
            self._send_held()

    def _send_held(self) -> None:
        """What has come of the body goes out, and what comes from now on follows it."""
        self.stop()
        self._upload.send_all(self._link)
        if self._upload.done:
            self._owner.request_sent(self._attempt)
        elif not self._link.writable:
            return  # and so is the client paused: its next bytes are wanted when these are gone
        else:
            self._await_more()
        self._client.resume_body()

    def take(self, pieces: list[bytes]) -> None:
        """This has just come, and is in the upload already."""
        upload = self._upload
        if self._state is _ASKED:
            # A body that is complete, and can be sent again, waits for nothing.
            if not upload.may_fit:
                self._client.pause_body()
            elif upload.done:
                self._send_asked()
            return
        upload.send(self._link, pieces)
        if upload.kept > _SMALL:
            self._client.note_buffers()
        if upload.done:
            self._owner.request_sent(self._attempt)
        elif self._state is _CLIENT_ASKED:
            self._client_goes_on()

    def _client_goes_on(self) -> None:
        """It waits no more for a 100, because one came or because it has lost patience."""
        self._state = _FLOWING
        self._await_more()

    def _await_more(self) -> None:
        """From now on the client has so much time to send so much more."""
        self._upload.begin_window()
        self._expect(Deadline.REQUEST_BODY, self._context.timeouts.body)

    def _expect(self, what: Deadline, seconds: float) -> None:
        if self._owner.phase is Phase.SEND:
            self._owner.expect(Deadline.CONTINUE if self._state is _CLIENT_ASKED else what, seconds)

    # from the backend

    def continued(self) -> None:
        """A 100 came."""
        if self._state is _CLIENT_ASKED:
            self._client_goes_on()
        elif self._state is _ASKED:
            self._cancel_timer()
            self._timer = self._context.loop.call_later(_CONTINUE_GRACE, self._send_asked)

    def is_refused(self, status: int) -> bool:
        """Whether a response of this status refuses the edge's question (RFC 9110, section 10.1.1)."""
        return self._state is _ASKED and status == 417

    def record_response(self, status: int, now: float) -> None:
        """The response began: what does it tell about questions?"""
        if self._state is not _ASKED:
            return
        if status == 417:
            self._memory.record_silence(now)
        else:
            self._memory.record_answer()

    def response_began(self, status: int) -> None:
        """It responds while it reads, and will never say 100."""
        if self._state is _ASKED and status < 400:
            self._send_held()

    def backend_blocked(self) -> None:
        """It takes no more for now."""
        self._unsent = self._link.unsent
        self._expect(Deadline.BACKEND_WRITE, self._write_timeout())

    def backend_writable(self) -> None:
        """It takes bytes again."""
        self._await_more()

    def _write_timeout(self) -> float:
        """Seconds within which a backend must have taken some more. One that is being started takes it late."""
        timeouts = self._context.timeouts
        return timeouts.first_byte_cold if self._attempt.cold else timeouts.between_bytes

    # time

    def renew(self, what: Deadline) -> bool:
        """This has not come in time: wait on, if there was progress. Returns whether it does."""
        if self._state is _ASKED:
            self._send_asked()
            return True
        if what is Deadline.BACKEND_WRITE:
            before, self._unsent = self._unsent, self._link.unsent
            if self._unsent < before:
                self._expect(what, self._write_timeout())
                return True
            return False
        if self._upload.came < self._context.hot.least_body:
            return False
        self._await_more()
        return True

    def renew_response(self) -> Cause | None:
        """Nothing of the response came for too long. None = wait on, because the body is still on its way;
        else why that is not so."""
        upload = self._upload
        if upload.done or not self._link.writable:
            return Cause.STALLED
        if upload.came < self._context.hot.least_body:
            return Cause.REQUEST_TIMEOUT
        upload.begin_window()
        return None

    # the end

    def stop(self) -> None:
        """The body is not held any more, or nobody wants it."""
        if self._state is _ASKED:
            self._state = _FLOWING
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
