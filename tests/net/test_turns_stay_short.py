"""What one connection brings is read within the time of a turn; the rest waits, and arrives all the same."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from edge.net.h1.h1_backend import INTERIMS_AT_ONCE, MAX_INTERIM_BYTES, MAX_INTERIMS
from edge.net.transport.read_budget import SHORT, ReadBudget
from edge.rules.http.framing import MAX_SMALL
from tests.net.conftest import Bench, new_pool
from tests.support.fake_transports import AnsweringTransport, FakeTransport, turns

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
TINY = b"1\r\nx\r\n"
LONG = b"y" * 4 * SHORT
AT_ONCE = 2 * MAX_SMALL // len(TINY)
"Of these."
UPGRADE = b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


class Clock:
    """Stands still, or goes on by `step` at every look."""

    def __init__(self) -> None:
        self.now = 100.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Stage:
    """A worker whose budget of time goes by a clock of the test."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clock = Clock()
        self.reading = ReadBudget(asyncio.get_running_loop(), self.clock)
        bench.worker.context.reading = self.reading
        context = bench.worker.context
        context.pool = context.balancer.pool = new_pool(bench.loop, self.reading)

    def use_up(self) -> None:
        """The time of this turn."""
        while self.reading.begin():
            self.clock.now += 0.001

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(100):
            while not condition():
                await turns(1)

    async def uploading(self, head: bytes) -> tuple[FakeTransport, AnsweringTransport]:
        """A client whose request has begun, and its backend, which has the first byte of the body."""
        client, count = self.bench.client(), len(self.bench.loop.transports)
        client.protocol.data_received(head)
        await self.until(lambda: len(self.bench.loop.transports) > count)
        backend = self.bench.loop.transports[-1]
        await self.until(lambda: not client.paused)
        client.protocol.data_received(TINY if head is CHUNKED else b"x")
        await self.until(lambda: b"x" in backend.written.partition(b"\r\n\r\n")[2] and not client.paused)
        await self.until(lambda: not len(self.reading))
        await turns()
        return client, backend

    async def asking(self, head: bytes = GET) -> tuple[FakeTransport, AnsweringTransport]:
        """A client that waits for its response, and its backend, which says what the test has it say."""
        self.bench.loop.answer = b""
        client, count = self.bench.client(), len(self.bench.loop.transports)
        client.protocol.data_received(head)
        await self.until(lambda: len(self.bench.loop.transports) > count)
        backend = self.bench.loop.transports[-1]
        await self.until(lambda: backend.written.endswith(b"\r\n\r\n"))
        return client, backend

    async def tunnel(self) -> list[FakeTransport]:
        """A client and its backend that speak another protocol by now."""
        client, backend = await self.asking(UPGRADE)
        await turns(1)  # until the empty answer has come
        backend.protocol.data_received(SWITCHED)
        client.written = backend.written = b""
        return [client, backend]


@pytest.fixture
async def stage(bench: Bench) -> AsyncIterator[Stage]:
    first = bench.worker.context.pool
    yield Stage(bench)
    await first.close()


def payload(message: bytes) -> bytes:
    """Of the chunks in it."""
    body, found = message.partition(b"\r\n\r\n")[2], b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        found += body[:size]
        body = body[size + 2 :]
    return found


# bodies of requests


async def test_a_long_read_waits_when_the_time_of_the_turn_is_used_up(stage: Stage) -> None:
    client, backend = await stage.uploading(POST)
    stage.use_up()
    before = len(backend.written)
    client.protocol.data_received(LONG)
    assert client.paused
    assert len(backend.written) == before
    await turns(2)
    assert backend.written.endswith(LONG)
    assert not client.paused


async def test_a_short_one_does_not(stage: Stage) -> None:
    client, backend = await stage.uploading(POST)
    stage.use_up()
    client.protocol.data_received(b"z" * SHORT)
    assert backend.written.endswith(b"z" * SHORT)
    assert not client.paused


