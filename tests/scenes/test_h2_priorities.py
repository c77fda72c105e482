"""Which of the streams of a connection goes first when the client takes less than there is (RFC 9218)."""

import pytest

from tests.corpus_h2.frames import PREFACE, frame, get, rst, settings, window
from tests.support.h2_wire import H2Wire
from tests.support.scene import MIB, Scene

WINDOW = 65_535
"Of a connection before the client has given more."
STREAM_WINDOW = (4, 64 * MIB)


@pytest.fixture
def kind() -> str:
    return "h2"


async def crowd(scene: Scene, priorities: dict[int, str], *updates: tuple[int, str]) -> H2Wire:
    """A connection whose window is used up by stream 1, with large responses for these streams behind it."""
    scene.route("first.test", [scene.backend(body=b"f" * WINDOW)])
    scene.route("shop.test", [scene.backend(body=b"x" * MIB)])
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings((9, 1), STREAM_WINDOW))
    await wire.write(get(1, host="first.test"))
    await wire.until("the window is used up", lambda: len(wire.seen(1).body) == WINDOW)
    for stream, priority in priorities.items():
        await wire.write(get(stream, *([("priority", priority)] if priority else [])))
    for stream, value in updates:
        await wire.write(frame(16, 0, 0, stream.to_bytes(4, "big") + value.encode()))
    [connection] = scene.connections
    streams = connection._streams
    await scene.until(lambda: sum(not stream.writable for stream in streams.values()) == len(priorities))
    return wire


async def order(wire: H2Wire, size: int) -> list[int]:
    """Of which streams the next bytes are, frame by frame."""
    before, held = len(wire.frames), sum(len(seen.body) for seen in wire.streams.values())
    await wire.write(window(0, size))
    await wire.until("more", lambda: sum(len(seen.body) for seen in wire.streams.values()) == held + size)
    return [stream for kind, _, stream, _ in wire.frames[before:] if kind == 0]


async def leave(wire: H2Wire, scene: Scene, *streams: int) -> None:
    await wire.write(b"".join(rst(stream) for stream in streams))
    await scene.ended(1 + len(streams))


@pytest.mark.parametrize(
    ("priorities", "updates", "first"),
    [
        ({3: "u=5", 5: "u=1", 7: "u=3"}, [], 5),
        ({3: "", 5: "u=2", 7: "u=4"}, [], 5),
        ({3: "u=3", 5: "u=3", 7: "u=3"}, [], 3),
        ({3: "u=3", 5: "u=3", 7: "u=3"}, [(7, "u=0")], 7),
        ({3: "", 5: "", 7: ""}, [(7, "u=1, i")], 7),
        ({3: "u=3", 5: 'u="0"', 7: "0=u"}, [(5, "u=77;;")], 3),
    ],
)
async def test_urgency_orders(scene, priorities, updates, first):
    wire = await crowd(scene, priorities, *updates)
    assert set(await order(wire, 3 * 16_384)) == {first}
    await leave(wire, scene, *priorities)


@pytest.mark.parametrize("priority", ["u=3, i", "i", ""])
async def test_those_that_gain_by_it_are_sent_in_turns(scene, priority):
    """So are those of clients that say nothing of priorities: one long response does not hold up another."""
    wire = await crowd(scene, {3: priority, 5: priority, 7: priority})
    came = await order(wire, 6 * 16_384)
    assert [came.count(stream) for stream in (3, 5, 7)] == [2, 2, 2]
    await leave(wire, scene, 3, 5, 7)


async def test_who_waits_behind_others_has_not_stalled(scene):
    """Its client reads, though nothing of this stream; when it takes nothing at all, the deadline holds."""
    wire = await crowd(scene, {3: "u=0", 5: "u=7"})
    stall = scene.worker.context.timeouts.write_stall
    for _ in range(3):
        assert set(await order(wire, 16_384)) == {3}
        scene.pass_time(stall + 1)
    await wire.still_there()
    assert wire.seen(5).reset is None
    assert len(scene.outcomes) == 1
    scene.pass_time(2 * stall)
    scene.pass_time(2 * stall)
    await wire.was_reset(3)
    await wire.was_reset(5)
    await scene.ended(3)
    assert {outcome.cause.value for outcome in scene.outcomes[1:]} == {"client_stalled"}


async def test_updates_for_streams_that_are_not_there(scene):
    """They are hints: for idle streams they are kept while there is room, for closed ones ignored."""
    wire = await crowd(scene, {3: "u=3", 5: "u=3"})
    far = b"".join(frame(16, 0, 0, stream.to_bytes(4, "big") + b"u=0") for stream in (1, 99, 2_147_483_647))
    await wire.write(far)
    assert set(await order(wire, 16_384)) == {3}
    await wire.still_there()
    await leave(wire, scene, 3, 5)
