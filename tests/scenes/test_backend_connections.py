"""Connections to backends: kept, used again, given up, and never mixed up."""

import asyncio

import pytest

from tests.support.scene import SHORT, Received, Wire, chunked, request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_used_again(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    for _ in range(5):
        assert (await scene.post("shop.test")).status == 200
        assert (await scene.get("shop.test")).status == 200
    assert live.connections == 1
    assert (scene.snapshot.links_opened, scene.snapshot.links_reused, scene.snapshot.links_idle) == (1, 9, 1)
    assert scene.outcome.connect_ms == 0


async def test_one_request_at_a_time(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    live.hold()
    await scene.edge()
    asked = [asyncio.ensure_future(scene.get("shop.test")) for _ in range(3)]
    for _ in range(3):
        await live.got_head()
    assert live.connections == 3
    live.release()
    await asyncio.gather(*asked)
    assert scene.snapshot.links_idle == 3


NOT_AGAIN = {
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "close in a list": b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "extra bytes": OK + b"more",
    "a second answer": OK + OK,
    "bytes after a 204": b"HTTP/1.1 204 No\r\n\r\nbody",
    "extra bytes behind chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok") + b"x",
}


@pytest.mark.parametrize("why", NOT_AGAIN)
async def test_never_again(scene, why):
    live = scene.raw(NOT_AGAIN[why])
    scene.route("shop.test", [live])
    for n in (1, 2):
        reply = await scene.get("shop.test")
        assert reply.body == (b"" if reply.status == 204 else b"ok")
        assert live.connections == n
    await scene.until(lambda: not live.wires)
    assert scene.snapshot.links_busy + scene.snapshot.links_idle == 0


async def test_extra_bytes_while_idle(scene):
    """Bytes that nobody asked for must not become somebody's answer."""
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    live.wires[0].transport.write(OK)
    await live.left()
    await scene.until(lambda: scene.snapshot.links_idle == 0)
    assert (await scene.get("shop.test")).body == b"hello"
    assert live.connections == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_closed_while_idle(scene, method):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    await live.close_idle()
    reply = await (scene.get("shop.test") if method == "GET" else scene.post("shop.test"))
    assert reply.status == 200
    assert live.connections == 2
    assert len(live.requests) == 2
    await scene.until(lambda: scene.snapshot.links_idle == 1)


def once_a_connection(wire_close):
    """Answers the first request on a connection; ends it when a second one comes."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.body(got)
        if wire.requests == 1:
            await wire.send(OK)
        else:
            wire_close(wire)

    return script


ENDS = pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["close", "reset"])


@ENDS
async def test_closed_after_our_write(scene, end):
    """The race of RFC 9112, section 9.3.1: a GET is repeated, on a fresh connection to the same backend."""
    live, other = scene.scripted(once_a_connection(end)), scene.backend()
    scene.route("shop.test", [live, other])
    await scene.get("shop.test")
    assert (await scene.get("shop.test")).body == b"ok"
    assert scene.attempts == ["stale_connection", "ok"]
    assert scene.tried == [live.name, live.name]
    assert not other.requests
    assert scene.points("shop.test", live) == 0
    assert scene.explained("shop.test", live).error_ratio == 0


async def test_many_at_once(scene):
    """A container goes, and all connections with it that were kept: a budget must not bound what is no failure."""
    scene.settings(retries={"failed_ratio": 0.0, "failed_per_second": 0.0, "failed_cap": 0.0})
    together = asyncio.Barrier(30)

    async def script(wire: Wire, _: Received) -> None:
        if wire.requests == 1:
            await together.wait()
            await wire.send(OK)
        else:
            await together.wait()
            wire.close()

    scene.route("shop.test", [scene.scripted(script)])
    await scene.edge()
    for attempts in (["ok"], ["stale_connection", "ok"]):
        replies = await asyncio.gather(*(scene.get("shop.test") for _ in range(30)))
        assert [reply.status for reply in replies] == [200] * 30
        assert scene.attempts == attempts
    assert scene.snapshot.retries_exhausted == 0


@ENDS
async def test_closed_after_our_write_of_a_post(scene, end):
    live, other = scene.scripted(once_a_connection(end)), scene.backend()
    scene.route("shop.test", [live, other])
    await scene.get("shop.test")
    reply = await scene.post("shop.test")
    assert (reply.status, reply.error) == (502, "closed_early")
    assert scene.attempts == ["stale_connection"]
    assert not other.requests
    assert scene.explained("shop.test", live).error_ratio == 0


async def test_not_after_a_cut(scene):
    live = scene.cutting(10)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    assert len(await client.rest()) > 10
    assert scene.snapshot.links_idle == 0


async def test_not_after_a_client_left_in_mid_response(scene):
    live = scene.stalling(10)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    await client.read_some()
    client.leave()
    await live.left()
    assert scene.snapshot.links_idle == 0


async def test_not_when_the_response_came_before_the_request_s_end(scene):
    """The rest of the body would be read as the next request."""

    async def hasty(wire: Wire, got: Received) -> None:
        await wire.send(OK)
        wire.transport.resume_reading()

    live = scene.scripted(hasty)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", "100")]) + b"half")
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"ok")
    await live.left()
    assert scene.snapshot.links_idle == 0
    assert reply["connection"] == "close"


async def test_idle_ones_are_closed_in_time(scene):
    scene.settings(pool={"idle_timeout": SHORT})
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    assert scene.snapshot.links_idle == 1
    await live.left()
    await scene.until(lambda: scene.snapshot.links_busy + scene.snapshot.links_idle == 0)
    assert (await scene.get("shop.test")).status == 200


@pytest.mark.parametrize(("bound", "kept"), [({"idle_per_backend": 2}, 2), ({"idle_per_backend": 0}, 0)])
async def test_bounds(scene, bound, kept):
    scene.settings(pool=bound)
    live = scene.backend()
    scene.route("shop.test", [live])
    live.hold()
    await scene.edge()
    asked = [asyncio.ensure_future(scene.get("shop.test")) for _ in range(5)]
    for _ in asked:
        await live.got_head()
    live.release()
    await asyncio.gather(*asked)
    assert scene.snapshot.links_idle == kept
    await scene.until(lambda: scene.snapshot.links_busy + scene.snapshot.links_idle == kept)


async def test_bound_of_all(scene):
    scene.settings(pool={"idle_per_backend": 2, "idle_total": 2})
    for n in range(4):
        scene.route(f"s{n}.test", [scene.backend()])
        await scene.get(f"s{n}.test")
    assert scene.snapshot.links_idle == 2


async def test_a_backend_may_respond_and_close(scene):
    """FIN behind a complete response: complete, and not kept."""
    live = scene.raw(OK, then="close")
    scene.route("shop.test", [live])
    for _ in range(3):
        assert (await scene.post("shop.test")).body == b"ok"
        await scene.until(lambda: scene.snapshot.links_idle == 0)
    assert live.connections == 3
