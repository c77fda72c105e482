"""Spans of an exchange: their attributes, and how they are sent. The collector may hang; nobody waits for it."""

import time

import msgspec
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from edge.admin.traces.span_exporter import SpanLog
from edge.rules.outcomes import Blame, Cause
from edge.rules.settings import TraceSettings
from edge.rules.trace_records import AttemptTrace, ExchangeTrace
from tests.support.otlp_receiver import OtlpReceiver

REFUSED = AttemptTrace(
    span_id=11,
    backend="b7c1",
    address="10.4.7.12",
    port=26607,
    began=1000.001,
    ended=1000.002,
    cause=Cause.REFUSED,
    status=503,
    connect_ms=0.2,
    first_byte_ms=0.5,
    cold=False,
)
OK = msgspec.structs.replace(
    REFUSED, span_id=12, backend="c0d9", began=1000.002, ended=1000.02, cause=Cause.OK, status=200
)
TRACE = ExchangeTrace(
    trace_id=1,
    span_id=10,
    parent_id=9,
    state="vendor=x",
    began=1000.0,
    ended=1000.02,
    id="abc",
    method="GET",
    scheme="https",
    host="shop.test",
    path="/node/1",
    protocol="h2",
    client="203.0.113.9",
    peer="192.0.2.1",
    user_agent="curl/8",
    status=200,
    site="acme",
    environment="live",
    cause=Cause.OK,
    blame=Blame.NOBODY,
    attempts=[REFUSED, OK],
)


@pytest.fixture
def memory():
    return InMemorySpanExporter()


@pytest.fixture
def log(memory):
    spans = SpanLog(TraceSettings(), {"host.name": "edge-1"}, "", memory)
    yield spans
    spans.close(5.0)


def test_one_span_for_the_exchange_and_one_for_each_attempt(log, memory):
    log.write(TRACE)
    log.close(5.0)
    exchange, first, second = memory.get_finished_spans()
    assert (exchange.name, exchange.kind) == ("GET", SpanKind.SERVER)
    assert (exchange.context.trace_id, exchange.context.span_id, exchange.parent.span_id) == (1, 10, 9)
    assert exchange.context.trace_state.get("vendor") == "x"
    assert (exchange.start_time, exchange.end_time) == (1_000_000_000_000, 1_000_020_000_000)
    assert dict(exchange.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "https",
        "url.path": "/node/1",
        "server.address": "shop.test",
        "network.protocol.name": "http",
        "network.protocol.version": "2",
        "network.peer.address": "192.0.2.1",
        "client.address": "203.0.113.9",
        "user_agent.original": "curl/8",
        "styx.request_id": "abc",
        "styx.site": "acme",
        "styx.environment": "live",
        "styx.cause": "ok",
        "styx.blame": "nobody",
    }
    assert exchange.resource.attributes["host.name"] == "edge-1"
    assert exchange.resource.attributes["service.name"] == "styx"
    for attempt, number in ((first, 11), (second, 12)):
        assert (attempt.kind, attempt.context.span_id, attempt.parent.span_id) == (SpanKind.CLIENT, number, 10)
    assert first.attributes["error.type"] == first.attributes["styx.result"] == "refused"
    assert first.status.status_code is StatusCode.ERROR
    assert (first.attributes["server.address"], first.attributes["server.port"]) == ("10.4.7.12", 26607)
    assert "http.request.resend_count" not in first.attributes
    assert (second.attributes["http.request.resend_count"], second.attributes["styx.backend"]) == (1, "c0d9")
    assert "error.type" not in second.attributes
    assert exchange.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 404}, None),
        ({"status": 499, "cause": Cause.CLIENT_GONE}, None),
        ({"status": 500}, "500"),
        ({"status": 503, "cause": Cause.NO_BACKENDS}, "no_backends"),
        ({"cause": Cause.TRUNCATED}, "truncated"),
    ],
)
def test_what_is_an_error_of_the_exchange(log, changes, error):
    span = log.spans(msgspec.structs.replace(TRACE, attempts=[], **changes))[0]
    assert span.attributes.get("error.type") == error
    assert ("http.response.status_code" in span.attributes) is (changes.get("status") != 499)


def test_methods_that_clients_make_up_have_one_name(log):
    span = log.spans(msgspec.structs.replace(TRACE, method="X" * 99, attempts=[]))[0]
    assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert span.attributes["http.request.method_original"] == "X" * 32


def test_they_are_sent_as_otlp():
    with OtlpReceiver() as receiver:
        log = SpanLog(TraceSettings(endpoint=receiver.url), {"host.name": "edge-1"}, "s3cret")
        log.write(TRACE)
        log.close(20.0)
        assert [span.name for span in receiver.spans] == ["GET"] * 3
        assert receiver.headers[0]["authorization"] == "Bearer s3cret"
        assert receiver.resources[0]["host.name"] == "edge-1"


def test_a_collector_that_hangs_delays_nobody_and_the_queue_has_a_bound():
    with OtlpReceiver() as receiver:
        log = SpanLog(TraceSettings(endpoint=receiver.url, queue=64), {}, "")
        log.write(TRACE)
        receiver.open.clear()
        for _ in range(64):  # as soon as there is a batch, it is sent
            log.write(TRACE)
        assert receiver.asked.acquire(timeout=100)
        before = time.thread_time()
        for _ in range(1000):
            log.write(TRACE)
        assert time.thread_time() - before < 2.0
        assert len(log._processor._batch_processor._queue) == 64
        log.close(0.01)  # and whoever stops does not wait for it either
        log._processor.span_exporter.shutdown()
