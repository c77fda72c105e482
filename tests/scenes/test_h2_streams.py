"""Requests as streams of HTTP/2: what HTTP/1.1 does not have."""

import asyncio

import pytest

from edge.net.h2 import h2_lifetime
from edge.net.h2.h2_session import Ngh2Session
from edge.rules.h2.h2_frames import GoAwayReason
from edge.rules.http.websocket_key import websocket_accept
from tests.corpus_h2.frames import (
    ACK,
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PREFACE,
    SETTINGS_,
    data,
    get,
    goaway,
    ping,
    post,
    pseudo,
    raw,
    rst,
    settings,
    window,
)
from tests.support.h2_wire import H2Wire
from tests.support.hyper_h2_session import HyperH2Session
from tests.support.scene import MIB, Received, Scene, Wire, head_of

LARGE_WINDOW = (4, 0x7FFFFFFF)
PIECE = 1 << 14


@pytest.fixture
def kind() -> str:
    return "h2"


async def wire_of(scene: Scene, *more: tuple[int, int], **options) -> H2Wire:
    """A connection behind its SETTINGS."""
    wire = H2Wire(await scene.raw_client(**options))
    await wire.write(PREFACE + settings(*more))
    return wire


def fields(wire: H2Wire, stream: int) -> dict[bytes, bytes]:
    return dict(wire.seen(stream).fields)


# requests


