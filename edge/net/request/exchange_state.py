"""The state of one request: its client, its route, its attempts, its bodies and its times.

The steps of the request are in `exchange.py`. Here is what they read and write, what is waited for, and the record
that the log and the metrics get at the end.
"""

from time import time
from typing import Final

from msgspec.structs import astuple

from edge.net.balancing.balancer import Attempt, milliseconds
from edge.net.client import Client
from edge.net.deadlines import COLD_CAUSES, TIMEOUT_CAUSES, Deadline
from edge.net.request.retry_wait import RetryWait
from edge.net.transport.small_reads import retained
from edge.net.upload import NO_UPLOAD, BodySender, upload_of
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.next_step import FailedAttempt
from edge.rules.exchange_observers import LineLog, OutcomeLog, Times
from edge.rules.exchange_records import Attempted, DetailedAttempt, DetailedOutcome, Outcome
from edge.rules.http.framing import Framing
from edge.rules.http.head_validation import Request
from edge.rules.log.logged_fields import logged_fields
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.routing.routes import Route
from edge.rules.traffic.top_sites import LEAST_FAILURE

# Looking up a member of an Enum takes CPython 3.11 75 ns; these are on the way of every request.
_HEAD: Final = Phase.HEAD
_OK: Final = Cause.OK
_FINISHED: Final = Phase.FINISHED
_NOBODY: Final = Blame.NOBODY
_ROUTE_DEADLINE: Final = Deadline.ROUTE
_NONE: Final = Framing.NONE

_PROTOCOLS: Final = ("http/1.0", "http/1.1")
"By minor version, spelled as in ALPN (RFC 7301, section 6)."
_LEAST_FAILURE: Final = LEAST_FAILURE


