"""A backend dies in mid-response: what the client got must never look complete."""

import pytest

from tests.support.scene import SHORT, CutShort, Received, Wire, head_of, request

ENDS = pytest.mark.parametrize("then", ["close", "reset"])


@ENDS
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("after", [0, 10, 999])
async def test_a_truncated_response_looks_truncated(scene, framing, after, then):
    scene.route("shop.test", [scene.cutting(after, framing, then=then), scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test"))
    with pytest.raises(CutShort) as cut:
        await client.read_reply()
    if cut.value.reply is not None and then == "close":
        assert cut.value.reply.body == b"x" * after
    assert scene.attempts == ["truncated"]
    assert scene.letters == "BD"
    assert scene.outcome.status == 200
    assert scene.outcome.cause == "truncated"
    assert scene.explained("shop.test", scene.backends[0]).error_ratio > 0


async def test_cut_within_the_last_chunk(scene):
    scene.route(
        "shop.test",
        [scene.raw(head_of(200, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n0\r\n", then="close")],
    )
    client = await scene.client()
    await client.write(request("shop.test"))
    with pytest.raises(CutShort):
        await client.read_reply()
    assert scene.letters == "BD"


@pytest.mark.parametrize("bad", [b"zz\r\n", b"3\r\nabcd"])
async def test_chunks_that_break_later(scene, bad):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n")
        await wire.gate()
        await wire.send(bad)

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    assert b"abc" in await client.read_some()
    await client.rest()
    assert scene.attempts == ["truncated"]
    await live.left()


async def test_a_chunked_response_to_an_http10_client_is_reset(scene):
    """An HTTP/1.0 client gets it until the connection ends: an orderly end would make it look whole."""
    scene.route("shop.test", [scene.cutting(10, "chunked")])
    client = await scene.client()
    await client.write(request("shop.test", version="1.0"))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert scene.letters == "BD"


async def test_a_response_until_close_that_is_reset(scene):
    """A backend's reset is no orderly end, whatever the framing to the client."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, []) + b"abc")
        await wire.gate()
        wire.reset()

    for version in ("1.1", "1.0"):
        live = scene.scripted(script)
        live.hold()
        scene.route(f"v{version}.test", [live])
        client = await scene.client()
        await client.write(request(f"v{version}.test", version=version))
        await live.got_head()
        live.release()
        with pytest.raises((CutShort, ConnectionResetError)):
            await (client.read_reply() if version == "1.1" else client.rest())
        assert scene.letters == "BD"


async def test_a_response_until_close_of_which_the_end_is_not_taken(scene):
    """The backend has said all, and the client reads on too late: the last bytes are lost, and it can tell."""
    scene.settings(timeouts={"write_stall": SHORT})
    scene.route("shop.test", [scene.backend(body=b"x" * 100_000, framing="chunked")])
    client = await scene.client(receive_buffer=4096)
    await scene.small_send_buffer()
    await client.write(request("shop.test", version="1.0"))
    await scene.ended()
    assert scene.attempts == ["ok"]
    [connection] = scene.connections
    assert connection._transport.get_write_buffer_size()
    await scene.until(lambda: scene.snapshot.client_connections == 0)
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_an_announced_length_to_an_old_client(scene):
    scene.route("shop.test", [scene.cutting(10)])
    client = await scene.client()
    await client.write(request("shop.test", version="1.0"))
    with pytest.raises(CutShort):
        await client.read_reply()


@ENDS
async def test_in_the_middle_of_an_upload(scene, then):
    """The backend goes while it is still being sent a body: the client learns, and is not left hanging."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.exactly(100)
        wire.close() if then == "close" else wire.reset()

    live, other = scene.scripted(script), scene.backend()
    scene.route("shop.test", [live, other])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", "1000")]) + b"x" * 100)
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (502, "closed_early", "close")
    assert scene.letters == "BS"
    assert not other.requests
