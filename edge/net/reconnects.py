"""Connects in the background to backends that are down, so that no client pays for finding out.

No request is sent: that a connection can be made is all that is asked, and it is kept for the next request.
0.1 s after the backend went down, then each time twice as late, at most 5 s apart (Envoy's and HAProxy's checks
come as often; they are made for every backend, these only for those in trouble).
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from edge.net.attempt import Attempt
from edge.rules.health_records import Evidence
from edge.rules.outcomes import Cause
from edge.rules.routes import Candidate, Route
from edge.rules.shared_evidence import CLEAR
from edge.rules.standings import LONGEST_BETWEEN_CONNECTS, Standing, connect_wait

if TYPE_CHECKING:
    from edge.net.backend_side import BackendConnection
    from edge.net.services import Services

log = logging.getLogger("styx.reconnects")

MOST_AT_ONCE = 1000
"Backends of one worker that are being connected to. Others that go down meanwhile rest for five seconds instead."


def reconnect(services: "Services", route: Route, candidate: Candidate) -> None:
    """Connect to this backend, which has gone down, until that works; unless somebody does so already."""
    standing = candidate.standing
    if standing in services.reconnecting:
        return
    if len(services.reconnecting) >= MOST_AT_ONCE:
        standing.down_since = 0.0
        standing.until = services.clock() + LONGEST_BETWEEN_CONNECTS
        return
    services.reconnecting[standing] = Reconnect(services, route, candidate)


def connect_first(services: "Services", route: Route) -> None:
    """Connect to the backends of this route that are down while nobody does so, before any request goes there."""
    assert route.environment is not None
    lost = route.environment.book.to_connect
    for candidate in (*route.active, *route.standby):
        standing = candidate.standing
        if standing not in lost:
            continue
        lost.remove(standing)  # those of other hostnames stay
        if standing.down_since and standing not in services.reconnecting:  # it may have come up meanwhile
            reconnect(services, route, candidate)
            waiting = services.reconnecting.get(standing)
            if waiting is not None:
                waiting.hurry()


def server_answers(services: "Services", standing: Standing) -> None:
    """A host answered a connect: if its server was suspect, all its backends are tried at once."""
    server = standing.server
    if server is not None and server.record_reached():
        services.resolver.environments.shared.tell(Evidence(CLEAR, "", "", server.name))
        for down, waiting in list(services.reconnecting.items()):
            if down.server is server:
                waiting.hurry()


class Reconnect:
    """The connects to one backend."""

    __slots__ = ("_attempt", "_candidate", "_route", "_services", "_timer", "_tries")

    def __init__(self, services: "Services", route: Route, candidate: Candidate) -> None:
        self._services = services
        self._route = route
        self._candidate = candidate
        self._attempt: Attempt | None = None
        self._tries = 0
        self._timer: asyncio.Handle = self._later()

    def _later(self) -> asyncio.TimerHandle:
        services = self._services
        wait = connect_wait(self._tries, services.rand())
        self._tries += 1
        self._candidate.standing.until = services.clock() + wait
        return services.loop.call_later(wait, self._try)

    def hurry(self) -> None:
        """Now, and as if for the first time."""
        if self._attempt is None:
            self._timer.cancel()
            self._tries = 0
            self._timer = self._services.loop.call_soon(self._try)

    def _try(self) -> None:
        try:
            self._connect()
        except Exception:  # as long as we are here nobody else connects to it
            log.exception("connect in the background failed", extra={"code": "reconnect_failed"})
            self._attempt = None
            self._timer = self._later()

    def _connect(self) -> None:
        candidate = self._still_wanted()
        if candidate is None:
            self.stop()
            return
        self._candidate = candidate
        self._attempt = Attempt(candidate, self._services.clock())
        self._services.counts.reconnects += 1
        self._services.pool.dial(self._attempt, self._services.timeouts.connect, self)

    def _still_wanted(self) -> Candidate | None:
        """Where the backend is by now; None = it came up by itself, left, or nobody asks for its site any more."""
        services, standing = self._services, self._candidate.standing
        answer, environment = self._route.answer, self._route.environment
        route = services.table.get(answer.hostname) if answer is not None else None
        if not standing.down_since or route is None or environment is None:
            return None
        if services.clock() - environment.asked_at > services.settings.demerits.forget_after:
            return None
        return next((c for c in (*route.active, *route.standby) if c.standing is standing), None)

    def connected(self, attempt: Attempt, link: "BackendConnection") -> None:
        """It is back."""
        services, standing, environment = self._services, self._candidate.standing, self._route.environment
        now = services.clock()
        if link.closed:
            self.not_connected(attempt, Cause.CONNECT_FAILED)
            return
        services.pool.put(link, now)
        if standing.down_since and environment is not None:
            environment.book.reconnected(standing, now, services.rand())
        self.stop()
        server_answers(services, standing)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """Not yet. (One that refuses has told that its server is there.)"""
        if self._attempt is attempt:
            self._attempt = None
            self._timer = self._later()
            if cause is Cause.CONNECT_FAILED:
                server_answers(self._services, self._candidate.standing)

    def stop(self) -> None:
        """No more of it. If the backend is still down, the next request for its site has it begun again."""
        self._timer.cancel()
        self._attempt = None
        standing, environment = self._candidate.standing, self._route.environment
        self._services.reconnecting.pop(standing, None)
        if environment is not None:
            environment.book.connect_at_next_request(standing)
