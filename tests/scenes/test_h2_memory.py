"""What is over is freed at once: until the garbage collector comes by, thousands of connections would stay."""

import gc
from collections import Counter

import pytest

from edge.net.exchange import Exchange
from edge.net.h2.h2_connection import H2Connection
from edge.net.h2.h2_session import Ngh2Session
from edge.net.h2.h2_stream import H2Stream
from tests.corpus_h2.frames import PREFACE, get, ping, post, rst, settings
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

KINDS = (H2Connection, Ngh2Session, H2Stream, Exchange)


@pytest.fixture
def kind() -> str:
    return "h2"


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> Counter[str]:
    return Counter(type(found).__name__ for found in gc.get_objects() if isinstance(found, KINDS))


async def begun(scene: Scene) -> H2Wire:
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings())
    return wire


async def served(scene: Scene) -> None:
    wire = await begun(scene)
    await wire.write(get(1) + get(3))
    await wire.answered(3)
    wire.client.leave()


async def in_flight(scene: Scene) -> None:
    wire = await begun(scene)
    await wire.write(get(1, host="hang.test") + post(3, host="hang.test"))
    await scene.until(lambda: len(scene.backends[1].requests) == 2)
    wire.client.leave()


async def reset(scene: Scene) -> None:
    wire = await begun(scene)
    await wire.write(get(1, host="hang.test"))
    await scene.until(lambda: bool(scene.backends[1].requests))
    await wire.write(rst(1))
    await wire.still_there()
    wire.client.leave()


async def failed(scene: Scene) -> None:
    wire = await begun(scene)
    await wire.write(get(1, host="hang.test") + ping() * 1200)
    await wire.closed()
    wire.client.leave()


async def closed_by_the_edge(scene: Scene) -> None:
    wire = await begun(scene)
    await wire.write(get(1))
    await wire.answered(1)
    await wire.still_there()
    scene.pass_time(scene.worker.context.timeouts.keep_alive + 1)
    await wire.closed()
    wire.client.leave()


@pytest.mark.parametrize("play", [served, in_flight, reset, failed, closed_by_the_edge])
async def test_connections_that_are_over_are_freed_at_once(scene, play):
    scene.route("shop.test", [scene.backend()])
    scene.route("hang.test", [scene.silent()])
    await play(scene)
    await scene.until(lambda: not scene.snapshot.client_connections)
    await scene.until(lambda: not left())
