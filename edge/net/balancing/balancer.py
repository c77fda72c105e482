"""The load balancer of a worker: chooses the backend of each attempt, and learns from how the attempt ends.

    exchange ─► choose ─► (attempt) ─► charge, end ─► Demerits, Pool
                  │                      │
                  └──► ConnectChecks ◄───┘             of backends that are down

The decisions are pure functions in `rules/`; here they get the time, random numbers and the worker's state.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from edge.net.balancing.connect_check import ConnectChecks
from edge.net.balancing.pool import Pool
from edge.net.h1.h1_backend import H1Backend
from edge.rules.balancing.backend_state import MANY, BackendState, Candidate
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.balancing.health_events import SUSPECT
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.next_step import RetryOptions, goes_elsewhere
from edge.rules.balancing.picker import bias_table, first_pick, pick
from edge.rules.balancing.retries import attempts_made
from edge.rules.balancing.server_failures import EVIDENCE
from edge.rules.http.head_validation import Response
from edge.rules.outcomes import VERDICTS, Blame, Cause, Charge, Phase, Retry
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Route
from edge.rules.settings import Settings

_OK: Final = Cause.OK
_CONNECT: Final = Phase.CONNECT


class Attempt:
    """One attempt at one backend. Times are of the worker's clock, in seconds; 0 = it has not happened.

    It has no reference to its exchange, so that no request leaves a cycle for the garbage collector.
    """

    __slots__ = (
        "began",
        "candidate",
        "cause",
        "cold",
        "connect_ms",
        "connection",
        "first_byte_ms",
        "phase",
        "response",
        "sent_at",
        "status",
        "trailers",
        "waits",
    )

    def __init__(self, candidate: Candidate, began: float, cold: bool = False) -> None:
        self.candidate = candidate
        self.began = began
        self.cold = cold
        "Whether the backend was asleep when this began: its response may be slow, and is no measure of its speed."
        self.connection: H1Backend | None = None
        self.sent_at = 0.0
        "When the whole request was written."
        self.connect_ms = 0.0
        "Time to get a new connection; 0 = an idle one was used, or there was none."
        self.first_byte_ms = 0.0
        "From the end of the request to the first byte of the response; 0 = there was none, or it came early."
        self.waits = False
        "Whether the whole request was written and no response has begun."
        self.trailers = b""
        "The trailer lines of the response."
        self.response: Response | None = None
        "What the client got of it, for the access log; None = nothing yet."
        self.status = 0
        self.cause: Cause = _OK
        self.phase: Phase = _CONNECT
        "The phase in which it failed."

    def record_first_byte(self) -> None:
        """It waits for a response no longer, whether one came or not."""
        if self.waits:
            self.waits = False
            self.candidate.state.waiting -= 1


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with three digits. (`round` takes three times as long.)"""
    return int(seconds * 1e6) / 1000.0


