"""Every phase has its deadline, and every deadline its response.

The clock of the edge is the test's: deadlines are those of the settings' defaults, and nobody waits for them.
"""

import asyncio
import time

import pytest

from edge.rules.settings import TimeoutSettings
from tests.support.scene import SHORT, CutShort, Received, Wire, head_of, request

USUAL = TimeoutSettings()


async def half_a_head(scene, client, text=b"GET / HTTP/1.1\r\nHost: sho"):
    """The edge has read the beginning of a head."""
    await client.write(text)
    await scene.until(lambda: any(connection._held for connection in scene.connections))


async def test_a_head_that_does_not_come_to_its_end(scene):
    client = await scene.client()
    await half_a_head(scene, client)
    scene.pass_time(USUAL.head + 1)
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (408, "request_timeout", "close")
    assert await client.closed()
    assert scene.letters == "CP"


async def test_a_head_that_trickles(scene):
    """The deadline is for the whole head, from its first byte."""
    client = await scene.client()
    await half_a_head(scene, client)
    [connection] = scene.connections
    for _ in range(9):
        scene.pass_time(USUAL.head / 10)
        before = len(connection._held)
        await client.write(b"x")
        await scene.until(lambda before=before: len(connection._held) > before)
    scene.pass_time(USUAL.head / 10 + 0.1)
    assert (await client.read_reply()).status == 408


async def test_a_connection_on_which_nothing_comes(scene):
    client = await scene.client()
    await scene.until(lambda: len(scene.connections) == 1)
    scene.pass_time(USUAL.head / 2)
    assert len(scene.connections) == 1
    scene.pass_time(USUAL.head / 2 + 0.1)
    assert await client.closed()
    assert not scene.outcomes


async def test_an_idle_connection_is_closed_without_a_word(scene):
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200
    scene.pass_time(USUAL.keep_alive + 1)
    assert await client.closed()
    assert len(scene.outcomes) == 1


async def test_a_second_head_that_does_not_come_to_its_end(scene):
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test") + b"GET / HT")
    assert (await client.read_reply()).status == 200
    await scene.until(lambda: scene.connections[0]._exchange is None)
    await asyncio.sleep(0)  # the second head is looked at in the next turn
    scene.pass_time(USUAL.head + 1)
    assert (await client.read_reply()).status == 408


@pytest.mark.parametrize("coding", [("Content-Length", "100"), ("Transfer-Encoding", "chunked")])
async def test_a_body_that_stalls(scene, coding):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[coding]) + b"3\r\nabc\r\n")
    await live.got_head()
    while not scene.outcomes:  # some came in the first of these times
        scene.pass_time(USUAL.body + 1)
        await asyncio.sleep(0)
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (408, "request_timeout", "close")
    assert scene.letters == "CS"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_first_byte(scene, method):
    live, other = scene.silent(), scene.backend()
    scene.route("shop.test", [live, other])
    client = await scene.client()
    await client.write(request("shop.test", method=method, body=b"a=1" if method == "POST" else None))
    await live.got_head()
    scene.pass_time(USUAL.first_byte + 1)
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (504, "first_byte_timeout")
    assert scene.letters == "BH"
    assert scene.attempts == ["first_byte_timeout"]
    assert scene.explained("shop.test", live).error_ratio > 0
    assert not other.requests
    client.leave()
    await live.left()


async def test_a_post_without_a_body_waits_for_its_first_byte(scene):
    """Content-Length: 0 is a body that is complete; no client is blamed for it."""
    live = scene.silent()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b""))
    await live.got_head()
    scene.pass_time(USUAL.body + 1)
    assert not scene.outcomes
    scene.pass_time(USUAL.first_byte)
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (504, "first_byte_timeout")


async def test_a_backend_that_sleeps_has_its_own_timeout(scene):
    scene.settings(timeouts={"first_byte": 5.0, "first_byte_cold": 20.0})
    cold = scene.backend()
    cold.state = "asleep"
    scene.route("shop.test", [cold])
    cold.hold()
    client = await scene.client()
    await client.write(request("shop.test"))
    await cold.got_head()
    scene.pass_time(19.0)
    assert not scene.outcomes
    cold.release()
    assert (await client.read_reply()).status == 200
    assert scene.explained("shop.test", cold).samples == 0, "a cold start tells nothing about speed"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_response_that_stalls(scene, framing):
    live = scene.stalling(10, framing)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    reading = asyncio.ensure_future(client.read_reply())
    await scene.until(lambda: client.received > 0)
    scene.pass_time(USUAL.between_bytes + 1)
    with pytest.raises(CutShort) as cut:
        await reading
    assert cut.value.reply.body == b"x" * 10
    assert scene.letters == "BD"
    assert scene.outcome.cause == "stalled"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio > 0


