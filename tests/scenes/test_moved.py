"""Containers move: 421, a closed port, another container on the old port; found again within the same request."""

import pytest

from edge.net.routing.resolver import FORCED_BURST
from tests.support.scene import SHORT
from tests.support.scene_core_api import EXPIRED

BOTH = pytest.mark.parametrize("method", ["GET", "POST"])
BODIES = {"GET": b"", "POST": b"a" * 1000}


async def ask(scene, method):
    return await (scene.get("shop.test") if method == "GET" else scene.post("shop.test", body=BODIES[method]))


@BOTH
async def test_misdirected_is_found_at_its_new_place(scene, method):
    old, new = scene.misdirecting(), scene.backend(body=b"found")
    scene.route("shop.test", [old], then=[new])
    reply = await ask(scene, method)
    assert (reply.status, reply.body) == (200, b"found")
    assert scene.attempts == ["misdirected", "ok"]
    assert scene.core.lookups == ["shop.test"] * 2
    assert new.last.body == BODIES[method]


@BOTH
async def test_misdirected_goes_to_a_sibling_and_asks_behind_its_back(scene, method):
    old, sibling = scene.misdirecting(), scene.backend()
    scene.route("shop.test", [old, sibling])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == ["misdirected", "ok"]
    await scene.core.asked()
    await scene.core.asked()
    assert scene.core.lookups == ["shop.test"] * 2
    assert scene.points("shop.test", old) == 0


@BOTH
async def test_misdirected_everywhere(scene, method):
    scene.route("shop.test", [scene.misdirecting(), scene.misdirecting()])
    reply = await ask(scene, method)
    assert (reply.status, reply.error) == (502, "misdirected")
    assert len(set(scene.tried)) == len(scene.tried) == 2
    assert len(scene.core.lookups) == 2


async def test_failing_backends_do_not_flood_the_core_api(scene):
    scene.route("shop.test", [scene.misdirecting()])
    for _ in range(10):
        assert (await scene.get("shop.test")).error == "misdirected"
    assert len(scene.core.lookups) == 1 + FORCED_BURST


@BOTH
async def test_moved_and_the_old_port_closed(scene, method):
    old, new = scene.dead(), scene.backend(body=b"found")
    scene.route("shop.test", [old], then=[new])
    reply = await ask(scene, method)
    assert (reply.status, reply.body) == (200, b"found")
    assert scene.attempts == ["connect_failed", "ok"]
    assert new.last.body == BODIES[method]


async def test_moved_while_a_connection_is_kept(scene):
    """The same container at another place: the kept connection leads to whoever is at the old one now."""
    scene.core.cache_control = EXPIRED
    first, second = scene.backend(body=b"old place"), scene.backend(body=b"new place")
    second.name = first.name
    scene.route("shop.test", [first], then=[second])
    assert (await scene.get("shop.test")).body == b"old place"
    assert scene.snapshot.links_idle == 1
    assert (await scene.get("shop.test")).body == b"new place"


async def test_the_new_place_is_asked_for_but_the_core_api_is_gone(scene):
    old = scene.misdirecting()
    scene.route("shop.test", [old])
    old.hold()
    client = await scene.client()
    await client.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await old.got_head()
    scene.change("core_api", timeout=SHORT)
    scene.core.trouble = "silent"
    old.release()
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (502, "misdirected")
