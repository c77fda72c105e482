"""An exchange with a span for itself and one for each attempt (OpenTelemetry), for workers that trace requests.

Whether it is recorded is decided first: of others, only the trace context is passed on. Everything that is recorded
is put together when the exchange has ended.
"""

from time import time

from edge.net.balancing.balancer import Attempt
from edge.net.client import Client
from edge.net.exchange import Exchange
from edge.net.h1.h1_backend import H1Backend
from edge.net.request.request_tracer import RequestSpan, RequestTracer
from edge.net.worker_context import WorkerContext
from edge.rules.exchange_records import DetailedOutcome, Outcome
from edge.rules.http.h1_encode import forwarded_head
from edge.rules.http.head_validation import Request
from edge.rules.http.trace_context import has_trace_context, trace_lines, without_trace_lines
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.trace_records import AttemptTrace, ExchangeTrace


class TracedExchange(Exchange):
    """An exchange of a worker whose context has a tracer."""

    __slots__ = ("_ended", "_plain_head", "_span", "_spans", "_tracer")

    def __init__(self, client: Client, context: WorkerContext, request: Request) -> None:
        super().__init__(client, context, request)
        tracer: RequestTracer | None = context.tracer
        self._tracer = tracer
        self._span: RequestSpan | None = None
        if tracer is not None:
            self._span = tracer.begin(request.fields, trusted=client.info.trusted)
        self._plain_head = b""
        "As `_head`, without a trace context."
        self._spans: dict[int, int] = {}
        "Ids of the spans of attempts, by the number of the attempt."
        self._ended: dict[int, float] = {}
        "When attempts ended after which there was another one, by the number of the attempt."

    def _send(self, attempt: Attempt, connection: H1Backend) -> None:
        span, tracer = self._span, self._tracer
        if span is not None and tracer is not None:
            if not self._plain_head:
                head = forwarded_head(self._request, self._client.info, self._id)
                self._plain_head = without_trace_lines(head) if has_trace_context(self._request.fields) else head
            number = len(self._tries)
            self._spans[number] = parent = tracer.new_span_id() if span.sampled else span.span_id
            self._head = self._plain_head + trace_lines(
                span.trace_id, parent, sampled=span.sampled, state=span.state
            )
        super()._send(attempt, connection)

    def _failed(self, cause: Cause, pause: float = 0.0) -> bool:
        self._ended[len(self._tries)] = self._context.clock()
        return super()._failed(cause, pause)

    def _report(self, cause: Cause, blame: Blame, phase: Phase, now: float) -> None:
        super()._report(cause, blame, phase, now)
        span, tracer = self._span, self._tracer
        if span is not None and tracer is not None and span.sampled:
            tracer.log.write(self._trace(span, tracer, cause, blame, now))

    def _with_details(self, outcome: Outcome) -> DetailedOutcome:
        detailed = super()._with_details(outcome)
        if self._span is not None:  # which is of a trace of our own, unless the client's is believed
            detailed.trace_id = f"{self._span.trace_id:032x}"
        return detailed

    def _trace(
        self, span: RequestSpan, tracer: RequestTracer, cause: Cause, blame: Blame, now: float
    ) -> ExchangeTrace:
        info, request, epoch = self._client.info, self._request, time() - now
        response = self._route.response if self._route is not None else None
        agents = [value for name, value in request.fields if name.lower() == b"user-agent"]
        return ExchangeTrace(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_id=span.parent.span_id if span.parent is not None else 0,
            state=span.state.decode("latin-1"),
            began=epoch + self._began,
            ended=epoch + now,
            id=self._id.decode("latin-1"),
            method=request.method.decode(),
            scheme=info.scheme.decode(),
            host=request.host,
            path=request.target.partition(b"?")[0].decode("latin-1"),
            protocol=self._client.protocol or f"http/1.{request.minor}",
            client=self.client_address,
            peer=info.address,
            user_agent=agents[0].decode("latin-1") if agents else "",
            status=self._status or 499,
            site=response.site if response is not None else "",
            environment=response.environment if response is not None else "",
            cause=cause,
            blame=blame,
            attempts=[self._attempt_trace(n, each, tracer, epoch, now) for n, each in enumerate(self._tries, 1)],
        )

    def _attempt_trace(
        self, number: int, attempt: Attempt, tracer: RequestTracer, epoch: float, now: float
    ) -> AttemptTrace:
        backend = attempt.candidate.backend
        is_last = number == len(self._tries)
        return AttemptTrace(
            span_id=self._spans.get(number) or tracer.new_span_id(),
            backend=attempt.candidate.backend_id,
            address=backend.address,
            port=backend.port,
            began=epoch + attempt.began,
            ended=epoch + (now if is_last else self._ended.get(number, now)),
            cause=attempt.cause,
            status=attempt.status,
            connect_ms=attempt.connect_ms,
            first_byte_ms=attempt.first_byte_ms,
            cold=attempt.cold,
        )
