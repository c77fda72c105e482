"""With a cached route and a kept connection a request is plain calls: no task, no future, no timer."""

import asyncio
import sys

import pytest

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
