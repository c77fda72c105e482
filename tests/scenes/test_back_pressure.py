"""Nothing is held that a slow reader does not take, and nothing is lost when it reads on."""

import asyncio

import pytest

from tests.support.scene import MIB, Received, Wire, request

TOTAL = 32 * MIB
BOUND = 24 * MIB
"What may be under way in four socket buffers (4 MiB to send and 6 MiB to receive, each) and in the edge."
BLOCK = bytes(range(256)) * 256


def long_answer(framing: str):
    async def script(wire: Wire, got: Received) -> None:
        if framing == "length":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        else:
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(TOTAL // len(BLOCK)):
            await wire.send(BLOCK if framing == "length" else b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
        if framing == "chunked":
            await wire.send(b"0\r\n\r\n")

    return script


async def settled(number) -> int:
    """The value of `number` when it has stopped to grow."""
    before = -1
    while number() != before:
        before = number()
        await asyncio.sleep(0.1)
    return before


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_slow_client_pauses_the_backend(scene, framing):
    live = scene.scripted(long_answer(framing))
    scene.route("shop.test", [live])
    client = await scene.client(receive_buffer=64 * 1024)
    await client.write(request("shop.test"))
    await live.got_head()
    assert 0 < await settled(lambda: live.wires[0].sent) < BOUND
    client.receive_faster()
    reply = await client.read_reply()
    assert reply.body == BLOCK * (TOTAL // len(BLOCK))
    assert scene.attempts == ["ok"]


async def test_a_slow_backend_pauses_the_client(scene):
    async def script(wire: Wire, got: Received) -> None:
        await wire.go_on(got)
        wire.transport.pause_reading()
        wire.backend.hold()
        await wire.gate()
        wire.transport.resume_reading()
        await wire.body(got)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", str(TOTAL))]))
    await live.got_head()
    body = BLOCK * (TOTAL // len(BLOCK))
    writing = asyncio.ensure_future(client.write(body))
    assert 0 < await settled(lambda: client.sent) < BOUND
    assert not writing.done()
    live.release()
    await writing
    assert (await client.read_reply()).status == 200
    assert live.last.body == body


async def test_a_response_while_the_backend_reads_no_more(scene):
    """A backend that answers early and leaves the rest of a body unread: the response arrives all the same."""

    async def script(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        await wire.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        await wire.gone.wait()

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", str(TOTAL))]))
    writing = asyncio.ensure_future(client.write(BLOCK * 64))
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (413, b"big")
    await asyncio.gather(writing, return_exceptions=True)


async def test_requests_of_a_client_that_reads_nothing_wait(scene):
    """Answers that nobody reads do not pile up in the edge, small ones no more than large ones."""
    live = scene.backend(body=b"x" * 100_000)
    scene.route("shop.test", [live])
    client = await scene.client(receive_buffer=4096)
    await client.write(request("shop.test") * 640)
    assert await settled(lambda: len(live.requests)) < BOUND / 100_000
    client.receive_faster()
    for _ in range(640):
        assert (await client.read_reply()).status == 200
