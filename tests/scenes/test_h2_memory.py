"""What is over is freed at once: until the garbage collector comes by, thousands of connections would stay."""

import sys
from collections import deque
from collections.abc import Awaitable, Callable

import pytest

from tests.corpus_h2.frames import PREFACE, get, ping, post, rst, settings
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

Play = Callable[[Scene, H2Wire], Awaitable[None]]


@pytest.fixture
def kind() -> str:
    return "h2"


async def served(scene: Scene, wire: H2Wire) -> None:
    await wire.write(get(1) + get(3))
    await wire.answered(3)


async def in_flight(scene: Scene, wire: H2Wire) -> None:
    await wire.write(get(1, host="hang.test") + post(3, host="hang.test"))
    await scene.until(lambda: len(scene.backends[1].requests) == 2)


async def reset(scene: Scene, wire: H2Wire) -> None:
    await wire.write(get(1, host="hang.test"))
    await scene.until(lambda: bool(scene.backends[1].requests))
    await wire.write(rst(1))
    await wire.still_there()


async def failed(scene: Scene, wire: H2Wire) -> None:
    await wire.write(get(1, host="hang.test") + ping() * 1200)
    await wire.closed()


async def closed_by_the_edge(scene: Scene, wire: H2Wire) -> None:
    await wire.write(get(1))
    await wire.answered(1)
    await wire.still_there()
    scene.pass_time(scene.worker.context.timeouts.keep_alive + 1)
    await wire.closed()


@pytest.mark.parametrize("play", [served, in_flight, reset, failed, closed_by_the_edge])
async def test_nobody_holds_what_is_over(scene: Scene, play: Play) -> None:
    """Neither a connection and its session each other, nor a stream its connection."""
    scene.route("shop.test", [scene.backend()])
    scene.route("hang.test", [scene.silent()])
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings())
    await wire.until("SETTINGS", lambda: bool(wire.frames))
    [connection] = scene.connections
    session = connection.session
    await play(scene, wire)
    wire.client.leave()
    await scene.until(lambda: not scene.snapshot.client_connections)
    # This function, its closure, and the call; the connection has its session.
    await scene.until(lambda: (sys.getrefcount(connection), sys.getrefcount(session)) == (2, 3))


@pytest.mark.parametrize("play", [served, reset])
async def test_an_idle_connection_has_no_containers(scene: Scene, play: Play) -> None:
    """Empty ones would take half a kilobyte of each."""
    scene.route("shop.test", [scene.backend()])
    scene.route("hang.test", [scene.silent()])
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings())
    await play(scene, wire)
    [connection] = scene.connections
    await scene.until(lambda: connection.idle_since() is not None)
    held = [
        f"{type(owner).__name__}.{name}"
        for owner in (connection, connection._guard, connection.session)
        for name in dir(owner)
        if name != "__annotations__"
        and isinstance(getattr(owner, name, None), dict | list | set | bytearray | deque)
    ]
    assert held == ["H2Connection._streams"], "no __dict__ either"
    assert sys.getsizeof(connection._streams) == sys.getsizeof({}), "no table of streams that were"
