"""Fields behind a body, both ways (RFC 9110, section 6.5)."""

import pytest

from tests.support.scene import MIB, Received, Wire, chunked, request

CHUNKED = [("Transfer-Encoding", "chunked")]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n"


def with_trailers(body: bytes, *lines: bytes) -> bytes:
    return chunked(body)[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize("size", [3, 100_000, MIB])
async def test_of_a_request(scene, size):
    """Small ones stand in the replay buffer, large ones flow by."""
    live = scene.backend()
    scene.route("shop.test", [live])
    body = b"x" * size
    await scene.ask(
        request("shop.test", method="POST", headers=[*CHUNKED, ("Trailer", "X-Sum")])
        + with_trailers(
            body, b"X-Sum: 12 ", b"Cookie: evil=1", b"X-Styx-Backend: me", b"X_Forwarded_For: 192.0.2.1"
        )
    )
    assert live.last.body == body
    assert live.last.trailers == [b"X-Sum: 12"]
    assert live.last["trailer"] == b"X-Sum"


async def test_of_a_request_that_is_sent_again(scene):
    full, live = scene.refusing(), scene.backend()
    scene.route("shop.test", [full, live])
    await scene.ask(request("shop.test", method="POST", headers=CHUNKED) + with_trailers(b"abc", b"X-Sum: 1"))
    assert full.last.trailers == live.last.trailers == [b"X-Sum: 1"]


@pytest.mark.parametrize("pieces", [1, 2, 1000])
async def test_of_a_response(scene, pieces):
    response = HEAD + with_trailers(b"hello", b"Server-Timing: db;dur=5", b"Set-Cookie: late=1", b"Content-Type: x")
    size = len(response) // pieces or 1

    async def script(wire: Wire, got: Received) -> None:
        for at in range(0, len(response), size):
            await wire.send(response[at : at + size])

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    for _ in range(2):
        await client.write(request("shop.test"))
        reply = await client.read_reply()
        assert reply.body == b"hello"
        assert reply.trailers == [(b"server-timing", b"db;dur=5")]
    assert live.connections == 1


async def test_a_refusal_keeps_its_trailers(scene):
    """Those of one attempt are not those of the next."""
    mark = HEAD.replace(b"\r\n\r\n", b"\r\nX-Styx-Refused: full\r\n\r\n")
    full = scene.raw(mark + with_trailers(b"full", b"X-Of: refusal"))
    live = scene.backend(framing="chunked")
    scene.route("shop.test", [full, live])
    reply = await scene.get("shop.test")
    assert (reply.status, reply.body, reply.trailers) == (200, b"hello", [])


async def test_an_old_client_gets_none(scene):
    live = scene.raw(HEAD + with_trailers(b"hello", b"Server-Timing: 1"))
    scene.route("shop.test", [live])
    response = await scene.send_raw(request("shop.test", version="1.0"))
    assert response.endswith(b"\r\n\r\nhello")


async def test_a_client_that_wants_them_says_so_to_the_backend(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test", headers=[("TE", "trailers, deflate;q=0.5"), ("Connection", "TE")])
    assert (live.last["te"], live.last["connection"]) == (b"trailers", b"TE")


@pytest.mark.parametrize(
    "line", [b"Content-Length: 3", b"transfer-encoding: chunked", b"Host: evil.test", b"A : b"]
)
async def test_those_that_would_change_the_request_are_refused(scene, line):
    live = scene.backend()
    scene.route("shop.test", [live])
    reply = await scene.ask(request("shop.test", method="POST", headers=CHUNKED) + with_trailers(b"abc", line))
    assert (reply.status, reply.error) == (400, "bad_request")
    assert not any(got.whole for got in live.requests)


@pytest.mark.parametrize(
    "lines",
    [[b"X-A: " + b"x" * 17_000], [b"A: b"] * 201, [b"X-%d: %b" % (n, b"x" * 10_000) for n in range(7)]],
    ids=["one large", "many", "too much in all"],
)
async def test_they_are_bounded_as_heads_are(scene, lines):
    live = scene.backend()
    scene.route("shop.test", [live])
    reply = await scene.ask(request("shop.test", method="POST", headers=CHUNKED) + with_trailers(b"abc", *lines))
    assert (reply.status, reply.error) == (431, "headers_too_large")
    assert not any(got.whole for got in live.requests)
