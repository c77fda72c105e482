"""The story of one request, in the order in which things happen.

     listener ─► client_side ─► parser ─► admission
                                    │
                                  begin
                                    ▼
                       resolver ─► _routed ──miss──► core API         R
                                    ▼
               demerits, picker ─► _pick ◄───────────────┐            K
                                    ▼                    │
                           pool ─► _connect              │            C
                                    ▼                    │
                                  _send ◄── body         │            S
                                    ▼                    │
                                  answered ──► _failed ──┘            H
                                    ▼             │
                                  answer_body     ▼                   D
                                    ▼          _answer_ourselves
                                  _finished ◄─────┘                   -

With a cached route and a kept connection this is a chain of plain calls: no task, no future, no timer.
`_finished` runs exactly once for every exchange, whatever happened.
"""

from collections.abc import Callable
from time import time

from edge.net.attempt import Attempt, milliseconds
from edge.net.client import Client, TunnelSide
from edge.net.deadlines import COLD_CAUSES, TIMEOUT_CAUSES, Deadline
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.tunnel import Tunnel
from edge.net.limits.request_slots import give_slot_back, take_slot
from edge.net.retry_wait import RetryWait
from edge.net.upload import NO_UPLOAD, BodySender, Upload, upload_of
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.demerits import OTHERS_SEEN
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.next_step import (
    Another,
    AskRoute,
    FailedAttempt,
    GiveUp,
    NextStep,
    SameAgain,
    WaitForSlot,
    WaitForStart,
    next_step,
)
from edge.rules.balancing.pending_queue import PendingQueue
from edge.rules.balancing.picker import probe_target
from edge.rules.balancing.retries import worst_cause
from edge.rules.exchange_records import Outcome
from edge.rules.http.framing import Framing
from edge.rules.http.h1_encode import forwarded_head
from edge.rules.http.head_validation import Request, Response, refusal_pause
from edge.rules.http.hop_by_hop import later_lines
from edge.rules.http.local_reply import LocalReply, accept_of
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.outcomes import VERDICTS, Blame, Cause, Charge, Phase
from edge.rules.routing.routes import Candidate, Route, redirect_location

_OF_UPLOAD = frozenset({Deadline.PERMISSION, Deadline.REQUEST_BODY, Deadline.BACKEND_WRITE})
"What is waited for while a request body is sent."

# Looking up a member of an Enum takes CPython 3.11 75 ns; these are on the way of every request.
_ROUTE, _PICK, _CONNECT, _SEND = Phase.ROUTE, Phase.PICK, Phase.CONNECT, Phase.SEND
_ANSWER, _BODY, _FINISHED = Phase.ANSWER, Phase.BODY, Phase.FINISHED
_RESPONSE, _RESPONSE_BODY = Deadline.RESPONSE, Deadline.RESPONSE_BODY
_NONE = Framing.NONE
_FINE, _NOBODY = Cause.OK, Blame.NOBODY


