"""All containers of a small environment are full: some requests wait for a moment, in order, and not for long."""

import asyncio

import pytest

from tests.support.scene import request
from tests.support.scene_backends import answering, refusing

HOST = "shop.test"


class OneSlot:
    """A container that takes one request at a time and refuses the others."""

    def __init__(self, scene) -> None:
        self.busy, self.go_on = False, asyncio.Event()
        self.served: list[bytes] = []
        self.refused = 0
        self.backend = scene.scripted(self.script)

    async def script(self, wire, request) -> None:
        if self.busy:
            self.refused += 1
            await refusing()(wire, request)
            return
        self.served.append(request.target)
        if request.target == b"/first":
            self.busy = True
            await self.go_on.wait()
            self.busy = False
        await answering()(wire, request)


@pytest.fixture
def wait():
    return 5.0


@pytest.fixture
async def full(scene, wait):
    """Its only slot is taken until `go_on`. Answers take 1,000 s, so nobody asks again by itself."""
    scene.settings(retries={"queue_timeout": wait}, access_log={"fields": ("queue_ms",)})
    slot = OneSlot(scene)
    scene.route(HOST, [slot.backend])
    slot.first = await scene.client()
    await slot.first.write(request(HOST, "/first"))
    await scene.until(lambda: slot.busy)
    [state] = scene.worker.context.table.get(HOST).states
    state.mean, state.samples = 7.0, 100
    environment(scene).demerits.reconfigure(scene.worker.settings.demerits)
    yield slot
    slot.go_on.set()


def environment(scene):
    return scene.worker.context.table.get(HOST).environment


async def waiting(scene, full, path, **ask):
    """A client whose request waits."""
    client, before = await scene.client(), full.refused
    await client.write(request(HOST, path, **ask))
    await scene.until(lambda: full.refused == before + 1 and environment(scene).pending_queue.queued == 1)
    return client


async def test_one_that_waits_gets_the_slot_when_another_has_its_response(scene, full):
    client = await waiting(scene, full, "/waits")
    full.go_on.set()
    assert (await full.first.read_reply()).status == 200
    reply = await client.read_reply()
    assert (reply.status, full.served, full.refused) == (200, [b"/first", b"/waits"], 1)
    await scene.ended(2)
    assert scene.attempts == ["refused", "ok"]
    assert 0 < scene.outcome.queue_ms <= scene.outcome.total_ms
    assert not environment(scene).pending_queue.waiting


async def test_a_post_waits_too_for_it_was_not_processed(scene, full):
    client = await waiting(scene, full, "/buy", method="POST", body=b"a=1")
    full.go_on.set()
    assert (await client.read_reply()).status == 200
    assert full.backend.last.body == b"a=1"


async def test_as_many_wait_as_there_are_backends(scene, full):
    await waiting(scene, full, "/waits")
    assert (await scene.get(HOST)).error == "all_refused"
    assert len(environment(scene).pending_queue.waiting) == 1


async def test_who_leaves_waits_no_more(scene, full):
    client = await waiting(scene, full, "/waits")
    client.leave()
    await scene.until(lambda: not environment(scene).pending_queue.waiting)
    assert (await scene.ended(1)).cause == "client_gone"
    full.go_on.set()
    assert (await full.first.read_reply()).status == 200
    assert full.served == [b"/first"]


@pytest.mark.parametrize("wait", [0.1])
async def test_it_ends_in_the_refusal_after_a_while(scene, full):
    reply = await scene.get(HOST)
    assert (reply.status, reply.error) == (503, "all_refused")
    assert full.refused >= 2, "it has asked once more at the end"
    assert scene.outcome.total_ms >= 100.0


@pytest.mark.parametrize("wait", [0.0])
async def test_it_can_be_turned_off(scene, full):
    assert (await scene.get(HOST)).error == "all_refused"
    assert full.refused == 1


async def test_it_asks_again_by_itself_for_others_use_the_slot_too(scene, full):
    """The response that frees it may be that of another edge."""
    [state] = scene.worker.context.table.get(HOST).states
    state.mean = -4.0
    environment(scene).demerits.reconfigure(scene.worker.settings.demerits)
    client = await scene.client()
    await client.write(request(HOST, "/waits"))
    await scene.until(lambda: full.refused >= 3)
    full.busy = False
    assert (await client.read_reply()).status == 200


async def test_a_large_environment_has_others_to_ask(scene):
    backends = [scene.refusing() for _ in range(4)]
    scene.route(HOST, backends)
    assert (await scene.get(HOST)).error == "all_refused"
    assert [len(b.requests) for b in backends] == [1, 1, 1, 1]
    assert len(scene.attempts) == 4
