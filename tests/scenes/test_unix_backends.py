"""Backends on Unix sockets of the edge's machine."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from tests.support.scene import MIB, Wire


def at(path, name="b9"):
    """As the core API tells it: there is no port."""
    return {"id": name, "address": f"unix:{path}", "server": ""}


@asynccontextmanager
async def listening(backend, path):
    """This backend, on a Unix socket beside its own port."""
    server = await asyncio.get_running_loop().create_unix_server(lambda: Wire(backend), str(path))
    yield at(path)
    server.close()


async def test_requests_go_there_over_kept_connections(scene, tmp_path):
    live = scene.backend(body=b"x" * MIB)
    async with listening(live, tmp_path / "b.sock") as told:
        scene.route("shop.test")["backends"] = [told]
        for _ in range(3):
            reply = await scene.post("shop.test", body=b"y" * MIB)
            assert (reply.status, len(reply.body)) == (200, MIB)
            assert live.last.body == b"y" * MIB
        assert scene.attempts == ["ok"]
        assert live.last["x-styx-backend"] == b"b9"
        assert live.connections == 1
        [explained] = scene.worker.explain("shop.test").backends
        assert explained.address == f"unix:{tmp_path}/b.sock"
        assert explained.samples == 3


async def test_another_one_gets_what_nobody_takes_there(scene, tmp_path):
    live = scene.backend()
    gone, dead = tmp_path / "gone.sock", tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    scene.route("shop.test")["backends"] = [at(gone, "b7"), at(dead, "b8"), live.answer]
    assert (await scene.post("shop.test")).status == 200
    assert scene.attempts == ["connect_failed", "connect_failed", "ok"]


async def test_a_full_queue_is_the_fault_of_who_listens_there(scene, tmp_path):
    """The kernel says EAGAIN, which for TCP means that the edge is short of something."""
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
        sock.bind(path)
        sock.listen(0)
        first.connect(path)
        scene.route("shop.test")["backends"] = [at(path)]
        reply = await scene.get("shop.test")
    assert (reply.status, reply.error) == (502, "connect_failed")


@pytest.mark.parametrize("core_api", [{"unix_backends": False}, {}])
async def test_not_where_they_must_not_be(scene, tmp_path, core_api):
    """Not if the operator says so; and never where the edge itself listens."""
    mine = tmp_path / "edge.sock"
    (tmp_path / "link.sock").symlink_to(mine)
    scene.listeners({}, {"address": f"unix:{mine}"})
    scene.settings(core_api=core_api)
    live = scene.backend()
    async with listening(live, tmp_path / "b.sock") as told:
        if not core_api:
            told = at(tmp_path / "link.sock")
        scene.route("shop.test")["backends"] = [told]
        reply = await scene.get("shop.test")
        assert (reply.status, reply.error) == (503, "lookup_failed")
        assert not live.requests
