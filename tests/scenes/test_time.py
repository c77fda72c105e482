"""Every phase has its deadline, and every deadline its answer."""

import asyncio
import time

import pytest

from edge.net.client_side import ClientConnection
from tests.scene import SHORT, CutShort, Received, Wire, head_of, request


async def test_a_head_that_does_not_come_to_its_end(scene):
    scene.settings(timeouts={"head": SHORT})
    client = await scene.client()
    await client.write(b"GET / HTTP/1.1\r\nHost: sho")
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (408, "request_timeout", "close")
    assert await client.closed()
    assert scene.letters == "CP"


async def test_a_head_that_trickles(scene):
    """The deadline is for the whole head, from its first byte."""
    scene.settings(timeouts={"head": SHORT})
    client = await scene.client()

    async def trickle():
        for byte in request("shop.test", "/" + "x" * 200):
            await client.write(bytes([byte]))
            await asyncio.sleep(0.01)

    writing = asyncio.ensure_future(trickle())
    assert (await client.read_reply()).status == 408
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_connection_on_which_nothing_comes(scene):
    scene.settings(timeouts={"head": SHORT})
    client = await scene.client()
    assert await client.closed()
    assert not scene.outcomes


async def test_an_idle_connection_is_closed_without_a_word(scene):
    scene.settings(timeouts={"keep_alive": SHORT})
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200
    assert await client.closed()
    assert len(scene.outcomes) == 1


async def test_a_second_head_that_does_not_come_to_its_end(scene):
    scene.settings(timeouts={"head": SHORT})
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test") + b"GET / HT")
    assert (await client.read_reply()).status == 200
    assert (await client.read_reply()).status == 408


@pytest.mark.parametrize("coding", [("Content-Length", "100"), ("Transfer-Encoding", "chunked")])
async def test_a_body_that_stalls(scene, coding):
    scene.settings(timeouts={"body": SHORT})
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[coding]) + b"3\r\nabc\r\n")
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (408, "request_timeout", "close")
    assert scene.letters == "CS"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_first_byte(scene, method):
    scene.settings(timeouts={"first_byte": SHORT})
    live, other = scene.silent(), scene.backend()
    scene.route("shop.test", [live, other])
    reply = await (scene.get("shop.test") if method == "GET" else scene.post("shop.test"))
    assert (reply.status, reply.error) == (504, "first_byte_timeout")
    assert scene.letters == "BH"
    assert scene.attempts == ["first_byte_timeout"]
    assert scene.explained("shop.test", live).error_ratio > 0
    assert not other.requests
    await live.left()


async def test_a_post_without_a_body_waits_for_its_first_byte(scene):
    """Content-Length: 0 is a body that is complete; no client is blamed for it."""
    scene.settings(timeouts={"body": SHORT / 2, "first_byte": SHORT})
    scene.route("shop.test", [scene.silent()])
    reply = await scene.post("shop.test", body=b"")
    assert (reply.status, reply.error) == (504, "first_byte_timeout")


async def test_a_backend_that_sleeps_has_its_own_patience(scene):
    scene.settings(timeouts={"first_byte": SHORT, "first_byte_cold": 20.0})
    cold = scene.backend()
    cold.state = "asleep"
    scene.route("shop.test", [cold])
    cold.hold()
    client = await scene.client()
    await client.write(request("shop.test"))
    await cold.got_head()
    await asyncio.sleep(2 * SHORT)
    cold.release()
    assert (await client.read_reply()).status == 200
    assert scene.explained("shop.test", cold).samples == 0, "a cold start tells nothing about speed"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_an_answer_that_stalls(scene, framing):
    scene.settings(timeouts={"between_bytes": SHORT})
    live = scene.stalling(10, framing)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    with pytest.raises(CutShort) as cut:
        await client.read_reply()
    assert cut.value.reply.body == b"x" * 10
    assert scene.letters == "BD"
    assert scene.outcome.cause == "stalled"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio > 0


async def test_an_answer_that_stalls_for_an_old_client_is_reset(scene):
    scene.settings(timeouts={"between_bytes": SHORT})
    scene.route("shop.test", [scene.stalling(10, "close")])
    client = await scene.client()
    await client.write(request("shop.test", version="1.0"))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert scene.letters == "BD"


async def test_a_slow_but_steady_answer_is_not_cut(scene):
    scene.settings(timeouts={"between_bytes": SHORT, "first_byte": SHORT, "body": SHORT})

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "10")]))
        for _ in range(10):
            await asyncio.sleep(SHORT / 5)
            await wire.send(b"x")

    scene.route("shop.test", [scene.scripted(script)])
    assert (await scene.get("shop.test")).body == b"x" * 10


async def test_a_client_that_takes_nothing(scene):
    scene.settings(timeouts={"write_stall": SHORT})

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", str(1 << 26))]))
        while True:
            await wire.send(b"x" * (1 << 16))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client(receive_buffer=4096)
    await client.write(request("shop.test"))
    await scene.ended()
    assert scene.letters == "CD"
    assert scene.outcome.cause == "client_stalled"
    await live.left()
    assert scene.explained("shop.test", live).error_ratio == 0
    with pytest.raises((CutShort, ConnectionResetError)):
        await client.read_reply()


@pytest.mark.parametrize("asked", ["close", "keep-alive"])
async def test_a_client_that_does_not_take_the_end(scene, asked):
    """The answer is complete, but its end waits in the edge: not for ever."""
    scene.settings(timeouts={"write_stall": SHORT, "keep_alive": SHORT})
    scene.route("shop.test", [scene.backend(body=b"x" * 100_000)])
    client = await scene.client(receive_buffer=4096)
    one = request("shop.test")
    await client.write(one * 99 + request("shop.test", headers=[("Connection", asked)]))
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    await scene.until(lambda: scene.snapshot.client_connections == 0)


async def test_one_deadline_over_all_attempts(scene):
    scene.settings(timeouts={"deadline": 3 * SHORT, "connect": SHORT, "connect_total": SHORT})
    scene.route("shop.test", [scene.silent()])
    reply = await scene.get("shop.test")
    assert reply.status == 504
    assert scene.outcome.total_ms < 10 * SHORT * 1000


async def test_lookups_have_their_deadline(scene):
    scene.settings(core_api={"timeout": SHORT})
    scene.core.trouble = "silent"
    assert (await scene.get("shop.test")).error == "lookup_failed"
    assert SHORT * 900 < scene.outcome.total_ms < SHORT * 10_000


async def test_a_client_that_never_takes_the_end_of_its_answers(scene):
    """What waits for it is too little to stop reading, and still must not keep its connection for ever."""
    scene.settings(timeouts={"keep_alive": SHORT, "write_stall": SHORT})
    scene.route("shop.test", [scene.backend(body=b"x" * 20_000)])
    client = await scene.client(receive_buffer=4096)
    for n in range(300):
        await client.write(request("shop.test"))
        await scene.ended(n + 1)
        [connection] = [c for c in scene.worker.services.sweep._members if isinstance(c, ClientConnection)]
        if connection._transport.get_write_buffer_size():
            break
    assert 0 < connection._transport.get_write_buffer_size() < 60_000
    assert connection.writable
    await scene.until(lambda: scene.snapshot.client_connections == 0)


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
    assert scene.attempts == ["fine"]
    assert scene.explained("shop.test", live).condition == "well"