async def test_those_that_wait_come_in_their_order_as_far_as_there_is_time(stage: Stage) -> None:
    uploads = [await stage.uploading(POST) for _ in range(20)]
    stage.use_up()
    for client, _ in uploads:
        client.protocol.data_received(LONG)
    assert all(client.paused for client, _ in uploads)
    stage.clock.step = 0.0002
    served: list[int] = []
    while len(served) < 20:
        await turns(1)
        before, served = served, [n for n, (_, backend) in enumerate(uploads) if backend.written.endswith(LONG)]
        assert served == list(range(len(served)))
        assert len(served) - len(before) < 10


async def test_tiny_chunks_are_read_a_few_thousand_at_a_time(stage: Stage) -> None:
    client, backend = await stage.uploading(CHUNKED)
    stage.clock.step = 0.0002
    client.protocol.data_received(TINY * 40_000)
    assert 0 < len(payload(backend.written)) <= AT_ONCE
    assert client.paused
    read = len(payload(backend.written))
    while read < 40_001:
        before = read
        await turns(1)
        read = len(payload(backend.written))
        assert read - before <= 2 * AT_ONCE
    assert payload(backend.written) == b"x" * 40_001
    assert not client.paused


async def test_what_waits_ends_with_its_request(stage: Stage) -> None:
    """The end of the body, and the next request behind it, are among what waits."""
    client, _ = await stage.uploading(CHUNKED)
    stage.use_up()
    client.protocol.data_received(TINY * 5000 + b"0\r\n\r\n" + GET)
    await stage.until(lambda: len(stage.bench.outcomes) == 2)
    assert [(o.method, o.status, o.bytes_in) for o in stage.bench.outcomes] == [
        ("POST", 200, 5001),
        ("GET", 200, 0),
    ]
    assert [request[:4] for request in stage.bench.requests] == [b"POST", b"GET "]
    await turns()
    assert not client.paused


async def test_the_next_request_waits_until_the_client_takes_its_response(stage: Stage) -> None:
    client, _ = await stage.uploading(CHUNKED)
    stage.use_up()
    client.protocol.data_received(TINY * 5000 + b"0\r\n\r\n" + GET)
    client.full = True
    await turns(10)
    assert [o.method for o in stage.bench.outcomes] == ["POST"]
    assert len(stage.bench.requests) == 1
    client.protocol.resume_writing()
    await turns(5)
    assert [o.method for o in stage.bench.outcomes] == ["POST", "GET"]


async def test_a_client_that_leaves_while_it_waits(stage: Stage) -> None:
    client, backend = await stage.uploading(POST)
    stage.use_up()
    client.protocol.data_received(LONG)
    client.lose()
    await turns()
    assert [o.cause for o in stage.bench.outcomes] == ["client_gone"]
    assert LONG not in backend.written


async def test_a_backend_that_is_full_meanwhile_gets_no_more(stage: Stage) -> None:
    client, backend = await stage.uploading(POST)
    stage.use_up()
    client.protocol.data_received(LONG)
    backend.protocol.pause_writing()
    await turns()
    assert LONG not in backend.written
    assert client.paused
    backend.protocol.resume_writing()
    await turns()
    assert backend.written.endswith(LONG)
    assert not client.paused


async def test_a_client_of_a_slow_backend_is_read_from_in_small_pieces(stage: Stage) -> None:
    client, backend = await stage.uploading(POST)
    client.small_reads = False
    client.protocol.data_received(LONG)
    assert not client.small_reads
    backend.protocol.pause_writing()
    backend.protocol.resume_writing()
    assert client.small_reads
    assert not client.paused


async def test_no_more_clients_are_read_from_again_at_once_than_there_is_time_for(stage: Stage) -> None:
    uploads = [await stage.uploading(POST) for _ in range(50)]
    for _, backend in uploads:
        backend.protocol.pause_writing()
    for _, backend in uploads:
        backend.protocol.resume_writing()
    at_once = sum(not client.paused for client, _ in uploads)
    assert 0 < at_once < 50
    await stage.until(lambda: not any(client.paused for client, _ in uploads))


