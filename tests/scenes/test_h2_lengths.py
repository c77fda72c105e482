"""Request bodies over HTTP/2 whose length is told: complete for the backend only when their stream has ended."""

import pytest

from tests.corpus_h2.frames import PREFACE, PROTOCOL_ERROR, data, frame, post, raw, rst, settings
from tests.support.h2_wire import H2Wire
from tests.support.scene import Scene

LENGTH = ("content-length", "3")
NO_LENGTH = ("content-length", "0")
END = frame(0, 1, 1)
"An empty DATA frame with END_STREAM."


@pytest.fixture
def kind() -> str:
    return "h2"


async def wire_of(scene: Scene) -> H2Wire:
    wire = H2Wire(await scene.raw_client())
    await wire.write(PREFACE + settings())
    return wire


async def bytes_came(scene: Scene, pieces: list[bytes]) -> H2Wire:
    """A POST of three bytes in these pieces; all of it but its last byte has come to the backend."""
    wire = await wire_of(scene)
    await wire.write(post(1, LENGTH))
    for piece in pieces:
        await wire.write(data(1, piece, ended=False))
    await scene.backends[0].got_head()
    await scene.until(lambda: scene.backends[0].last.body == b"ab")
    return wire


@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"c"], [b"a", b"b", b"c"]], ids=len)
@pytest.mark.parametrize(
    ("last", "trailer"), [(END, False), (raw(1, ("x-a", "b")), True)], ids=["empty frame", "trailers"]
)
async def test_the_last_byte_comes_with_the_end(scene, pieces, last, trailer):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    wire = await bytes_came(scene, pieces)
    assert not backend.last.whole
    await wire.write(last)
    assert (await wire.answered(1)).status == 200
    assert (backend.last.body, backend.last.whole) == (b"abc", True)


@pytest.mark.parametrize(
    ("more", "code"),
    [(rst(1), None), (data(1, b"d", ended=False), PROTOCOL_ERROR), (data(1, b"d"), PROTOCOL_ERROR)],
    ids=["a reset", "more bytes", "more bytes and the end"],
)
async def test_a_request_that_turns_out_malformed_was_never_complete(scene, more, code):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    wire = await bytes_came(scene, [b"abc"])
    await wire.write(more)
    if code is not None:
        assert await wire.was_reset(1) == code
    await scene.ended()
    await backend.left()
    assert [request.whole for request in backend.requests] == [False]
    await wire.still_there()


async def test_a_client_that_never_ends_its_stream_is_too_slow(scene):
    scene.settings(timeouts={"body": 0.2})
    scene.route("shop.test", [scene.backend()])
    wire = await bytes_came(scene, [b"abc"])
    assert (await wire.answered(1)).status == 408
    assert not scene.backends[0].last.whole


async def none_told(scene: Scene) -> H2Wire:
    """A POST of no bytes has come to the edge; its stream has not ended."""
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(post(1, NO_LENGTH))
    await wire.still_there()
    assert not scene.backends[0].requests
    return wire


@pytest.mark.parametrize("last", [END, raw(1, ("x-a", "b"))], ids=["empty frame", "trailers"])
async def test_a_request_without_bytes_is_forwarded_when_its_stream_has_ended(scene, last):
    wire = await none_told(scene)
    await wire.write(last)
    assert (await wire.answered(1)).status == 200
    assert (scene.backends[0].last.body, scene.backends[0].last.whole) == (b"", True)


@pytest.mark.parametrize("ended", [False, True])
async def test_bytes_of_a_request_without_bytes_are_malformed(scene, ended):
    wire = await none_told(scene)
    await wire.write(data(1, b"a", ended=ended))
    assert await wire.was_reset(1) == PROTOCOL_ERROR
    await scene.ended()
    assert [outcome.cause.value for outcome in scene.outcomes] == ["bad_request"]
    await wire.still_there()
    assert not scene.backends[0].requests


async def test_a_client_that_waits_for_100_before_it_ends_a_stream_without_bytes(scene):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    wire = await wire_of(scene)
    await wire.write(post(1, NO_LENGTH, ("expect", "100-continue")))
    await wire.until("100", lambda: wire.seen(1).status == 100)
    assert not backend.requests
    await wire.write(END)
    await wire.until("200", lambda: wire.seen(1).status == 200)
    assert (backend.last.body, backend.last.whole) == (b"", True)


async def test_a_request_without_bytes_may_be_reset(scene):
    wire = await none_told(scene)
    await wire.write(rst(1))
    await scene.ended()
    assert [outcome.cause.value for outcome in scene.outcomes] == ["client_gone"]
    assert not scene.backends[0].requests
    await wire.still_there()


async def test_a_request_without_bytes_that_never_ends_is_too_slow(scene):
    scene.settings(timeouts={"body": 0.2})
    wire = await none_told(scene)
    assert (await wire.answered(1)).status == 408
    assert not scene.backends[0].requests
