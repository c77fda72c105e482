"""Traces over real sockets: what backends get, and what the collector receives."""

import asyncio

import pytest

from edge.net.h1 import h1_connection
from edge.net.traced_exchange import TracedExchange
from tests.support.otlp_receiver import OtlpReceiver, attributes

CLIENT_TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STATE = ("tracestate", "vendor=x")


def parent(flags="01"):
    return ("traceparent", f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-{flags}")


@pytest.fixture
def collector():
    with OtlpReceiver() as receiver:
        yield receiver


def trace(scene, collector, **settings):
    scene.settings(traces={"endpoint": collector.url, "sample": 1.0, **settings})


async def received(scene, collector, count):
    """The spans so far, the exchange's before those of its attempts."""
    processor = scene.worker._traces._log._processor
    await asyncio.to_thread(processor.force_flush)
    assert len(collector.spans) == count
    return collector.spans


def sent(backend):
    """The trace context that a backend got: trace, span, flags."""
    return backend.requests[-1]["traceparent"].decode().removeprefix("00-").split("-")


async def test_an_exchange_with_two_attempts(scene, collector):
    trace(scene, collector)
    full, live = scene.refusing(), scene.backend(status=204)
    scene.route("shop.test", [full, live])
    assert (await scene.get("shop.test", "/a?secret=1", [("User-Agent", "curl/8")])).status == 204
    exchange, first, second = await received(scene, collector, 3)
    assert exchange.parent_span_id == b""
    assert {first.parent_span_id, second.parent_span_id} == {exchange.span_id}
    assert [attributes(span)["styx.result"] for span in (first, second)] == ["refused", "ok"]
    assert attributes(first)["styx.backend"] == full.name
    assert attributes(exchange)["styx.site"] == "shop.test"
    assert attributes(exchange)["url.path"] == "/a"
    assert attributes(exchange)["user_agent.original"] == "curl/8"
    times = [exchange.start_time_unix_nano, first.start_time_unix_nano, first.end_time_unix_nano]
    times += [second.start_time_unix_nano, second.end_time_unix_nano, exchange.end_time_unix_nano]
    assert times[0] <= times[1] <= times[2]
    assert times[3] <= times[4] == times[5]
    for backend, span in ((full, first), (live, second)):
        assert sent(backend) == [span.trace_id.hex(), span.span_id.hex(), "01"]


async def test_the_trace_of_a_trusted_proxy_is_continued(scene, collector):
    trace(scene, collector, sample=0.0)
    scene.listeners({"trusted": ("127.0.0.0/8",)})
    backend = scene.backend()
    scene.route("shop.test", [backend])
    await scene.get("shop.test", headers=[parent(), STATE])
    exchange, attempt = await received(scene, collector, 2)
    assert (exchange.trace_id.hex(), exchange.parent_span_id.hex()) == (CLIENT_TRACE, CLIENT_SPAN)
    assert exchange.trace_state == "vendor=x"
    assert sent(backend) == [CLIENT_TRACE, attempt.span_id.hex(), "01"]
    assert backend.requests[0]["tracestate"] == b"vendor=x"
    await scene.get("shop.test", headers=[parent("00")])
    assert sent(backend)[::2] == [CLIENT_TRACE, "00"]
    await received(scene, collector, 2)  # whoever began it does not record it


async def test_the_trace_of_anybody_else_is_replaced(scene, collector):
    trace(scene, collector, sample=0.0)
    backend = scene.backend()
    scene.route("shop.test", [backend])
    await scene.get("shop.test", headers=[parent(), STATE])
    trace_id, span_id, flags = sent(backend)
    assert trace_id != CLIENT_TRACE
    assert span_id != CLIENT_SPAN
    assert flags == "00"
    assert "tracestate" not in backend.requests[0]
    await received(scene, collector, 0)


async def test_an_exchange_without_attempts_and_one_that_cannot_connect(scene, collector):
    trace(scene, collector)
    assert (await scene.get("nowhere.test")).status == 404
    [exchange] = await received(scene, collector, 1)
    assert attributes(exchange)["styx.cause"] == "unknown_host"
    scene.route("down.test", [scene.dead()])
    assert (await scene.get("down.test")).status == 502
    _, failed, *attempts = await received(scene, collector, 1 + 1 + len(scene.attempts))
    assert attributes(failed)["error.type"] == "connect_failed"
    assert {attributes(span)["styx.result"] for span in attempts} == {"connect_failed"}
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


async def test_a_body_and_a_retry(scene, collector):
    trace(scene, collector)
    full, live = scene.refusing(), scene.backend()
    scene.route("shop.test", [full, live])
    assert (await scene.post("shop.test", body=b"x" * 1000)).status == 200
    _, first, second = await received(scene, collector, 3)
    assert sent(full)[1] == first.span_id.hex()
    assert sent(live)[1] == second.span_id.hex()
    assert live.requests[0].body == b"x" * 1000


async def test_without_traces_nothing_is_different(scene):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    await scene.get("shop.test", headers=[parent(), STATE])
    assert backend.requests[0]["traceparent"].decode() == parent()[1]
    assert scene.worker.context.tracer is None
    assert h1_connection.checked is not TracedExchange


async def test_the_access_log_has_the_trace_that_backends_get(scene, collector):
    trace(scene, collector, sample=0.0)
    scene.settings(access_log={"fields": ("trace_id",)})
    backend = scene.backend()
    scene.route("shop.test", [backend])
    await scene.get("shop.test", headers=[parent()])
    assert scene.outcome.trace_id == sent(backend)[0]
    assert sent(backend)[0] != CLIENT_TRACE, "the client is not trusted"