async def test_requests_behind_each_other_leave_time_for_those_of_others(stage: Stage) -> None:
    busy, other = stage.bench.client(), stage.bench.client()
    busy.protocol.data_received(GET * 30)
    await turns(3)
    other.protocol.data_received(GET.replace(b"/ ", b"/other "))
    await stage.until(lambda: len(stage.bench.outcomes) == 31)
    order = [outcome.target for outcome in stage.bench.outcomes]
    assert order.index("/other") < 10
    assert busy.written.count(b"HTTP/1.1 200 OK") == 30


async def test_a_chunk_leaves_in_one_write(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    client, backend = await stage.uploading(CHUNKED)
    writes: list[bytes] = []
    monkeypatch.setattr(backend, "write", writes.append)
    client.protocol.data_received(TINY)
    assert writes == [TINY]
    client.protocol.data_received(TINY + b"0\r\n\r\n")
    assert writes == [TINY, TINY + b"0\r\n\r\n"]


# responses


async def test_a_long_read_of_a_response_waits_as_well(stage: Stage) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG))
    stage.use_up()
    backend.protocol.data_received(LONG)
    assert backend.paused
    assert not client.written.endswith(LONG)
    await turns(2)
    assert client.written.endswith(LONG)
    assert [o.cause for o in stage.bench.outcomes] == ["ok"]
    assert not backend.paused
    assert stage.bench.worker.context.pool.idle == 1


@pytest.mark.parametrize(
    "framing", [b"Content-Length: %d" % len(LONG), b"Connection: close"], ids=["length", "close"]
)
async def test_what_came_before_the_connection_was_lost_is_passed_on(stage: Stage, framing: bytes) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
    stage.use_up()
    backend.protocol.data_received(LONG)
    backend.lose()
    assert LONG in client.written
    assert [o.cause for o in stage.bench.outcomes] == ["ok"]
    await turns()
    assert stage.bench.worker.context.pool.idle == 0


async def test_half_of_it_is_cut_short(stage: Stage) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    stage.use_up()
    backend.protocol.data_received(LONG)
    backend.lose()
    assert client.written.endswith(LONG)
    assert [o.cause for o in stage.bench.outcomes] == ["truncated"]


async def test_what_waits_of_one_response_is_not_taken_for_the_next(stage: Stage) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    stage.use_up()
    backend.protocol.data_received(TINY * 5000 + b"0\r\n\r\n")
    client.lose()
    await turns()
    assert backend.closed
    assert stage.bench.worker.context.pool.idle == 0


async def test_a_backend_of_a_slow_client_is_read_from_in_small_pieces(stage: Stage) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    client.full = True
    backend.protocol.data_received(LONG)
    assert backend.paused
    client.protocol.resume_writing()
    assert backend.small_reads
    assert not backend.paused


# interim responses


