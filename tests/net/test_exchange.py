"""Exchanges whose client is no connection: what they hand over, and to whom they turn when an attempt fails."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from edge.net.deadlines import COLD_CAUSES, TIMEOUT_CAUSES, Deadline
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase
from edge.rules.routing.route_response import Backend, RouteResponse
from tests.net.conftest import Bench
from tests.support.collecting_client import CHECKED, CollectingClient
from tests.support.fake_transports import FakeTransport, turns

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 503 Full\r\nX-Styx-Refused: full\r\nContent-Length: 0\r\n\r\n"
GATEWAY_ERROR = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
SERVER_ERROR = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
GARBAGE = b"not HTTP at all\r\n\r\n"
SILENCE = b""
GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 6\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
DEADLINE = 30


class Stage:
    """Two backends of shop.test, and what each of their connections responds, in the order in which it is made."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.context = bench.worker.context
        self.responses: list[bytes] = []
        backends = (Backend("b0", "192.0.2.1", 80), Backend("b1", "192.0.2.2", 80))
        answer = RouteResponse("shop.test", "shop", "live", 2, backends)
        now = self.context.clock()
        self.context.table.put("shop.test", answer, cache_control="max-age=1000", now=now, rand=0.0)

    def client(self) -> CollectingClient:
        return CollectingClient(self.context)

    @property
    def attempts(self) -> list[str]:
        [outcome] = self.bench.outcomes
        return [attempt.result for attempt in outcome.attempts]

    @property
    def backends(self) -> list[Any]:
        return self.bench.loop.transports

    async def until_connected(self, count: int = 1) -> FakeTransport:
        """The connection to a backend that was made as the `count`th one, with a request on it."""
        async with asyncio.timeout(DEADLINE):
            while len(self.backends) < count or b"\r\n\r\n" not in self.backends[count - 1].written:
                await turns(1)
        return self.backends[count - 1]


@pytest.fixture
def stage(bench: Bench) -> Iterator[Stage]:
    stage = Stage(bench)
    connect = bench.loop.create_connection

    async def connected(factory, host, port):
        transport, connection = await connect(factory, host, port)
        transport.answer = stage.responses.pop(0)
        return transport, connection

    bench.loop.create_connection = connected  # type: ignore[method-assign]
    yield stage
    assert bench.worker.context.counts.exchanges == 0


async def ended(client: CollectingClient) -> None:
    async with asyncio.timeout(DEADLINE):
        await client.ended.wait()


@pytest.mark.parametrize(
    ("first", "head", "attempts", "status"),
    [
        (REFUSED, GET, ["refused", "ok"], 200),
        (REFUSED, POST, ["refused", "ok"], 200),
        (GATEWAY_ERROR, GET, ["gateway_error", "ok"], 200),
        (GATEWAY_ERROR, POST, ["gateway_error"], 502),
        (GARBAGE, GET, ["bad_answer", "ok"], 200),
        (GARBAGE, POST, ["bad_answer"], 502),
        (SERVER_ERROR, GET, ["server_error"], 500),
    ],
)
async def test_another_attempt(stage, first, head, attempts, status):
    """One refused is repeated whatever it is; one that may have been carried out, only if it is safe."""
    stage.responses += [first, OK]
    client = stage.client()
    client.ask(head, *([b"abcdef"] if head is POST else []))
    await ended(client)
    assert (client.status, client.ending) == (status, "end")
    assert stage.attempts == attempts
    if status == 200:
        assert client.body == b"ok"
        assert head is GET or stage.bench.requests[-1].endswith(b"\r\n\r\nabcdef")


async def test_a_local_reply_when_all_refuse(stage):
    stage.responses += [REFUSED] * 2
    client = stage.client()
    client.ask(GET)
    await ended(client)
    assert client.response is None
    assert (client.local_reply.status, client.local_reply.reason) == (503, "all_refused")
    assert set(stage.attempts) == {"refused"}
    assert len(stage.attempts) >= 2


async def test_a_body_that_cannot_be_sent_again(stage):
    room = stage.context.retries.replay_buffer
    stage.responses += [SILENCE, OK]
    client = stage.client()
    exchange = client.ask(CHUNKED, more=True)
    backend = await stage.until_connected()
    exchange.body([b"x" * (room + 1)], done=False)
    exchange.body([b"x"], done=True)
    backend.protocol.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        while not backend.written.endswith(b"\r\n0\r\n\r\n"):  # noqa: ASYNC110 - a moment after the 100
            await asyncio.sleep(0.001)
    backend.protocol.data_received(REFUSED)
    await ended(client)
    assert client.local_reply.reason == "all_refused"
    assert stage.attempts == ["refused"]


