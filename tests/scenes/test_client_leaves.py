"""The client leaves: its backend is let go, nobody is blamed but the client, and nothing is left in flight."""

import pytest

from tests.support.scene import request

HOWS = pytest.mark.parametrize("how", ["leave", "reset"])


async def check(scene, letters):
    await scene.until(lambda: scene.snapshot.client_connections == 0)
    assert scene.letters == letters
    assert (scene.outcome.cause, scene.outcome.status) == ("client_gone", 499 if letters != "CD" else 200)
    assert scene.snapshot.exchanges == 0
    assert len(scene.outcomes) == 1


def check_not_blamed(scene, backend):
    explained = scene.explained("shop.test", backend)
    assert (explained.in_flight, explained.error_ratio, explained.demerits, explained.rests_for) == (0, 0, [], 0)


@HOWS
async def test_while_resolving(scene, how):
    scene.route("shop.test", [scene.backend()])
    scene.core.hold()
    client = await scene.client()
    await client.write(request("shop.test"))
    await scene.core.asked()
    getattr(client, how)()
    await scene.ended()
    await check(scene, "CR")
    scene.core.release()
    await scene.until(lambda: scene.snapshot.routes == 1)
    assert len(scene.outcomes) == 1
    assert not scene.backends[0].requests


@HOWS
async def test_while_connecting(scene, how):
    lost = scene.unreachable()
    scene.route("shop.test", [lost])
    client = await scene.client()
    await client.write(request("shop.test"))
    await scene.until(lambda: (found := scene.worker.explain("shop.test")) is not None and found.known)
    await scene.until(lambda: scene.explained("shop.test", lost).in_flight == 1)
    getattr(client, how)()
    await scene.ended()
    await check(scene, "CC")
    check_not_blamed(scene, lost)


@HOWS
async def test_while_waiting(scene, how):
    live = scene.silent()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    await live.got_head()
    getattr(client, how)()
    await scene.ended()
    await live.left()
    await check(scene, "CH")
    check_not_blamed(scene, live)
    assert scene.snapshot.links_idle == 0


@HOWS
async def test_in_mid_upload(scene, how):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", "1000")]) + b"x" * 10)
    await live.got_head()
    getattr(client, how)()
    await scene.ended()
    await live.left()
    await check(scene, "CS")
    check_not_blamed(scene, live)
    assert not live.last.whole


@HOWS
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_in_mid_response(scene, how, framing):
    live = scene.stalling(10, framing)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    await client.read_some()
    getattr(client, how)()
    await scene.ended()
    await live.left()
    await check(scene, "CD")
    check_not_blamed(scene, live)


async def test_between_requests(scene):
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test"))
    await client.read_reply()
    client.leave()
    await scene.until(lambda: scene.snapshot.client_connections == 0)
    assert len(scene.outcomes) == 1
    assert scene.snapshot.links_idle == 1


async def test_within_a_head(scene):
    client = await scene.client()
    await client.write(b"GET / HT")
    client.leave()
    await scene.until(lambda: scene.snapshot.client_connections_accepted == 1)
    await scene.until(lambda: scene.snapshot.client_connections == 0)
    assert not scene.outcomes


async def test_half_closed_is_gone(scene):
    """A FIN does not tell whether the client still reads; as for nginx, it has left."""
    live = scene.backend()
    scene.route("shop.test", [live])
    live.hold()
    client = await scene.client()
    await client.write(request("shop.test"))
    await live.got_head()
    client.half_close()
    await scene.ended()
    assert (scene.letters, scene.outcome.cause) == ("CH", "client_gone")
    await live.left()
