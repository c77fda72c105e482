"""The steps of one request, in the order in which they happen.

     accept ─► h1_connection ─► head_reader ─► head_validation
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
                           response_received ─► _failed ─┘            H
                                    ▼             │
                              response_body       ▼                   D
                                    ▼          _reply_locally
                                  _finished ◄─────┘                   -

With a cached route and an idle connection this is a chain of plain calls: no task, no future, no timer.
`_finished` runs exactly once for every exchange. What the steps read and write is in `exchange_state.py`.
"""

from typing import Final

from edge.net.balancing.balancer import Attempt, milliseconds
from edge.net.client import TunnelSide
from edge.net.deadlines import Deadline
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.response_handler import ResponseHandler
from edge.net.h1.tunnel import Tunnel
from edge.net.limits.request_slots import return_slot, take_slot
from edge.net.request.exchange_failures import ExchangeFailures
from edge.net.upload import NO_UPLOAD, BodySender, Upload
from edge.rules.balancing.backend_state import Candidate
from edge.rules.balancing.picker import probe_target
from edge.rules.balancing.retries import worst_cause
from edge.rules.http.framing import Framing
from edge.rules.http.h1_encode import forwarded_head
from edge.rules.http.head_validation import Response, refusal_pause
from edge.rules.http.hop_by_hop import later_lines
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase
from edge.rules.routing.routes import Route

# Looking up a member of an Enum takes CPython 3.11 75 ns; these are on the way of every request.
_ROUTE: Final = Phase.ROUTE
_PICK: Final = Phase.PICK
_CONNECT: Final = Phase.CONNECT
_SEND: Final = Phase.SEND
_RESPONSE_DUE: Final = Phase.RESPONSE
_BODY: Final = Phase.BODY
_FINISHED: Final = Phase.FINISHED
_RESPONSE: Final = Deadline.RESPONSE
_RESPONSE_BODY: Final = Deadline.RESPONSE_BODY
_OK: Final = Cause.OK
_NOBODY: Final = Blame.NOBODY


