"""Floods over HTTP/2: each ends by itself, says why, and disturbs nobody else."""

import logging

import pytest

from edge.net.h2.h2_connection import SLICE
from edge.rules.h2.h2_frames import BURST
from tests.corpus_h2.frames import (
    CONTINUATION_,
    DATA_,
    ENHANCE_YOUR_CALM,
    PREFACE,
    block,
    data,
    frame,
    get,
    headers,
    integer,
    ping,
    post,
    priority,
    pseudo,
    rst,
    settings,
    window,
)
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

FIRST = 3
"The first stream of a flood; 1 is a request in flight."
MANY = 1500
BOMB = block(*pseudo()) + b"\x40\x01x" + integer(4000, 7) + b"y" * 4000 + b"\xbe" * 8000


def streams(count: int) -> range:
    return range(FIRST, FIRST + 2 * count, 2)


FLOODS = {
    "reset_flood": [get(n, host="hang.test") + rst(n) for n in streams(MANY)],
    "provoked_resets": [
        post(n, ("content-length", "1"), host="hang.test") + data(n, b"abc", ended=False) for n in streams(MANY)
    ],
    "settings_flood": [settings((4, 65_535))] * MANY,
    "ping_flood": [ping()] * MANY,
    "window_update_flood": [window(0, 1)] * MANY,
    "priority_flood": [priority(1)] * MANY,
    "continuation_flood": [
        headers(FIRST, block(*pseudo()), flags=0),
        *[frame(CONTINUATION_, 0, FIRST, b"")] * MANY,
    ],
    "empty_data_flood": [post(FIRST, host="hang.test"), *[frame(DATA_, 0, FIRST)] * MANY],
    "closed_stream_flood": [data(FIRST, ended=False)] * MANY,
    "header_list": [headers(FIRST, BOMB)],
    "other_flood": [frame(99, 0, 0)] * MANY,
}
"By the reason that is told."


@pytest.fixture
def kind() -> str:
    return "h2"


async def begun(scene: Scene) -> H2Wire:
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings())
    return wire


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "with acknowledgements read"])
@pytest.mark.parametrize("reason", FLOODS)
async def test_a_flood_ends(scene, caplog, reason, at_once):
    """In GOAWAY, an event and a count with its reason, and a line for what was in flight; others are served."""
    caplog.set_level(logging.WARNING, "styx.client")
    silent = scene.silent()
    scene.route("hang.test", [silent])
    scene.route("shop.test", [scene.backend()])
    other, wire = await begun(scene), await begun(scene)
    await wire.write(get(1, host="hang.test"))
    await scene.until(lambda: bool(silent.requests))
    if reason == "closed_stream_flood":
        await wire.write(post(FIRST, ("content-length", "1"), host="hang.test") + data(FIRST, ended=False))
        await wire.was_reset(FIRST)
    if at_once:
        await wire.write(b"".join(FLOODS[reason]))
    else:
        for at in range(0, len(FLOODS[reason]), 50):
            if wire.is_gone or wire.goaway is not None:
                break
            await wire.write(b"".join(FLOODS[reason][at : at + 50]))
            await wire.write(ping(b"%08d" % at))
            await wire.receive()
    assert await wire.closed() == ENHANCE_YOUR_CALM
    h2 = scene.worker.context.h2
    assert {why.value: count for why, count in h2.goaways.items() if count} == {reason: 1}
    [event] = [record for record in caplog.records if getattr(record, "code", "") == "http2_connection_ended"]
    assert (event.reason, event.client) == (reason, "127.0.0.1")
    await scene.ended()
    [first] = [outcome for outcome in scene.outcomes if outcome.stream == 1]
    assert (first.cause.value, first.protocol) == ("bad_request", "h2")
    await other.write(get(1))
    assert (await other.answered(1)).body == b"hello"
    assert h2.connections == 1


async def test_what_comes_behind_a_provoked_reset_too_many_is_not_begun(scene):
    """Though it is in the same read."""
    scene.route("hang.test", [scene.silent()])
    wire = await begun(scene)
    await wire.write(b"".join(FLOODS["provoked_resets"]))
    assert await wire.closed() == ENHANCE_YOUR_CALM
    in_a_slice = SLICE // len(FLOODS["provoked_resets"][-1])
    assert BURST < scene.worker.context.h2.streams < BURST + 2 * in_a_slice < MANY


async def test_many_requests_in_one_read_take_several_turns(scene):
    """As long as one connection may take in a turn, here nothing; then others have theirs."""
    scene.route("shop.test", [scene.backend()])
    wire = await begun(scene)
    await wire.still_there()
    [connection] = scene.connections
    scene.worker.context.reading._per_connection = 0.0
    requests = [get(n, ("x-long", "y" * 200)) for n in range(1, 201, 2)]
    connection.data_received(b"".join(requests))
    assert 0 < scene.worker.context.h2.streams <= SLICE / len(requests[0]) + 1
    connection.data_received(ping(b"behind  "))  # waits for its turn, too
    assert 0 < connection.held_bytes <= sum(map(len, requests)) + 17
    for n in range(1, 201, 2):
        assert (await wire.answered(n)).body == b"hello"
    await wire.until("the PING is answered", lambda: b"behind  " in wire.pings)
    assert connection.held_bytes == 0


async def test_a_client_that_leaves_while_its_requests_wait(scene):
    scene.route("shop.test", [scene.backend()])
    wire = await begun(scene)
    await wire.still_there()
    [connection] = scene.connections
    scene.worker.context.reading._per_connection = 0.0
    connection.data_received(b"".join(get(n, ("x-long", "y" * 200)) for n in range(1, 201, 2)))
    begun_so_far = scene.worker.context.h2.streams
    wire.client.leave()
    await scene.ended(begun_so_far)


@pytest.mark.parametrize("reason", ["ping_flood", "settings_flood", "empty_data_flood", "reset_flood"])
async def test_as_much_as_is_allowed(scene, reason):
    """A thousand at once, and a hundred in each second after it."""
    scene.route("hang.test", [scene.silent()])
    scene.route("shop.test", [scene.backend()])
    flood = FLOODS[reason]
    wire = await begun(scene)
    await wire.write(b"".join(flood[:900]))
    await wire.still_there()
    for second in range(5):
        scene.pass_time(1.0)
        await wire.write(b"".join(flood[900 + 90 * second : 990 + 90 * second]))
        await wire.still_there()
    assert wire.goaway is None
    await wire.write(get(5001))
    assert (await wire.answered(5001)).status == 200
    wire.client.leave()
