"""What one side may make the edge hold while the other does not take it: a few buffers, never what is sent."""

import asyncio
from collections.abc import Callable
from time import thread_time

import pytest

from edge.net.h1.h1_connection import H1Connection
from tests.support.scene import MIB, SHORT, Received, Wire, chunked, head_of, request

OFFER = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def standstill(number: Callable[[], int]) -> int:
    """Wait until it has not changed for a while, in which the loop has turned many times."""
    before, same = number(), 0
    while same < 20:
        await asyncio.sleep(0.01)
        before, same = number(), same + 1 if number() == before else 0
    return before


async def unread(wire: Wire, got: Received) -> None:
    """Reads nothing."""
    wire.transport.pause_reading()
    await wire.gone.wait()


async def test_a_full_backend_when_the_tunnel_begins(scene):
    go = asyncio.Event()

    async def script(wire: Wire, got: Received) -> None:
        wire.tunnelled = True
        wire.transport.pause_reading()
        await go.wait()
        await wire.send(SWITCH)
        await wire.gone.wait()

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", headers=OFFER) + b"z" * 200_000)
    await live.heads.acquire()
    go.set()
    assert (await client.read_some()).startswith(b"HTTP/1.1 101 ")
    writing = asyncio.ensure_future(client.write(b"z" * (64 * MIB)))
    assert await standstill(lambda: client.sent) < 64 * MIB
    writing.cancel()
    client.reset()
    for wire in live.wires:
        wire.reset()
    await scene.ended()


@pytest.mark.parametrize("held", [0, 200_000])
async def test_an_upload_to_a_backend_that_reads_nothing(scene, held):
    """`held`: what comes before there is a connection, in one piece with the head or not."""
    live = scene.scripted(unread)
    scene.route("shop.test", [live])
    client = await scene.client()
    size = 64 * MIB
    whole = request("shop.test", method="POST", body=b"")[: -len("0\r\n\r\n")] + b"%d\r\n\r\n" % size
    await client.write(whole + b"x" * held)
    writing = asyncio.ensure_future(client.write(b"x" * (size - held)))
    assert await standstill(lambda: client.sent) < size // 2
    while not scene.outcomes:  # the first look finds that the backend took some
        scene.pass_time(61.0)
        await asyncio.sleep(0)
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (504, "stalled")
    writing.cancel()


async def test_tiny_chunks_of_one_do_not_hold_up_another(scene):
    scene.route("shop.test", [scene.backend()])
    scene.route("busy.test", [scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    client = await scene.client()
    head = request("busy.test", method="POST", headers=[("Transfer-Encoding", "chunked")])
    body = b"1\r\nx\r\n" * 400_000
    writing = asyncio.ensure_future(client.write(head + body))
    slowest = 0.0
    while not writing.done():
        began = thread_time()  # whoever else this machine has to do with is no matter
        assert (await scene.get("shop.test")).status == 200
        slowest = max(slowest, thread_time() - began)
    await client.write(b"0\r\n\r\n")
    assert (await client.read_reply()).status == 200
    assert len(scene.backends[1].last.body) == 400_000
    assert slowest < 0.25


@pytest.mark.parametrize("size", [1, 3])
async def test_tiny_chunks_of_a_response(scene, size):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Transfer-Encoding", "chunked")]))
        await wire.send(chunked(*[b"x" * size] * 50_000))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    for _ in range(2):
        await client.write(request("shop.test"))
        assert (await client.read_reply()).body == b"x" * size * 50_000
    assert live.connections == 1


async def test_requests_behind_the_end_are_not_carried_out(scene):
    """The connection ends with a response of ours; who sent more says it again, and must not have it done twice."""
    scene.settings(limits={"requests_per_connection": 6})
    live = scene.backend()
    scene.route("shop.test", [live])
    for _ in range(30):
        client = await scene.client()
        data = request("nobody.test") * 40 + request("shop.test", method="POST", body=b"pay") * 20
        for at in range(0, len(data), 300):
            try:
                await client.write(data[at : at + 300])
            except ConnectionError:
                break
            await asyncio.sleep(0)
        client.leave()
    await scene.until(lambda: not scene.snapshot.exchanges)
    assert not live.requests
    assert len(scene.outcomes) <= 30 * 6


async def test_a_backlog_is_not_added_to_while_it_waits(scene):
    """However fast requests are answered by the edge itself, nothing is read while others wait."""
    client = await scene.client()
    one = request("nobody.test")
    writing = asyncio.ensure_future(client.write(one * 20_000))
    most = 0
    for _ in range(2_000):
        await client.read_reply()
        for member in scene.worker.context.deadline_sweep._members:
            if isinstance(member, H1Connection):
                most = max(most, len(member._held))
    writing.cancel()
    client.leave()
    assert 0 < most <= 256 * 1024 + len(one)


# Deadlines of what is alive


async def test_an_upload_beside_its_response_goes_on_as_long_as_it_comes(scene):
    scene.settings(timeouts={"body": 60.0}, limits={"body_rate": 10})

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "4")]))
        await wire.exactly(20_000)
        await wire.send(b"done")

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    whole = request("shop.test", method="POST", body=b"x" * 20_000)
    await client.write(whole[:-20_000])
    assert (await client.read_some()).startswith(b"HTTP/1.1 200 ")
    for n in range(20):
        scene.pass_time(50.0)
        await client.write(b"x" * 1000)
        await scene.until(lambda n=n: live.bytes_in > (n + 1) * 1000)
    assert await client.read_some() == b"done"
    assert scene.points("shop.test", live) == 0


