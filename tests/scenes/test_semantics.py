"""What RFC 9110 asks of an intermediary, beyond passing bytes on."""

import asyncio

import pytest

from tests.support.scene import MIB, Received, Wire, chunked, head_of, request

HOST = b"Host: shop.test\r\n"


# Targets


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"GET http://shop.test/a%2Fb?c=d HTTP/1.1", b"GET /a%2Fb?c=d HTTP/1.1"),
        (b"GET HTTP://SHOP.test:80 HTTP/1.1", b"GET / HTTP/1.1"),
        (b"OPTIONS http://shop.test HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"GET http://shop.test?x HTTP/1.1", b"GET /?x HTTP/1.1"),
    ],
)
async def test_an_absolute_target_reaches_the_server_as_a_path(scene, line, seen):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.ask(line + b"\r\n" + HOST + b"\r\n", line.split(b" ")[0].decode())).status == 200
    assert live.last.line == seen


@pytest.mark.parametrize("head", ["GET https://shop.test/ HTTP/1.1", "GET https://shop.test/ HTTP/1.0"])
async def test_an_https_target_on_a_connection_without_tls(scene, head):
    live = scene.backend()
    scene.route("shop.test", [live])
    reply = await scene.ask(head.encode() + b"\r\n" + HOST + b"\r\n")
    assert (reply.status, reply.error) == (400, "bad_request")
    assert not live.requests