class Exchange(ExchangeFailures, ResponseHandler):
    """One request with all its attempts. Methods are in the order in which they happen."""

    __slots__ = ()

    # head

    def begin(self) -> None:
        """The head is complete and accepted: look for its route."""
        if (gate := self._client.info.gate) is not None and self._turn_away_at(gate):
            return
        context, hostname, now = self._context, self._request.host, self._began
        self.phase = _ROUTE
        route = context.table.use(hostname, now)
        if route is not None and now < route.renew_at:
            context.counts.route_hits += 1
            self._routed(route, now)
        elif route is not None and (now < route.expired_at or now < route.no_lookup_before):
            context.counts.route_hits += now < route.fresh_until
            context.counts.route_stale += now >= route.fresh_until
            self._freshness = "fresh" if now < route.fresh_until else "stale"
            context.resolver.refresh(hostname, route, now)
            self._routed(route, now)
        else:
            context.counts.route_misses += 1
            self._resolve(hostname)

    def refuse(self, cause: Cause) -> None:
        """The head was rejected."""
        self._reply_locally(cause)

    # route

    def _resolve(self, hostname: str) -> None:
        self._hold_body()
        self._context.resolver.resolve(hostname, self._resolved, self.client_address, self._unknown_host_refused)

    def _resolved(self, route: Route | None) -> None:
        if self.phase is _FINISHED:
            return  # the client left meanwhile
        now = self._context.clock()
        self._resolved_in = now - self._began
        if route is not None:
            self._routed(route, now)
        else:
            self._turn_away(Cause.LOOKUP_FAILED)

    def _routed(self, route: Route, now: float) -> None:
        self._route = route
        environment = route.environment
        if environment is None or not route.serves:
            self._not_served(route)
        elif (in_flight := environment.in_flight) >= environment.shared_from and (
            no_slot := take_slot(self._context, environment, self)
        ):
            self._reply_locally(no_slot)
        else:
            environment.requests += 1
            environment.last_request_at = now
            info = self._client.info
            client = info.client_address(self._request.found) if info.trusted else info.address
            if client != environment.client_address:
                environment.client_changed_at = now if environment.client_address else environment.client_changed_at
                environment.client_address = client
            environment.in_flight = in_flight + 1
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
        if environment.demerits.probe_due <= now and not tries:
            candidate = self._probe(route, now) or candidate
        if candidate is None:
            self.phase = self._tries[-1].phase
            self._reply_locally(worst_cause([t.cause for t in self._tries]))
        else:
            self._connect(candidate, now)

    def _probe(self, route: Route, now: float) -> Candidate | None:
        """Probe a backend on probation: with a copy of this request, or, when there was none to copy for long, with
        the request itself, whose backend is returned."""
        request, probes = self._request, self._context.settings.demerits.shadow_probes
        if probes and request.safe and self._upload is NO_UPLOAD and not request.offers:
            head = forwarded_head(request, self._client.info, self._id)
            self._context.probes.send(route, request, head, now)
            return None
        candidate = probe_target(route, now, safe=not probes)
        if candidate is not None and candidate.state.probation is not None:
            candidate.state.probation.record_probe(now)
        return candidate

    # connect

    def _connect(self, candidate: Candidate, now: float, *, fresh: bool = False) -> None:
        context = self._context
        self.phase = _CONNECT
        state = candidate.state
        state.in_flight += 1
        self._attempt = attempt = Attempt(candidate, now, state.cold)
        self._tries.append(attempt)
        to_repeat = self._upload is NO_UPLOAD and self._request.safe and context.hot.may_repeat
        connection = None if fresh else context.pool.acquire(candidate.endpoint, to_repeat=to_repeat)
        if connection is not None:
            self._send(attempt, connection)
            return
        # Connect first, then read the body: until then a request of any size can be sent to another backend.
        self._hold_body()
        timeouts = context.timeouts
        self._expect_in_time(Deadline.CONNECTION)
        assert self._route is not None
        timeout = context.balancer.connect_timeout(self._route, self._tries)
        context.pool.dial(candidate, min(timeout, timeouts.connect_total - self._dialled), self, attempt)

    def connected(self, attempt: Attempt, connection: H1Backend) -> None:
        """The new connection is there. If the attempt is over, it goes to the pool."""
        now = self._context.clock()
        self._dialled += now - attempt.began
        if self._attempt is not attempt:
            self._context.pool.release(connection, now)
        elif not connection.closed:
            attempt.connect_ms = milliseconds(now - attempt.began)
            self._context.balancer.record_connected(self._route, attempt.candidate.state, now)
            self._send(attempt, connection)
        else:
            self._failed(Cause.BAD_ANSWER if connection.sent_before_request else Cause.CONNECT_FAILED)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """The backend refuses connections, cannot be reached, or takes too long to connect."""
        self._dialled += self._context.clock() - attempt.began
        if self._attempt is attempt:
            self._failed(cause)

    # send

    def _send(self, attempt: Attempt, connection: H1Backend) -> None:
        self.phase = _SEND
        attempt.connection = connection
        request, upload, client, context = self._request, self._upload, self._client, self._context
        connection.attach(self, to_head=request.method == b"HEAD")
        number = len(self._tries)
        lines = attempt.candidate.first_lines if number == 1 else later_lines(attempt.candidate.head_line, number)
        if upload is NO_UPLOAD:
            head = self._head
            connection.write(head + lines if head else forwarded_head(request, client.info, self._id, lines))
            self.request_sent(attempt)
            if client.paused:
                client.resume_body()
            return
        environment = self.environment
        assert environment is not None
        self._sending = BodySender(
            self, context, client, upload, attempt=attempt, connection=connection, memory=environment.expect_memory
        )
        self._head = self._head or forwarded_head(request, client.info, self._id)
        may_ask = all(earlier.cause is not Cause.EXPECT_REFUSED for earlier in self._tries)
        self._sending.begin(self._head, lines, may_ask=may_ask)

    def body_trailers(self, fields: Fields) -> None:
        """The trailer fields of the request. The end of the body follows."""
        self._upload.trailers = self._context.head_reader.trailer_lines(fields, of_request=True)

    def body(self, pieces: list[bytes], *, done: bool) -> None:
        """More of the request body came from the client. `done`: this is its end."""
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
        """The whole request is written: wait for the response."""
        if self.phase is not _SEND:
            return  # the response began early
        self.phase = _RESPONSE_DUE
        context = self._context
        attempt.sent_at = now = context.clock()
        attempt.waits = True
        state = attempt.candidate.state
        state.waiting = waiting = state.waiting + 1
        if waiting == 1:
            state.waiting_since = now
        self._deadline = _RESPONSE
        hot = context.hot  # from here on as `_response_deadline`, without a call
        deadline = now + (context.timeouts.first_byte_cold if attempt.cold else hot.first_byte)
        last = self._whole_at + hot.deadline
        self._client.deadline = deadline if deadline < last else last  # noqa: FURB136 - faster

    def expect_response(self, what: Deadline) -> None:
        """Wait for this from now on, for as long as a response may take to begin."""
        assert self._attempt is not None
        self._deadline = what
        self._client.deadline = self._response_deadline(self._attempt, self._context.clock())

    def _response_deadline(self, attempt: Attempt, now: float) -> float:
        """When a response must begin for which the backend has had everything since `now`."""
        hot = self._context.hot
        deadline = now + (self._context.timeouts.first_byte_cold if attempt.cold else hot.first_byte)
        last = self._whole_at + hot.deadline
        return deadline if deadline < last else last  # noqa: FURB136 - faster

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

    # response

    def interim(self, head: ResponseHead) -> None:
        """A 1xx response, other than 101."""
        if head.status == 100:
            is_held = self._sending is not None and self._sending.continued(head)
            if is_held or b"expect" not in self._request.found:  # the edge has asked for it, not the client
                return
        if not self._status:
            self._client.send_interim(head)

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        """The 101 response: begin a tunnel. Returns False if it does not answer what the request asked for."""
        protocols, attempt, client = self._context.head_reader.protocols(head), self._attempt, self._client
        wanted = bool(protocols) and self._request.offers.issuperset(map(bytes.lower, protocols))
        if not wanted or attempt is None or attempt.connection is None or not client.may_switch(head):
            return False
        self.phase = _BODY
        attempt.record_first_byte()
        attempt.status = head.status
        self._status = head.status
        attempt.first_byte_ms = milliseconds(self._context.clock() - attempt.sent_at)
        side = client.switch(head, protocols, self._id, attempt.candidate.head_line)
        backend = attempt.connection
        Tunnel(self._context, self, side, TunnelSide(backend.hand_over(), backend, rest)).begin()
        return True

    def tunnelled(self, cause: Cause, bytes_in: int, bytes_out: int) -> None:
        """The tunnel has ended, and both connections are closed."""
        self._upload = Upload(Framing.NONE, 0, 0)
        self._upload.size = bytes_in
        self._response_size = bytes_out
        self._drop_attempt(cause)
        self._finished(cause, self._context.clock())

    def trailers(self, fields: Fields) -> None:
        """The trailer fields of the response. The end of the body follows."""
        if self._attempt is not None:
            self._attempt.trailers = self._context.head_reader.trailer_lines(fields, of_request=False)

    def response_received(self, response: Response, pieces: list[bytes], done: bool) -> None:
        """The head of the final response, with what came of its body. `done`: that is all of it."""
        attempt, environment, sending = self._attempt, self.environment, self._sending
        assert attempt is not None
        assert environment is not None
        now, sent_at = self._context.clock(), attempt.sent_at
        state = attempt.candidate.state
        if sent_at:
            attempt.first_byte_ms = int((now - sent_at) * 1e6) / 1000.0  # `milliseconds`, without a call
            if attempt.waits:  # as `Attempt.record_first_byte`, without a call
                attempt.waits = False
                state.waiting -= 1
        attempt.status = response.status
        attempt.cause = cause = response.cause
        if sending is not None:
            if sending.is_refused(response.status):
                attempt.cause = cause = Cause.EXPECT_REFUSED
            sending.record_response(response.status, now)
        if cause is not _OK:
            if self._failed(cause, refusal_pause(response) if cause is Cause.REFUSED else 0.0):
                return
            self._record_error(environment, attempt, cause, now)
        elif attempt.cold:  # it tells nothing about the container's speed
            environment.demerits.record_wake(state, now)
        elif not sent_at or response.is_stream:
            state.last_event_at = now
        elif environment.demerits.record_response(state, now - sent_at, now):
            environment.note_witness(state, self.client_address, now, first=state.slow == 1)
        # The first bytes of the response go to the client: from here on there is no other attempt.
        self.phase = _BODY
        self._status, attempt.response = response.status, response
        size = 0
        for piece in pieces:
            size += len(piece)
        self._response_size = size
        self._client.send_response(
            response, self._id, attempt.candidate.head_line, pieces, size, done=done, trailers=attempt.trailers
        )
        if done:
            self._complete(attempt, now)
            return
        if sending is not None:
            sending.response_began(response.status)
        if self._client.writable:
            self._deadline = _RESPONSE_BODY
            self._client.deadline = now + self._context.hot.between_bytes
        else:
            self.client_blocked()  # perhaps since a 1xx response, and it reports that once only

    # body

    def response_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the response body."""
        client, context, attempt = self._client, self._context, self._attempt
        assert attempt is not None
        for piece in pieces:
            self._response_size += len(piece)
        client.send_body(pieces, done=done, trailers=attempt.trailers)
        if done:
            self._complete(attempt, context.clock())
        elif client.writable:
            client.deadline = context.clock() + context.hot.between_bytes

    def client_blocked(self) -> None:
        """The client is slower than the backend. Of 1xx responses there may be too few bytes to stop reading: the
        backend would be blamed for a late response."""
        if self.phase is not _BODY:
            return
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

    # the end

    def _reply_locally(self, cause: Cause) -> None:
        response, request_id = None if self._route is None else self._route.response, self._id.decode("latin-1")
        site = "" if response is None else response.site
        page = self._context.pages.reply_to(self._request, cause, site=site, request_id=request_id)
        self._send_local_reply(page, cause)

    def _send_local_reply(self, page: LocalReply, cause: Cause) -> None:
        self._status = page.status
        self._response_size = 0 if self._request.method == b"HEAD" else len(page.body)
        self._client.send_local_reply(page, self._id)
        now = self._context.clock()
        self._finished(cause, now)
        self._client.end(now)

    def _finished(self, cause: Cause, now: float) -> None:
        """Exactly once for every exchange: give back what it holds, and report its outcome."""
        assert self.phase is not _FINISHED, f"{self} finished twice"
        context, environment = self._context, self.environment
        blame = _NOBODY if cause is _OK else VERDICTS[cause].blame
        ended_in, self.phase = _FINISHED if blame is _NOBODY else self.phase, _FINISHED
        context.counts.exchanges -= 1
        if self._wait is not None:
            self._wait.stop()
        if environment is not None:
            environment.in_flight -= 1
            if environment.slots is not None:
                return_slot(context, environment, environment.slots, self)
            if cause is _OK and environment.pending_queue.waiting:
                environment.pending_queue.wake()
        self._report(cause, blame, ended_in, now)