async def test_a_client_that_stops_beside_its_response_is_to_blame_itself(scene):
    scene.settings(timeouts={"between_bytes": SHORT})

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "4")]))
        await wire.gone.wait()

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * 20_000)[:-1])
    await client.rest()
    outcome = await scene.ended()
    assert (outcome.cause.value, scene.letters) == ("request_timeout", "CD")
    assert scene.points("shop.test", live) == 0


async def test_a_backend_that_knows_no_expectations(scene):
    """The edge asked on its own account: the client must not hear of it."""

    async def script(wire: Wire, got: Received) -> None:
        if "expect" in got:
            await wire.send(head_of(417, [("Content-Length", "0")]))
        else:
            await wire.body(got)
            await wire.send(head_of(200, [("Content-Length", "2")]) + b"ok")

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    body = b"x" * 200_000
    reply = await scene.post("shop.test", body=body)
    assert (reply.status, reply.body) == (200, b"ok")
    assert live.last.body == body
    assert scene.attempts == ["expect_refused", "ok"]


async def test_a_body_that_was_refused_is_not_sent_behind(scene):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + head_of(413, [("Content-Length", "4")]))
        await wire.gate()
        await wire.send(b"full")

    scene.settings(retries={"ask_before_upload": "always"})  # waits a second, not the tenth of an unknown backend
    live = scene.scripted(script)
    live.opened.clear()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * 200_000)[:-1])
    reading = asyncio.ensure_future(client.read_reply())
    await live.heads.acquire()
    await asyncio.sleep(0.05)  # ten times the grace after a 100
    live.opened.set()
    assert (await reading).status == 413
    assert live.bytes_in < 2000


# Who is to blame


async def test_a_connection_lost_after_an_interim_response_was_not_stale(scene):
    """Its backend had the request: that is no race with a connection closed for idleness."""

    async def script(wire: Wire, got: Received) -> None:
        if got.target == b"/good":
            await wire.send(head_of(200, [("Content-Length", "0")]))
        else:
            await wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            wire.close()

    scene.route("shop.test", [scene.scripted(script), scene.backend()])
    assert (await scene.get("shop.test", "/good")).status == 200
    assert (await scene.get("shop.test", "/bad")).status == 200
    assert scene.attempts == ["closed_early", "ok"]


async def test_a_response_that_ends_with_its_connection_ends_though_the_body_was_not_read(scene):
    async def script(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        await wire.send(head_of(200, [("Connection", "close")]) + b"early")
        wire.end()
        await wire.gone.wait()

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    writing = asyncio.ensure_future(
        client.write(
            request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"x" * 32 * MIB)
        )
    )
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"early")
    writing.cancel()