async def test_a_few_interim_responses_are_read_at_once(stage: Stage) -> None:
    client, backend = await stage.asking()
    backend.protocol.data_received(HINT * 20 + b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.written.count(b" 103 ") == INTERIMS_AT_ONCE
    assert backend.paused
    await turns(30)
    assert client.written.count(b" 103 ") == 20
    assert [o.status for o in stage.bench.outcomes] == [204]
    assert not backend.paused


async def test_half_a_head_behind_them_waits_for_its_other_half(stage: Stage) -> None:
    _, backend = await stage.asking()
    backend.protocol.data_received(HINT * INTERIMS_AT_ONCE + b"HTTP/1.1 204 No")
    await turns()
    assert not backend.paused
    backend.protocol.data_received(b" Content\r\n\r\n")
    assert [o.status for o in stage.bench.outcomes] == [204]


async def test_they_are_read_while_the_client_reads_none(stage: Stage) -> None:
    """Their bytes are bounded, and the backend is not to be blamed for a response that nobody read."""
    client, backend = await stage.asking()
    client.full = True
    for _ in range(2):
        backend.protocol.data_received(HINT)
        assert not backend.paused
    backend.protocol.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [o.status for o in stage.bench.outcomes] == [204]


@pytest.mark.parametrize("size", [MAX_INTERIM_BYTES // 2, MAX_INTERIM_BYTES // 8, 60_000])
async def test_their_bytes_are_bounded_together(stage: Stage, size: int) -> None:
    client, backend = await stage.asking()
    hint = HINT[:-2] + b"Link: <" + b"a" * (size - len(HINT) - 10) + b">\r\n\r\n"
    assert len(hint) == size
    fitting = MAX_INTERIM_BYTES // size
    for _ in range(fitting):
        backend.protocol.data_received(hint)
    assert not stage.bench.outcomes
    backend.protocol.data_received(hint)
    assert [(o.status, [a.result for a in o.attempts]) for o in stage.bench.outcomes] == [(502, ["bad_answer"])]
    assert client.written.count(b" 103 ") == fitting
    assert backend.closed


async def test_so_is_their_number(stage: Stage) -> None:
    _, backend = await stage.asking()
    for _ in range(MAX_INTERIMS):
        backend.protocol.data_received(HINT)
    assert not stage.bench.outcomes
    backend.protocol.data_received(HINT)
    assert [o.cause for o in stage.bench.outcomes] == ["bad_answer"]


async def test_the_next_request_on_a_kept_connection_may_have_as_many(stage: Stage) -> None:
    client, backend = await stage.asking()
    hint = HINT[:-2] + b"Link: <" + b"a" * 40_000 + b">\r\n\r\n"
    for _ in range(2):
        backend.protocol.data_received(hint + b"HTTP/1.1 204 No Content\r\n\r\n")
        client.protocol.data_received(GET)
        await turns()
    assert [o.status for o in stage.bench.outcomes] == [204, 204]
    assert len(stage.bench.loop.transports) == 1


# tunnels

both_sides = pytest.mark.parametrize("side", [0, 1], ids=["client", "backend"])


@both_sides
async def test_a_tunnel_is_read_from_later_when_the_time_of_the_turn_is_used_up(stage: Stage, side: int) -> None:
    ends = await stage.tunnel()
    sender, receiver = ends[side], ends[1 - side]
    stage.use_up()
    sender.protocol.data_received(LONG)
    assert receiver.written == LONG, "it was read already"
    assert sender.paused
    await turns(2)
    assert not sender.paused


@both_sides
async def test_short_messages_of_a_tunnel_wait_for_nobody(stage: Stage, side: int) -> None:
    ends = await stage.tunnel()
    stage.use_up()
    ends[side].protocol.data_received(b"y" * SHORT)
    assert not ends[side].paused


@both_sides
async def test_a_tunnel_whose_turn_has_come_waits_for_a_side_that_is_full(stage: Stage, side: int) -> None:
    ends = await stage.tunnel()
    sender, receiver = ends[side], ends[1 - side]
    stage.use_up()
    receiver.full = True
    sender.protocol.data_received(LONG)
    await turns(2)
    assert sender.paused
    receiver.protocol.resume_writing()
    assert not sender.paused


@both_sides
async def test_a_side_that_has_room_again_does_not_take_the_turn_of_others(stage: Stage, side: int) -> None:
    ends = await stage.tunnel()
    sender, receiver = ends[side], ends[1 - side]
    stage.use_up()
    receiver.full = True
    sender.protocol.data_received(LONG)
    receiver.protocol.resume_writing()
    assert sender.paused
    await turns(2)
    assert not sender.paused


@both_sides
async def test_last_words_in_a_tunnel_to_which_a_write_has_failed(stage: Stage, side: int) -> None:
    ends = await stage.tunnel()
    sender, receiver = ends[side], ends[1 - side]
    sender.sockets[1].sendall(b"bye")
    sender.sockets[1].close()
    sender.protocol.connection_lost(BrokenPipeError())
    assert receiver.written == b"bye"
    assert receiver.closed == "close"
    await turns()
    [outcome] = stage.bench.outcomes
    assert (outcome.bytes_in, outcome.bytes_out) == ((3, 0) if side == 0 else (0, 3))