async def test_an_old_client_with_an_absolute_target_needs_no_host(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    response = await scene.send_raw(b"GET http://shop.test/a HTTP/1.0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 ")
    assert (live.last.line, live.last["host"]) == (b"GET /a HTTP/1.1", b"shop.test")


# Hops


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes goes on, until one of them ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


async def test_a_route_that_leads_back_to_the_edge(scene):
    """Requests that go in a circle end after a few rounds, not when everything is full. (That a backend is the edge
    itself it would see: here something stands between them.)"""
    scene.settings(pool={"idle_per_backend": 0})
    between = scene.dead()
    edge = await scene.edge()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        edge_reader, edge_writer = await asyncio.open_connection("127.0.0.1", edge.ports[0])
        await asyncio.gather(pump(reader, edge_writer), pump(edge_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    between.port = server.sockets[0].getsockname()[1]
    scene.route("loop.test", [between])
    reply = await scene.get("loop.test")
    assert reply.status == 508
    await scene.ended(4)
    server.close()
    await server.wait_closed()
    assert [outcome.cause.value for outcome in scene.outcomes] == ["loop_detected", *["server_error"] * 3]


async def test_how_often_a_request_may_come_by(scene):
    scene.settings(forwarding={"via_name": "edge.example", "max_via": 1})
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", headers=[("Via", "1.1 styx, 1.0 fred")])).status == 200
    assert live.last["via"] == b"1.1 styx, 1.0 fred, 1.1 edge.example"
    reply = await scene.get("shop.test", headers=[("Via", "1.0 fred, 1.1 Edge.Example (v1)")])
    assert (reply.status, reply.error) == (508, "loop_detected")


async def test_max_forwards(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test", method="OPTIONS", headers=[("Max-Forwards", "7")])
    assert live.last["max-forwards"] == b"6"
    await scene.get("shop.test", headers=[("Max-Forwards", "7")])
    assert live.last["max-forwards"] == b"7"
    reply = await scene.get("shop.test", "*", method="OPTIONS", headers=[("Max-Forwards", "0")])
    assert (reply.status, reply.error, reply.body) == (200, None, b"")
    assert "OPTIONS" in reply["allow"]
    assert len(live.requests) == 2
    assert scene.letters == "--"


async def test_trace_where_it_is_wanted(scene):
    scene.settings(forwarding={"trace": True})
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", method="TRACE", headers=[("Max-Forwards", "2")])).status == 200
    assert (live.last.method, live.last["max-forwards"]) == (b"TRACE", b"1")


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "Host", "X-Styx-Backend", "Via", "Content-Length", "X-Request-Id"]
)
async def test_no_client_can_remove_what_the_edge_sets(scene, name):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.post("shop.test", headers=[("Connection", f"close, {name}")])).status == 200
    assert live.last[name]
    assert live.last.body == b"a=1"


# Answers that nobody asked for


async def test_bytes_behind_a_response_reach_nobody(scene):
    """A backend that answers twice to one request must not answer the next client with it."""
    evil = head_of(200, [("Content-Length", "4")]) + b"evil"

    async def script(wire: Wire, got: Received) -> None:
        response = head_of(200, [("Content-Length", "5")]) + b"hello"
        await wire.send(response + evil if got.target == b"/together" else response)
        if got.target == b"/apart":
            await wire.send(evil)

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    for target in ("/together", "/apart", "/together", "/plain", "/plain"):
        assert (await scene.get("shop.test", target)).body == b"hello"
    assert live.connections >= 3


async def test_a_body_behind_the_response_to_head_reaches_nobody(scene):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Length", "5")]) + b"hello")

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
        await client.write(request("shop.test", method=method))
        reply = await client.read_reply(method)
        assert reply.body == (b"hello" if method == "GET" else b"")


# 1xx


async def test_early_hints_of_an_attempt_that_failed_are_not_taken_back(scene):
    """They are hints: the client may have them twice, but never the response."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        wire.close()

    scene.route("shop.test", [scene.scripted(script), scene.backend()])
    reply = await scene.get("shop.test")
    assert (reply.status, reply.interim) == (200, [103])
    assert scene.attempts == ["closed_early", "ok"]


# Streams


async def test_events_are_not_held_back(scene):
    """Each event is seen before the next one is made."""

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]))
        for n in range(5):
            await wire.gate()
            wire.backend.opened.clear()
            await wire.send(b"9\r\ndata: %d\n\n\r\n" % n)
        await wire.send(b"0\r\n\r\n")

    live = scene.scripted(script)
    live.opened.clear()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    seen = b""
    for n in range(5):
        live.opened.set()
        while b"data: %d\n\n" % n not in seen:
            seen += await client.read_some()
        assert b"data: %d" % (n + 1) not in seen
    client.leave()


# Slow bodies


async def test_a_body_that_comes_too_slowly(scene):
    """It never stops, and never comes to its end."""
    scene.settings(timeouts={"body": 0.2}, limits={"body_rate": 10_000})
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * 100_000)[:-90_000])
    reading = asyncio.ensure_future(client.read_reply())
    while not reading.done():
        await client.write(b"x" * 10)
        await asyncio.sleep(0.02)
    reply = await reading
    assert (reply.status, reply.error, scene.letters) == (408, "request_timeout", "CS")
    assert scene.points("shop.test", live) == 0


async def test_a_body_that_is_slow_enough(scene):
    # What is held while the backend is asked for it counts for no window.
    scene.settings(timeouts={"body": 10.0}, limits={"body_rate": 1000}, retries={"ask_before_upload": "never"})
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    head = request("shop.test", method="POST", headers=[("Transfer-Encoding", "chunked")])
    await client.write(head)
    await live.got_head()
    for n in range(25):
        await client.write(chunked(b"x" * 10_500)[:-5])
        await scene.until(lambda n=n: live.bytes_in > (n + 1) * 10_500)
        scene.pass_time(10.1)  # another one has begun
    await client.write(b"0\r\n\r\n")
    assert (await client.read_reply()).status == 200
    assert len(live.last.body) == 25 * 10_500


async def test_time_in_which_the_backend_does_not_read_is_not_the_clients(scene):
    scene.settings(timeouts={"body": 10.0, "between_bytes": 300.0}, limits={"body_rate": 1000})
    go = asyncio.Event()

    async def script(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        await go.wait()
        wire.transport.resume_reading()
        await wire.body(got)
        await wire.send(head_of(200, [("Content-Length", "0")]))

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    head = request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"x" * 32 * MIB)
    writing = asyncio.ensure_future(client.write(head))
    before = -1
    while before != (before := client.sent):  # noqa: ASYNC110 - until the buffers are full
        await asyncio.sleep(0.05)
    for _ in range(5):
        scene.pass_time(11.0)
    go.set()
    await writing
    assert (await client.read_reply()).status == 200