EXPECTING = CHUNKED.replace(b"Transfer", b"Expect: 100-continue\r\nTransfer")


async def test_a_client_hears_no_100_of_a_backend_that_then_refuses(stage):
    """nginx sends a 100 before it refuses, in two writes. The client still has its body, however large: the second
    backend gets it whole."""
    stage.responses += [SILENCE, OK]
    client = stage.client()
    exchange = client.ask(EXPECTING, more=True)
    first = await stage.until_connected()
    await turns(5)  # the 100 has come
    assert client.interims == []
    first.protocol.data_received(REFUSED)
    second = await stage.until_connected(2)
    async with asyncio.timeout(DEADLINE):
        while not client.interims:  # noqa: ASYNC110 - a moment after the 100
            await asyncio.sleep(0.001)
    exchange.body([b"x" * (stage.context.retries.replay_buffer + 1)], done=True)
    await ended(client)
    assert (client.status, client.interims) == (200, [100])
    assert second.written.endswith(b"x\r\n0\r\n\r\n")
    assert stage.attempts == ["refused", "ok"]


async def test_a_backend_whose_100_is_held_back_has_answered_in_time(stage):
    """Its deadline was for the 100; from then on it is that of the client's body."""
    stage.responses.append(OK)
    client = stage.client()
    exchange = client.ask(EXPECTING, more=True)
    await stage.until_connected()
    timeouts = stage.context.timeouts
    assert client.deadline > stage.context.clock() + timeouts.first_byte - DEADLINE
    await turns(5)  # the 100 has come
    assert client.interims == []
    assert client.deadline < stage.context.clock() + timeouts.body + 1
    exchange.body([b"x"], done=True)
    await ended(client)


async def test_a_client_hears_the_100_before_a_response_that_begins_early(stage):
    stage.responses.append(SILENCE)
    client = stage.client()
    exchange = client.ask(EXPECTING, more=True)
    backend = await stage.until_connected()
    await turns(5)  # the 100 has come
    backend.protocol.data_received(OK[:-1])
    assert (client.status, client.interims) == (200, [100])
    exchange.body([b"x"], done=True)
    backend.protocol.data_received(OK[-1:])
    await ended(client)


async def test_a_client_whose_body_can_be_sent_again_hears_the_100_at_once(stage):
    stage.responses += [SILENCE, OK]
    client = stage.client()
    exchange = client.ask(POST.replace(b"Content", b"Expect: 100-continue\r\nContent"), more=True)
    first = await stage.until_connected()
    await turns(5)
    assert client.interims == [100]
    exchange.body([b"abcdef"], done=True)
    first.protocol.data_received(REFUSED)
    await ended(client)
    assert (client.status, stage.attempts) == (200, ["refused", "ok"])


