"""The end of an HTTP/2 connection whose last response the client has not read yet."""

import pytest

from edge.net.accept.lingering_close import LINGER, LingeringClose
from tests.corpus_h2.frames import NO_ERROR, PREFACE, get, settings, window
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

SIZE = 1 << 20
"More than the client has in its own socket when the connection ends."
STALL = 2.5 * LINGER


@pytest.fixture
def kind() -> str:
    return "h2"


def lingering(scene: Scene) -> list[LingeringClose]:
    return [member for member in scene.worker.context.deadline_sweep if isinstance(member, LingeringClose)]


async def ending(scene: Scene) -> H2Wire:
    """A connection that is closing; the client has read nothing of its only response."""
    scene.settings(limits={"requests_per_connection": 1}, timeouts={"write_stall": STALL})
    scene.route("shop.test", [scene.backend(body=b"x" * SIZE)])
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings((4, SIZE)) + window(0, SIZE) + get(1))
    await scene.ended()
    await scene.until(lambda: bool(lingering(scene)))
    return wire


async def credit(scene: Scene, wire: H2Wire) -> None:
    """The client sends a frame, and the edge reads it."""
    await wire.write(window(0, 1))
    await scene.until(lambda: all(close.has_received for close in lingering(scene)))


async def test_the_last_response_of_a_connection_is_read_whole(scene):
    """Though the client sends frames while it reads: a closed socket would respond with a reset."""
    wire = await ending(scene)
    await credit(scene, wire)
    scene.pass_time(1.1 * LINGER)
    await scene.until(lambda: not any(close.has_received for close in lingering(scene)))
    await credit(scene, wire)
    assert await wire.closed() == NO_ERROR
    assert wire.seen(1).ended
    assert len(wire.seen(1).body) == SIZE
    assert scene.worker.context.h2.connections == 0


async def test_a_client_that_sends_for_ever_is_closed(scene):
    wire = await ending(scene)
    for _ in range(3):
        assert lingering(scene)
        await credit(scene, wire)
        scene.pass_time(1.1 * LINGER)
        await scene.until(lambda: not any(close.has_received for close in lingering(scene)))
    await scene.until(lambda: not lingering(scene))


async def test_a_client_that_sends_nothing_is_closed_soon(scene):
    await ending(scene)
    scene.pass_time(1.1 * LINGER)
    await scene.until(lambda: not lingering(scene))
