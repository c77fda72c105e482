"""The story of one request, in the order in which things happen.

     listener ─► client_side ─► parser ─► admission
                                    │
                                  begin
                                    ▼
                       resolver ─► _route ──miss──► core API          R
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

from http import HTTPStatus
from math import inf
from time import time
from typing import TYPE_CHECKING

from edge.net.attempt import Attempt, milliseconds
from edge.net.relay import Reply, Upload
from edge.rules.admission import Answer, Request, answer_cause, refusal_pause
from edge.rules.answers import SelfAnswer, accept_of
from edge.rules.framing import Framing
from edge.rules.hops import attempt_lines, framing_line, status_line, via_line
from edge.rules.messages import AnswerHead
from edge.rules.outcomes import NEXT, VERDICTS, Blame, Cause, Charge, Outcome, Phase, Retry
from edge.rules.picker import pick
from edge.rules.retries import may_follow
from edge.rules.routes import Candidate, Route, redirect_location

if TYPE_CHECKING:
    from edge.net.backend_side import BackendConnection
    from edge.net.client_side import ClientConnection
    from edge.net.services import Services

_REROUTE = frozenset({Cause.MISDIRECTED, Cause.CONNECT_FAILED, Cause.CONNECT_TIMEOUT})
"Failures that may mean: the containers are not where we think."


class Exchange:
    """One request with all its attempts. Methods are in the order in which they happen."""

    __slots__ = (
        "_attempt",
        "_began",
        "_client",
        "_head",
        "_id",
        "_reply",
        "_request",
        "_resolved_in",
        "_route",
        "_services",
        "_tries",
        "_upload",
        "phase",
    )

    def __init__(self, client: "ClientConnection", services: "Services", request: Request) -> None:
        self._client = client
        self._services = services
        self._request = request
        self._id = client.peer.request_id(request.found) or services.next_id()
        self._began = services.clock()
        self.phase = Phase.HEAD
        self._route: Route | None = None
        self._resolved_in = 0.0
        self._head = b""
        "The request head as it is sent, less the lines that differ between attempts."
        self._attempt: Attempt | None = None
        self._tries: list[Attempt] = []
        self._upload = Upload(request.framing, services.settings.retries.replay_buffer)
        self._reply = Reply()
        client.due = inf
        services.counts.exchanges += 1

    def __repr__(self) -> str:
        return f"<Exchange {self._request.host} {self.phase.value} tries={len(self._tries)}>"

    def _move(self, phase: Phase) -> None:
        assert phase in NEXT[self.phase], f"{self} cannot go to {phase.name}"
        self.phase = phase

    # head

    def begin(self) -> None:
        """The head is complete and admitted. Of its body, nothing has come yet."""
        services = self._services
        self.phase = Phase.ROUTE
        hostname = self._request.host
        route = services.resolver.table.get(hostname)
        now = self._began
        if route is None or now >= route.expired_at:
            services.counts.route_misses += 1
            if route is None or now >= route.quiet_until:
                self._hold_body()
                services.resolver.resolve(hostname, self._resolved)
                return
        elif now >= route.fresh_until:
            services.counts.route_stale += 1
            services.resolver.refresh(hostname, route, now)
        else:
            services.counts.route_hits += 1
        self._routed(route)

    def refuse(self, cause: Cause) -> None:
        """The head was not admitted."""
        self._answer_ourselves(cause)

    def _hold_body(self) -> None:
        """Nobody takes the body yet. A client without one is still listened to: it may leave."""
        if not self._client.body_done:
            self._client.pause()

    # route

    def _resolved(self, route: Route | None) -> None:
        if self.phase is Phase.FINISHED:
            return  # the client left meanwhile
        self._resolved_in = self._services.clock() - self._began
        if route is None:
            self._answer_ourselves(Cause.LOOKUP_FAILED)
        else:
            self._routed(route)

    def _routed(self, route: Route) -> None:
        self._route = route
        answer, environment = route.answer, route.environment
        if answer is None or environment is None:
            self._services.counts.unknown_hits += 1
            self._answer_ourselves(Cause.UNKNOWN_HOST)
        elif answer.maintenance:
            self._answer_ourselves(Cause.MAINTENANCE)
        elif answer.redirect is not None:
            self._redirect(answer.redirect)
        elif not route.standings:
            self._answer_ourselves(Cause.NO_BACKENDS)
        else:
            environment.requests += 1
            self._pick(route)

    # pick

    def _pick(self, route: Route) -> None:
        self.phase = Phase.PICK
        candidate = self._choose(route)
        if candidate is None:
            self._answer_ourselves(self._worst_cause())
        else:
            self._connect(candidate)

    def _choose(self, route: Route) -> Candidate | None:
        services = self._services
        environment = route.environment
        assert environment is not None
        now = services.clock()
        environment.book.weigh(route.standings, now)
        return pick(
            route,
            [attempt.candidate.place for attempt in self._tries] if self._tries else (),
            demerited=services.settings.retries.demerited,
            now=now,
            rand=services.rand(),
            crowd=services.crowd,
        )

    # connect

    def _connect(self, candidate: Candidate, *, fresh: bool = False) -> None:
        services = self._services
        self.phase = Phase.CONNECT
        attempt = Attempt(self, candidate, services.clock())
        self._attempt = attempt
        self._tries.append(attempt)
        candidate.standing.in_flight += 1
        link = None if fresh else services.pool.take(candidate.place, safe=self._request.safe)
        if link is not None:
            self._send(attempt, link)
        else:
            self._dial(attempt)

    def _dial(self, attempt: Attempt) -> None:
        """Connect first, then read the body: a request of any size can move on from here."""
        timeouts = self._services.settings.timeouts
        spent = attempt.began - self._began - self._resolved_in
        self._hold_body()
        self._services.pool.dial(
            attempt.candidate, max(0.001, min(timeouts.connect, timeouts.connect_total - spent)), attempt
        )

    def attempt_connected(self, attempt: Attempt, link: "BackendConnection") -> None:
        """A new connection, perhaps after the client left: then somebody else will use it."""
        if self._attempt is not attempt:
            self._services.pool.put(link)
            return
        attempt.connected_at = self._services.clock()
        if link.is_open():
            self._send(attempt, link)
        else:
            self._failed(Cause.CONNECT_FAILED)

    def attempt_not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """The backend refuses connections, cannot be reached, or takes too long."""
        if self._attempt is attempt:
            self._failed(cause)

    # send

    def _send(self, attempt: Attempt, link: "BackendConnection") -> None:
        self.phase = Phase.SEND
        attempt.link = link
        request = self._request
        link.lend(self, to_head=request.method == b"HEAD")
        head = self._head or self._forwarded_head()
        upload = self._upload
        upload.send_all(link, head + attempt_lines(attempt.candidate.head_line, len(self._tries)))
        if upload.done:
            self._sent(attempt)
        else:
            self._client.due = self._services.clock() + self._services.settings.timeouts.body
        self._client.resume()

    def _forwarded_head(self) -> bytes:
        request, peer = self._request, self._client.peer
        host = request.host_field
        self._head = b"".join(
            (
                b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, request.target, host),
                *request.lines,
                framing_line(request.framing, request.length),
                peer.lines(request.found),
                b"X-Forwarded-Host: %b\r\nX-Request-Id: %b\r\n" % (peer.host(request.found, host), self._id),
                via_line(request.found, self._services.via),
            )
        )
        return self._head

    def body(self, pieces: list[bytes], *, done: bool) -> None:
        """More of the request body came from the client; `done`: that is all."""
        upload = self._upload
        upload.take(pieces, done=done)
        most = self._services.settings.limits.body
        if most and upload.size > most:
            self.refuse_body(Cause.BODY_TOO_LARGE)
            return
        attempt = self._attempt
        if attempt is None or attempt.link is None:
            self._client.pause()
            return
        upload.send(attempt.link, pieces)
        if done:
            self._sent(attempt)
        elif self.phase is Phase.SEND:
            self._client.due = self._services.clock() + self._services.settings.timeouts.body

    def refuse_body(self, cause: Cause) -> None:
        """The body cannot be read, or is too large: what was sent of it is worth nothing."""
        self._abandon(cause)

    def _sent(self, attempt: Attempt) -> None:
        """The request is written to its end; wait for the answer."""
        if self.phase is not Phase.SEND:
            return  # answered early
        self.phase = Phase.ANSWER
        timeouts = self._services.settings.timeouts
        now = self._services.clock()
        attempt.sent_at = now
        cold = attempt.candidate.backend.state == "asleep"
        patience = timeouts.first_byte_cold if cold else timeouts.first_byte
        self._client.due = min(now + patience, self._began + timeouts.deadline)

    def backend_full(self) -> None:
        """The backend is slower than the client."""
        self._client.pause()

    def backend_drained(self) -> None:
        """The backend takes bytes again."""
        self._client.due = self._services.clock() + self._services.settings.timeouts.body
        self._client.resume()

    # answer

    def interim(self, head: AnswerHead) -> None:
        """A 1xx answer: 1.0 clients do not know them (RFC 9110, section 15.2)."""
        if self._request.minor and not self._reply.status:
            lines = self._services.admission.interim_lines(head)
            self._client.write(b"".join((status_line(head.status, head.reason), *lines, b"\r\n")))

    def answered(self, answer: Answer, pieces: list[bytes], done: bool) -> None:
        """The head of the final answer, with what came of its body."""
        attempt = self._attempt
        assert attempt is not None
        now = self._services.clock()
        attempt.first_byte_at = now
        attempt.status = answer.status
        cause = answer_cause(answer)
        if cause is not Cause.FINE:
            pause = refusal_pause(answer) if cause is Cause.REFUSED else 0.0
            if self._retried(cause, pause):
                return
            if VERDICTS[cause].status:
                self._give_up(cause, pause)
                return
        self._learn(attempt, cause, now)
        attempt.cause = cause
        self._deliver(attempt, answer, pieces, done)

    def _learn(self, attempt: Attempt, cause: Cause, now: float) -> None:
        """From an answer that passes. A cold start tells nothing about the container's speed."""
        route = self._route
        assert route is not None and route.environment is not None
        standing = attempt.candidate.standing
        if VERDICTS[cause].charge is Charge.ERROR:
            route.environment.book.failed(standing, cause, now)
        elif attempt.sent_at and attempt.candidate.backend.state != "asleep":
            route.environment.book.answered(standing, now - attempt.sent_at, now)

    def _deliver(self, attempt: Attempt, answer: Answer, pieces: list[bytes], done: bool) -> None:
        request, reply, services, client = self._request, self._reply, self._services, self._client
        reply.begin(
            request,
            answer,
            keep_alive=request.keep_alive
            and client.body_done
            and client.requests < services.settings.limits.requests_per_connection,
        )
        self.phase = Phase.BODY
        head = b"".join(
            (
                status_line(answer.status, answer.reason),
                *answer.lines,
                _answer_framing(answer, reply.framing),
                b"X-Request-Id: ",
                self._id,
                services.edge_line,
                attempt.candidate.head_line,
                _connection_line(request, keep_alive=reply.keep_alive),
            )
        )
        wire = reply.encode(pieces, done=done)
        client.write(b"".join((head, *wire)) if wire and reply.bytes < 16384 else head)
        if reply.bytes >= 16384:
            client.write_all(wire)
        if done:
            self._complete()
        else:
            client.due = services.clock() + services.settings.timeouts.between_bytes

    # body

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """More of the answer's body."""
        client = self._client
        client.write_all(self._reply.encode(pieces, done=done))
        if done:
            self._complete()
        elif client.writable:
            client.due = self._services.clock() + self._services.settings.timeouts.between_bytes

    def client_full(self) -> None:
        """The client is slower than the backend."""
        self._client.due = self._services.clock() + self._services.settings.timeouts.write_stall
        if self._attempt is not None and self._attempt.link is not None:
            self._attempt.link.pause()

    def client_drained(self) -> None:
        """The client takes bytes again."""
        self._client.due = self._services.clock() + self._services.settings.timeouts.between_bytes
        if self._attempt is not None and self._attempt.link is not None:
            self._attempt.link.resume()

    def _complete(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        self._end_attempt(attempt, attempt.cause)
        keep_alive = self._reply.keep_alive
        self._finished(attempt.cause)
        self._client.finished(keep_alive=keep_alive)

    # what can go wrong

    def link_lost(self, cause: Cause) -> None:
        """The backend's connection ended, or its answer could not be read."""
        attempt = self._attempt
        assert attempt is not None
        attempt.link = None
        if not self._reply.status:
            self._failed(cause)
        else:
            self._abandon(cause)

    def client_gone(self) -> None:
        """The client left. Its request is worth nothing any more; its backend is not to blame."""
        if self.phase is not Phase.FINISHED:
            self._drop_attempt(Cause.CLIENT_GONE)
            self._finished(Cause.CLIENT_GONE)

    def late(self, now: float) -> None:
        """A deadline has passed: whose was it?"""
        if self.phase is Phase.BODY:
            self._abandon(Cause.STALLED if self._client.writable else Cause.CLIENT_STALLED)
        elif self.phase is Phase.SEND:
            link = self._attempt.link if self._attempt is not None else None
            blocked = link is not None and not link.writable
            self._abandon(Cause.STALLED if blocked else Cause.REQUEST_TIMEOUT)
        else:
            self._abandon(Cause.FIRST_BYTE_TIMEOUT)

    def _failed(self, cause: Cause) -> None:
        """The attempt failed and nothing of an answer was sent to the client: again, or give up."""
        if not self._retried(cause, 0.0):
            self._give_up(cause)

    def _give_up(self, cause: Cause, pause: float = 0.0) -> None:
        self._drop_attempt(cause, pause)
        self._answer_ourselves(self._worst_cause())

    def _retried(self, cause: Cause, pause: float) -> bool:
        """Go on with another attempt, if the ladder, the time and the budget allow it and there is one."""
        if not self._may_retry(cause):
            return False
        services, attempt, now = self._services, self._attempt, self._services.clock()
        assert attempt is not None
        route = self._freshest_route()
        environment = route.environment
        assert environment is not None
        # A kept connection that died says nothing about its backend: once more, on a fresh one.
        stale = cause is Cause.STALE_LINK
        candidate = attempt.candidate if stale else self._choose(route)
        ask = cause in _REROUTE and services.resolver.may_force(self._request.host, route, now)
        if candidate is None and not ask:
            return False
        if not environment.budget.allows(VERDICTS[cause].retry, environment.requests, now):
            services.counts.retries_exhausted += 1
            return False
        self._drop_attempt(cause, pause)
        if candidate is None:
            self.phase = Phase.ROUTE
            services.resolver.resolve(self._request.host, self._rerouted)
            return True
        if ask:
            services.resolver.ask_ahead(self._request.host)
        self.phase = Phase.PICK
        self._connect(candidate, fresh=stale)
        return True

    def _may_retry(self, cause: Cause) -> bool:
        services = self._services
        if len(self._tries) >= services.settings.retries.attempts:
            return False
        if services.clock() - self._began >= services.settings.timeouts.deadline:
            return False
        return may_follow(
            VERDICTS[cause].retry,
            safe=self._request.safe,
            replayable=self._upload.replayable,
            failed_before=any(VERDICTS[t.cause].retry is Retry.SAFE_ONLY for t in self._tries),
        )

    def _freshest_route(self) -> Route:
        """The table may know better by now than when this exchange began."""
        route = self._services.resolver.table.get(self._request.host)
        if route is not None and route.standings:
            self._route = route
        assert self._route is not None
        return self._route

    def _rerouted(self, route: Route | None) -> None:
        """The core API was asked again because no backend where we thought they are could be used."""
        if self.phase is Phase.FINISHED:
            return
        if route is not None and route.standings:
            self._route = route
        assert self._route is not None
        self._pick(self._route)

    def _worst_cause(self) -> Cause:
        """What the client is told when several attempts failed: busy, if one of them was; else the last."""
        causes = [attempt.cause for attempt in self._tries]
        return Cause.REFUSED if Cause.REFUSED in causes else causes[-1]

    # the end

    def _abandon(self, cause: Cause) -> None:
        """No further attempt. Before the first answer byte the client gets an answer of ours; after it, its
        connection is cut, for a truncated answer must never look complete."""
        self._drop_attempt(cause)
        if not self._reply.status:
            self._answer_ourselves(cause)
            return
        close_delimited = self._reply.framing is Framing.CLOSE
        self._finished(cause)
        self._client.cut(close_delimited=close_delimited)

    def _answer_ourselves(self, cause: Cause) -> None:
        request = self._request
        page = self._services.pages.error(
            cause, accept=accept_of(request.fields), host=request.host, request_id=self._id.decode("latin-1")
        )
        self._say(page, cause)

    def _redirect(self, redirect: str) -> None:
        location = redirect_location(redirect, self._request.target)
        self._say(self._services.pages.redirect(location), Cause.REDIRECTED)

    def _say(self, page: SelfAnswer, cause: Cause) -> None:
        request, reply, client = self._request, self._reply, self._client
        reply.status = page.status
        keep_alive = request.keep_alive and client.body_done
        reason = HTTPStatus(page.status).phrase.encode()
        head = b"".join(
            (
                status_line(page.status, reason),
                page.lines,
                b"Content-Length: %d\r\nX-Request-Id: " % len(page.body),
                self._id,
                self._services.edge_line,
                _connection_line(request, keep_alive=keep_alive),
            )
        )
        body = b"" if request.method == b"HEAD" else page.body
        reply.bytes = len(body)
        client.write(head + body)
        self._finished(cause)
        client.finished(keep_alive=keep_alive)

    def _drop_attempt(self, cause: Cause, pause: float = 0.0) -> None:
        """The attempt in hand, if there is one, ended like this: charge for it, let go of its connection."""
        attempt, route = self._attempt, self._route
        if attempt is None:
            return
        assert route is not None and route.environment is not None
        services, standing = self._services, attempt.candidate.standing
        book = route.environment.book
        charge = VERDICTS[cause].charge
        if charge is Charge.ERROR:
            book.failed(standing, cause, services.clock())
        elif charge is Charge.UNREACHABLE:
            book.unreachable(standing, cause, services.clock(), services.rand())
        elif charge is Charge.REST and pause:
            book.rests(standing, pause, services.clock())
        self._end_attempt(attempt, cause)

    def _end_attempt(self, attempt: Attempt, cause: Cause) -> None:
        self._attempt = None
        attempt.cause = cause
        attempt.candidate.standing.in_flight -= 1
        link = attempt.link
        if link is not None:
            if link.release() and self._upload.done:
                self._services.pool.put(link)
            else:
                link.close()

    def _finished(self, cause: Cause) -> None:
        """Exactly once for every exchange: tell how it ended."""
        assert self.phase is not Phase.FINISHED, f"{self} finished twice"
        verdict = VERDICTS[cause]
        ended_in = Phase.FINISHED if verdict.blame is Blame.NOBODY else self.phase
        self.phase = Phase.FINISHED
        services, request, reply = self._services, self._request, self._reply
        services.counts.exchanges -= 1
        route = self._route
        answer = route.answer if route is not None else None
        last = self._tries[-1] if self._tries else None
        services.observe(
            Outcome(
                time=time(),
                id=self._id.decode("latin-1"),
                client=self._client.peer.address,
                method=request.method.decode("latin-1"),
                host=request.host,
                target=request.target.decode("latin-1"),
                status=reply.status or 499,
                bytes_in=self._upload.size,
                bytes_out=reply.bytes,
                site=answer.site if answer is not None else "",
                environment=answer.environment if answer is not None else "",
                backend=last.candidate.backend.id if last is not None and last.status else "",
                phase=ended_in,
                blame=verdict.blame,
                cause=cause,
                resolve_ms=milliseconds(self._resolved_in),
                connect_ms=milliseconds(sum(t.connect_s for t in self._tries)),
                first_byte_ms=milliseconds(last.first_byte_s) if last is not None else 0.0,
                total_ms=milliseconds(services.clock() - self._began),
                attempts=[attempt.told() for attempt in self._tries],
            )
        )


def _answer_framing(answer: Answer, framing: Framing) -> bytes:
    """The field that tells our client how the body ends. To a HEAD, and in a 304, it is about the body that a
    GET would have got (RFC 9110, section 8.6)."""
    if framing is Framing.NONE and answer.status != 204 and b"content-length" in answer.found:
        return framing_line(Framing.LENGTH, answer.length)
    return framing_line(framing, answer.length)


def _connection_line(request: Request, *, keep_alive: bool) -> bytes:
    """The last line of an answer's head, and the blank one."""
    if keep_alive:
        return b"\r\n" if request.minor else b"Connection: keep-alive\r\n\r\n"
    return b"Connection: close\r\n\r\n"