class Balancer:
    """Chooses backends for attempts, and records how attempts ended. Used by exchanges and the worker."""

    __slots__ = (
        "active_request_bias",
        "checks",
        "clock",
        "demerits",
        "environments",
        "loop",
        "pool",
        "rand",
        "retries",
        "retries_exhausted",
        "table",
        "timeouts",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        pool: Pool,
        table: RouteTable,
        environments: Environments,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        rand: Callable[[], float],
    ) -> None:
        self.reconfigure(settings)
        self.pool = pool
        self.table = table
        self.environments = environments
        self.loop = loop
        self.clock = clock
        self.rand = rand
        self.checks = ConnectChecks(self)
        self.retries_exhausted = 0
        "Retries that were not made because the retry budget had no token."

    def reconfigure(self, settings: Settings) -> None:
        """Apply these settings from now on."""
        self.retries = settings.retries
        self.timeouts = settings.timeouts
        self.demerits = settings.demerits
        self.active_request_bias: Sequence[float] = bias_table(settings.demerits.active_request_bias)

    def stop(self) -> None:
        """End all connect checks."""
        self.checks.stop()

    # before an attempt

    def choose(self, route: Route, tries: Sequence[Attempt], now: float) -> Candidate | None:
        """The backend for the next attempt, after those in `tries`; None = there is none left."""
        environment, rand = route.environment, self.rand()
        assert environment is not None
        demerits = environment.demerits
        demerits.weigh(route.states, now, rand, busy=environment.in_flight > 1 or bool(tries))
        if demerits.to_connect and not demerits.to_connect.isdisjoint(
            route.states
        ):  # some may be of other hostnames
            self.checks.start_missing(route)
        if not tries:
            active, bias = route.active, self.active_request_bias
            is_large = len(active) > MANY
            candidate = first_pick(route, now, rand, bias) if is_large else demerits.draw(active, now, rand, bias)
            if candidate is not None:
                return candidate
        causes = [attempt.cause for attempt in tries]
        return pick(
            route,
            [attempt.candidate.endpoint for attempt in tries],
            last=attempts_made(causes) == self.retries.attempts - 1,
            # A full backend is reachable and will soon have a slot: better than a connect that will probably fail.
            last_resort=Cause.REFUSED not in causes,
            demerited=self.retries.demerited,
            now=now,
            rand=rand,
            bias=self.active_request_bias,
        )

    def connect_timeout(self, route: Route, tries: Sequence[Attempt]) -> float:
        """The connect timeout of the last of these attempts, in seconds: longer when no other backend is left."""
        timeouts, tried = self.timeouts, [attempt.candidate.endpoint for attempt in tries]
        has_other = any(c.state.weight and c.endpoint not in tried for c in (*route.active, *route.standby))
        return timeouts.connect if has_other else max(timeouts.connect, timeouts.connect_alone)

    def record_connected(self, route: Route | None, state: BackendState, now: float) -> None:
        """Record that an attempt has got a new connection."""
        assert route is not None
        assert route.environment is not None
        self.checks.record_connected(route.environment, state, now)

    # between two attempts

    def retry_options(
        self, route: Route, tries: Sequence[Attempt], now: float, *, slot_wait: float, can_ask_route: bool
    ) -> RetryOptions:
        """The options for a retry after the last of these attempts has failed.

        `tries`: the attempts that count; an exchange that has waited for a slot begins again with none.
        `slot_wait`: seconds for which it may wait for a slot.
        """
        environment, cause = route.environment, tries[-1].cause
        assert environment is not None
        return RetryOptions(
            self.choose(route, tries, now) if goes_elsewhere(cause) else None,
            backends=len(route.states),
            can_ask_route=can_ask_route,
            tokens=environment.budget.tokens(VERDICTS[cause].retry, environment.requests, now),
            slot_wait=slot_wait,
            queued=environment.pending_queue.queued,
            usual_time=environment.demerits.usual_latency,
        )

    def take_retry_token(self, environment: Environment, cause: Cause, now: float) -> None:
        """Take a token for a retry after this failure. A retry after a failed connect needs none."""
        retry = VERDICTS[cause].retry
        if retry is not Retry.ANY:
            environment.budget.take_token(retry, environment.requests, now)

    def record_exhausted(self, environment: Environment) -> None:
        """Count a retry that was not made because the retry budget had no token."""
        environment.budget.record_exhausted()
        self.retries_exhausted += 1

    # after an attempt

    def charge(self, route: Route, attempt: Attempt, cause: Cause, pause: float) -> None:
        """Charge the backend for a failed attempt. `pause`: seconds of the Retry-After of its refusal, else 0."""
        assert route.environment is not None
        if VERDICTS[cause].blame is Blame.BACKEND:
            attempt.candidate.state.note_failed_attempt(cause, self.clock())
        if attempt.cold and VERDICTS[cause].charge is Charge.ERROR:
            return  # the backend is being started
        state = attempt.candidate.state
        route.environment.demerits.charge(state, cause, self.clock(), rand=self.rand(), pause=pause)
        server = state.server if cause in EVIDENCE else None
        if server is not None and server.record_unreachable(state.endpoint, self.clock()):
            self.environments.weigh_again()
            self.environments.shared.publish(HealthEvent(SUSPECT, "", "", server.name))
        if state.down_since:
            self.checks.start(route, attempt.candidate)

    def end(self, attempt: Attempt, cause: Cause, now: float, *, sent: bool) -> None:
        """End an attempt. Its connection returns to the pool if it is reusable.

        `sent`: whether the request was sent completely, so that the next one may follow it.
        """
        attempt.cause = cause
        attempt.candidate.state.in_flight -= 1
        if attempt.waits:
            attempt.record_first_byte()
        connection = attempt.connection
        if connection is not None:
            if connection.release() and sent:
                self.pool.release(connection, now)
            else:
                connection.close()