class Exchange:
    """One request with all its attempts. Methods are in the order in which they happen."""

    __slots__ = (
        "_attempt",
        "_began",
        "_client",
        "_context",
        "_deadline",
        "_dialled",
        "_head",
        "_id",
        "_request",
        "_resolved_in",
        "_response_size",
        "_route",
        "_sending",
        "_status",
        "_tries",
        "_upload",
        "_wait",
        "_whole_at",
        "environment",
        "phase",
    )

    def __init__(self, client: Client, context: WorkerContext, request: Request) -> None:
        self._client = client
        self._context = context
        self._request = request
        info = client.info
        self._id = (info.request_id(request.found) if info.trusted else None) or context.next_id()
        self._began = self._whole_at = context.clock()
        "The latter: when the client had said all, as far as we know. Its own slowness is nobody's delay."
        self.phase = Phase.HEAD
        # for the attempts
        self._route: Route | None = None
        self.environment: Environment | None = None
        "Where it is counted as in hand."
        self._resolved_in = 0.0
        self._wait: RetryWait | None = None
        self._dialled = 0.0
        "Seconds spent on connecting so far."
        self._head = b""
        "The request head as it is sent, less the lines that differ between attempts."
        self._attempt: Attempt | None = None
        self._tries: list[Attempt] = []
        # for the bodies
        self._upload = NO_UPLOAD if request.framing is _NONE else upload_of(request, context.retries.replay_buffer)
        self._sending: BodySender | None = None
        "Sends it to the backend in hand."
        self._status = 0
        "Of the response that was begun; 0 = none was."
        self._response_size = 0
        "Bytes of its body handed to the client."
        self._deadline = Deadline.ROUTE
        client.deadline = self._began + context.hot.deadline
        context.counts.exchanges += 1

    def __repr__(self) -> str:
        return f"<Exchange {self._request.host} {self.phase.value} tries={len(self._tries)}>"

    # head

    def begin(self) -> None:
        """The head is complete and admitted. Of its body, nothing has come yet."""
        context, hostname, now = self._context, self._request.host, self._began
        self.phase = _ROUTE
        route = context.table.use(hostname, now)
        if route is not None and now < route.renew_at:
            context.counts.route_hits += 1
            self._routed(route, now)
        elif route is not None and (now < route.expired_at or now < route.no_lookup_before):
            context.counts.route_hits += now < route.fresh_until
            context.counts.route_stale += now >= route.fresh_until
            context.resolver.refresh(hostname, route, now)
            self._routed(route, now)
        else:
            context.counts.route_misses += 1
            self._resolve(hostname)

    @property
    def held_bytes(self) -> int:
        """What is kept in memory of its bodies. (What waits for the backend is part of what is kept to be sent
        again.)"""
        connection = self._attempt.connection if self._attempt is not None else None
        if connection is None:
            return self._upload.kept
        return (self._upload.kept or connection.unsent) + connection.unread

    def refuse(self, cause: Cause) -> None:
        """The head was not admitted."""
        self._answer_ourselves(cause)

    def _hold_body(self) -> None:
        """Nobody takes the body yet. A client without one is still listened to: it may leave."""
        if not self._upload.done:
            self._client.pause_body()

    # route

    def _resolve(self, hostname: str) -> None:
        self._hold_body()
        self._context.resolver.resolve(hostname, self._resolved, self.asker, self._unknown_host_refused)

    @property
    def asker(self) -> str:
        """On whose account it is sent; "" = nobody knows."""
        return self._client.info.asker(self._request.found)

    def _resolved(self, route: Route | None) -> None:
        if self.phase is _FINISHED:
            return  # the client left meanwhile
        now = self._context.clock()
        self._resolved_in = now - self._began
        if route is not None:
            self._routed(route, now)
        else:
            self._turn_away(Cause.LOOKUP_FAILED)

    def _unknown_host_refused(self) -> None:
        if self.phase is not _FINISHED:  # the client left meanwhile
            self._turn_away(Cause.UNKNOWN_HOST_LIMIT)

    def _turn_away(self, cause: Cause) -> None:
        """It asks for a site that nobody has: those of the others come first."""
        self._hold_body()
        self._client.deferred = True
        self._context.deferred_queue.add(lambda: self._told_so(cause))

    def _told_so(self, cause: Cause) -> None:
        if self.phase is not _FINISHED:  # the client left meanwhile
            self._answer_ourselves(cause)

    def _routed(self, route: Route, now: float) -> None:
        self._route = route
        answer, environment = route.answer, route.environment
        if answer is None or environment is None:
            self._context.counts.unknown_hits += 1
            self._turn_away(Cause.UNKNOWN_HOST)
        elif answer.maintenance:
            self._answer_ourselves(Cause.MAINTENANCE)
        elif answer.redirect is not None:
            location = redirect_location(answer.redirect, self._request.target)
            self._say(self._context.pages.redirect(location), Cause.REDIRECTED)
        elif not route.standings:
            self._answer_ourselves(Cause.NO_BACKENDS)
        elif environment.in_flight >= environment.shared_from and (
            no_slot := take_slot(self._context, environment, self)
        ):
            self._answer_ourselves(no_slot)
        else:
            environment.requests += 1
            environment.asked_at = now
            peer = self._client.info
            asker = peer.asker(self._request.found) if peer.trusted else peer.address
            if asker != environment.asker:
                environment.mixed_at = now if environment.asker else environment.mixed_at
                environment.asker = asker
            environment.in_flight += 1
            self.environment = environment
            self._pick(route, now)

    # pick

    def _pick(self, route: Route, now: float) -> None:
        self.phase = _PICK
        environment, tries = route.environment, self._tries
        assert environment is not None
        wait = self._wait
        counted = tries if wait is None else tries[wait.attempts_before :]
        candidate = self._context.balancer.choose(route, counted, now)
        if environment.book.probe_due <= now and not tries:
            candidate = self._probe(route, now) or candidate
        if candidate is None:
            self.phase = self._tries[-1].phase
            self._answer_ourselves(worst_cause([t.cause for t in self._tries]))
        else:
            self._connect(candidate, now)

    def _probe(self, route: Route, now: float) -> Candidate | None:
        """A backend on probation gets a copy of this request, or the request itself if it may not be sent twice and
        there was no other for long."""
        request, probes = self._request, self._context.settings.demerits.shadow_probes
        if probes and request.safe and self._upload is NO_UPLOAD and not request.offers:
            head = forwarded_head(request, self._client.info, self._id)
            self._context.balancer.probes.send(route, request, head, now)
            return None
        candidate = probe_target(route, now, safe=not probes)
        if candidate is not None and candidate.standing.probation is not None:
            candidate.standing.probation.record_probe(now)
        return candidate

    # connect

    def _connect(self, candidate: Candidate, now: float, *, fresh: bool = False) -> None:
        context = self._context
        self.phase = _CONNECT
        standing = candidate.standing
        standing.in_flight += 1
        self._attempt = attempt = Attempt(candidate, now, standing.cold)
        self._tries.append(attempt)
        to_repeat = self._upload is NO_UPLOAD and self._request.safe and context.hot.may_repeat
        connection = None if fresh else context.pool.acquire(candidate.endpoint, to_repeat=to_repeat)
        if connection is not None:
            self._send(attempt, connection)
            return
        # Connect first, then read the body: a request of any size can move on from here.
        self._hold_body()
        timeouts = context.timeouts
        self._expect_in_time(Deadline.CONNECTION)
        assert self._route is not None
        timeout = context.balancer.connect_timeout(self._route, self._tries)
        context.pool.dial(attempt, min(timeout, timeouts.connect_total - self._dialled), self)

    def connected(self, attempt: Attempt, connection: H1Backend) -> None:
        """A new connection, perhaps after the client left: then somebody else will use it."""
        now = self._context.clock()
        self._dialled += now - attempt.began
        if self._attempt is not attempt:
            self._context.pool.release(connection, now)
        elif not connection.closed:
            attempt.connect_ms = milliseconds(now - attempt.began)
            self._context.balancer.checks.record_reachable(attempt.candidate.standing)
            self._send(attempt, connection)
        else:
            self._failed(Cause.BAD_ANSWER if connection.spoke_first else Cause.CONNECT_FAILED)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """The backend refuses connections, cannot be reached, or takes too long."""
        self._dialled += self._context.clock() - attempt.began
        if self._attempt is attempt:
            self._failed(cause)

    # send

    def _send(self, attempt: Attempt, connection: H1Backend) -> None:
        self.phase = _SEND
        attempt.connection = connection
        request, upload, client, context = self._request, self._upload, self._client, self._context
        connection.attach(self, to_head=request.method == b"HEAD")
        if not client.writable:  # by what an earlier attempt sent it; that is told once
            connection.pause()
        if not self._head:
            self._head = forwarded_head(request, client.info, self._id)
        number = len(self._tries)
        lines = attempt.candidate.first_lines if number == 1 else later_lines(attempt.candidate.head_line, number)
        if upload is NO_UPLOAD:
            connection.write(self._head + lines)
            self.request_sent(attempt)
            if client.paused:
                client.resume_body()
            return
        environment = self.environment
        assert environment is not None
        self._sending = BodySender(
            self, context, client, upload, attempt=attempt, connection=connection, memory=environment.expect_memory
        )
        may_ask = not any(earlier.cause is Cause.EXPECT_REFUSED for earlier in self._tries)
        self._sending.begin(self._head, lines, may_ask=may_ask)

    def body_trailers(self, fields: Fields) -> None:
        """The fields behind the request's body, whose end is told next."""
        self._upload.trailers = self._context.head_reader.trailer_lines(fields, of_request=True)

    def body(self, pieces: list[bytes], *, done: bool) -> None:
        """More of the request body came from the client; `done`: that is all."""
        upload, context = self._upload, self._context
        upload.take(pieces, done=done)
        if done:
            self._whole_at = context.clock()
        if context.limits.body and upload.size > context.limits.body:
            self.abandon(Cause.BODY_TOO_LARGE)
        elif self._sending is None:
            self._hold_body()
        else:
            self._sending.take(pieces)

    def request_sent(self, attempt: Attempt) -> None:
        """The request is written to its end; wait for the answer."""
        if self.phase is not _SEND:
            return  # answered early
        self.phase = _ANSWER
        attempt.sent_at = now = self._context.clock()
        attempt.waits = True
        standing = attempt.candidate.standing
        standing.waiting += 1
        if standing.waiting == 1:
            standing.waiting_since = now
        self._deadline = _RESPONSE
        self._client.deadline = self._response_due(attempt, now)

    def _response_due(self, attempt: Attempt, now: float) -> float:
        """When an answer for which the backend has everything since `now` must begin."""
        usual = self._context.hot
        deadline = now + (self._context.timeouts.first_byte_cold if attempt.cold else usual.first_byte)
        last = self._whole_at + usual.deadline
        return deadline if deadline < last else last  # noqa: FURB136 - faster

    def expect_response(self, what: Deadline) -> None:
        """From now on this is waited for, for as long as a response may take to begin."""
        assert self._attempt is not None
        self._deadline = what
        self._client.deadline = self._response_due(self._attempt, self._context.clock())

    def expect(self, what: Deadline, seconds: float) -> None:
        """From now on this is waited for, for so many seconds."""
        self._deadline = what
        self._client.deadline = self._context.clock() + seconds

    def _expect_in_time(self, what: Deadline) -> None:
        """From now on this is waited for, until the deadline of all attempts together."""
        self._deadline = what
        self._client.deadline = self._whole_at + self._context.timeouts.deadline

    def backend_blocked(self) -> None:
        """The backend is slower than the client."""
        if self._sending is not None:
            self._sending.backend_blocked()
        self._client.pause_body()

    def backend_writable(self) -> None:
        """The backend takes bytes again."""
        if self._sending is not None:
            self._sending.backend_writable()
        self._client.resume_body()

    # answer

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer."""
        if head.status == 100:
            if self._sending is not None:
                self._sending.continued()
            if b"expect" not in self._request.found:  # it is for us: the client did not ask
                if self.environment is not None:
                    self.environment.expect_memory.record_answer()
                return
        if not self._status:
            self._client.send_interim(head)

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        """101: from here on client and backend speak something else, through a tunnel."""
        protocols, attempt, client = self._context.head_reader.protocols(head), self._attempt, self._client
        wanted = bool(protocols) and self._request.offers.issuperset(map(bytes.lower, protocols))
        if not wanted or attempt is None or attempt.connection is None:
            return False
        self.phase = _BODY
        attempt.answers()
        attempt.status = head.status
        self._status = head.status
        attempt.first_byte_ms = milliseconds(self._context.clock() - attempt.sent_at)
        side = client.switch(head, protocols, self._id, attempt.candidate.head_line)
        backend = attempt.connection
        Tunnel(self._context, self, side, TunnelSide(backend.hand_over(), backend, rest)).begin()
        return True

    def tunnelled(self, cause: Cause, bytes_in: int, bytes_out: int) -> None:
        """The tunnel is over, and both connections are gone."""
        attempt = self._attempt
        assert attempt is not None
        self._upload = Upload(Framing.NONE, 0, 0)
        self._upload.size = bytes_in
        self._response_size = bytes_out
        self._drop_attempt(cause)
        self._finished(cause, self._context.clock())

    def trailers(self, fields: Fields) -> None:
        """The fields behind the answer's body, whose end is told next."""
        if self._attempt is not None:
            self._attempt.trailers = self._context.head_reader.trailer_lines(fields, of_request=False)

    def answered(self, answer: Response, pieces: list[bytes], done: bool) -> None:
        """The head of the final answer, with what came of its body."""
        attempt, environment = self._attempt, self.environment
        assert attempt is not None
        assert environment is not None
        now, sent_at = self._context.clock(), attempt.sent_at
        if sent_at:
            attempt.first_byte_ms = milliseconds(now - sent_at)
            attempt.answers()
        attempt.status = answer.status
        attempt.cause = cause = answer.cause
        sending = self._sending
        if sending is not None:
            if sending.is_refused(answer.status):
                attempt.cause = cause = Cause.EXPECT_REFUSED
            sending.record_response(answer.status, now)
        book, standing = environment.book, attempt.candidate.standing
        if cause is _FINE:
            # A cold start tells nothing about the container's speed.
            if attempt.cold:
                book.woke(standing, now)
            elif sent_at and not answer.is_stream:
                if book.answered(standing, now - sent_at, now):
                    self._note_witness(environment, standing, now, first=standing.slow == 1)
            else:
                standing.heard_at = now
        else:
            pause = refusal_pause(answer) if cause is Cause.REFUSED else 0.0
            if self._failed(cause, pause):
                return
            if attempt.cold:
                book.woke(standing, now)
            elif VERDICTS[cause].charge is Charge.ERROR:
                self._note_witness(environment, standing, now, first=not (standing.failures or standing.slow))
                book.failed(standing, cause, now, self._context.balancer.rand())
        self._deliver(attempt, answer, pieces, done)
        if done:
            self._complete(attempt, now)
            return
        if sending is not None:
            sending.response_began(answer.status)
        if self._client.writable:
            self._deadline = _RESPONSE_BODY
            self._client.deadline = now + self._context.timeouts.between_bytes
        else:
            self._deadline = Deadline.CLIENT_WRITE

    def _deliver(self, attempt: Attempt, answer: Response, pieces: list[bytes], done: bool) -> None:
        """The first bytes of an answer go to the client: from here on there is no other attempt."""
        self.phase = _BODY
        self._status = answer.status
        for piece in pieces:
            self._response_size += len(piece)
        self._client.send_response(
            answer, self._id, attempt.candidate.head_line, pieces, done=done, trailers=attempt.trailers
        )

    # body

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the answer's body."""
        client, context, attempt = self._client, self._context, self._attempt
        assert attempt is not None
        for piece in pieces:
            self._response_size += len(piece)
        client.send_body(pieces, done=done, trailers=attempt.trailers)
        if done:
            self._complete(attempt, context.clock())
        elif client.writable:
            client.deadline = context.clock() + context.timeouts.between_bytes

    def client_blocked(self) -> None:
        """The client is slower than the backend."""
        if self.phase is _BODY:
            self.expect(Deadline.CLIENT_WRITE, self._context.timeouts.write_stall)
        if self._attempt is not None and self._attempt.connection is not None:
            self._attempt.connection.pause()

    def client_writable(self) -> None:
        """The client takes bytes again."""
        if self.phase is _BODY:
            self.expect(_RESPONSE_BODY, self._context.timeouts.between_bytes)
        if self._attempt is not None and self._attempt.connection is not None:
            self._attempt.connection.resume()

    def _complete(self, attempt: Attempt, now: float) -> None:
        self._attempt = None
        if self._sending is not None:
            self._stop_sending()
        self._context.balancer.end(attempt, attempt.cause, now, sent=self._upload.sent)
        self._finished(attempt.cause, now)
        self._client.end(now)

    # what can go wrong

    def link_lost(self, cause: Cause) -> None:
        """The backend's connection ended, or its answer could not be read."""
        if self._attempt is not None:
            self._attempt.connection = None
        if not self._status:
            self._failed(cause)
        else:
            self.abandon(cause)

    @property
    def is_responding(self) -> bool:
        """Whether a response is under way."""
        return self._status > 0

    def client_gone(self) -> None:
        """The client left. Its request is worth nothing any more; its backend is not to blame."""
        if self.phase is not _FINISHED:
            self._drop_attempt(Cause.CLIENT_GONE)
            self._finished(Cause.CLIENT_GONE, self._context.clock())

    def deadline_passed(self, now: float) -> None:
        """The deadline has passed. What was waited for?"""
        what, sending = self._deadline, self._sending
        cause: Cause | None
        if what is Deadline.ATTEMPT:
            cause = worst_cause([t.cause for t in self._tries])
        elif sending is not None and what in _OF_UPLOAD:
            cause = None if sending.renew(what) else self._timeout_cause(what)
        elif sending is not None and what is _RESPONSE_BODY:
            cause = sending.renew_response()
            if cause is None:
                self.expect(_RESPONSE_BODY, self._context.timeouts.between_bytes)
        else:
            cause = self._timeout_cause(what)
        if cause is not None:
            self.abandon(cause)

    def _timeout_cause(self, what: Deadline) -> Cause:
        cold = self._attempt is not None and self._attempt.cold
        return (COLD_CAUSES if cold else TIMEOUT_CAUSES)[what]

    def _failed(self, cause: Cause, pause: float = 0.0) -> bool:
        """The attempt failed, and nothing of a response was sent to the client. Returns False if the backend's own
        response is to be passed on; everything else is done here. `pause`: the seconds that a refusal asked for."""
        context, attempt, now = self._context, self._attempt, self._context.clock()
        balancer, environment = context.balancer, self.environment
        assert attempt is not None
        assert environment is not None
        attempt.cause = cause
        step = self._next_step(attempt, now)
        if isinstance(step, GiveUp) and step.no_token:
            balancer.record_exhausted(environment)
        if isinstance(step, GiveUp) and not VERDICTS[cause].status:
            return False
        self._drop_attempt(cause, pause)
        match step:
            case SameAgain():
                self.phase = _PICK
                self._connect(attempt.candidate, now, fresh=True)
            case Another(candidate):
                balancer.take_retry_token(environment, cause, now)
                if step.asks_route:
                    self._claim_lookup(now)
                    context.resolver.ask_ahead(self._request.host)
                self.phase = _PICK
                self._connect(candidate, now)
            case AskRoute():
                balancer.take_retry_token(environment, cause, now)
                self._claim_lookup(now)
                self.phase = _ROUTE
                self._expect_in_time(Deadline.ROUTE)
                context.resolver.resolve(self._request.host, self._rerouted)
            case WaitForSlot(seconds):
                balancer.take_retry_token(environment, cause, now)
                self._pause(seconds, self._pick_again, environment.room)
            case WaitForStart(seconds):
                self._pause(seconds, lambda: self._connect(attempt.candidate, context.clock(), fresh=True))
            case GiveUp(reported):
                self._answer_ourselves(reported)
        return True

    def _next_step(self, attempt: Attempt, now: float) -> NextStep:
        """What `rules/balancing/next_step.py` says to this failure."""
        context, request, tries, wait = self._context, self._request, self._tries, self._wait
        route, retries = self._freshest_route(), context.retries
        waited = wait.attempts_before if wait is not None else 0
        failed = FailedAttempt(
            attempt.cause,
            status=attempt.status,
            cold=attempt.cold,
            earlier=[earlier.cause for earlier in tries[:-1]],
            waited=waited,
            safe=request.safe,
            replayable=self._upload.replayable,
            from_edge=self._client.info.is_edge(request.found),
            age=now - self._whole_at,
            connecting=self._dialled,
        )
        older = route.taken_at < attempt.began
        options = context.balancer.retry_options(
            route,
            tries[waited:],
            now,
            slot_wait=wait.slot_wait(retries.queue_timeout, now) if wait is not None else retries.queue_timeout,
            can_ask_route=older and context.resolver.can_claim_lookup(request.host, route, now),
        )
        return next_step(failed, options, retries, context.timeouts)

    def _claim_lookup(self, now: float) -> None:
        assert self._route is not None
        self._context.resolver.claim_lookup(self._request.host, self._route, now)

    def _pause(self, seconds: float, go_on: Callable[[], None], room: PendingQueue | None = None) -> None:
        """Wait before the next attempt; in a `room`, for a slot."""
        context = self._context
        self.phase = _PICK
        self._hold_body()
        self._expect_in_time(Deadline.ATTEMPT)
        self._wait = wait = self._wait or RetryWait()
        if room is not None:
            wait.slot_deadline = wait.slot_deadline or context.clock() + context.retries.queue_timeout
        wait.begin(context.loop, seconds, go_on, attempts=len(self._tries), room=room)

    def _pick_again(self) -> None:
        """There may be a slot: one attempt."""
        self._pick(self._freshest_route(), self._context.clock())

    def _freshest_route(self) -> Route:
        """The table may know better by now than when this exchange began."""
        route = self._context.table.get(self._request.host)
        if route is not None and route.standings:
            self._route = route
        assert self._route is not None
        return self._route

    def _rerouted(self, route: Route | None) -> None:
        """The core API was asked again, because no backend where we thought they are could be used."""
        if self.phase is not _FINISHED:
            self._pick(self._freshest_route(), self._context.clock())

    def abandon(self, cause: Cause) -> None:
        """No further attempt. Before the first answer byte the client gets an answer of ours; after it, its
        connection is cut, for a truncated answer must never look complete."""
        self._drop_attempt(cause)
        if not self._status:
            self._answer_ourselves(cause)
            return
        self._finished(cause, self._context.clock())
        self._client.abort()

    def _drop_attempt(self, cause: Cause, pause: float = 0.0) -> None:
        """The attempt in hand, if there is one, failed like this: charge for it, let go of its connection."""
        attempt, route = self._attempt, self._route
        if attempt is not None and route is not None:
            attempt.phase = self.phase
            if self.environment is not None and VERDICTS[cause].charge is Charge.ERROR:
                standing = attempt.candidate.standing
                first = not (standing.failures or standing.slow)
                self._note_witness(self.environment, standing, self._context.clock(), first=first)
            balancer = self._context.balancer
            balancer.charge(route, attempt, cause, pause)
            self._attempt = None
            self._stop_sending()
            balancer.end(attempt, cause, self._context.clock(), sent=self._upload.sent)

    def _note_witness(self, environment: Environment, standing: BackendState, now: float, *, first: bool) -> None:
        """This request speaks against a backend. Has anybody but this client asked for the site lately?"""
        alone = now - environment.mixed_at > OTHERS_SEEN
        client = self._client.info.asker(self._request.found)
        environment.book.note_witness(standing, client, now, alone=alone, first=first)

    # the end

    def _answer_ourselves(self, cause: Cause) -> None:
        request, request_id = self._request, self._id.decode("latin-1")
        accept = accept_of(request.fields)
        self._say(self._context.pages.error(cause, accept=accept, host=request.host, request_id=request_id), cause)

    def _say(self, page: LocalReply, cause: Cause) -> None:
        self._status = page.status
        self._response_size = 0 if self._request.method == b"HEAD" else len(page.body)
        self._client.send_local_reply(page, self._id)
        now = self._context.clock()
        self._finished(cause, now)
        self._client.end(now)

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.stop()
            self._sending = None

    def _overhead_ms(self) -> float:
        tries = self._tries
        if len(tries) != 1 or self._upload is not NO_UPLOAD or not tries[0].sent_at:
            return 0.0
        spent = tries[0].sent_at - self._began - self._resolved_in - self._dialled
        return int(spent * 1e6) / 1000.0  # as `milliseconds`

    def _finished(self, cause: Cause, now: float) -> None:
        """Exactly once for every exchange: tell how it ended."""
        assert self.phase is not _FINISHED, f"{self} finished twice"
        context, request, route = self._context, self._request, self._route
        blame = VERDICTS[cause].blame
        ended_in = _FINISHED if blame is _NOBODY else self.phase
        self.phase = _FINISHED
        context.counts.exchanges -= 1
        environment = self.environment
        if self._wait is not None:
            self._wait.stop()
        if environment is not None:
            environment.in_flight -= 1
            if environment.slots is not None:
                give_slot_back(context, environment, environment.slots, self)
            if cause is _FINE and environment.room.waiting:
                environment.room.wake()
        answer = route.answer if route is not None else None
        backend, connect_ms, first_byte_ms = "", 0.0, 0.0
        attempts = [attempt.told() for attempt in self._tries]
        if attempts:
            last = attempts[-1]
            connect_ms, first_byte_ms = last.connect_ms, last.first_byte_ms
            if last.status:
                backend = last.backend
        context.observe(
            # By position, in the order of the declaration: names cost msgspec a microsecond here.
            Outcome(
                time(),
                self._id.decode("latin-1"),
                self._client.info.address,
                request.method.decode(),
                request.host,
                request.target.decode("latin-1"),
                self._status or 499,
                self._upload.size,
                self._response_size,
                answer.site if answer is not None else "",
                answer.environment if answer is not None else "",
                backend,
                ended_in,
                blame,
                cause,
                milliseconds(self._resolved_in) if self._resolved_in else 0.0,
                connect_ms,
                first_byte_ms,
                milliseconds(now - self._began),
                self._overhead_ms(),
                attempts,
            ),
            request,
        )
