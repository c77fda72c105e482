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
from typing import TYPE_CHECKING

from edge.net.attempt import Attempt, Wait, milliseconds
from edge.net.attempts import charge, choose, connect_patience, end, may_retry, may_spend
from edge.net.probes import send_probe
from edge.net.reconnects import server_answers
from edge.net.relay import NO_REPLY, NO_UPLOAD, Reply, Upload, reply_to
from edge.net.slots import give_slot_back, take_slot
from edge.net.tunnel import Tunnel
from edge.rules.admission import Answer, Request, refusal_pause
from edge.rules.answers import SelfAnswer, accept_of, date_line
from edge.rules.demerits import OTHERS_SEEN
from edge.rules.environments import Environment
from edge.rules.exchange_records import Outcome
from edge.rules.framing import Framing
from edge.rules.heads import connection_line, forwarded_head, own_head, passed_head, switching_head
from edge.rules.hops import EXPECT_LINE, later_lines, status_line
from edge.rules.messages import AnswerHead, Fields
from edge.rules.outcomes import VERDICTS, Blame, Cause, Charge, Phase
from edge.rules.picker import probe_target
from edge.rules.retries import boot_wait, worst_cause
from edge.rules.routes import Candidate, Route, redirect_location
from edge.rules.servers import EVIDENCE
from edge.rules.standings import Standing
from edge.rules.wait_room import poll_after

if TYPE_CHECKING:
    from edge.net.backend_side import BackendConnection
    from edge.net.client_side import ClientConnection
    from edge.net.services import Services

_MAY_HAVE_MOVED = frozenset({Cause.MISDIRECTED, Cause.CONNECT_FAILED, *EVIDENCE})
"Failures that may mean: the containers are not where we think."
_SAME_AGAIN = frozenset({Cause.STALE_LINK, Cause.EXPECT_REFUSED})
"Failures that say nothing about the backend: once more to the same one, over a fresh connection."
_CONTINUE_GRACE = 0.005
"Seconds between its 100 and the body."
_SMALL = 16 * 1024
"Bytes of a body that are copied behind the head to leave in one piece; more is written without a copy."

# Looking up a member of an Enum takes CPython 3.11 75 ns; these are on the way of every request.
_ROUTE, _PICK, _CONNECT, _SEND = Phase.ROUTE, Phase.PICK, Phase.CONNECT, Phase.SEND
_ANSWER, _BODY, _FINISHED = Phase.ANSWER, Phase.BODY, Phase.FINISHED
_FINE, _NOBODY = Cause.FINE, Blame.NOBODY


