"""With a cached route and a kept connection a request is plain calls: no task, no future, no timer."""

import asyncio
import sys

import pytest

from edge.net.h1.h1_connection import LOOKUPS_AFTER_CHANGE
from edge.net.h1.head_reader import HeadReader
from tests.support.scene import request

COSTLY = ("create_task", "create_future", "call_later", "call_at", "call_soon", "run_in_executor")


PERIODIC = ("edge.net.deadline_sweep", "edge.net.background")
"The sweep and the heartbeat: a few times a second, however many requests there are."


class Watch:
    """Counts what the edge asks of the loop, but for what is periodic."""

    def __init__(self, loop, monkeypatch):
        self.made = []
        for name in COSTLY:
            monkeypatch.setattr(loop, name, self._watched(name, getattr(loop, name)), raising=False)

    def _watched(self, name, plain):
        def called(*args, **kwargs):
            frame = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__", "").startswith("asyncio"):
                frame = frame.f_back
            caller = frame.f_globals.get("__name__", "") if frame is not None else ""
            if caller.startswith("edge.") and caller not in PERIODIC:
                self.made.append((name, caller))
            return plain(*args, **kwargs)

        return called


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_task_and_no_timer(scene, monkeypatch, method):
    scene.route("shop.test", [scene.backend(), scene.backend()])
    scene.core.cache_control = "max-age=1000"
    client = await scene.client()
    watch = Watch(asyncio.get_running_loop(), monkeypatch)
    data = request("shop.test", method=method, body=b"abc" if method == "POST" else None)
    await client.write(data)
    await client.read_reply()
    assert {name for name, _ in watch.made} >= {"create_task"}, "the first one asks and connects"
    watch.made.clear()
    for _ in range(100):
        await client.write(data)
        assert (await client.read_reply()).status == 200
    assert watch.made == []
    assert scene.snapshot.links_opened == 1


async def test_fields_are_compared_with_those_of_the_request_before_unless_that_was_in_vain(scene, monkeypatch):
    """The memory of an earlier request is in no cache of the CPU; see `LOOKUPS_AFTER_CHANGE`."""
    compare, compared = HeadReader.with_same_fields, []

    def counted(reader, data, previous):
        found = compare(reader, data, previous)
        compared.append((number, found is not None))
        return found

    monkeypatch.setattr(HeadReader, "with_same_fields", counted)
    scene.route("shop.test", [scene.backend()])
    client, steady = await scene.client(), await scene.client()
    for number in range(LOOKUPS_AFTER_CHANGE + 4):
        await client.write(request("shop.test", headers=[("Accept", f"text/{number}")]))
        assert (await client.read_reply()).status == 200
    assert compared == [(1, False), (LOOKUPS_AFTER_CHANGE + 2, False)]
    compared.clear()
    for number in range(4):
        await steady.write(request("shop.test", f"/{number}"))
        assert (await steady.read_reply()).status == 200
    assert compared == [(1, True), (2, True), (3, True)], "whatever other clients do"