async def test_interim_responses_and_trailers_are_handed_over(stage):
    stage.responses.append(
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    client = stage.client()
    client.ask(GET)
    await ended(client)
    assert client.interims == [103]
    assert (client.status, client.body, client.trailers) == (200, b"ok", b"X-Sum: 1\r\n")


async def test_a_truncated_response_is_aborted(stage):
    """Its head was handed over: there is no other attempt."""
    stage.responses.append(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client = stage.client()
    client.ask(GET)
    backend = await stage.until_connected()
    async with asyncio.timeout(DEADLINE):
        while not client.status:
            await turns(1)
    backend.lose()
    await ended(client)
    assert (client.ending, client.body) == ("abort", b"half")
    assert stage.attempts == ["truncated"]


async def test_a_client_that_takes_no_more_holds_up_its_backend(stage):
    stage.responses.append(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client = stage.client()
    exchange = client.ask(GET)
    backend = await stage.until_connected()
    await turns()
    exchange.client_blocked()
    assert backend.paused
    exchange.client_writable()
    assert not backend.paused
    backend.protocol.data_received(b" whole")
    await ended(client)
    assert client.body == b"half whole"


async def test_a_body_waits_for_a_backend(stage):
    stage.responses.append(SILENCE)
    client = stage.client()
    exchange = client.ask(POST, b"abc", more=True)
    assert client.paused
    backend = await stage.until_connected()
    assert backend.written.endswith(b"\r\n\r\nabc")
    assert not client.paused
    exchange.backend_blocked()
    assert client.paused
    exchange.backend_writable()
    assert not client.paused
    exchange.body([b"def"], done=True)
    backend.protocol.data_received(OK)
    await ended(client)
    assert backend.written.endswith(b"\r\n\r\nabcdef")


# the record at the end


async def test_the_outcome_of_a_request_that_was_sent_once(stage):
    stage.responses.append(OK)
    client = stage.client()
    client.ask(GET)
    await ended(client)
    [outcome] = stage.bench.outcomes
    [attempt] = outcome.attempts
    assert (outcome.cause, outcome.blame, outcome.phase) == (Cause.OK, Blame.NOBODY, Phase.FINISHED)
    assert (outcome.status, outcome.bytes_in, outcome.bytes_out) == (200, 0, 2)
    assert (outcome.site, outcome.environment, outcome.backend) == ("shop", "live", attempt.backend)
    assert (outcome.connect_ms, outcome.first_byte_ms) == (attempt.connect_ms, attempt.first_byte_ms)
    assert outcome.resolve_ms == 0.0
    assert 0.0 < outcome.overhead_ms < outcome.total_ms
    assert outcome.total_ms >= outcome.connect_ms + outcome.first_byte_ms - 0.002  # each is cut to three digits


async def test_the_outcome_of_a_request_that_was_retried(stage):
    """Its overhead is not known; its times are those of the last attempt, and so is its backend."""
    stage.responses += [REFUSED, OK]
    client = stage.client()
    client.ask(GET)
    await ended(client)
    [outcome] = stage.bench.outcomes
    first, last = outcome.attempts
    assert (first.result, first.status, last.result, last.status) == (Cause.REFUSED, 503, Cause.OK, 200)
    assert outcome.overhead_ms == 0.0
    assert (outcome.backend, outcome.first_byte_ms) == (last.backend, last.first_byte_ms)
    assert first.backend != last.backend


async def test_the_outcome_of_a_request_without_a_response(stage):
    """Nobody responded: there is no backend in it, but the attempt is."""
    stage.responses.append(SILENCE)
    client = stage.client()
    exchange = client.ask(GET)
    await stage.until_connected()
    exchange.client_gone()
    [outcome] = stage.bench.outcomes
    assert (outcome.cause, outcome.phase, outcome.status, outcome.backend) == (
        "client_gone",
        Phase.RESPONSE,
        499,
        "",
    )
    assert [(attempt.status, attempt.first_byte_ms) for attempt in outcome.attempts] == [(0, 0.0)]


async def test_a_request_that_its_client_completed_late(stage):
    """As a stream of HTTP/2 that ends seconds after its head: that is neither overhead nor the backend's time."""
    stage.responses.append(OK)
    client, context = stage.client(), stage.context
    exchange = CHECKED(client, context, context.head_reader.request(GET))
    exchange.expect(Deadline.REQUEST_BODY, 20.0)
    before = context.clock
    context.clock = lambda: before() + 6.0
    exchange.completed_late()
    exchange.begin()
    assert client.deadline >= before() + 6.0 + min(context.hot.deadline, context.timeouts.connect)
    await ended(client)
    [outcome] = stage.bench.outcomes
    assert outcome.cause is Cause.OK
    assert max(outcome.overhead_ms, outcome.total_ms, outcome.connect_ms) < 6000.0


# deadlines


async def test_what_was_waited_for_tells_what_has_failed(stage):
    least = stage.context.hot.least_body
    stage.responses += [SILENCE] * 2
    now = stage.context.clock()
    silent, uploading = stage.client(), stage.client()
    waits_for_response = silent.ask(GET)
    await stage.until_connected(1)
    head = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % (least + 10)
    waits_for_body = uploading.ask(head, b"x", more=True)
    await stage.until_connected(2)
    waits_for_body.body([b"x" * least], done=False)
    timeouts = stage.context.timeouts
    assert now + timeouts.first_byte <= silent.deadline <= now + timeouts.first_byte + DEADLINE
    waits_for_response.deadline_passed(silent.deadline)
    waits_for_body.deadline_passed(uploading.deadline)  # some came: it gets as much time again
    assert not uploading.ending
    waits_for_body.deadline_passed(uploading.deadline)
    assert silent.local_reply.reason == "first_byte_timeout"
    assert uploading.local_reply.reason == "request_timeout"
    assert [outcome.cause for outcome in stage.bench.outcomes] == ["first_byte_timeout", "request_timeout"]


def test_every_deadline_has_a_cause_but_those_that_end_nothing():
    assert set(Deadline) - set(TIMEOUT_CAUSES) == {Deadline.ATTEMPT, Deadline.PERMISSION}
    assert set(COLD_CAUSES) == set(TIMEOUT_CAUSES)
    assert all(VERDICTS[cause].status for cause in {*TIMEOUT_CAUSES.values(), *COLD_CAUSES.values()})
    assert COLD_CAUSES[Deadline.RESPONSE] is Cause.COLD_START_TIMEOUT
