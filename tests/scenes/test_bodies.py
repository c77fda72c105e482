"""Bodies both ways: framed anew, whole, and never mixed up with the next message."""

import asyncio

import pytest

from tests.support.scene import MIB, SHORT, Received, Wire, chunked, head_of, request

BODY = bytes(range(256)) * 1000


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 256_000])
async def test_framings_of_responses(scene, framing, size):
    live = scene.backend(body=BODY[:size], framing=framing)
    scene.route("shop.test", [live])
    client = await scene.client()
    for _ in range(3):
        await client.write(request("shop.test"))
        reply = await client.read_reply()
        assert reply.body == BODY[:size]
        if framing == "length":
            assert reply["content-length"] == str(size)
        else:
            assert reply["transfer-encoding"] == "chunked"
    assert scene.outcome.bytes_out == size
    assert scene.snapshot.client_connections_accepted == 1
    assert live.connections == (3 if framing == "close" else 1)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("asked", ["", "keep-alive"])
async def test_framings_of_responses_to_an_http10_client(scene, framing, asked):
    """HTTP/1.0 knows no chunks; ab says keep-alive and waits for it to be said back."""
    scene.route("shop.test", [scene.backend(body=BODY, framing=framing)])
    fields = [("Connection", asked)] if asked else []
    client = await scene.client()
    kept = bool(asked) and framing == "length"
    for _ in range(3 if kept else 1):
        await client.write(request("shop.test", headers=fields, version="1.0"))
        reply = await client.read_reply()
        assert reply.body == BODY
        assert "transfer-encoding" not in reply
        assert reply["connection"] == ("keep-alive" if kept else "close")
    if not kept:
        assert await client.closed()


