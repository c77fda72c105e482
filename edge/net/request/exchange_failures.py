"""The handling of failures in an exchange: a failed attempt, a passed deadline, a client that leaves.

attempt fails ─► _failed ─► next_step (rules) ─┬─► another attempt, at once or after a pause
                                               ├─► the route is looked up again
                                               └─► a local reply, or the response of the backend
"""

from collections.abc import Callable
from typing import Final

from edge.net.balancing.balancer import Attempt
from edge.net.deadlines import Deadline
from edge.net.request.exchange_state import ExchangeState
from edge.net.request.retry_wait import RetryWait
from edge.rules.balancing.backend_state import BackendState, Candidate
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.next_step import (
    Another,
    AskRoute,
    GiveUp,
    NextStep,
    SameAgain,
    WaitForSlot,
    WaitForStart,
    next_step,
)
from edge.rules.balancing.pending_queue import PendingQueue
from edge.rules.balancing.retries import worst_cause
from edge.rules.http.local_reply import LocalReply
from edge.rules.outcomes import VERDICTS, Cause, Charge, Phase
from edge.rules.routing.routes import Route, redirect_location
from edge.rules.tls.request_gate import RequestGate

_OF_UPLOAD: Final = frozenset({Deadline.PERMISSION, Deadline.REQUEST_BODY, Deadline.BACKEND_WRITE})
"What is waited for while a request body is sent."


