"""The corpus of HTTP/2: every sequence over a real socket, as written and byte by byte."""

import pytest

from tests.corpus_h2.frames import PREFACE, Answered, Case, Reset, settings
from tests.corpus_h2.legal import LEGAL_CASES
from tests.corpus_h2.malformed import CONNECTION_CASES, STREAM_CASES
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

MALFORMED = [*CONNECTION_CASES, *STREAM_CASES]
LARGEST_IN_BYTES = 1500
"Bytes of a step up to which it is also sent byte by byte."


def test_size_of_the_corpus():
    assert len(MALFORMED) >= 150
    assert len(LEGAL_CASES) >= 60
    for cases in (MALFORMED, LEGAL_CASES):
        names = [str(case) for case in cases]
        assert sorted(set(names)) == sorted(names)


async def play(scene: Scene, case: Case, *, in_bytes: bool) -> H2Wire:
    """Say all of it, as far as the edge lets us."""
    scene.listeners({"http2": True})
    live = scene.backend()
    scene.route("shop.test", [live])
    scene.route("shop.test:8080", [live])
    scene.route("hang.test", [scene.silent()])
    wire = H2Wire(await scene.raw_client())
    if not case.bare:
        await wire.write(PREFACE + settings())
    for step in case.steps:
        if wire.is_gone:
            break
        if isinstance(step, Answered):
            await wire.answered(step.stream)
        elif isinstance(step, Reset):
            await wire.was_reset(step.stream)
        elif in_bytes and len(step) <= LARGEST_IN_BYTES:
            for at in range(len(step)):
                await wire.write(step[at : at + 1])
        else:
            await wire.write(step)
    return wire


@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", CONNECTION_CASES, ids=str)
async def test_the_connection_ends(scene, case, in_bytes):
    wire = await play(scene, case, in_bytes=in_bytes)
    assert await wire.closed() in case.goaway
    assert sum(scene.worker.context.h2.goaways.values()) == 1
    assert scene.worker.context.h2.connections == 0


@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", STREAM_CASES, ids=str)
async def test_one_stream_is_not_served(scene, case, in_bytes):
    wire = await play(scene, case, in_bytes=in_bytes)
    await expected(wire, case)
    await scene.ended()
    assert not any(backend.requests for backend in scene.backends if case.resets == ((1, 1),) and not backend.wires)


async def expected(wire: H2Wire, case: Case) -> None:
    for stream, code in case.resets:
        assert await wire.was_reset(stream) == code
    for stream, status in case.statuses:
        await wire.answered(stream)
        assert wire.seen(stream).status == status
    if not any(isinstance(step, bytes) and b"\x07\0\0\0\0\0" in step for step in case.steps):
        await wire.still_there()
    assert not wire.goaway


@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", LEGAL_CASES, ids=str)
async def test_legal(scene, case, in_bytes):
    wire = await play(scene, case, in_bytes=in_bytes)
    await expected(wire, case)
    live = scene.backends[0]
    for number, (_, body) in enumerate(case.bodies):
        assert live.requests[number].body == body
