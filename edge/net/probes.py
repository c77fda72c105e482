"""Copies of real requests, sent to a backend on probation: its answers decide, and no client waits for them.

A safe request (GET, HEAD, OPTIONS, without a body) goes its ordinary way, and a copy of it goes to the backend. The
copy's answer is never shown to anybody; what it is worth is known when its head is here, or when that is so late
that it would be no good answer: then the connection is closed. This is a hedged request (Dean and Barroso, "The
tail at scale", 2013) whose delay is nothing: so nobody pays for a probe, not even with the delay of a hedge. At
most one at a time for each backend and worker, 1 to 30 s apart, so well below 1 % of the requests.
"""

import asyncio
from typing import TYPE_CHECKING

from edge.net.attempt import Attempt
from edge.net.attempts import charge, end
from edge.rules.admission import Answer, Request, refusal_pause
from edge.rules.demerits import DemeritBook
from edge.rules.messages import AnswerHead, Fields
from edge.rules.outcomes import Cause
from edge.rules.picker import probe_target
from edge.rules.routes import Candidate, Route

if TYPE_CHECKING:
    from edge.net.backend_side import BackendConnection
    from edge.net.services import Services

PROBE_LINE = b"X-Styx-Probe: 1\r\n"


def send_probe(services: "Services", route: Route, request: Request, head: bytes, now: float) -> None:
    """Send a copy of this safe request, whose head is `head`, to the backend whose probe is due, if any is."""
    candidate = probe_target(route, now, safe=True)
    if candidate is not None and len(services.probing) < services.most_probes:
        Probe(services, route, candidate, to_head=request.method == b"HEAD").begin(head, now)


class Probe:
    """One copy on its way. A `Borrower` of its connection, as an exchange is."""

    __slots__ = ("_attempt", "_candidate", "_head", "_route", "_services", "_timer", "_to_head")

    def __init__(self, services: "Services", route: Route, candidate: Candidate, *, to_head: bool) -> None:
        self._services = services
        self._route = route
        self._candidate = candidate
        self._to_head = to_head
        self._attempt: Attempt | None = None
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _book(self) -> DemeritBook:
        assert self._route.environment is not None
        return self._route.environment.book

    def begin(self, head: bytes, now: float) -> None:
        """Over a kept connection, or a new one."""
        services, standing = self._services, self._candidate.standing
        assert standing.probation is not None
        standing.probation.probing = True
        standing.probation.record_probe(now)
        standing.in_flight += 1
        services.probing.add(self)
        services.counts.probes += 1
        self._head = head
        self._attempt = attempt = Attempt(self._candidate, now)
        link = services.pool.take(self._candidate.place, to_repeat=False)
        if link is not None:
            self._send(attempt, link)
        else:
            services.pool.dial(attempt, services.timeouts.connect, self)

    def connected(self, attempt: Attempt, link: "BackendConnection") -> None:
        """There is a new connection."""
        if self._attempt is not attempt:
            self._services.pool.put(link, self._services.clock())
        elif link.closed:
            self._failed(Cause.CONNECT_FAILED)
        else:
            self._send(attempt, link)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """There is none to be had."""
        if self._attempt is attempt:
            self._failed(cause)

    def _send(self, attempt: Attempt, link: "BackendConnection") -> None:
        attempt.link = link
        link.lend(self, to_head=self._to_head)
        link.write(self._head + PROBE_LINE + self._candidate.first_lines)
        attempt.sent_at = self._services.clock()
        patience = min(self._book.probe_patience, self._services.timeouts.first_byte)
        self._timer = self._services.loop.call_later(patience, self.give_up)

    def give_up(self) -> None:
        """Whatever comes now is too late to speak for it."""
        attempt = self._attempt
        if attempt is not None:
            now = self._services.clock()
            self._book.late(self._candidate.standing, now - attempt.sent_at, now)
            self._ended(attempt, Cause.FIRST_BYTE_TIMEOUT, now)

    # what the connection tells

    def interim(self, head: AnswerHead) -> None:
        """Nobody is told."""

    def switched(self, head: AnswerHead, rest: bytes) -> bool:
        """It was not asked to."""
        return False

    def trailers(self, fields: Fields) -> None:
        """Nobody is told."""

    def answered(self, answer: Answer, pieces: list[bytes], done: bool) -> None:
        """Its head tells all that is asked."""
        attempt, standing, now = self._attempt, self._candidate.standing, self._services.clock()
        if attempt is None:
            return
        if answer.cause is Cause.FINE:
            self._book.answered(standing, now - attempt.sent_at, now)
            self._ended(attempt, Cause.FINE, now)
        else:
            self._failed(answer.cause, refusal_pause(answer) if answer.cause is Cause.REFUSED else 0.0)

    def answer_body(self, pieces: list[bytes], done: bool) -> None:
        """Never asked for: the connection was given back or closed before."""

    def link_lost(self, cause: Cause) -> None:
        """Without an answer."""
        if self._attempt is not None:
            self._attempt.link = None
            self._failed(cause)

    def backend_full(self) -> None:
        """A head fits into any buffer; and nothing follows it."""

    def backend_drained(self) -> None:
        """See `backend_full`."""

    # the end

    def _failed(self, cause: Cause, pause: float = 0.0) -> None:
        attempt = self._attempt
        if attempt is not None:
            charge(self._services, self._route, attempt, cause, pause)
            self._ended(attempt, cause, self._services.clock())

    def _ended(self, attempt: Attempt, cause: Cause, now: float) -> None:
        self._attempt = None
        self._services.probing.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        probation = self._candidate.standing.probation
        if probation is not None:
            probation.probing = False
        end(self._services, attempt, cause, now, sent=True)