class Exchange:
    """One request with all its attempts. Methods are in the order in which they happen."""

    __slots__ = (
        "_attempt",
        "_began",
        "_client",
        "_dialled",
        "_head",
        "_id",
        "_reply",
        "_request",
        "_resolved_in",
        "_route",
        "_services",
        "_tries",
        "_upload",
        "_wait",
        "_whole_at",
        "environment",
        "phase",
    )

    def __init__(self, client: "ClientConnection", services: "Services", request: Request) -> None:
        self._client = client
        self._services = services
        self._request = request
        peer = client.peer
        self._id = (peer.request_id(request.found) if peer.trusted else None) or services.next_id()
        self._began = self._whole_at = services.clock()
        "The latter: when the client had said all, as far as we know. Its own slowness is nobody's delay."
        self.phase = Phase.HEAD
        # for the attempts
        self._route: Route | None = None
        self.environment: Environment | None = None
        "Where it is counted as in hand."
        self._resolved_in = 0.0
        self._wait: Wait | None = None
        self._dialled = 0.0
        "Seconds spent on connecting so far."
        self._head = b""
        "The request head as it is sent, less the lines that differ between attempts."
        self._attempt: Attempt | None = None
        self._tries: list[Attempt] = []
        # for the bodies
        self._upload = NO_UPLOAD if client.body.done else self._new_upload()
        self._reply = NO_REPLY
        client.due = self._began + services.usual.deadline
        services.counts.exchanges += 1

    def __repr__(self) -> str:
        return f"<Exchange {self._request.host} {self.phase.value} tries={len(self._tries)}>"

    # head

    def begin(self) -> None:
        """The head is complete and admitted. Of its body, nothing has come yet."""
        services, hostname, now = self._services, self._request.host, self._began
        self.phase = _ROUTE
        route = services.table.use(hostname, now)
        if route is not None and now < route.renew_at:
            services.counts.route_hits += 1
            self._routed(route, now)
        elif route is not None and (now < route.expired_at or now < route.quiet_until):
            services.counts.route_hits += now < route.fresh_until
            services.counts.route_stale += now >= route.fresh_until
            services.resolver.refresh(hostname, route, now)
            self._routed(route, now)
        else:
            services.counts.route_misses += 1
            self._resolve(hostname)

    @property
    def held_bytes(self) -> int:
        """What is kept in memory of its bodies. (What waits for the backend is part of what is kept to be sent
        again.)"""
        link = self._attempt.link if self._attempt is not None else None
        if link is None:
            return self._upload.kept
        return (self._upload.kept or link.unsent) + link.unread

    def cut_off(self) -> None:
        """It keeps too much."""
        self._abandon(Cause.BUFFER_LIMIT)

    def _new_upload(self) -> Upload:
        return Upload(self._request.framing, self._request.length, self._services.retries.replay_buffer)

    def refuse(self, cause: Cause) -> None:
        """The head was not admitted."""
        self._answer_ourselves(cause)

    def _hold_body(self) -> None:
        """Nobody takes the body yet. A client without one is still listened to: it may leave."""
        if not self._client.body.done:
            self._client.pause()

    # route

    def _resolve(self, hostname: str) -> None:
        self._hold_body()
        self._services.resolver.resolve(hostname, self._resolved, self.asker, self._unknown_host_refused)

    @property
    def asker(self) -> str:
        """On whose account it is sent; "" = nobody knows."""
        return self._client.peer.asker(self._request.found)

    def _resolved(self, route: Route | None) -> None:
        if self.phase is _FINISHED:
            return  # the client left meanwhile
        now = self._services.clock()
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
        self._client.makes_way = True
        self._services.later.add(lambda: self._told_so(cause))

    def _told_so(self, cause: Cause) -> None:
        if self.phase is not _FINISHED:  # the client left meanwhile
            self._answer_ourselves(cause)

    def _routed(self, route: Route, now: float) -> None:
        self._route = route
        answer, environment = route.answer, route.environment
        if answer is None or environment is None:
            self._services.counts.unknown_hits += 1
            self._turn_away(Cause.UNKNOWN_HOST)
        elif answer.maintenance:
            self._answer_ourselves(Cause.MAINTENANCE)
        elif answer.redirect is not None:
            location = redirect_location(answer.redirect, self._request.target)
            self._say(self._services.pages.redirect(location), Cause.REDIRECTED)
        elif not route.standings:
            self._answer_ourselves(Cause.NO_BACKENDS)
        elif environment.in_flight >= environment.shared_from and (
            no_slot := take_slot(self._services, environment, self)
        ):
            self._answer_ourselves(no_slot)
        else:
            environment.requests += 1
            environment.asked_at = now
            peer = self._client.peer
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
        candidate = choose(self._services, route, tries if wait is None else tries[wait.tried :], now)
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
        request, copies = self._request, self._services.settings.demerits.copies
        if copies and request.safe and self._upload is NO_UPLOAD and not request.offers:
            head = forwarded_head(request, self._client.peer, self._id)
            send_probe(self._services, route, request, head, now)
            return None
        candidate = probe_target(route, now, safe=not copies)
        if candidate is not None and candidate.standing.probation is not None:
            candidate.standing.probation.record_probe(now)
        return candidate

    # connect

    def _connect(self, candidate: Candidate, now: float, *, fresh: bool = False) -> None:
        services = self._services
        self.phase = _CONNECT
        standing = candidate.standing
        standing.in_flight += 1
        self._attempt = attempt = Attempt(candidate, now, standing.cold)
        self._tries.append(attempt)
        to_repeat = self._upload is NO_UPLOAD and self._request.safe and services.usual.may_repeat
        link = None if fresh else services.pool.take(candidate.place, to_repeat=to_repeat)
        if link is not None:
            self._send(attempt, link)
            return
        # Connect first, then read the body: a request of any size can move on from here.
        self._hold_body()
        timeouts = services.timeouts
        self._client.due = self._whole_at + timeouts.deadline
        assert self._route is not None
        patience = connect_patience(services, self._route, self._tries)
        services.pool.dial(attempt, min(patience, timeouts.connect_total - self._dialled), self)

    def connected(self, attempt: Attempt, link: "BackendConnection") -> None:
        """A new connection, perhaps after the client left: then somebody else will use it."""
        now = self._services.clock()
        self._dialled += now - attempt.began
        if self._attempt is not attempt:
            self._services.pool.put(link, now)
        elif not link.closed:
            attempt.connect_ms = milliseconds(now - attempt.began)
            server_answers(self._services, attempt.candidate.standing)
            self._send(attempt, link)
        else:
            self._failed(Cause.BAD_ANSWER if link.spoke_first else Cause.CONNECT_FAILED)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """The backend refuses connections, cannot be reached, or takes too long."""
        self._dialled += self._services.clock() - attempt.began
        if self._attempt is attempt:
            self._failed(cause)

    # send

    def _send(self, attempt: Attempt, link: "BackendConnection") -> None:
        self.phase = _SEND
        attempt.link = link
        request, upload, client, services = self._request, self._upload, self._client, self._services
        link.lend(self, to_head=request.method == b"HEAD")
        if not client.writable:  # by what an earlier attempt sent it; that is told once
            link.pause()
        if not self._head:
            self._head = forwarded_head(request, client.peer, self._id)
        number = len(self._tries)
        lines = attempt.candidate.first_lines if number == 1 else later_lines(attempt.candidate.head_line, number)
        if upload is NO_UPLOAD:
            link.write(self._head + lines)
            self._sent(attempt)
            if client.paused:
                client.resume()
            return
        upload.begin_again()
        link.be_patient()
        if b"expect" in request.found and not upload.size and not upload.done:
            # The backend is asked, and the client waits for what it says: now it is the backend's time that runs.
            attempt.client_waits = True
            link.write(self._head + lines)
            client.due = self._answer_due(attempt, services.clock())
            client.resume()
        elif upload.done or not upload.large or b"expect" in request.found or not self._asks_first(attempt):
            link.write(self._head + lines)
            self._send_body(attempt, link)
        else:
            link.write(self._head + EXPECT_LINE + lines)
            if upload.may_fit:
                client.resume()

    def _asks_first(self, attempt: Attempt) -> bool:
        """What is larger than the replay buffer can be sent once only: ask first, if that is of use here. Whoever
        does not answer gets the body all the same (see `rules/expect_memory.py`)."""
        services, environment = self._services, self.environment
        assert environment is not None
        if any(earlier.cause is Cause.EXPECT_REFUSED for earlier in self._tries):
            return False
        now, memory = services.clock(), environment.expect_memory
        patience = memory.patience(services.retries.ask_before_upload, now, attempt.connect_ms / 1000.0)
        if not patience:
            return False
        memory.record_question(now, patience)
        attempt.holds_body = True
        attempt.question = services.loop.call_later(patience, self._unanswered, attempt)
        self._client.due = self._answer_due(attempt, now)
        return True

    def _unanswered(self, attempt: Attempt) -> None:
        if attempt.holds_body and self.environment is not None:
            self.environment.expect_memory.record_silence(self._services.clock())
        self._body_wanted(attempt)

    def _body_wanted(self, attempt: Attempt) -> None:
        if self._attempt is attempt and self.phase is _SEND and attempt.link is not None and attempt.holds_body:
            self._send_body(attempt, attempt.link)

    def _send_body(self, attempt: Attempt, link: "BackendConnection") -> None:
        """What has come of the body goes out, and what comes from now on follows it."""
        attempt.stop_waiting()
        self._upload.send_all(link)
        if self._upload.done:
            self._sent(attempt)
        elif not link.writable:
            return  # and so is the client paused: its next bytes are wanted when these are gone
        else:
            self._await_more()
        self._client.resume()

    def _await_more(self) -> None:
        """From now on the client has so much time to send so much more."""
        self._upload.begin_window()
        if self.phase is _SEND:
            self._client.due = self._services.clock() + self._services.timeouts.body

    def body_trailers(self, fields: Fields) -> None:
        """The fields behind the request's body, whose end is told next."""
        self._upload.trailers = self._services.intake.trailer_lines(fields, of_request=True)

    def body(self, pieces: list[bytes], *, done: bool) -> None:
        """More of the request body came from the client; `done`: that is all."""
        upload, attempt, services = self._upload, self._attempt, self._services
        upload.take(pieces, done=done)
        if done:
            self._whole_at = services.clock()
        if services.limits.body and upload.size > services.limits.body:
            self._abandon(Cause.BODY_TOO_LARGE)
        elif attempt is None or attempt.link is None:
            self._hold_body()
        elif attempt.holds_body:
            self._hold_or_send(attempt, attempt.link, done=done)
        else:
            upload.send(attempt.link, pieces)
            if upload.kept > _SMALL:
                services.buffers.note(self._client)
            if done:
                self._sent(attempt)
            elif attempt.client_waits:
                self._client_goes_on(attempt)

    def _hold_or_send(self, attempt: Attempt, link: "BackendConnection", *, done: bool) -> None:
        """A backend was asked for the body. One that is complete, and can be sent again, waits for nothing."""
        if not self._upload.may_fit:
            self._client.pause()
        elif done and self.phase is _SEND:
            self._send_body(attempt, link)

    def _client_goes_on(self, attempt: Attempt) -> None:
        """It waits no more for a 100, because one came or because it has lost patience."""
        attempt.client_waits = False
        self._await_more()

    def refuse_body(self, cause: Cause) -> None:
        """The body cannot be read: what was sent of it is worth nothing."""
        self._abandon(cause)

    def _sent(self, attempt: Attempt) -> None:
        """The request is written to its end; wait for the answer."""
        if self.phase is not _SEND:
            return  # answered early
        self.phase = _ANSWER
        attempt.sent_at = now = self._services.clock()
        attempt.waits = True
        standing = attempt.candidate.standing
        standing.waiting += 1
        if standing.waiting == 1:
            standing.waiting_since = now
        self._client.due = self._answer_due(attempt, now)

    def _answer_due(self, attempt: Attempt, now: float) -> float:
        """When an answer for which the backend has everything since `now` must begin."""
        usual = self._services.usual
        due = now + (self._services.timeouts.first_byte_cold if attempt.cold else usual.first_byte)
        last = self._whole_at + usual.deadline
        return due if due < last else last  # noqa: FURB136 - faster

    def backend_full(self) -> None:
        """The backend is slower than the client."""
        if self._attempt is not None and self._attempt.link is not None:
            self._upload.unsent = self._attempt.link.unsent
            if self.phase is _SEND:
                self._client.due = self._backend_due(self._attempt)
        self._client.pause()

    def _backend_due(self, attempt: Attempt) -> float:
        """When a backend must have taken some more of the body. One that is being started takes it late."""
        timeouts = self._services.timeouts
        patience = timeouts.first_byte_cold if attempt.cold else timeouts.between_bytes
        return self._services.clock() + patience

    def backend_drained(self) -> None:
        """The backend takes bytes again."""
        self._await_more()
        self._client.resume()

    # answer

    def interim(self, head: AnswerHead) -> None:
        """A 1xx answer: 1.0 clients do not know them (RFC 9110, section 15.2)."""
        if head.status == 100 and b"expect" not in self._request.found:
            # It is for us: the client did not ask. nginx says it even when it refuses, because it throws the body
            # away; then the refusal follows at its heels.
            self._may_send_body()
            return
        if head.status == 100 and self._attempt is not None and self._attempt.client_waits:
            self._client_goes_on(self._attempt)
        if self._request.minor and not self._reply.status:
            lines = self._services.intake.interim_lines(head)
            self._client.write(b"".join((status_line(head.status, head.reason), *lines, b"\r\n")))

    def _may_send_body(self) -> None:
        """The backend answered the edge's question: 100. Perhaps too late, but the next one will be waited for."""
        attempt, services = self._attempt, self._services
        if self.environment is not None:
            self.environment.expect_memory.record_answer()
        if attempt is not None and attempt.holds_body:
            if attempt.question is not None:
                attempt.question.cancel()
            attempt.question = services.loop.call_later(_CONTINUE_GRACE, self._body_wanted, attempt)

    def switched(self, head: AnswerHead, rest: bytes) -> bool:
        """101: from here on client and backend speak something else, through a tunnel."""
        protocols, attempt, client = self._services.intake.protocols(head), self._attempt, self._client
        wanted = bool(protocols) and self._request.offers.issuperset(map(bytes.lower, protocols))
        if not wanted or attempt is None or attempt.link is None:
            return False
        self.phase = _BODY
        attempt.answers()
        attempt.status = head.status
        self._reply = Reply(head.status)
        attempt.first_byte_ms = milliseconds(self._services.clock() - attempt.sent_at)
        lines = b"".join(self._services.intake.interim_lines(head))
        own_lines = (b"X-Request-Id: ", self._id, self._services.edge_line, attempt.candidate.head_line)
        client.write(switching_head(head, lines, protocols, own_lines))
        transport, early = client.hand_over()
        backend = attempt.link
        tunnel = Tunnel(self._services, self, (transport, client), (backend.hand_over(), backend))
        tunnel.begin(early, rest)
        return True

    def tunnelled(self, cause: Cause, bytes_in: int, bytes_out: int) -> None:
        """The tunnel is over, and both connections are gone."""
        attempt = self._attempt
        assert attempt is not None
        self._upload = Upload(Framing.NONE, 0, 0)
        self._upload.size = bytes_in
        self._reply.size = bytes_out
        now = self._services.clock()
        self._end_attempt(attempt, cause, now)
        self._finished(cause, now)

    def trailers(self, fields: Fields) -> None:
        """The fields behind the answer's body, whose end is told next."""
        if self._attempt is not None:
            self._attempt.trailers = self._services.intake.trailer_lines(fields, of_request=False)

    def answered(self, answer: Answer, pieces: list[bytes], done: bool) -> None:
        """The head of the final answer, with what came of its body."""
        attempt, environment = self._attempt, self.environment
        assert attempt is not None
        assert environment is not None
        now, sent_at = self._services.clock(), attempt.sent_at
        if sent_at:
            attempt.first_byte_ms = milliseconds(now - sent_at)
            attempt.answers()
        attempt.status = answer.status
        attempt.cause = cause = answer.cause
        if attempt.holds_body:
            if answer.status == 417:
                attempt.cause = cause = Cause.EXPECT_REFUSED
                environment.expect_memory.record_silence(now)
            else:
                environment.expect_memory.record_answer()
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
            if self._retried(cause, pause):
                return
            if VERDICTS[cause].status:
                self._give_up(cause, pause)
                return
            if attempt.cold:
                book.woke(standing, now)
            elif VERDICTS[cause].charge is Charge.ERROR:
                self._note_witness(environment, standing, now, first=not (standing.failures or standing.slow))
                book.failed(standing, cause, now, self._services.rand())
        self._deliver(attempt, answer, pieces, done)
        if done:
            self._complete(attempt, now)
            return
        if attempt.holds_body and attempt.link is not None and answer.status < 400:
            self._send_body(attempt, attempt.link)  # it answers while it reads, and will never say 100
        if self._client.writable:
            self._client.due = now + self._services.timeouts.between_bytes

    def _deliver(self, attempt: Attempt, answer: Answer, pieces: list[bytes], done: bool) -> None:
        """The first bytes of an answer go to the client: from here on there is no other attempt."""
        request, services, client = self._request, self._services, self._client
        self.phase = _BODY
        keep_alive = request.keep_alive and client.may_go_on
        self._reply = reply = reply_to(request, answer, keep_alive=keep_alive)
        wire = [
            passed_head(answer, reply.framing),
            b"" if answer.has_date else date_line(int(time())),
            b"X-Request-Id: ",
            self._id,
            services.edge_line,
            attempt.candidate.head_line,
            connection_line(request, keep_alive=reply.keep_alive),
            *reply.encode(pieces, done=done, trailers=attempt.trailers),
        ]
        if reply.size < _SMALL:
            client.write(b"".join(wire))
        else:
            client.write_all(wire)

    # body

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the answer's body."""
        client, services, attempt = self._client, self._services, self._attempt
        assert attempt is not None
        client.write_all(self._reply.encode(pieces, done=done, trailers=attempt.trailers))
        if done:
            self._complete(attempt, services.clock())
        elif client.writable:
            client.due = services.clock() + services.timeouts.between_bytes

    def client_full(self) -> None:
        """The client is slower than the backend."""
        if self.phase is _BODY:
            self._client.due = self._services.clock() + self._services.timeouts.write_stall
        if self._attempt is not None and self._attempt.link is not None:
            self._attempt.link.pause()

    def client_drained(self) -> None:
        """The client takes bytes again."""
        if self.phase is _BODY:
            self._client.due = self._services.clock() + self._services.timeouts.between_bytes
        if self._attempt is not None and self._attempt.link is not None:
            self._attempt.link.resume()

    def _complete(self, attempt: Attempt, now: float) -> None:
        self._attempt = None
        end(self._services, attempt, attempt.cause, now, sent=self._upload.sent)
        self._finished(attempt.cause, now)
        self._client.finished(now, keep_alive=self._reply.keep_alive)

    # what can go wrong

    def link_lost(self, cause: Cause) -> None:
        """The backend's connection ended, or its answer could not be read."""
        if self._attempt is not None:
            self._attempt.link = None
        if not self._reply.status:
            self._failed(cause)
        else:
            self._abandon(cause)

    @property
    def close_delimited(self) -> bool:
        """Whether an answer is under way whose end is the end of the connection."""
        return self._reply.status > 0 and self._reply.framing is Framing.CLOSE

    def client_gone(self) -> None:
        """The client left. Its request is worth nothing any more; its backend is not to blame."""
        if self.phase is not _FINISHED:
            self._drop_attempt(Cause.CLIENT_GONE)
            self._finished(Cause.CLIENT_GONE, self._services.clock())

    def stop(self) -> None:
        """The edge stops, and this has had its time. Its backend is not to blame."""
        self._abandon(Cause.EDGE_STOPPED)

    def late(self, now: float) -> None:
        """A deadline has passed: whose was it?"""
        attempt = self._attempt
        if self.phase is _BODY:
            self._late_answer(attempt)
        elif self.phase is _SEND and attempt is not None and attempt.client_waits:
            self._abandon(Cause.NO_CONTINUE)
        elif self.phase is _ANSWER:
            cold = attempt is not None and attempt.cold
            self._abandon(Cause.COLD_START_TIMEOUT if cold else Cause.FIRST_BYTE_TIMEOUT)
        elif self.phase is _SEND and attempt is not None and attempt.link is not None:
            self._late_body(attempt, attempt.link)
        elif self.phase is _PICK:
            self._abandon(worst_cause([t.cause for t in self._tries]))
        else:
            self._abandon(Cause.LOOKUP_FAILED if self.phase is _ROUTE else Cause.CONNECT_TIMEOUT)

    def _late_body(self, attempt: Attempt, link: "BackendConnection") -> None:
        if attempt.holds_body:
            self._body_wanted(attempt)
        elif not link.writable:
            self._late_backend(attempt, link)
        elif self._upload.came >= self._services.usual.least_body:
            self._await_more()
        else:
            self._abandon(Cause.REQUEST_TIMEOUT)

    def _late_backend(self, attempt: Attempt, link: "BackendConnection") -> None:
        """Does it take bytes at all?"""
        before, self._upload.unsent = self._upload.unsent, link.unsent
        if link.unsent < before:
            self._client.due = self._backend_due(attempt)
        else:
            self._abandon(Cause.COLD_START_TIMEOUT if attempt.cold else Cause.STALLED)

    def _late_answer(self, attempt: Attempt | None) -> None:
        """Nothing of the answer came, or was taken, for too long. While the body flows that may be as it should."""
        upload, link = self._upload, attempt.link if attempt is not None else None
        if not self._client.writable:
            self._abandon(Cause.CLIENT_STALLED)
        elif upload.done or link is None or not link.writable:
            self._abandon(Cause.STALLED)
        elif upload.came >= self._services.usual.least_body:
            upload.begin_window()
            self._client.due = self._services.clock() + self._services.timeouts.between_bytes
        else:
            self._abandon(Cause.REQUEST_TIMEOUT)

    def _failed(self, cause: Cause) -> None:
        """The attempt failed and nothing of an answer was sent to the client: again, or give up."""
        if not self._retried(cause):
            self._give_up(cause)

    def _retried(self, cause: Cause, pause: float = 0.0) -> bool:
        """Go on with another attempt, if the ladder, the time and the budget allow it and there is one."""
        services, attempt, now = self._services, self._attempt, self._services.clock()
        assert attempt is not None
        attempt.cause = cause
        age, safe, replayable = now - self._whole_at, self._request.safe, self._upload.replayable
        if attempt.cold and replayable and self._waits_for_start(attempt, cause, now):
            return True
        if cause not in _SAME_AGAIN and self._client.peer.is_edge(self._request.found):
            return False  # attempts of two edges would multiply
        waited = self._wait.tried if self._wait is not None else 0
        if not may_retry(services, self._tries, cause, age, safe=safe, replayable=replayable, waited=waited):
            return False
        if self._dialled >= services.timeouts.connect_total:
            return False
        route = self._freshest_route()
        again = cause in _SAME_AGAIN
        candidate = None
        if again:
            candidate = attempt.candidate
        elif not (waited and cause is Cause.REFUSED):  # one that waits asks one at a time
            candidate = choose(services, route, self._tries[waited:], now)
        # Asking again is of use when the route was confirmed before this attempt began.
        ask = cause in _MAY_HAVE_MOVED and route.taken_at < attempt.began
        ask = ask and services.resolver.claim_lookup(self._request.host, route, now)
        if candidate is None and not ask:
            return cause is Cause.REFUSED and self._waits_for_room(route, now, pause)
        if not again and not may_spend(services, route, cause, now):
            return False  # (again: once in a request at most, so that no budget has to bound it)
        self._drop_attempt(cause, pause)
        if candidate is None:
            self.phase = _ROUTE
            self._client.due = self._whole_at + services.timeouts.deadline
            services.resolver.resolve(self._request.host, self._rerouted)
            return True
        if ask:
            services.resolver.ask_ahead(self._request.host)
        self.phase = _PICK
        self._connect(candidate, now, fresh=again)
        return True

    def _waits_for_start(self, attempt: Attempt, cause: Cause, now: float) -> bool:
        """A backend that this very request is starting is not ready: the same one again, a little later."""
        wait = boot_wait(cause, attempt.status, safe=self._request.safe, repeats=len(self._tries) - 1)
        if wait is None or now - self._whole_at >= self._services.retries.boot:
            return False
        if cause is Cause.CONNECT_FAILED and len(self._freshest_route().standings) > 1:
            return False  # somebody else may be up
        self._drop_attempt(cause)
        self._waiting().tried = len(self._tries)
        self._after(wait, lambda: self._connect(attempt.candidate, self._services.clock(), fresh=True))
        return True

    def _waits_for_room(self, route: Route, now: float, pause: float) -> bool:
        """All are full. In a small environment that passes soon: wait for a slot (see `rules/wait_room.py`)."""
        services, environment = self._services, route.environment
        assert environment is not None
        wait = self._waiting()
        wait.gives_up_at = wait.gives_up_at or now + services.retries.wait
        left = wait.gives_up_at - now
        if left <= 0.0 or not environment.room.admits(len(route.standings), services.retries):
            return False
        if not may_spend(services, route, Cause.REFUSED, now):
            return False
        self._drop_attempt(Cause.REFUSED, pause)
        environment.room.enter(self)
        self._after(poll_after(environment.book.usual, left), self.woken)
        return True

    def _after(self, seconds: float, go_on: Callable[[], None]) -> None:
        """Between two attempts: nothing is under way, and the client may leave."""
        services = self._services
        self.phase = _PICK
        self._hold_body()
        self._client.due = self._whole_at + services.timeouts.deadline
        self._waiting().timer = services.loop.call_later(seconds, go_on)

    def woken(self) -> None:
        """There may be a slot: one attempt."""
        self._stop_waiting()
        self._waiting().tried = len(self._tries)
        self._pick(self._freshest_route(), self._services.clock())

    def _waiting(self) -> Wait:
        self._wait = wait = self._wait or Wait()
        return wait

    def _stop_waiting(self) -> None:
        self._waiting().stop()
        if self.environment is not None:
            self.environment.room.leave(self)

    def _freshest_route(self) -> Route:
        """The table may know better by now than when this exchange began."""
        route = self._services.table.get(self._request.host)
        if route is not None and route.standings:
            self._route = route
        assert self._route is not None
        return self._route

    def _rerouted(self, route: Route | None) -> None:
        """The core API was asked again, because no backend where we thought they are could be used."""
        if self.phase is not _FINISHED:
            self._pick(self._freshest_route(), self._services.clock())

    def _give_up(self, cause: Cause, pause: float = 0.0) -> None:
        self._drop_attempt(cause, pause)
        self._answer_ourselves(worst_cause([t.cause for t in self._tries]))

    def _abandon(self, cause: Cause) -> None:
        """No further attempt. Before the first answer byte the client gets an answer of ours; after it, its
        connection is cut, for a truncated answer must never look complete."""
        self._drop_attempt(cause)
        if not self._reply.status:
            self._answer_ourselves(cause)
            return
        self._finished(cause, self._services.clock())
        self._client.cut(close_delimited=self.close_delimited)

    def _drop_attempt(self, cause: Cause, pause: float = 0.0) -> None:
        """The attempt in hand, if there is one, failed like this: charge for it, let go of its connection."""
        attempt, route = self._attempt, self._route
        if attempt is not None and route is not None:
            attempt.phase = self.phase
            if self.environment is not None and VERDICTS[cause].charge is Charge.ERROR:
                standing = attempt.candidate.standing
                first = not (standing.failures or standing.slow)
                self._note_witness(self.environment, standing, self._services.clock(), first=first)
            charge(self._services, route, attempt, cause, pause)
            self._end_attempt(attempt, cause, self._services.clock())

    def _note_witness(self, environment: Environment, standing: Standing, now: float, *, first: bool) -> None:
        """This request speaks against a backend. Has anybody but this client asked for the site lately?"""
        alone = now - environment.mixed_at > OTHERS_SEEN
        client = self._client.peer.asker(self._request.found)
        environment.book.note_witness(standing, client, now, alone=alone, first=first)

    # the end

    def _answer_ourselves(self, cause: Cause) -> None:
        request, request_id = self._request, self._id.decode("latin-1")
        accept = accept_of(request.fields)
        self._say(self._services.pages.error(cause, accept=accept, host=request.host, request_id=request_id), cause)

    def _say(self, page: SelfAnswer, cause: Cause) -> None:
        request, client = self._request, self._client
        self._reply = reply = Reply(page.status)
        keep_alive = request.keep_alive and client.may_go_on
        line = connection_line(request, keep_alive=keep_alive)
        own_lines = (date_line(int(time())), b"X-Request-Id: ", self._id, self._services.edge_line, line)
        head = own_head(request, page, own_lines)
        body = b"" if request.method == b"HEAD" else page.body
        reply.size = len(body)
        client.write(head + body)
        now = self._services.clock()
        self._finished(cause, now)
        client.finished(now, keep_alive=keep_alive)

    def _end_attempt(self, attempt: Attempt, cause: Cause, now: float) -> None:
        self._attempt = None
        end(self._services, attempt, cause, now, sent=self._upload.sent)

    def _overhead_ms(self) -> float:
        tries = self._tries
        if len(tries) != 1 or self._upload is not NO_UPLOAD or not tries[0].sent_at:
            return 0.0
        spent = tries[0].sent_at - self._began - self._resolved_in - self._dialled
        return int(spent * 1e6) / 1000.0  # as `milliseconds`

    def _finished(self, cause: Cause, now: float) -> None:
        """Exactly once for every exchange: tell how it ended."""
        assert self.phase is not _FINISHED, f"{self} finished twice"
        services, request, reply, route = self._services, self._request, self._reply, self._route
        blame = VERDICTS[cause].blame
        ended_in = _FINISHED if blame is _NOBODY else self.phase
        self.phase = _FINISHED
        services.counts.exchanges -= 1
        environment = self.environment
        if self._wait is not None:
            self._stop_waiting()
        if environment is not None:
            environment.in_flight -= 1
            if environment.slots is not None:
                give_slot_back(services, environment, environment.slots, self)
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
        services.observe(
            # By position, in the order of the declaration: names cost msgspec a microsecond here.
            Outcome(
                time(),
                self._id.decode("latin-1"),
                self._client.peer.address,
                request.method.decode(),
                request.host,
                request.target.decode("latin-1"),
                reply.status or 499,
                self._upload.size,
                reply.size,
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
