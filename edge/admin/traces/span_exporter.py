"""Converts traced exchanges to spans, and exports them to an OpenTelemetry collector (OTLP over HTTP, in a thread).

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP spans; what only styx has begins
with `styx.`. The module needs the extra `traces`, and is imported only when traces are on.
"""

import signal
import threading
from collections.abc import Mapping
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from edge import __version__
from edge.rules.outcomes import Cause
from edge.rules.settings.traces import TraceSettings
from edge.rules.trace_records import AttemptTrace, ExchangeTrace

BATCH: Final = 256
"Most spans in one request to the collector."
DELAY: Final = 2000.0
"Milliseconds for which spans are gathered."
TIMEOUT: Final = 10.0
"Seconds for the collector to take a batch; then its spans are lost."
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
CLIENT_LEFT: Final = 499
METHODS: Final = frozenset(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"]
)
"Others, which clients make up, are `_OTHER`."

LONGEST_METHOD: Final = 32

Attributes = dict[str, str | int | float | bool]


class SpanLog:
    """Takes over ended traces; a `TraceLog`. `exporter`: where spans are sent; None = the collector of the
    settings."""

    def __init__(
        self, settings: TraceSettings, resource: Mapping[str, str], token: str, exporter: SpanExporter | None = None
    ) -> None:
        self._resource = Resource(
            {"service.name": settings.service_name, "service.version": __version__, **resource}
        )
        self._scope = InstrumentationScope("styx", __version__)
        exporter = exporter or OTLPSpanExporter(
            f"{settings.endpoint}/v1/traces",
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=TIMEOUT,
        )
        # Its thread inherits the mask: the main thread handles signals.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._processor = BatchSpanProcessor(
                exporter, settings.queue, DELAY, min(BATCH, settings.queue), TIMEOUT * 1000
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def write(self, trace: ExchangeTrace) -> None:
        """Hand its spans to the thread that sends them. When the queue is full, the oldest spans in it are lost."""
        for span in self.spans(trace):
            self._processor.on_end(span)

    def close(self, timeout: float) -> None:
        """Send what waits, for at most so many seconds; what is left is lost."""
        thread = threading.Thread(target=self._processor.shutdown, name="styx-traces-close", daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        thread.join(timeout)

    def spans(self, trace: ExchangeTrace) -> list[ReadableSpan]:
        """The span of the exchange, and one for each attempt."""
        state = TraceState.from_header([trace.state]) if trace.state else TraceState()
        context = SpanContext(trace.trace_id, trace.span_id, False, SAMPLED, state)
        parent = SpanContext(trace.trace_id, trace.parent_id, True, SAMPLED, state) if trace.parent_id else None
        name = trace.method if trace.method in METHODS else "HTTP"
        spans = [self._span(name, context, parent, SpanKind.SERVER, _of_exchange(trace), trace.began, trace.ended)]
        for resends, attempt in enumerate(trace.attempts):
            own = SpanContext(trace.trace_id, attempt.span_id, False, SAMPLED, state)
            attributes = _of_attempt(trace, attempt, resends)
            spans.append(self._span(name, own, context, SpanKind.CLIENT, attributes, attempt.began, attempt.ended))
        return spans

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        began: float,
        ended: float,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if "error.type" in attributes else StatusCode.UNSET),
            start_time=int(began * 1e9),
            end_time=int(max(began, ended) * 1e9),
            instrumentation_scope=self._scope,
        )


def _of_exchange(trace: ExchangeTrace) -> Attributes:
    """The attributes of the span of an exchange. Of a server's span, only 5xx is an error, or that the client got
    no whole response."""
    attributes: Attributes = {
        **_of_method(trace.method),
        "url.scheme": trace.scheme,
        "url.path": trace.path,
        "server.address": trace.host,
        "network.protocol.name": "http",
        "network.protocol.version": trace.protocol.removeprefix("http/").removeprefix("h"),
        "network.peer.address": trace.peer,
        "client.address": trace.client or trace.peer,
        "user_agent.original": trace.user_agent,
        "styx.request_id": trace.id,
        "styx.site": trace.site,
        "styx.environment": trace.environment,
        "styx.cause": trace.cause.value,
        "styx.blame": trace.blame.name.lower(),
    }
    if trace.status != CLIENT_LEFT:  # the client got none
        attributes["http.response.status_code"] = trace.status
    if trace.status >= 500 or trace.cause in (Cause.TRUNCATED, Cause.STALLED):
        attributes["error.type"] = trace.cause.value if trace.cause is not Cause.OK else str(trace.status)
    return {name: value for name, value in attributes.items() if value != ""}


def _of_attempt(trace: ExchangeTrace, attempt: AttemptTrace, resends: int) -> Attributes:
    """The attributes of the span of an attempt. Of a client's span, 4xx is an error too."""
    attributes: Attributes = {
        **_of_method(trace.method),
        "server.address": attempt.address,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "styx.backend": attempt.backend,
        "styx.result": attempt.cause.value,
        "styx.connect_ms": attempt.connect_ms,
        "styx.first_byte_ms": attempt.first_byte_ms,
        "styx.cold": attempt.cold,
    }
    if attempt.port:
        attributes["server.port"] = attempt.port
    if resends:
        attributes["http.request.resend_count"] = resends
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if attempt.cause is not Cause.OK:
        attributes["error.type"] = attempt.cause.value
    elif attempt.status >= 400:
        attributes["error.type"] = str(attempt.status)
    return attributes


def _of_method(method: str) -> Attributes:
    if method in METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method[:LONGEST_METHOD]}
