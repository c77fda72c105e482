"""Sends copies of real requests to backends on probation, whose responses decide about the probation.

No client waits for such a response. A safe request (GET, HEAD, OPTIONS, without a body) is served as usual, and a
copy of it is sent to the backend on probation. The response to the copy is discarded. It is rated when its head
arrives, or when it is too late for a good response; then the connection is closed. This is a hedged request (Dean
and Barroso, "The tail at scale", 2013) without a delay: a probe costs clients nothing, not even the delay of a
hedge. There is at most one probe at a time for each backend and worker, 1 to 30 s apart, so well below 1 % of the
requests.
"""

import asyncio
from typing import Final

from edge.net.balancing.balancer import Attempt, Balancer
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.response_handler import ResponseHandler
from edge.rules.balancing.backend_state import Candidate
from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.picker import probe_target
from edge.rules.http.head_validation import Request, Response, refusal_pause
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.http.trace_context import has_trace_context, without_trace_lines
from edge.rules.outcomes import Cause
from edge.rules.routing.routes import Route

PROBE_LINE: Final = b"X-Styx-Probe: 1\r\n"


class ShadowProbes:
    """All shadow probes of one worker, at most one for each backend."""

    __slots__ = ("_balancer", "limit", "running", "sent")

    def __init__(self, balancer: Balancer, *, limit: int = 100) -> None:
        """`limit`: probes in flight at the same time. A probe that is due beyond it waits for another request."""
        self._balancer = balancer
        self.limit = limit
        self.running: set[ShadowProbe] = set()
        self.sent = 0
        "Probes begun so far."

    def send(self, route: Route, request: Request, head: bytes, now: float) -> None:
        """Send a copy of this safe request, whose head is `head`, to the backend whose probe is due, if any is."""
        candidate = probe_target(route, now, safe=True)
        if candidate is None or len(self.running) >= self.limit:
            return
        probe = ShadowProbe(self._balancer, self, route, candidate, to_head=request.method == b"HEAD")
        self.running.add(probe)
        self.sent += 1
        # A span of the client that has two children would be shown as having asked twice (W3C Trace Context).
        probe.begin(without_trace_lines(head) if has_trace_context(request.fields) else head, now)

    def stop(self) -> None:
        """End all probes."""
        for probe in list(self.running):
            probe.give_up()


class ShadowProbe(ResponseHandler):
    """One probe in flight: the response handler of its connection, as an exchange is of its own."""

    __slots__ = ("_attempt", "_balancer", "_candidate", "_head", "_probes", "_route", "_timer", "_to_head")

    def __init__(
        self, balancer: Balancer, probes: ShadowProbes, route: Route, candidate: Candidate, *, to_head: bool
    ) -> None:
        self._balancer = balancer
        self._probes = probes
        self._route = route
        self._candidate = candidate
        self._to_head = to_head
        self._attempt: Attempt | None = None
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _demerits(self) -> Demerits:
        assert self._route.environment is not None
        return self._route.environment.demerits

    def begin(self, head: bytes, now: float) -> None:
        """Send it over an idle connection, or a new one."""
        balancer, state = self._balancer, self._candidate.state
        assert state.probation is not None
        state.probation.probing = True
        state.probation.record_probe(now)
        state.in_flight += 1
        self._head = head
        self._attempt = attempt = Attempt(self._candidate, now)
        connection = balancer.pool.acquire(self._candidate.endpoint, to_repeat=False)
        if connection is not None:
            self._send(attempt, connection)
        else:
            balancer.pool.dial(self._candidate, balancer.timeouts.connect, self, attempt)

    def connected(self, attempt: Attempt, connection: H1Backend) -> None:
        """Send the probe over the new connection."""
        if self._attempt is not attempt:
            self._balancer.pool.release(connection, self._balancer.clock())
        elif connection.closed:
            self._failed(Cause.CONNECT_FAILED)
        else:
            self._send(attempt, connection)

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """Record the failed connect as the result of the probe."""
        if self._attempt is attempt:
            self._failed(cause)

    def _send(self, attempt: Attempt, connection: H1Backend) -> None:
        balancer = self._balancer
        attempt.connection = connection
        connection.attach(self, to_head=self._to_head)
        connection.write(self._head + PROBE_LINE + self._candidate.first_lines)
        attempt.sent_at = balancer.clock()
        timeout = min(self._demerits.probe_timeout, balancer.timeouts.first_byte)
        self._timer = balancer.loop.call_later(timeout, self.give_up)

    def give_up(self) -> None:
        """End the probe without a response: it would be too late to count for the backend."""
        attempt = self._attempt
        if attempt is not None:
            now = self._balancer.clock()
            self._demerits.record_late(self._candidate.state, now - attempt.sent_at, now)
            self._ended(attempt, Cause.FIRST_BYTE_TIMEOUT, now)

    # the response handler of the connection

    def interim(self, head: ResponseHead) -> None:
        """Ignore an interim response."""

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        """Reject a switch of protocols: a probe does not request one."""
        return False

    def trailers(self, fields: Fields) -> None:
        """Ignore trailers."""

    def response_received(self, response: Response, pieces: list[bytes], done: bool) -> None:
        """Rate the backend by the head of the response, and end the probe."""
        attempt, state, now = self._attempt, self._candidate.state, self._balancer.clock()
        if attempt is None:
            return
        if response.cause is Cause.OK:
            self._demerits.record_response(state, now - attempt.sent_at, now)
            self._ended(attempt, Cause.OK, now)
        else:
            self._failed(response.cause, refusal_pause(response) if response.cause is Cause.REFUSED else 0.0)

    def response_body(self, pieces: list[bytes], done: bool) -> None:
        """Never called: the connection is released or closed at the head of the response."""

    def backend_lost(self, cause: Cause) -> None:
        """Record that the connection ended without a response."""
        if self._attempt is not None:
            self._attempt.connection = None
            self._failed(cause)

    def backend_blocked(self) -> None:
        """Do nothing: a probe is one head, which fits into any buffer."""

    def backend_writable(self) -> None:
        """Do nothing: a probe is one head, which fits into any buffer."""

    # the end

    def _failed(self, cause: Cause, pause: float = 0.0) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._balancer.charge(self._route, attempt, cause, pause)
            self._ended(attempt, cause, self._balancer.clock())

    def _ended(self, attempt: Attempt, cause: Cause, now: float) -> None:
        self._attempt = None
        self._probes.running.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        probation = self._candidate.state.probation
        if probation is not None:
            probation.probing = False
        self._balancer.end(attempt, cause, now, sent=True)