class ExchangeFailures(ExchangeState):
    """The part of an exchange that handles failures. The first five methods are steps of `Exchange`."""

    __slots__ = ()

    def _pick(self, route: Route, now: float) -> None:
        """Choose a backend for the next attempt."""
        raise NotImplementedError

    def _connect(self, candidate: Candidate, now: float, *, fresh: bool = False) -> None:
        """Begin an attempt; `fresh`: over a new connection."""
        raise NotImplementedError

    def _reply_locally(self, cause: Cause) -> None:
        """End the exchange with a response of the edge."""
        raise NotImplementedError

    def _send_local_reply(self, page: LocalReply, cause: Cause) -> None:
        """End the exchange with this response."""
        raise NotImplementedError

    def _finished(self, cause: Cause, now: float) -> None:
        """The exchange is over."""
        raise NotImplementedError

    # what does not begin

    def _turn_away_at(self, gate: RequestGate) -> bool:
        """Reply to a request that its connection may not make. Returns whether it is one."""
        turned_away = gate.check(self._request.host, self._request.target)
        if turned_away is None:
            return False
        self._hold_body()
        if turned_away.location:
            self._send_local_reply(self._context.pages.redirect(turned_away.location, 308), turned_away.cause)
        elif turned_away.body:
            self._send_local_reply(self._context.pages.proof(turned_away.body), turned_away.cause)
        else:
            self._reply_locally(turned_away.cause)
        return True

    def _not_served(self, route: Route) -> None:
        """Its requests get no backend: reply with the reason, or what the core API has set instead."""
        response = route.response
        if response is None or route.environment is None:
            self._context.counts.unknown_hits += 1
            self._turn_away(Cause.UNKNOWN_HOST)
        elif response.maintenance:
            self._reply_locally(Cause.MAINTENANCE)
        elif response.redirect is not None:
            location = redirect_location(response.redirect, self._request.target)
            self._send_local_reply(self._context.pages.redirect(location), Cause.REDIRECTED)
        else:
            drained = route.is_drained(self._context.table.drains)
            self._reply_locally(Cause.DRAINED if drained else Cause.NO_BACKENDS)

    def _unknown_host_refused(self) -> None:
        if self.phase is not Phase.FINISHED:  # the client left meanwhile
            self._turn_away(Cause.UNKNOWN_HOST_LIMIT)

    def _turn_away(self, cause: Cause) -> None:
        """The hostname has no route: reply when the requests that have one have had their turn."""
        self._hold_body()
        self._client.deferred = True
        self._context.deferred_queue.add(lambda: self._reply_deferred(cause))

    def _reply_deferred(self, cause: Cause) -> None:
        if self.phase is not Phase.FINISHED:  # the client left meanwhile
            self._reply_locally(cause)

    # what goes wrong

    def backend_lost(self, cause: Cause) -> None:
        """The connection to the backend ended, or what came over it was no valid response."""
        if self._attempt is not None:
            self._attempt.connection = None
        if not self._status:
            self._failed(cause)
        else:
            self.abandon(cause)

    def client_gone(self) -> None:
        """The client left: end the request. The backend is not to blame."""
        if self.phase is not Phase.FINISHED:
            self._drop_attempt(Cause.CLIENT_GONE)
            self._finished(Cause.CLIENT_GONE, self._context.clock())

    def deadline_passed(self, now: float) -> None:
        """Fail the attempt, or end the exchange, whose deadline has passed. Called by the sweep."""
        what, sending = self._deadline, self._sending
        cause: Cause | None
        if what is Deadline.ATTEMPT:
            cause = worst_cause([t.cause for t in self._tries])
        elif sending is not None and what in _OF_UPLOAD:
            cause = None if sending.renew(what) else self._timeout_cause(what)
        elif sending is not None and what is Deadline.RESPONSE_BODY:
            cause = sending.renew_response()
            if cause is None:
                self.expect(Deadline.RESPONSE_BODY, self._context.timeouts.between_bytes)
        else:
            cause = self._timeout_cause(what)
        if cause is not None:
            self.abandon(cause)

    def abandon(self, cause: Cause) -> None:
        """End the exchange without another attempt. Before the first byte of a response, the client gets a local
        reply; after it, the response is aborted, for a truncated one must never look complete."""
        self._drop_attempt(cause)
        if not self._status:
            self._reply_locally(cause)
            return
        self._finished(cause, self._context.clock())
        self._client.abort()

    # another attempt

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
                self.phase = Phase.PICK
                self._connect(attempt.candidate, now, fresh=True)
            case Another(candidate):
                balancer.take_retry_token(environment, cause, now)
                if step.asks_route:
                    self._claim_lookup(now)
                    context.resolver.refresh_in_background(self._request.host)
                self.phase = Phase.PICK
                self._connect(candidate, now)
            case AskRoute():
                balancer.take_retry_token(environment, cause, now)
                self._claim_lookup(now)
                self.phase = Phase.ROUTE
                self._expect_in_time(Deadline.ROUTE)
                context.resolver.resolve_again(self._request.host, self._rerouted)
            case WaitForSlot(seconds):
                balancer.take_retry_token(environment, cause, now)
                self._pause(seconds, self._pick_again, environment.pending_queue)
            case WaitForStart(seconds):
                self._pause(seconds, lambda: self._connect(attempt.candidate, context.clock(), fresh=True))
            case GiveUp(reported):
                self._reply_locally(reported)
        return True

    def _next_step(self, attempt: Attempt, now: float) -> NextStep:
        """The decision of `rules/balancing/next_step.py` after this failure."""
        context, host, tries, wait = self._context, self._request.host, self._tries, self._wait
        route, retries = self._freshest_route(), context.retries
        options = context.balancer.retry_options(
            route,
            tries if wait is None else tries[wait.attempts_before :],
            now,
            slot_wait=retries.queue_timeout if wait is None else wait.slot_wait(retries.queue_timeout, now),
            can_ask_route=route.taken_at < attempt.began and context.resolver.can_claim_lookup(host, route, now),
        )
        return next_step(self._failed_attempt(attempt, now), options, retries, context.timeouts)

    def _claim_lookup(self, now: float) -> None:
        assert self._route is not None
        self._context.resolver.claim_lookup(self._request.host, self._route, now)

    def _pause(self, seconds: float, go_on: Callable[[], None], queue: PendingQueue | None = None) -> None:
        """Wait for so many seconds before the next attempt; in a `queue`, less if a slot is free."""
        context = self._context
        self.phase = Phase.PICK
        self._hold_body()
        self._expect_in_time(Deadline.ATTEMPT)
        self._wait = wait = self._wait or RetryWait(context.clock)
        if queue is not None:
            wait.slot_deadline = wait.slot_deadline or context.clock() + context.retries.queue_timeout
        wait.begin(context.loop, seconds, go_on, attempts=len(self._tries), queue=queue)

    def _pick_again(self) -> None:
        """There may be a slot: make one attempt."""
        self._pick(self._freshest_route(), self._context.clock())

    def _freshest_route(self) -> Route:
        """The route as the table has it now, which may be newer than when this exchange began."""
        route = self._context.table.get(self._request.host)
        if route is not None and route.states:
            self._route = route
        assert self._route is not None
        return self._route

    def _rerouted(self, route: Route | None) -> None:
        """The route was looked up again, because none of its backends could be used."""
        if self.phase is not Phase.FINISHED:
            self._pick(self._freshest_route(), self._context.clock())

    def _drop_attempt(self, cause: Cause, pause: float = 0.0) -> None:
        """End the attempt under way, if there is one: charge its backend, and release its connection."""
        attempt, route = self._attempt, self._route
        if attempt is not None and route is not None:
            attempt.phase = self.phase
            if self.environment is not None and VERDICTS[cause].charge is Charge.ERROR:
                self._note_failure(self.environment, attempt.candidate.state, self._context.clock())
            balancer = self._context.balancer
            balancer.charge(route, attempt, cause, pause)
            self._attempt = None
            self._stop_sending()
            balancer.end(attempt, cause, self._context.clock(), sent=self._upload.sent)

    def _stop_sending(self) -> None:
        """Send no more of the request body in this attempt."""
        if self._sending is not None:
            self._sending.stop()
            self._sending = None

    def _note_failure(self, environment: Environment, state: BackendState, now: float) -> None:
        """This request failed at this backend: record whose it is (`Environment.note_witness`)."""
        first = not (state.failures or state.slow)
        environment.note_witness(state, self.client_address, now, first=first)

    def _record_error(self, environment: Environment, attempt: Attempt, cause: Cause, now: float) -> None:
        """An error response of the backend is passed on: charge for it."""
        demerits, state = environment.demerits, attempt.candidate.state
        if attempt.cold:
            demerits.record_wake(state, now)
        elif VERDICTS[cause].charge is Charge.ERROR:
            self._note_failure(environment, state, now)
            demerits.record_failure(state, cause, now, self._context.balancer.rand())
