"""With a cached route and a kept connection, a request costs no task and no timer."""

import asyncio

import pytest

from tests.scene import request


class WatchedLoop:
    """Stands before the worker's loop and counts what costs."""

    def __init__(self, loop):
        self._loop = loop
        self.made = []

    def __getattr__(self, name):
        if name in ("create_task", "call_later", "call_at", "call_soon", "create_future", "run_in_executor"):
            self.made.append(name)
        return getattr(self._loop, name)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_task_and_no_timer(scene, monkeypatch, method):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    client = await scene.client()
    data = request("shop.test", method=method, body=b"abc" if method == "POST" else None)
    await client.write(data)
    await client.read_reply()
    watched = WatchedLoop(scene.worker.services.loop)
    scene.worker.services.loop = watched
    tasks = []
    monkeypatch.setattr(asyncio, "create_task", lambda *args, **kwargs: tasks.append(args))
    before = asyncio.all_tasks()
    for _ in range(100):
        await client.write(data)
        assert (await client.read_reply()).status == 200
        assert asyncio.all_tasks() == before
    assert watched.made == []
    assert tasks == []
    assert scene.snapshot.links_opened == 1
