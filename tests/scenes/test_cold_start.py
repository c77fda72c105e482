"""Containers that sleep: started by the first request, which is patient; the others let them sleep."""

import asyncio

import pytest

from tests.support.scene_backends import answering

HOST = "shop.test"


class Starting:
    """A container that is asleep, and not ready for so many requests after the first."""

    def __init__(self, scene, status: int, times: int) -> None:
        self.left, self.status = times, status
        self.backend = scene.scripted(self.script)
        self.backend.state = "asleep"

    async def script(self, wire, request) -> None:
        self.left -= 1
        await answering(200 if self.left < 0 else self.status)(wire, request)


@pytest.mark.parametrize("status", [502, 503])
async def test_one_that_is_not_ready_is_asked_again_a_little_later(scene, status):
    starting = Starting(scene, status, 2)
    other = scene.backend()
    other.state = "asleep"
    scene.route(HOST, [starting.backend, other])
    scene.dice = 0.0
    reply = await scene.get(HOST)
    assert (reply.status, reply["x-styx-backend"]) == (200, starting.backend.name)
    assert len(scene.attempts) == 3
    assert scene.outcome.total_ms >= 300.0
    explained = scene.explained(HOST, starting.backend)
    assert (explained.demerits, explained.samples, explained.condition) == ([], 0, "healthy")
    assert other.requests == [], "one is enough to wake"


@pytest.mark.parametrize("status", [502, 503])
async def test_a_post_is_not_repeated(scene, status):
    starting = Starting(scene, status, 2)
    scene.route(HOST, [starting.backend])
    assert (await scene.post(HOST)).status == status
    assert len(starting.backend.requests) == 1


async def test_not_for_ever(scene):
    starting = Starting(scene, 503, 1000)
    scene.route(HOST, [starting.backend])
    asking = asyncio.create_task(scene.get(HOST))
    await scene.until(lambda: len(starting.backend.requests) == 2)
    scene.change("retries", boot=0.01)  # as if the request was old
    reply = await asking
    assert (reply.status, reply.error) == (503, None), "then its own answer is shown"
    assert len(starting.backend.requests) <= 3


async def test_one_that_is_awake_says_503_itself(scene):
    live = scene.backend(status=503)
    scene.route(HOST, [live])
    assert (await scene.get(HOST)).status == 503
    assert len(live.requests) == 1


async def test_the_only_one_is_waited_for_until_it_listens(scene):
    late = scene.dead()
    late.state = "asleep"
    scene.route(HOST, [late])
    scene.settings(retries={"boot": 0.25})
    reply = await scene.post(HOST)
    assert reply.error == "connect_failed"
    assert len(scene.attempts) >= 2, "nothing was sent, so any method may be repeated"


async def test_sparse_traffic_wakes_nobody_while_one_is_awake(scene):
    asleep, awake = [scene.backend() for _ in range(3)], scene.backend()
    for backend in asleep:
        backend.state = "asleep"
    scene.route(HOST, [*asleep, awake])
    for n in range(40):
        scene.dice = n / 40 + 0.001
        await scene.get(HOST)
    assert [len(b.requests) for b in asleep] == [0, 0, 0]
    assert scene.explained(HOST, asleep[0]).condition == "cold"


async def test_when_those_awake_have_much_to_do_another_is_woken(scene):
    asleep, awake = scene.backend(), scene.backend()
    asleep.state = "asleep"
    scene.route(HOST, [asleep, awake])
    scene.dice = 0.5
    await scene.get(HOST)
    awake.hold()
    clients = [await scene.client() for _ in range(6)]
    for client in clients:
        await client.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await asleep.got_head()
    assert 3 <= len(awake.requests) - 1 <= 5
    awake.release()
    for client in clients:
        assert (await client.read_reply()).status == 200


async def test_a_client_that_leaves_while_it_starts(scene):
    starting = Starting(scene, 502, 1000)
    scene.route(HOST, [starting.backend])
    client = await scene.client()
    await client.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await starting.backend.got_head()
    client.leave()
    assert (await scene.ended()).cause == "client_gone"
    seen = len(starting.backend.requests)
    assert (await scene.get("other.test")).status == 404
    assert len(starting.backend.requests) == seen
