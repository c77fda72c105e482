"""A machine that is gone says nothing: what was written to it is not acknowledged, and nobody waits long for it."""

import socket

import pytest

from edge.net.h1.h1_backend import H1Backend
from tests.support.needs import needs_plain
from tests.support.scene import request
from tests.support.scene_backends import silent

HOST = "shop.test"


def watchful(connection) -> int:
    """Milliseconds."""
    sock = connection._transport.get_extra_info("socket")
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def kept(scene) -> list:
    return [connection for shelf in scene.worker.context.pool._idle_of.values() for connection in shelf]


async def test_the_kernel_watches_for_acknowledgements_of_heads(scene):
    scene.route(HOST, [scene.backend()])
    await scene.get(HOST)
    assert [watchful(connection) for connection in kept(scene)] == [5000]


async def test_a_body_may_lie_for_a_while(scene):
    """In the receive buffer of a container that is being started, or reads slowly: that is no dead machine."""
    scene.route(HOST, [scene.backend()])
    await scene.post(HOST, body=b"a" * 100)
    assert [watchful(connection) for connection in kept(scene)] == [0]


async def test_it_can_be_turned_off(scene):
    scene.settings(pool={"unacknowledged": 0})
    scene.route(HOST, [scene.backend()])
    await scene.get(HOST)
    assert [watchful(connection) for connection in kept(scene)] == [0]


@needs_plain
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 504)])
async def test_when_nobody_acknowledges_a_safe_request_goes_elsewhere(scene, monkeypatch, method, status):
    gone, live = scene.scripted(silent), scene.backend()
    scene.route(HOST, [gone, live])
    scene.dice = 0.0
    client = await scene.client()
    await client.write(request(HOST, method=method))
    await gone.got_head()
    [exchange] = [
        member._exchange for member in scene.worker.context.deadline_sweep if getattr(member, "_exchange", None)
    ]
    dead, ended = exchange._attempt.connection, H1Backend.connection_lost
    kernel = TimeoutError(110, "Connection timed out")
    monkeypatch.setattr(
        H1Backend,
        "connection_lost",
        lambda connection, exc: ended(connection, kernel if connection is dead else exc),
    )
    dead._transport.abort()
    reply = await client.read_reply(method)
    assert (reply.status, scene.attempts[0]) == (status, "connection_unacknowledged")
    assert reply.error == (None if status == 200 else "stalled")
    assert scene.explained(HOST, gone).condition == "down"