async def test_what_the_backend_gets(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-a", "b")]
    await wire.write(raw(1, *pseudo(path="/a?b", host="SHOP.test:80"), *cookies))
    await wire.answered(1)
    got = live.last
    assert got.line == b"GET /a?b HTTP/1.1"
    assert (got["host"], got["cookie"], got["te"], got["x-a"]) == (b"SHOP.test:80", b"a=1; b=2", b"trailers", b"b")
    assert got["via"] == b"2.0 styx"
    assert "transfer-encoding" not in got
    assert (scene.outcome.protocol, scene.outcome.stream) == ("h2", 1)


async def test_what_the_client_gets(scene):
    live = scene.raw(
        b"HTTP/1.1 200 OK\r\nX-One: 1 \r\nConnection: X-Hop\r\nX-Hop: 2\r\nKeep-Alive: timeout=5\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    for stream in (1, 3, 5):  # the head is in the cache from its second time on
        await wire.write(get(stream))
        seen = await wire.answered(stream)
        assert (seen.status, seen.body, seen.trailers) == (200, b"abc", [(b"x-sum", b"1")])
        names = [name for name, _ in seen.fields]
        assert sorted(names) == sorted(
            [b"x-one", b"set-cookie", b"set-cookie", b"date", b"x-request-id", b"x-styx-edge", b"x-styx-backend"]
        )
        assert fields(wire, stream)[b"x-one"] == b"1"


async def test_a_repeated_request_is_one_of_its_own(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    one, other = await wire_of(scene), await wire_of(scene)
    ids = set()
    for stream in (1, 5, 9):
        for wire in (one, other):
            await wire.write(get(stream) + raw(stream + 2, *pseudo(path="/other")))
            for number in (stream, stream + 2):
                await wire.answered(number)
                assert wire.seen(number).status == 200
                ids.add(fields(wire, number)[b"x-request-id"])
    assert len(ids) == 12
    assert sorted(got.line for got in live.requests) == [b"GET / HTTP/1.1"] * 6 + [b"GET /other HTTP/1.1"] * 6


async def test_a_repeated_request_is_refused_once_the_edge_rejects_all(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    for stream in (1, 3):
        await wire.write(get(stream))
        assert (await wire.answered(stream)).status == 200
    context = scene.worker.context
    context.head_reader = context.head_reader.closed()
    await wire.write(get(5))
    assert (await wire.answered(5)).status == 503
    assert len(live.requests) == 2


async def test_a_body_of_unknown_length_is_chunked_for_the_backend(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(post(1) + data(1, b"abc", ended=False) + data(1, b"def", ended=False) + raw(1, ("x-sum", "1")))
    await wire.answered(1)
    assert (live.last["transfer-encoding"], live.last.body) == (b"chunked", b"abcdef")
    assert live.last.trailers == [b"x-sum: 1"]


async def test_interim_responses_pass(scene):
    async def script(wire: Wire, got: Received) -> None:
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await wire.send(head_of(200, [("Content-Length", "2")]) + b"ok")

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    await client.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    reply = await client.read_reply()
    assert (reply.interim, reply.status, reply.body) == ([103], 200, b"ok")


async def test_a_client_that_expects_100_gets_it_from_the_backend(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(post(1, ("expect", "100-continue"), ("content-length", "3")))
    await wire.until("100", lambda: wire.seen(1).status == 100)
    await wire.write(data(1, b"abc"))
    await wire.until("200", lambda: wire.seen(1).status == 200)
    assert live.last.body == b"abc"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_responses_without_a_body(scene, method, status):
    scene.route(
        "shop.test", [scene.raw(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, b"Content-Length: 5\r\n" * (status != 204)))]
    )
    wire = await wire_of(scene)
    await wire.write(raw(1, *pseudo(method)))
    seen = await wire.answered(1)
    assert (seen.status, seen.body) == (status, b"")
    assert fields(wire, 1).get(b"content-length") == (None if status == 204 else b"5")


@pytest.mark.parametrize(
    "head", [b"Content-Length: 0\r\n", b"Content-Length: 0\r\nX-A: b\r\n"], ids=["one field", "two fields"]
)
async def test_an_empty_body_needs_no_frame_of_its_own(scene, head):
    scene.route("shop.test", [scene.raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")])
    wire = await wire_of(scene)
    await wire.write(get(1))
    assert (await wire.answered(1)).status == 200
    assert [(kind, flags & 1) for kind, flags, stream, _ in wire.frames if stream == 1] == [(1, 1)]


async def test_a_local_reply_to_head_has_no_body(scene):
    wire = await wire_of(scene)
    await wire.write(raw(1, *pseudo("HEAD", host="nobody.test")))
    seen = await wire.answered(1)
    assert (seen.status, seen.body) == (404, b"")
    assert int(fields(wire, 1)[b"content-length"]) > 0


async def test_an_early_response_ends_the_upload_without_an_error(scene):
    """RFC 9113, section 8.1: RST_STREAM with NO_ERROR, behind the whole response."""
    scene.route("shop.test", [scene.refusing()])
    scene.settings(limits={"body": 10})
    wire = await wire_of(scene)
    await wire.write(post(1) + data(1, b"x" * 100, ended=False))
    seen = await wire.answered(1)
    assert seen.status == 413
    assert await wire.was_reset(1) == NO_ERROR
    await wire.write(data(1, b"x" * 100))
    await wire.still_there()


async def test_a_response_that_is_cut_is_reset(scene):
    scene.route("shop.test", [scene.cutting(10)])
    wire = await wire_of(scene)
    await wire.write(get(1))
    assert await wire.was_reset(1) == INTERNAL_ERROR
    assert (wire.seen(1).status, wire.seen(1).ended) == (200, False)
    await wire.still_there()


async def test_a_client_that_resets_a_stream_has_left(scene):
    live = scene.silent()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(get(1))
    await scene.until(lambda: bool(live.requests))
    await wire.write(rst(1))
    assert (await scene.ended()).status == 499
    await wire.still_there()
    assert scene.worker.context.h2.resets == 1


async def test_a_client_that_closes_has_left_with_all_its_streams(scene):
    live = scene.silent()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(get(1) + get(3) + get(5))
    await scene.until(lambda: len(live.requests) == 3)
    wire.client.leave()
    await scene.ended(3)
    assert {outcome.status for outcome in scene.outcomes} == {499}


async def test_what_was_in_flight_has_its_line_when_the_connection_ends(scene):
    live = scene.silent()
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(get(1) + get(3))
    await scene.until(lambda: len(live.requests) == 2)
    await wire.write(ping() * 1200)
    assert await wire.closed() == ENHANCE_YOUR_CALM
    await scene.ended(2)
    assert [(outcome.cause.value, outcome.stream) for outcome in scene.outcomes] == [
        ("bad_request", 1),
        ("bad_request", 3),
    ]
    assert scene.snapshot.http2_goaways_ping_flood == 1


async def test_a_malformed_request_has_its_line(scene):
    wire = await wire_of(scene)
    await wire.write(raw(1, *pseudo(), ("Bad", "name")))
    await wire.was_reset(1)
    outcome = await scene.ended()
    assert (outcome.cause.value, outcome.status, outcome.protocol, outcome.stream) == ("bad_request", 400, "h2", 1)


# flow control


async def test_a_response_flows_as_the_client_takes_it(scene):
    """100 MiB that nobody reads: the edge holds little of it, and other streams go on."""
    scene.route("big.test", [scene.backend(body=b"x" * 100 * MIB)])
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(get(1, host="big.test"))
    await wire.until("the window is used up", lambda: len(wire.seen(1).body) == 65535)
    [connection] = scene.connections
    await scene.until(lambda: not connection._streams[1].writable)
    assert connection.session.queued_in_all() < 512 * 1024
    await wire.write(window(0, 1 << 20))
    for stream in range(3, 43, 2):
        await wire.write(get(stream))
        assert (await wire.answered(stream)).body == b"hello"
    assert connection.held_bytes < 512 * 1024
    await wire.write(window(1, 5 << 20) + window(0, 5 << 20))
    await wire.until("more came", lambda: len(wire.seen(1).body) == 65535 + (5 << 20))
    await wire.write(rst(1))
    await scene.ended(21)


async def test_a_large_response_arrives_whole(scene):
    body = bytes(range(256)) * 4096 * 8
    scene.route("shop.test", [scene.backend(body=body)])
    reply = await scene.get("shop.test")
    assert reply.body == body


async def test_a_client_that_never_takes_the_end_is_reset(scene):
    scene.route("shop.test", [scene.backend(body=b"x" * 100)])
    wire = await wire_of(scene, (4, 10))
    await wire.write(get(1))
    await wire.until("some came", lambda: len(wire.seen(1).body) == 10)
    await scene.ended()
    scene.pass_time(scene.worker.context.timeouts.write_stall + 1)
    assert await wire.was_reset(1) == CANCEL
    await wire.still_there()


async def test_a_stalled_response_ends_after_the_write_stall(scene):
    scene.route("shop.test", [scene.backend(body=b"x" * MIB)])
    wire = await wire_of(scene)
    await wire.write(get(1))
    await wire.until("the window is used up", lambda: len(wire.seen(1).body) == 65535)
    [connection] = scene.connections
    await scene.until(lambda: not connection._streams[1].writable)
    scene.pass_time(scene.worker.context.timeouts.write_stall + 1)
    await wire.was_reset(1)
    assert (await scene.ended()).cause.value == "client_stalled"


async def test_an_upload_that_the_backend_does_not_take_gets_no_credit(scene):
    """The edge takes a window of it, and other streams go on."""
    taken = asyncio.Event()

    async def slow(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        await taken.wait()
        wire.transport.resume_reading()
        await wire.body(got)
        await wire.send(head_of(200, [("Content-Length", "2")]) + b"ok")

    async def serve(wire: Wire, got: Received) -> None:
        await slow(wire, got)

    scene.route("slow.test", [scene.scripted(serve)])
    scene.route("shop.test", [scene.backend()])
    client = await scene.client()
    upload = asyncio.create_task(
        client.write(b"POST / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 20971520\r\n\r\n" + b"x" * 20 * MIB)
    )
    await scene.until(lambda: bool(scene.connections) and bool(scene.connections[0]._streams))
    [connection] = scene.connections
    await scene.until(lambda: connection._streams[1].paused and len(connection._streams[1]._held) > 0)
    assert connection._streams[1].held_bytes <= h2_lifetime.WINDOW + 65536 + 65536
    other = await scene.client()
    await other.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    assert (await other.read_reply()).status == 200
    taken.set()
    await upload
    assert (await client.read_reply()).body == b"ok"


async def test_many_stalled_uploads_do_not_hold_up_another(scene):
    """The window of the connection is that of all its streams together."""
    scene.route("shop.test", [scene.backend()])
    release = asyncio.Event()

    async def never(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        await release.wait()

    scene.settings(limits={"streams": 20})
    scene.route("slow.test", [scene.scripted(never)])
    wire = await wire_of(scene)
    for stream in range(1, 39, 2):
        await wire.write(post(stream, host="slow.test"))
        for _ in range(4):
            await wire.write(data(stream, b"x" * (PIECE - 1), ended=False))
    await wire.write(post(39) + data(39, b"y" * PIECE, ended=False) + data(39, b"y" * PIECE))
    assert (await wire.answered(39)).status == 200
    release.set()
    wire.client.leave()


async def test_streams_that_are_reset_give_back_their_credit(scene):
    """Bodies that nobody takes must not use up the window of the connection."""
    scene.settings(limits={"streams": 2})
    scene.route("shop.test", [scene.backend()])
    scene.route("hang.test", [scene.silent()])
    wire = await wire_of(scene)
    for stream in range(1, 41, 2):
        await wire.write(
            post(stream, ("content-length", "5"), host="hang.test") + data(stream, b"x" * PIECE, ended=False)
        )
        await wire.was_reset(stream)
        await wire.write(data(stream, b"x" * PIECE, ended=False))
    await wire.write(post(41) + data(41, b"x" * PIECE))
    assert (await wire.answered(41)).status == 200


async def test_a_connection_that_holds_too_much_is_cut_off(scene):
    """Forty responses that nobody reads are more than limits.buffers."""
    scene.settings(limits={"buffers": MIB})
    scene.route("shop.test", [scene.backend(body=b"x" * MIB)])
    scene.route("other.test", [scene.backend()])
    other = await wire_of(scene)
    wire = await wire_of(scene)
    await wire.write(b"".join(get(stream) for stream in range(1, 81, 2)))
    await scene.ended(40)
    assert {outcome.cause.value for outcome in scene.outcomes} == {"buffer_limit"}
    assert scene.worker.context.h2.goaways[GoAwayReason.BUFFER_LIMIT] == 1
    await scene.until(lambda: scene.worker.context.buffers.held == 0)
    await other.write(get(1, host="other.test"))
    assert (await other.answered(1)).body == b"hello"


# the end


@pytest.mark.parametrize("begins_another", [False, True])
async def test_a_drain_tells_the_client_and_serves_what_it_has(scene, monkeypatch, begins_another):
    """Also a stream that the client begins before it has read of the drain."""
    monkeypatch.setattr(h2_lifetime, "LAST_STREAMS", 3600.0 if begins_another else 0.0)
    release = asyncio.Event()

    async def late(wire: Wire, got: Received) -> None:
        await release.wait()
        await wire.send(head_of(200, [("Content-Length", "2")]) + b"ok")

    live = scene.scripted(late)
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(get(1))
    await scene.until(lambda: bool(live.requests))
    drain = asyncio.create_task(scene.worker.drain(10, 0.1))
    await wire.until("GOAWAY", lambda: wire.goaway == NO_ERROR)
    if begins_another:
        await wire.write(get(3))
        await scene.until(lambda: len(live.requests) == 2)
    release.set()
    for stream in (1, 3) if begins_another else (1,):
        assert (await wire.answered(stream)).body == b"ok"
    if begins_another:
        wire.client.leave()  # it would be waited for
    else:
        assert await wire.closed() == NO_ERROR
    await drain
    assert scene.worker.context.h2.goaways[GoAwayReason.DRAIN] == (0 if begins_another else 1)


async def test_as_many_requests_as_a_connection_may_have(scene, monkeypatch):
    monkeypatch.setattr(h2_lifetime, "LAST_STREAMS", 0.0)
    scene.settings(limits={"requests_per_connection": 2})
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    for stream in (1, 3):
        await wire.write(get(stream))
        assert (await wire.answered(stream)).status == 200
    assert await wire.closed() == NO_ERROR
    assert scene.worker.context.h2.goaways[GoAwayReason.REQUESTS] == 1


async def test_an_idle_connection_is_closed(scene):
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(get(1))
    await wire.answered(1)
    await wire.still_there()
    scene.pass_time(scene.worker.context.timeouts.keep_alive + 1)
    assert await wire.closed() == NO_ERROR
    assert scene.worker.context.h2.goaways[GoAwayReason.IDLE] == 1


async def test_a_connection_without_a_preface_is_closed(scene):
    client = await scene.raw_client()
    await scene.until(lambda: bool(scene.connections))
    scene.pass_time(scene.worker.context.timeouts.head + 1)
    assert goaway()[:9] in await client.rest()
    assert scene.worker.context.h2.goaways[GoAwayReason.HEAD_TIMEOUT] == 1


async def test_a_client_that_says_goaway_is_served_and_closed(scene):
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(get(1) + goaway())
    await wire.answered(1)
    assert await wire.closed() in (None, NO_ERROR)


# extended CONNECT


def switching(accept: bytes, rest: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b" % (accept, rest)
    )


async def websocket(wire: Wire, got: Received) -> None:
    """Accepts, and echoes."""
    wire.tunnelled = True
    accept = websocket_accept(got["sec-websocket-key"])
    await wire.send(switching(accept, b"Sec-WebSocket-Protocol: chat\r\n\r\nfirst"))
    while not wire.ended.is_set():
        await wire.more()
        await wire.send(wire._take(len(wire._held)))
    wire.end()


CONNECT = [(":method", "CONNECT"), (":protocol", "websocket"), *pseudo()[1:]]


async def test_a_websocket(scene):
    live = scene.scripted(websocket)
    scene.route("shop.test", [live])
    scene.route("other.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(
        raw(1, *CONNECT, ("sec-websocket-protocol", "chat"), ended=False) + data(1, b"early", ended=False)
    )
    await wire.until("first", lambda: wire.seen(1).body.startswith(b"first"))
    assert wire.seen(1).status == 200
    names = [name for name, _ in wire.seen(1).fields]
    assert b"sec-websocket-protocol" in names
    assert not {b"upgrade", b"connection", b"sec-websocket-accept"} & set(names)
    assert (live.last.line, live.last["upgrade"]) == (b"GET / HTTP/1.1", b"websocket")
    await wire.write(get(3, host="other.test"))
    assert (await wire.answered(3)).body == b"hello"
    await wire.write(data(1, b"last"))
    seen = await wire.answered(1)
    assert seen.body == b"firstearlylast"
    await scene.until(lambda: len(scene.outcomes) == 2)
    assert (scene.outcome.status, scene.outcome.bytes_in, scene.outcome.bytes_out) == (101, 9, 14)


@pytest.mark.parametrize("ended", [False, True])
async def test_what_comes_before_the_tunnel_begins_goes_through_it(scene, ended):
    """The client need not wait for the response; the backend is slower than it."""
    early = asyncio.Event()

    async def late(wire: Wire, got: Received) -> None:
        await early.wait()
        await websocket(wire, got)

    live = scene.scripted(late)
    scene.route("shop.test", [live])
    wire = await wire_of(scene)
    await wire.write(raw(1, *CONNECT, ended=False))
    await scene.until(lambda: bool(live.requests))
    for piece in (b"one ", b"two "):
        await wire.write(data(1, piece, ended=False))
        await wire.still_there()
        wire.pings.clear()
    await wire.write(data(1, b"three", ended=ended))
    await wire.still_there()
    early.set()
    await wire.until("all of it", lambda: wire.seen(1).body == b"firstone two three")
    if not ended:
        await wire.write(data(1, b""))
    await wire.answered(1)
    assert (await scene.ended()).bytes_in == len("one two three")


async def test_a_websocket_whose_client_takes_nothing(scene):
    async def flood(wire: Wire, got: Received) -> None:
        wire.tunnelled = True
        await wire.send(switching(websocket_accept(got["sec-websocket-key"]), b"\r\n"))
        try:
            while True:
                await wire.send(b"x" * 65536)
        except Exception:
            return

    scene.route("shop.test", [scene.scripted(flood)])
    scene.route("other.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.write(raw(1, *CONNECT, ended=False))
    await wire.until("the window is used up", lambda: len(wire.seen(1).body) == 65535)
    [connection] = scene.connections
    await scene.until(lambda: not connection._streams[1].writable)
    assert connection.session.queued_in_all() < 512 * 1024
    await wire.write(window(0, 1 << 20) + get(3, host="other.test"))
    assert (await wire.answered(3)).body == b"hello"
    await wire.write(rst(1))
    await scene.ended(2)


async def test_a_websocket_that_the_backend_declines(scene):
    scene.route("shop.test", [scene.backend(status=403)])
    wire = await wire_of(scene)
    await wire.write(raw(1, *CONNECT, ended=False))
    assert (await wire.answered(1)).status == 403
    assert await wire.was_reset(1) == NO_ERROR


@pytest.mark.parametrize("accept", [b"", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], ids=["none", "another"])
async def test_a_backend_that_has_not_read_the_key_gets_no_tunnel(scene, accept):
    """A client of HTTP/2 cannot check it: the key was the edge's (RFC 8441, section 5.1)."""
    scene.route("shop.test", [scene.raw(switching(accept, b"\r\nbytes that are no messages"))])
    wire = await wire_of(scene)
    await wire.write(raw(1, *CONNECT, ended=False))
    seen = await wire.answered(1)
    assert (seen.status, fields(wire, 1)[b"x-styx-error"]) == (502, b"bad_answer")
    assert b"no messages" not in seen.body
    await scene.ended()
    assert scene.attempts[-1] == "bad_answer"


async def test_websockets_are_offered_only_where_they_are_allowed(scene):
    scene.settings(forwarding={"upgrades": "none"})
    scene.route("shop.test", [scene.backend()])
    wire = await wire_of(scene)
    await wire.until("SETTINGS", lambda: bool(wire.frames))
    [offered, *_] = [frame for frame in wire.frames if frame[0] == SETTINGS_ and not frame[1] & ACK]
    assert b"\0\x08\0\0\0\1" not in offered[3]
    await wire.write(raw(1, *CONNECT, ended=False))
    assert await wire.was_reset(1) in (1, NO_ERROR)


# the second session


@pytest.mark.parametrize("session", [Ngh2Session, HyperH2Session])
async def test_the_session_may_be_another(scene, monkeypatch, session):
    monkeypatch.setattr(h2_lifetime, "new_session", session)
    live = scene.backend(body=b"x" * MIB)
    scene.route("shop.test", [live])
    client = await scene.client()
    for body in (b"", b"abc", b"y" * MIB):
        await client.write(
            b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        reply = await client.read_reply()
        assert (reply.status, len(reply.body), live.last.body) == (200, MIB, body)
    await client.write(b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    assert (await client.read_reply()).status == 404
    [connection] = scene.connections
    assert isinstance(connection.session, session)