async def test_a_client_that_wants_to_close(scene):
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test", headers=[("Connection", "close")]))
    assert (await client.read_reply())["connection"] == "close"
    assert await client.closed()


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 256_000])
async def test_requests(scene, coding, size):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    for _ in range(3):
        if coding == "length":
            await client.write(request("shop.test", method="POST", body=BODY[:size]))
        else:
            head = request("shop.test", method="POST", headers=[("Transfer-Encoding", "chunked")])
            await client.write(head + chunked(*filter(None, (BODY[: size // 2], BODY[size // 2 : size]))))
        assert (await client.read_reply()).status == 200
        assert live.last.body == BODY[:size]
        assert live.last.whole
    assert scene.outcome.bytes_in == size
    assert live.connections == 1


async def test_extensions_are_dropped(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    head = request("shop.test", method="POST", headers=[("Transfer-Encoding", "chunked")])
    await scene.ask(head + b"3;name=value\r\nabc\r\n0\r\n\r\n")
    assert live.last.body == b"abc"


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_a_body_where_few_expect_one(scene, method):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.post("shop.test", method=method)).status == 200
    assert live.last.body == b"a=1"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", ["", "Content-Length: 1000\r\n"])
async def test_responses_without_a_body_do_not_swallow_the_next(scene, status, length):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(f"HTTP/1.1 {status} X\r\nETag: 1\r\n{length}\r\n".encode())

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    for _ in range(3):
        await client.write(request("shop.test"))
        reply = await client.read_reply()
        assert (reply.status, reply.body) == (status, b"")
        assert "transfer-encoding" not in reply
    assert live.connections == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_head(scene, framing):
    live = scene.backend(body=BODY, framing=framing)
    scene.route("shop.test", [live])
    client = await scene.client()
    for method in ("HEAD", "GET", "HEAD", "GET"):
        await client.write(request("shop.test", method=method))
        reply = await client.read_reply(method)
        assert reply.status == 200
        assert reply.body == (b"" if method == "HEAD" else BODY)
        if framing == "length":
            assert reply["content-length"] == str(len(BODY))
    assert live.connections == 1


async def test_head_of_a_local_reply(scene):
    client = await scene.client()
    for _ in range(2):
        await client.write(request("nobody.test", method="HEAD"))
        reply = await client.read_reply("HEAD")
        assert (reply.status, reply.body) == (404, b"")


async def test_the_body_of_a_request_with_a_local_reply_is_not_the_next_request(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    evil = request("shop.test", "/evil")
    for _ in range(2):  # the second time the response is known at once
        client = await scene.client()
        await client.write(request("nobody.test", method="POST", body=evil))
        reply = await client.read_reply()
        assert reply.status == 404
        if "connection" not in reply:
            await client.write(request("shop.test", "/next"))
            assert (await client.read_reply()).status == 200
    assert "/evil" not in [outcome.target for outcome in scene.outcomes]
    assert live.last.target == b"/next"


# pipelining


async def test_pipelined_in_one_segment(scene):
    live = scene.scripted(echo_target)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(b"".join(request("shop.test", f"/{n}") for n in range(20)))
    assert [(await client.read_reply()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]
    assert live.connections == 1


async def test_pipelined_with_bodies(scene):
    live = scene.scripted(echo_target)
    scene.route("shop.test", [live])
    client = await scene.client()
    coded = [("Transfer-Encoding", "chunked")]
    parts = []
    for n in range(20):
        if n % 2:
            parts.append(request("shop.test", f"/{n}", method="POST", body=b"x" * n))
        else:
            parts.append(request("shop.test", f"/{n}", coded, method="POST") + chunked(b"y" * (n + 1)))
    await client.write(b"".join(parts))
    assert [(await client.read_reply()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]
    assert [len(got.body) for got in live.requests] == [n if n % 2 else n + 1 for n in range(20)]


async def test_pipelined_byte_by_byte(scene):
    live = scene.scripted(echo_target)
    scene.route("shop.test", [live])
    client = await scene.client()
    data = request("shop.test", "/0", method="POST", body=b"abc") + request("shop.test", "/1")
    data += request("shop.test", "/2", [("Transfer-Encoding", "chunked")], method="POST") + chunked(b"abc", b"d")
    for n in range(len(data)):
        await client.write(data[n : n + 1])
        await asyncio.sleep(0)
    assert [(await client.read_reply()).body for _ in range(3)] == [b"/0", b"/1", b"/2"]
    assert [got.body for got in live.requests] == [b"abc", b"", b"abcd"]


async def test_pipelined_after_a_local_reply(scene):
    scene.route("shop.test", [scene.scripted(echo_target)])
    client = await scene.client()
    hosts = ["nobody.test", "shop.test"] * 3
    await client.write(b"".join(request(host, f"/{n}") for n, host in enumerate(hosts)))
    assert [(await client.read_reply()).status for _ in hosts] == [404, 200] * 3


async def test_pipelined_more_than_fits(scene):
    """A client that sends a thousand requests and reads nothing is not read without end."""
    scene.route("shop.test", [scene.backend(body=b"x" * 1000)])
    client = await scene.client()
    one = request("shop.test", "/" + "y" * 3000)
    writing = asyncio.ensure_future(client.write(one * 1000))
    for _ in range(1000):
        assert (await client.read_reply()).status == 200
    await writing


async def test_nothing_is_served_after_close(scene):
    live = scene.scripted(echo_target)
    scene.route("shop.test", [live])
    first = request("shop.test", "/0", [("Connection", "close")])
    data = await scene.send_raw(first + request("shop.test", "/1"))
    assert data.count(b"HTTP/1.1 200") == 1
    assert len(live.requests) == 1


async def test_as_many_requests_on_a_connection_as_are_set(scene):
    scene.settings(limits={"requests_per_connection": 3})
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    for n in range(3):
        await client.write(request("shop.test"))
        assert ("connection" in await client.read_reply()) == (n == 2)
    assert await client.closed()


async def echo_target(wire: Wire, got: Received) -> None:
    await wire.body(got)
    await wire.send(head_of(200, [("Content-Length", str(len(got.target)))]) + got.target)


# sizes


async def test_a_large_upload(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    body = BODY * 41
    assert (await scene.post("shop.test", body=body)).status == 200
    assert live.last.body == body
    assert scene.outcome.bytes_in == len(body) > 10 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_large_download(scene, framing):
    scene.route("shop.test", [scene.backend(body=BODY * 41, framing=framing)])
    assert (await scene.get("shop.test")).body == BODY * 41


async def test_larger_than_allowed_and_announced(scene):
    scene.settings(limits={"body": 1000})
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.post("shop.test", body=b"x" * 1000)).status == 200
    reply = await scene.post("shop.test", body=b"x" * 1001)
    assert (reply.status, reply.error, reply["connection"]) == (413, "body_too_large", "close")
    assert len(live.requests) == 1


async def test_larger_than_allowed_in_chunks(scene):
    scene.settings(limits={"body": 1000})
    live = scene.backend()
    scene.route("shop.test", [live])
    head = request("shop.test", headers=[("Transfer-Encoding", "chunked")], method="POST")
    client = await scene.client()
    await client.write(head + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    await live.got_head()
    await client.write(b"1\r\nx\r\n")
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (413, "body_too_large", "close")
    assert scene.letters == "CS"
    await live.left()
    assert not live.last.whole


@pytest.mark.parametrize("bad", [b"zz\r\nabc\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"3\nabc\r\n", b"1" * 300])
async def test_broken_chunks(scene, bad):
    live = scene.backend()
    scene.route("shop.test", [live])
    head = request("shop.test", headers=[("Transfer-Encoding", "chunked")], method="POST")
    client = await scene.client()
    await client.write(head)
    await live.got_head()
    await client.write(bad)
    reply = await client.read_reply()
    assert (reply.status, reply["connection"]) == (400, "close")
    assert await client.closed()
    await live.left()
    assert not live.last.whole


# Expect


async def test_continue_comes_from_the_backend(scene):
    async def script(wire: Wire, got: Received) -> None:
        assert got["expect"] == b"100-continue"
        await wire.body(got)
        await wire.send(head_of(200, [("Content-Length", "0")]))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    live.hold()
    await client.write(
        request("shop.test", method="POST", headers=[("Expect", "100-continue"), ("Content-Length", "3")])
    )
    await live.got_head()
    live.release()
    assert await client.read_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.write(b"abc")
    assert (await client.read_reply()).status == 200
    assert live.last.body == b"abc"


async def test_a_backend_that_does_not_want_the_body(scene):
    scene.route("shop.test", [scene.raw(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")])
    scene.backends[-1].script = no_thanks
    client = await scene.client()
    await client.write(
        request("shop.test", method="POST", headers=[("Expect", "100-continue"), ("Content-Length", "3")])
    )
    reply = await client.read_reply()
    assert (reply.status, reply.body, reply.interim) == (413, b"no", [])


async def no_thanks(wire: Wire, got: Received) -> None:
    await wire.send(head_of(413, [("Content-Length", "2")]) + b"no")


async def test_other_expectations_fail(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", headers=[("Expect", "200-ok")])
    assert (reply.status, reply.error) == (417, "expectation_failed")
    assert not live.requests


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_early_hints(scene, version):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    scene.route("shop.test", [scene.raw(hints + hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")])
    reply = await scene.get("shop.test", version=version)
    assert (reply.status, reply.body) == (200, b"ok")
    assert reply.interim == ([103, 103] if version == "1.1" else [])


async def test_a_response_that_begins_before_the_body(scene):
    """Who answers while it reads (uvicorn does) never says 100, and still waits for the body."""
    body = b"x" * 200_000

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "4")]))
        await wire.exactly(len(body))
        await wire.send(b"done")

    scene.route("shop.test", [scene.scripted(script)])
    assert (await scene.post("shop.test", body=body)).body == b"done"


async def test_a_client_that_waits_for_100_is_not_slow(scene):
    """As long as nobody has told it to go on, it is the backend's time that runs."""
    scene.settings(timeouts={"body": 5.0, "first_byte": 20.0})
    live = scene.backend()
    live.opened.clear()

    async def script(wire: Wire, got: Received) -> None:
        await wire.gate()
        await wire.body(got)
        await wire.send(head_of(200, [("Content-Length", "0")]))

    live.script = script
    scene.route("shop.test", [live])
    client = await scene.client()
    whole = request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"abc")
    await client.write(whole[:-3])
    await live.heads.acquire()
    scene.pass_time(15.0)
    live.opened.set()
    assert (await client.read_some()).startswith(b"HTTP/1.1 100 ")
    await client.write(b"abc")
    assert (await client.read_reply()).status == 200
    assert live.last.body == b"abc"


async def test_a_backend_that_never_says_100(scene):
    scene.settings(timeouts={"first_byte": SHORT})
    scene.route("shop.test", [scene.silent()])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"abc")[:-3])
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (504, "first_byte_timeout")


async def test_a_client_that_got_100_and_sends_no_body(scene):
    scene.settings(timeouts={"body": SHORT})
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"abc")[:-3])
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply.interim) == (408, "request_timeout", [100])


async def test_a_client_that_asks_and_does_not_wait(scene):
    """Part of its body is here before the connection is: the backend is asked once, by the client."""
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(
        request("shop.test", method="POST", headers=[("Expect", "100-continue"), ("Transfer-Encoding", "chunked")])
        + b"3\r\na"
    )
    reading = asyncio.ensure_future(client.read_reply())
    await live.heads.acquire()
    await client.write(b"bc\r\n0\r\n\r\n")
    reply = await reading
    assert (reply.status, reply.interim) == (200, [100])
    assert live.last.values("expect") == [b"100-continue"]
    assert live.last.body == b"abc"


ASKS = [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]


@pytest.mark.parametrize("status", [100, 401])
async def test_an_empty_body_is_ended_too(scene, status):
    """Or its backend would take the next client's request for the rest of it."""

    async def script(wire: Wire, got: Received) -> None:
        if status == 100:
            await wire.body(got)
        elif "expect" in got:
            await wire.exactly(len(chunked()))
        await wire.send(head_of(401, [("Content-Length", "0")]))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    whole = request("shop.test", "/first", method="POST", headers=ASKS) + chunked()
    for _ in range(2):
        assert (await scene.ask(whole)).status == 401
        assert scene.outcome.cause.value == "ok"
    assert (await scene.get("shop.test", "/second")).status == 401
    assert [got.target for got in live.requests] == [b"/first", b"/first", b"/second"]


async def test_a_connection_whose_body_was_not_sent_is_not_reused(scene):
    """The backend answers by the head alone, and still waits for a body that never comes."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(401, [("Content-Length", "0")]))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=ASKS))
    assert (await client.read_reply()).status == 401
    assert scene.snapshot.links_idle == 0


async def test_the_time_of_an_upload_is_not_the_backends(scene):
    scene.settings(timeouts={"deadline": 60.0, "first_byte": 60.0, "first_byte_cold": 60.0, "body": 300.0})

    go = asyncio.Event()

    async def script(wire: Wire, got: Received) -> None:
        await wire.body(got)
        await go.wait()
        await wire.send(head_of(200, [("Content-Length", "0")]))

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    whole = request("shop.test", method="POST", body=b"x" * 100)
    await client.write(whole[:-1])
    await live.got_head()
    scene.pass_time(90.0)
    await client.write(whole[-1:])
    await live.got_body()
    scene.pass_time(30.0)
    assert not scene.outcomes
    go.set()
    assert (await client.read_reply()).status == 200
    assert scene.points("shop.test", live) == 0