async def test_a_response_that_stalls_for_an_http10_client_is_reset(scene):
    scene.route("shop.test", [scene.stalling(10, "close")])
    client = await scene.client()
    await client.write(request("shop.test", version="1.0"))
    assert await client.read_some()
    scene.pass_time(USUAL.between_bytes + 1)
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert scene.letters == "BD"


async def test_a_slow_but_steady_response_is_not_truncated(scene):
    ticks = asyncio.Semaphore(0)

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "10")]))
        for _ in range(10):
            await ticks.acquire()
            await wire.send(b"x")

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    await client.write(request("shop.test"))
    data = await client.read_some()
    while not data.endswith(b"\r\n\r\n" + b"x" * 10):
        scene.pass_time(0.9 * USUAL.between_bytes)
        ticks.release()
        data += await client.read_some()
    assert [outcome.cause for outcome in scene.outcomes] == ["ok"]


async def test_a_client_that_takes_nothing(scene):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", str(1 << 26))]))
        while True:
            await wire.send(b"x" * (1 << 16))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client(receive_buffer=4096)
    await client.write(request("shop.test"))
    await scene.until(lambda: any(not connection.writable for connection in scene.connections))
    while not scene.outcomes:  # it may have taken some at first
        scene.pass_time(USUAL.write_stall + 1)
        await asyncio.sleep(0)
    assert scene.letters == "CD"
    assert scene.outcome.cause == "client_stalled"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio == 0
    with pytest.raises((CutShort, ConnectionResetError)):
        await client.read_reply()


@pytest.mark.parametrize("asked", ["close", "keep-alive"])
async def test_a_client_that_does_not_take_the_end(scene, asked):
    """The response is complete, but its end waits in the edge: not for ever."""
    scene.route("shop.test", [scene.backend(body=b"x" * 100_000)])
    client = await scene.client(receive_buffer=4096)
    one = request("shop.test")
    await client.write(one * 99 + request("shop.test", headers=[("Connection", asked)]))
    await scene.until(lambda: any(unsent(connection) for connection in scene.connections))
    while scene.snapshot.client_connections:
        scene.pass_time(USUAL.keep_alive + 1)
        await asyncio.sleep(0)


async def test_one_deadline_over_all_attempts(scene):
    """The second one would have more time for itself."""
    first_byte = USUAL.deadline - 20.0
    leaves, silent = scene.raw(b"", then="close"), scene.silent()
    leaves.hold()
    scene.settings(timeouts={"first_byte": first_byte})
    scene.route("shop.test", [leaves, silent])
    client = await scene.client()
    await client.write(request("shop.test"))
    await leaves.got_head()
    scene.pass_time(first_byte - 10.0)
    leaves.release()
    await silent.got_head()
    scene.pass_time(31.0)
    assert (await client.read_reply()).status == 504
    assert scene.attempts == ["closed_early", "first_byte_timeout"]
    assert 1000 * USUAL.deadline < scene.outcome.total_ms < 1000 * (USUAL.deadline + 20.0)


async def test_lookups_have_their_deadline(scene):
    scene.settings(core_api={"timeout": SHORT})
    scene.core.trouble = "silent"
    assert (await scene.get("shop.test")).error == "lookup_failed"
    assert scene.outcome.total_ms > SHORT * 900


def unsent(connection):
    """Bytes that wait in the edge for this client."""
    return connection._transport.get_write_buffer_size() if connection._transport is not None else 0


async def test_a_client_that_never_takes_the_end_of_its_responses(scene):
    """Its responses are complete, and no request is in flight; still it must not keep its connection for ever."""
    scene.route("shop.test", [scene.backend(body=b"x" * 4096)])
    client = await scene.client(receive_buffer=4096)
    for n in range(2000):
        await client.write(request("shop.test"))
        await scene.ended(n + 1)
        [connection] = scene.connections
        if unsent(connection):
            break
    assert 0 < unsent(connection) < 8192
    while scene.snapshot.client_connections:
        scene.pass_time(USUAL.keep_alive + 1)
        await asyncio.sleep(0)


async def test_a_connect_that_succeeded_while_the_worker_stood_still_is_in_time(scene):
    """Its timer runs out before the loop has looked at the socket: the backend must not be taken for a dead one."""
    scene.settings(timeouts={"connect": SHORT / 3, "connect_alone": SHORT / 3})
    live = scene.backend(headers=[("Connection", "close")])
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test")).status == 200
    client = await scene.client()
    await client.write(request("shop.test"))
    for _ in range(10):  # in one of these turns it begins to connect
        time.sleep(SHORT / 2)  # noqa: ASYNC251 - the whole process stands still
        await asyncio.sleep(0)
    assert (await client.read_reply()).status == 200
    assert live.connections == 2
    assert scene.attempts == ["ok"]
    assert scene.explained("shop.test", live).condition == "healthy"
