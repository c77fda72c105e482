"""Active and standby, draining, limits of the whole edge."""

import asyncio

import pytest

from tests.support.scene import DEADLINE, SHORT, request


def standby(backend):
    backend.role = "standby"
    return backend


async def test_standby_gets_nothing_while_an_active_one_can(scene):
    spare, live = standby(scene.backend()), scene.backend()
    scene.route("shop.test", [spare, live])
    for dice in (0.0, 0.5, 0.999):
        scene.dice = dice
        assert (await scene.get("shop.test"))["x-styx-backend"] == live.name
    assert not spare.connections


@pytest.mark.parametrize("trouble", ["dead", "refusing", "misdirecting"])
async def test_standby_when_no_active_one_can(scene, trouble):
    spare = standby(scene.backend())
    scene.route("shop.test", [spare, getattr(scene, trouble)(), getattr(scene, trouble)()])
    reply = await scene.get("shop.test")
    assert reply["x-styx-backend"] == spare.name
    assert len(scene.attempts) == 3


async def test_standby_alone(scene):
    spare = standby(scene.backend())
    scene.route("shop.test", [spare])
    assert (await scene.get("shop.test"))["x-styx-backend"] == spare.name


async def test_back_to_the_active_one_when_it_is_back(scene):
    spare, active = standby(scene.backend()), scene.refusing(retry_after=1)
    scene.route("shop.test", [spare, active])
    assert (await scene.get("shop.test"))["x-styx-backend"] == spare.name
    script, active.script = active.script, spare.script
    assert script is not active.script
    await scene.until(lambda: scene.explained("shop.test", active).rests_for == 0)
    assert (await scene.get("shop.test"))["x-styx-backend"] == active.name


async def test_draining_gets_nothing(scene):
    leaving, live = scene.backend(), scene.backend()
    leaving.state = "draining"
    scene.route("shop.test", [leaving, live])
    for _ in range(5):
        await scene.get("shop.test")
    assert not leaving.connections
    scene.route("gone.test", [leaving])
    assert (await scene.get("gone.test")).error == "no_backends"


async def test_the_busy_one_gets_less(scene):
    busy, free = scene.backend(), scene.backend()
    scene.route("shop.test", [busy, free])
    busy.hold()
    client = await scene.client()
    await client.write(request("shop.test"))
    await busy.got_head()
    scene.dice = 0.5
    for _ in range(5):
        assert (await scene.get("shop.test"))["x-styx-backend"] == free.name
    busy.release()
    assert (await client.read_reply()).status == 200


async def test_one_that_fails_gets_less(scene):
    failing, healthy = scene.backend(status=500), scene.backend()
    scene.route("shop.test", [failing, healthy])
    async with asyncio.timeout(DEADLINE):  # weights hold for a moment, in which more or fewer requests come
        while (await scene.get("shop.test")).status == 500:
            pass
    assert scene.tried == [healthy.name]
    explained = scene.explained("shop.test", failing)
    assert "server_error" in [demerit.cause for demerit in explained.demerits]
    assert explained.probability < 0.1 < 0.9 < scene.explained("shop.test", healthy).probability


async def test_sick_all_alike_is_not_sick(scene):
    failing = [scene.backend(status=500), scene.backend(status=500)]
    scene.route("shop.test", failing)
    for n in range(40):
        scene.dice = (n % 2) * 0.9
        await scene.get("shop.test")
    await scene.until(lambda: abs(scene.explained("shop.test", failing[0]).probability - 0.5) < 0.3)


@pytest.mark.usefixtures("nobody_idles")
async def test_as_many_connections_as_are_set(scene):
    scene.settings(limits={"connections": 2})
    scene.route("shop.test", [scene.backend()])
    first, second, third = [await scene.client() for _ in range(3)]
    reply = await third.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (503, "edge_overloaded", "close")
    assert int(reply["retry-after"]) > 0
    assert await third.closed()
    assert scene.letters == "EP"
    assert scene.snapshot.client_connections_refused == 1
    for client in (first, second):
        await client.write(request("shop.test"))
        assert (await client.read_reply()).status == 200
    third.leave()
    first.leave()
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    assert (await scene.get("shop.test")).status == 200


async def test_a_sleeping_backend_is_tried_like_any_other(scene):
    scene.settings(timeouts={"first_byte": SHORT})
    cold = scene.backend()
    cold.state = "asleep"
    scene.route("shop.test", [cold])
    assert (await scene.get("shop.test")).status == 200


async def test_an_event_stream_tells_nothing_about_speed(scene):
    """Its first byte comes when the first event does."""
    events = scene.backend(headers=[("Content-Type", "text/event-stream")], framing="chunked")
    scene.route("shop.test", [events])
    assert (await scene.get("shop.test")).status == 200
    assert scene.explained("shop.test", events).samples == 0
