"""A client that leaves while nothing is read from it: noticed within a second, not at a deadline."""

import asyncio

import pytest

from tests.scenes.test_client_leaves import check, check_not_blamed
from tests.scenes.test_tunnels import opened, switching
from tests.support.scene import MIB, Client, Scene, Wire, request

HOWS = pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
AWHILE = 1.0
"Seconds: longer than it takes to notice that one has left."


async def deaf(wire: Wire, got: object = None) -> None:
    """Takes no byte more."""
    wire.transport.pause_reading()
    await wire.gone.wait()


async def noticed(scene: Scene, client: Client, how: str) -> None:
    getattr(client, how)()
    await scene.ended()  # at a deadline it would have another cause, which the tests look at


async def until_held_back(scene: Scene, client: Client) -> None:
    """Send until nothing is read from it any more: its end is behind what the edge's kernel has room for."""
    while not len(scene.worker.context.hangups):
        await client.write(b"x" * 65536)
        await asyncio.sleep(0.001)


@HOWS
async def test_with_another_request_behind_the_one_in_flight(scene, how):
    live = scene.silent()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", "/one") + request("shop.test", "/two"))
    await live.got_head()
    await noticed(scene, client, how)
    await live.left()
    await check(scene, "CH")
    check_not_blamed(scene, live)
    assert [got.target for got in live.requests] == [b"/one"]


@HOWS
async def test_with_an_upload_that_its_backend_does_not_take(scene, how):
    live = scene.scripted(deaf)
    scene.route("shop.test", [live])
    client = await scene.client()
    fields = [("Expect", "100-continue"), ("Content-Length", str(1000 * MIB))]
    await client.write(request("shop.test", method="POST", headers=fields))
    await live.got_head()
    await until_held_back(scene, client)
    await noticed(scene, client, how)
    await check(scene, "CS")
    check_not_blamed(scene, live)


@HOWS
async def test_with_an_upload_while_connecting(scene, how):
    lost = scene.unreachable()
    scene.settings(timeouts={"connect_alone": 5.0})
    scene.route("shop.test", [lost])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * 10_000))
    await scene.until(lambda: scene.worker.context.pool._dialling)
    await noticed(scene, client, how)
    await check(scene, "CC")


async def test_one_that_stays_is_left_alone(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    live.hold()
    client = await scene.client()
    await client.write(request("shop.test", "/one") + request("shop.test", "/two"))
    await live.got_head()
    assert len(scene.worker.context.hangups) == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(AWHILE):
            await scene.ended()
    live.release()
    assert [(await client.read_reply()).status for _ in range(2)] == [200, 200]
    assert len(scene.worker.context.hangups) == 0


async def test_through_a_tunnel(scene):
    client, _, _ = await opened(scene, switching(deaf))
    await until_held_back(scene, client)
    await noticed(scene, client, "reset")
    assert (scene.outcome.cause, scene.letters) == ("client_gone", "CD")


async def test_half_of_a_tunnel_is_none(scene):
    go = asyncio.Event()
    got = bytearray()

    async def script(wire: Wire) -> None:
        wire.transport.pause_reading()
        await go.wait()
        wire.transport.resume_reading()
        got.extend(await wire.rest())
        await wire.send(b"all")
        wire.end()

    client, _, _ = await opened(scene, switching(script))
    writing = asyncio.ensure_future(client.write(b"z" * 16 * MIB))
    await scene.until(lambda: len(scene.worker.context.hangups) == 1)
    await scene.until(lambda: writing.done() or client.sent > MIB)
    go.set()
    await writing
    client.half_close()
    assert await client.rest() == b"all"
    assert len(got) == 16 * MIB
    assert len(scene.worker.context.hangups) == 0


async def test_a_client_that_takes_no_interim_responses_is_not_the_backends_fault(scene):
    """They fill its socket; the backend responds in time, and that is read."""

    go_on = asyncio.Event()

    async def script(wire: Wire, got: object) -> None:
        for n in range(20):
            await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: <%d%s>\r\n\r\n" % (n, b"x" * 2000))
        await go_on.wait()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        await wire.send(b"y" * 100_000)

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client(receive_buffer=4096)
    await scene.small_send_buffer()
    await client.write(request("shop.test"))
    [connection] = scene.connections
    await scene.until(lambda: not connection.writable)
    exchange = connection.exchange
    assert exchange is not None
    go_on.set()
    await scene.until(lambda: exchange.is_responding)
    assert len((await client.read_reply()).body) == 100_000
    await scene.ended()
    assert scene.attempts == ["ok"]
