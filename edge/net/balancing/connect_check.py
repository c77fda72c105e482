"""Connects in the background to backends that are down, so that no client pays for finding out.

No request is sent: that a connection can be made is all that is asked, and it is kept for the next request.
The first check comes 0.1 s after the backend went down, each further one twice as late, at most 5 s apart. (Envoy
and HAProxy check as often, but all backends; here only those in trouble are checked.)
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from edge.net.attempt import Attempt
from edge.net.balancing.pool import Pool
from edge.net.h1.h1_backend import H1Backend
from edge.rules.balancing.backend_state import LONGEST_BETWEEN_CONNECTS, BackendState, connect_wait
from edge.rules.balancing.environments import Environments
from edge.rules.balancing.health_events import CLEAR
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.outcomes import Cause
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Candidate, Route
from edge.rules.settings import DemeritSettings, TimeoutSettings

log = logging.getLogger("styx.reconnects")


class CheckContext(Protocol):
    """What checks need of the balancer that they belong to."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    rand: Callable[[], float]
    pool: Pool
    table: RouteTable
    environments: Environments
    timeouts: TimeoutSettings
    demerits: DemeritSettings


class ConnectChecks:
    """All checks of one worker, at most one for each backend."""

    __slots__ = ("_context", "connects", "limit", "running")

    def __init__(self, context: CheckContext, *, limit: int = 1000) -> None:
        """`limit`: backends that are checked at once. Others that go down meanwhile rest for 5 s instead."""
        self._context = context
        self.limit = limit
        self.running: dict[BackendState, ConnectCheck] = {}
        "By the backend that is down."
        self.connects = 0
        "Connects that were begun so far."

    def start(self, route: Route, candidate: Candidate) -> None:
        """Check this backend, which has gone down, until a connection can be made; unless that is under way."""
        standing = candidate.standing
        if standing in self.running:
            return
        context = self._context
        if len(self.running) >= self.limit:
            standing.down_since = 0.0
            standing.until = context.clock() + LONGEST_BETWEEN_CONNECTS
            return
        self.running[standing] = check = ConnectCheck(context, self, route, candidate)
        check.schedule()

    def start_missing(self, route: Route) -> None:
        """Check the backends of this route that are down and have no check, before any request goes there."""
        assert route.environment is not None
        lost = route.environment.book.to_connect
        for candidate in (*route.active, *route.standby):
            standing = candidate.standing
            if standing not in lost:
                continue
            lost.remove(standing)  # those of other hostnames stay
            if standing.down_since and standing not in self.running:  # it may have come up meanwhile
                self.start(route, candidate)
                check = self.running.get(standing)
                if check is not None:
                    check.hurry()

    def record_reachable(self, standing: BackendState) -> None:
        """The host of this backend answered a connect: if its server was suspect, all its backends are checked at
        once."""
        server = standing.server
        if server is not None and server.record_reached():
            self._context.environments.shared.tell(HealthEvent(CLEAR, "", "", server.name))
            for down, check in list(self.running.items()):
                if down.server is server:
                    check.hurry()

    def stop(self) -> None:
        """End all checks."""
        for check in list(self.running.values()):
            check.stop()


class ConnectCheck:
    """The check of one backend: connects until one succeeds."""

    __slots__ = ("_attempt", "_candidate", "_checks", "_context", "_route", "_timer", "_tries")

    def __init__(self, context: CheckContext, checks: ConnectChecks, route: Route, candidate: Candidate) -> None:
        self._context = context
        self._checks = checks
        self._route = route
        self._candidate = candidate
        self._attempt: Attempt | None = None
        self._tries = 0
        self._timer: asyncio.Handle | None = None

    def schedule(self) -> None:
        """Connect when the backend has rested for long enough."""
        context = self._context
        wait = connect_wait(self._tries, context.rand())
        self._tries += 1
        self._candidate.standing.until = context.clock() + wait
        self._timer = context.loop.call_later(wait, self._try)

    def hurry(self) -> None:
        """Connect now, and as if for the first time."""
        if self._attempt is None:
            self._cancel_timer()
            self._tries = 0
            self._timer = self._context.loop.call_soon(self._try)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try(self) -> None:
        try:
            self._connect()
        except Exception:  # while this check is registered there is no other of the backend
            log.exception("background connect failed", extra={"code": "reconnect_failed"})
            self._attempt = None
            self.schedule()

    def _connect(self) -> None:
        candidate = self._still_wanted()
        if candidate is None:
            self.stop()
            return
        context = self._context
        self._candidate = candidate
        self._attempt = Attempt(candidate, context.clock())
        self._checks.connects += 1
        context.pool.dial(self._attempt, context.timeouts.connect, self)

    def _still_wanted(self) -> Candidate | None:
        """Where the backend is by now; None = it came up by itself, left, or nobody asks for its site any more."""
        context, standing = self._context, self._candidate.standing
        answer, environment = self._route.answer, self._route.environment
        route = context.table.get(answer.hostname) if answer is not None else None
        if not standing.down_since or route is None or environment is None:
            return None
        if context.clock() - environment.asked_at > context.demerits.forget_after:
            return None
        return next((c for c in (*route.active, *route.standby) if c.standing is standing), None)

    def connected(self, attempt: Attempt, connection: H1Backend) -> None:
        """The backend is back."""
        context, standing, environment = self._context, self._candidate.standing, self._route.environment
        now = context.clock()
        if connection.closed:
            self.not_connected(attempt, Cause.CONNECT_FAILED)
            return
        context.pool.release(connection, now)
        if standing.down_since and environment is not None:
            environment.book.reconnected(standing, now, context.rand())
        self.stop()
        self._checks.record_reachable(standing)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """The backend is still down. (If it refused, its server is reachable.)"""
        if self._attempt is attempt:
            self._attempt = None
            self.schedule()
            if cause is Cause.CONNECT_FAILED:
                self._checks.record_reachable(self._candidate.standing)

    def stop(self) -> None:
        """End this check. If the backend is still down, the next request for its site starts another."""
        self._cancel_timer()
        self._attempt = None
        standing, environment = self._candidate.standing, self._route.environment
        self._checks.running.pop(standing, None)
        if environment is not None:
            environment.book.connect_at_next_request(standing)