class ExchangeState:
    """The state of one request with all its attempts. Times are of the worker's clock, in seconds."""

    __slots__ = (
        "_attempt",
        "_began",
        "_client",
        "_context",
        "_deadline",
        "_dialled",
        "_freshness",
        "_head",
        "_id",
        "_request",
        "_resolved_in",
        "_response_size",
        "_route",
        "_sending",
        "_status",
        "_tries",
        "_upload",
        "_wait",
        "_whole_at",
        "environment",
        "phase",
    )

    def __init__(self, client: Client, context: WorkerContext, request: Request) -> None:
        self._client = client
        self._context = context
        self._request = request
        info, ids = client.info, context.request_ids
        # as `RequestIds.next`, inlined to save a call
        self._id = (info.request_id(request.found) if info.trusted else None) or (ids.ready or ids.refill()).pop()
        self._began = self._whole_at = context.clock()
        "The latter: when the request was complete, as far as is known. A slow client delays only itself."
        self.phase = _HEAD
        # for the attempts
        self._route: Route | None = None
        self._freshness = "fresh"
        "Of the cached route; `stale` if it was."
        self.environment: Environment | None = None
        "Where it counts as a request in flight."
        self._resolved_in = 0.0
        "Seconds spent on waiting for the route."
        self._wait: RetryWait | None = None
        self._dialled = 0.0
        "Seconds spent on connecting so far."
        self._head = b""
        "The request head as it is sent, less the lines that differ between attempts; empty until it is needed."
        self._attempt: Attempt | None = None
        "The one under way."
        self._tries: list[Attempt] = []
        "All of them, in order."
        # for the bodies
        self._upload = NO_UPLOAD if request.framing is _NONE else upload_of(request, context.retries.replay_buffer)
        self._sending: BodySender | None = None
        "Sends the request body to the backend of the attempt under way."
        self._status = 0
        "Of the response that was begun; 0 = none was."
        self._response_size = 0
        "Bytes of the response body handed to the client."
        self._deadline = _ROUTE_DEADLINE
        "What is waited for, until `client.deadline`."
        client.deadline = self._began + context.hot.deadline
        context.counts.exchanges += 1
        info.listener.requests += 1

    def __repr__(self) -> str:
        return f"<Exchange {self._request.host} {self.phase.value} tries={len(self._tries)}>"

    @property
    def client_address(self) -> str:
        """On whose account the request is sent; "" = not known."""
        return self._client.info.client_address(self._request.found)

    @property
    def held_bytes(self) -> int:
        """Bytes of its bodies that are in memory. (What waits for the backend is part of the replay buffer.)"""
        connection = self._attempt.connection if self._attempt is not None else None
        if connection is None:
            return self._upload.kept
        unsent = retained(connection.unsent, full=not connection.writable)
        return (self._upload.kept or unsent) + connection.unread

    @property
    def is_responding(self) -> bool:
        """Whether a response was begun."""
        return self._status > 0

    def _hold_body(self) -> None:
        """Read no more of the body for now. A client without a body is still read from: it may leave."""
        if not self._upload.done:
            self._client.pause_body()

    # deadlines

    def completed_late(self) -> None:
        """The client has completed a request without a body only now. As for a head whose last byte has come, all
        times count from here."""
        self._began = self._whole_at = self._context.clock()
        self._deadline = _ROUTE_DEADLINE
        self._client.deadline = self._began + self._context.hot.deadline

    def expect(self, what: Deadline, seconds: float) -> None:
        """Wait for this from now on, for so many seconds."""
        self._deadline = what
        self._client.deadline = self._context.clock() + seconds

    def _expect_in_time(self, what: Deadline) -> None:
        """Wait for this from now on, until the deadline of all attempts together."""
        self._deadline = what
        self._client.deadline = self._whole_at + self._context.timeouts.deadline

    def _timeout_cause(self, what: Deadline) -> Cause:
        cold = self._attempt is not None and self._attempt.cold
        return (COLD_CAUSES if cold else TIMEOUT_CAUSES)[what]

    # records

    def _failed_attempt(self, attempt: Attempt, now: float) -> FailedAttempt:
        """What a decision about a retry needs to know of this attempt, the last one, and of those before it."""
        request, wait = self._request, self._wait
        return FailedAttempt(
            attempt.cause,
            status=attempt.status,
            cold=attempt.cold,
            earlier=[earlier.cause for earlier in self._tries[:-1]],
            waited=wait.attempts_before if wait is not None else 0,
            safe=request.safe,
            replayable=self._upload.replayable,
            from_edge=self._client.info.is_edge(request.found),
            age=now - self._whole_at,
            connecting=self._dialled,
        )

    def _report(self, cause: Cause, blame: Blame, phase: Phase, now: float) -> None:
        """Report how the exchange ended: why, by whom, in which phase, and when. Times are in milliseconds with
        three digits; `milliseconds` is written out, because this is on the way of every request."""
        tries, context = self._tries, self._context
        backend, connect_ms, first_byte_ms, overhead_ms, result = "", 0.0, 0.0, 0.0, None
        if tries:
            last = tries[-1]
            connect_ms, first_byte_ms, result = last.connect_ms, last.first_byte_ms, last.cause
            if last.status:
                backend = last.candidate.backend_id
            if len(tries) > 1:
                for attempt in tries[:-1]:
                    context.exchange_counters.count_retry(attempt.cause)
            elif last.sent_at and self._upload is NO_UPLOAD:
                overhead = last.sent_at - self._began - self._resolved_in - self._dialled
                overhead_ms = int(overhead * 1e6) / 1000.0
        status = self._status or 499
        resolve_ms = int(self._resolved_in * 1e6) / 1000.0 if self._resolved_in else 0.0
        total_ms = int((now - self._began) * 1e6) / 1000.0
        times = (resolve_ms, connect_ms, first_byte_ms, total_ms, overhead_ms)
        context.exchange_counters.count(phase, cause, status, self._upload.size, self._response_size, result, times)
        if self._route is not None and (environment := self._route.environment) is not None:
            top = context.top_sites
            if top.skip and status < _LEAST_FAILURE:
                top.skip -= 1
            else:
                top.record(environment.key, status, total_ms, now)
            if context.counts_sites and environment.site_slot >= 0:
                context.exchange_counters.count_site(environment.site_slot, status, total_ms)
        logs, line_log = context.outcome_logs, context.line_log
        if line_log is not None and not (result is _OK and self._write_line(line_log, cause, times)):
            logs = (line_log, *logs)
        if logs:
            outcome = self._outcome(cause, blame, phase, backend, times)
            if context.logs_details:
                outcome = self._with_details(outcome)
            response = tries[-1].response if tries else None
            for outcome_log in logs:
                outcome_log.write(outcome, self._request, response)

    def _write_line(self, log: LineLog, cause: Cause, times: Times) -> bool:
        """Write the exchange to this log without a record, if it was a usual one; returns whether it was."""
        lines, route, tries = self._context.usual_lines, self._route, self._tries
        if lines is None or cause is not _OK or len(tries) != 1 or route is None:
            return False
        status, response = self._status, route.response
        if response is None or not status or tries[0].status != status:
            return False
        client, request = self._client, self._request
        info = client.info
        line = lines.line(
            request,
            info,
            response,
            tries[0].candidate,
            at=int(time() * 1e6) / 1e6,
            request_id=self._id.decode("latin-1"),
            client=(info.client_address(request.found) or info.address) if info.trusted else info.address,
            protocol=client.protocol or _PROTOCOLS[request.minor],
            stream=client.stream,
            status=status,
            bytes_in=self._upload.size,
            bytes_out=self._response_size,
            times=times,
        )
        return bool(line) and log.write_line(line)

    def age(self, now: float) -> float:
        """Seconds since it began."""
        return now - self._began

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and was reported."""
        return self.phase is _FINISHED

    def log_so_far(self, log: OutcomeLog, now: float, sizes: tuple[int, int] | None) -> None:
        """Log it while it lasts. `sizes`: bytes from the client and to it, if they pass through a tunnel."""
        outcome = self._outcome_so_far(now)
        if sizes is not None:
            outcome.bytes_in, outcome.bytes_out = sizes
        log.write(outcome, self._request, self._tries[-1].response if self._tries else None)

    def _outcome_so_far(self, now: float) -> DetailedOutcome:
        attempt, resolve_ms = self._attempt, milliseconds(self._resolved_in)
        backend = attempt.candidate.backend_id if attempt is not None and attempt.status else ""
        connect_ms, first_byte_ms = (0.0, 0.0) if attempt is None else (attempt.connect_ms, attempt.first_byte_ms)
        times = (resolve_ms, connect_ms, first_byte_ms, milliseconds(now - self._began), 0.0)
        outcome = self._with_details(self._outcome(Cause.OK, _NOBODY, self.phase, backend, times))
        outcome.ended, outcome.status = False, self._status
        return outcome

    def _outcome(
        self,
        cause: Cause,
        blame: Blame,
        phase: Phase,
        backend: str,
        times: Times,
    ) -> Outcome:
        """The record for the logs, without details."""
        info, request, tries = self._client.info, self._request, self._tries
        response = self._route.response if self._route is not None else None
        resolve_ms, connect_ms, first_byte_ms, total_ms, overhead_ms = times
        client = (info.client_address(request.found) or info.address) if info.trusted else info.address
        if len(tries) == 1:  # a list that is written out is made without the call of a comprehension
            t = tries[0]
            attempts = [Attempted(t.candidate.backend_id, t.cause, t.status, t.connect_ms, t.first_byte_ms)]
        else:
            attempts = [
                Attempted(t.candidate.backend_id, t.cause, t.status, t.connect_ms, t.first_byte_ms) for t in tries
            ]
        # By position, in the order of the declaration: names cost msgspec a microsecond here.
        return Outcome(
            int(time() * 1e6) / 1e6,
            self._id.decode("latin-1"),
            client,
            request.method.decode(),
            request.host,
            request.target.decode("latin-1"),
            self._status or 499,
            self._upload.size,
            self._response_size,
            response.site if response is not None else "",
            response.environment if response is not None else "",
            backend,
            phase,
            blame,
            cause,
            resolve_ms,
            connect_ms,
            first_byte_ms,
            total_ms,
            overhead_ms,
            attempts,
            self._client.protocol or _PROTOCOLS[request.minor],
            self._client.stream,
            info.tls,
            info.resumed,
            info.sni,
            info.certificate_subject,
        )

    def _with_details(self, outcome: Outcome) -> DetailedOutcome:
        """The same record with all details."""
        info, request, tries = self._client.info, self._request, self._tries
        agent, referer, trace_id = logged_fields(request)
        is_known = self._route is not None and self._route.response is not None
        outcome.attempts = [_attempted(attempt) for attempt in tries]
        detailed = DetailedOutcome(*astuple(outcome))
        detailed.scheme = info.scheme.decode()
        detailed.client_port = info.client_port if outcome.client == info.address else 0
        detailed.peer = info.peer
        detailed.peer_port = info.peer_port
        detailed.listener = info.listener.name
        detailed.user_agent = agent
        detailed.referer = referer
        detailed.trace_id = trace_id
        detailed.backend_address = _address(tries[-1]) if outcome.backend else ""
        detailed.freshness = "looked_up" if self._resolved_in else self._freshness if is_known else ""
        detailed.queue_ms = 0.0 if self._wait is None else milliseconds(self._wait.waited)
        detailed.retries = max(0, len(tries) - 1)
        detailed.phase_name = outcome.phase.name.lower()
        detailed.blame_name = outcome.blame.name.lower()
        return detailed


def _attempted(attempt: Attempt) -> DetailedAttempt:
    """The record of one attempt."""
    return DetailedAttempt(
        attempt.candidate.backend_id,
        attempt.cause,
        attempt.status,
        attempt.connect_ms,
        attempt.first_byte_ms,
        _address(attempt),
    )


def _address(attempt: Attempt) -> str:
    """The address of its backend, as in the log."""
    return attempt.candidate.endpoint[len(attempt.candidate.backend_id) + 1 :]
