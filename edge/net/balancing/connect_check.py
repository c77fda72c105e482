"""Connects in the background to backends that are down, so that no request has to try whether they are back.

No request is sent: a connect that succeeds is enough, and its connection goes to the pool for the next request. The
first check comes 0.1 s after the backend went down; the interval doubles, up to 5 s. (Envoy and HAProxy check at
such intervals too, but all backends; here only backends that are down are checked.)
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from edge.net.balancing.pool import Pool
from edge.net.h1.h1_backend import H1Backend
from edge.rules.balancing.backend_state import LONGEST_BETWEEN_CONNECTS, BackendState, Candidate, connect_wait
from edge.rules.balancing.environments import Environment, Environments
from edge.rules.balancing.health_events import CLEAR
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.outcomes import Cause
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Route
from edge.rules.settings import DemeritSettings, TimeoutSettings

log = logging.getLogger("styx.connect_check")


class CheckContext(Protocol):
    """The part of the balancer that connect checks use."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    rand: Callable[[], float]
    pool: Pool
    table: RouteTable
    environments: Environments
    timeouts: TimeoutSettings
    demerits: DemeritSettings


class ConnectChecks:
    """All connect checks of one worker, at most one for each backend."""

    __slots__ = ("_context", "connects", "limit", "running")

    def __init__(self, context: CheckContext, *, limit: int = 1000) -> None:
        """`limit`: backends that are checked at once. Further ones that go down get no requests for 5 s."""
        self._context = context
        self.limit = limit
        self.running: dict[BackendState, ConnectCheck] = {}
        "By the backend that is down."
        self.connects = 0
        "Connects begun so far."

    def start(self, route: Route, candidate: Candidate) -> None:
        """Check a backend that has gone down until a connect succeeds, unless a check is running."""
        state = candidate.state
        if state in self.running:
            return
        context = self._context
        if len(self.running) >= self.limit:
            state.down_since = 0.0
            state.until = context.clock() + LONGEST_BETWEEN_CONNECTS
            return
        self.running[state] = check = ConnectCheck(context, self, route, candidate)
        check.schedule()

    def start_missing(self, route: Route) -> None:
        """Check the backends of this route that are down and have no check, before any request is sent to them."""
        assert route.environment is not None
        unchecked = route.environment.demerits.to_connect
        for candidate in (*route.active, *route.standby):
            state = candidate.state
            if state not in unchecked:
                continue
            unchecked.remove(state)  # backends of other hostnames stay in the set
            if state.down_since and state not in self.running:  # it may be up again meanwhile
                self.start(route, candidate)
                check = self.running.get(state)
                if check is not None:
                    check.connect_now()

    def record_connected(self, environment: Environment, state: BackendState, now: float) -> None:
        """Record that a connect to this backend succeeded, of a check or of a request: it is down no longer."""
        if state.down_since:
            environment.demerits.record_connected(state, now, self._context.rand())
            check = self.running.get(state)
            if check is not None:
                check.stop()
        self.record_reachable(state)

    def record_reachable(self, state: BackendState) -> None:
        """Record that the host of this backend responded to a connect.

        If its server was suspect, all its backends that are down are checked at once.
        """
        server = state.server
        if server is not None and server.record_reached():
            self._context.environments.shared.publish(HealthEvent(CLEAR, "", "", server.name))
            for down, check in list(self.running.items()):
                if down.server is server:
                    check.connect_now()

    def stop(self) -> None:
        """End all checks."""
        for check in list(self.running.values()):
            check.stop()


class ConnectCheck:
    """The check of one backend: repeats the connect until it succeeds."""

    __slots__ = ("_candidate", "_checks", "_connects", "_context", "_dialled", "_route", "_timer")

    def __init__(self, context: CheckContext, checks: ConnectChecks, route: Route, candidate: Candidate) -> None:
        self._context = context
        self._checks = checks
        self._route = route
        self._candidate = candidate
        self._dialled: Candidate | None = None
        "The backend to which a connect is under way."
        self._connects = 0
        self._timer: asyncio.Handle | None = None

    @property
    def environment(self) -> Environment | None:
        """The environment of its backend."""
        return self._route.environment

    def schedule(self) -> None:
        """Schedule the next connect, after a pause that grows with each failure."""
        context = self._context
        wait = connect_wait(self._connects, context.rand())
        self._connects += 1
        self._candidate.state.until = context.clock() + wait
        self._timer = context.loop.call_later(wait, self._on_timer)

    def connect_now(self) -> None:
        """Connect in the next turn of the loop, and begin again with the shortest pause."""
        if self._dialled is None:
            self._cancel_timer()
            self._connects = 0
            self._timer = self._context.loop.call_soon(self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        try:
            self._connect()
        except Exception:  # while this check is registered, no other check of the backend can begin
            log.exception("connect check failed", extra={"code": "connect_check_failed"})
            self._dialled = None
            self.schedule()

    def _connect(self) -> None:
        candidate = self._current_candidate()
        if candidate is None:
            self.stop()
            return
        context = self._context
        self._candidate = self._dialled = candidate
        self._checks.connects += 1
        context.pool.dial(candidate, context.timeouts.connect, self, candidate)

    def _current_candidate(self) -> Candidate | None:
        """The backend as its route has it now; None = it is up again, was removed, or its site gets no requests."""
        context, state = self._context, self._candidate.state
        response, environment = self._route.response, self._route.environment
        route = context.table.get(response.hostname) if response is not None else None
        if not state.down_since or route is None or environment is None:
            return None
        if context.clock() - environment.last_request_at > context.demerits.forget_after:
            return None
        return next((c for c in (*route.active, *route.standby) if c.state is state), None)

    def connected(self, dialled: Candidate, connection: H1Backend) -> None:
        """A connect succeeded: the backend is up again, and the check ends."""
        context, state, environment = self._context, self._candidate.state, self._route.environment
        now = context.clock()
        if connection.closed:
            self.not_connected(dialled, Cause.CONNECT_FAILED)
            return
        context.pool.release(connection, now)
        if environment is not None:
            self._checks.record_connected(environment, state, now)
        self.stop()

    def not_connected(self, dialled: Candidate, cause: Cause) -> None:
        """A connect failed: the backend is still down. (If it was refused, the server is reachable.)"""
        if self._dialled is dialled:
            self._dialled = None
            self._candidate.state.note_failed_attempt(cause, self._context.clock())
            self.schedule()
            if cause is Cause.CONNECT_FAILED or cause is Cause.WRONG_BACKEND:
                self._checks.record_reachable(self._candidate.state)

    def stop(self) -> None:
        """End this check. If the backend is still down, the next request for its site starts another one."""
        self._cancel_timer()
        self._dialled = None
        state, environment = self._candidate.state, self._route.environment
        if self._checks.running.get(state) is self:  # there may be another check of it by now
            del self._checks.running[state]
        if environment is not None:
            environment.demerits.connect_at_next_request(state)
