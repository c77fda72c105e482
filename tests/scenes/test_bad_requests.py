"""Requests that are broken, or that two readers could read differently: refused, closed, told to no backend."""

import pytest

from tests.support.scene import SHORT, chunked, request

HOST = b"Host: shop.test\r\n"
PLAIN = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b"0\r\n\r\n"

BAD = {
    # the request line
    "no version": ((400, 505), b"GET /\r\n" + HOST + b"\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\n" + HOST + b"\r\n"),
    "nothing": (400, b"\x00\x00\r\n\r\n"),
    "tls": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "endless method": (400, b"FOO" * 30 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method with a colon": (400, b"GE:T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "relative target": (400, b"GET a HTTP/1.1\r\n" + HOST + b"\r\n"),
    "star of a GET": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "control byte in the target": (400, b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "NUL in the target": (400, b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "DEL in the target": (400, b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tab in the target": (400, b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "another host in the target": (400, b"GET http://evil.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a user in the target": (400, b"GET http://shop.test@evil.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "ftp": (400, b"GET ftp://shop.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "connect": (501, b"CONNECT shop.test:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "http/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http/2": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "http/1.2": ((400, 505), b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    "http/0.9": (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    "http/11": (400, b"GET / HTTP/11\r\n" + HOST + b"\r\n"),
    "not http": (400, b"GET / HTCPCP/1.0\r\n" + HOST + b"\r\n"),
    # Host
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "two hosts in one": (400, b"GET / HTTP/1.1\r\nHost: shop.test, evil.test\r\n\r\n"),
    "a path in the host": (400, b"GET / HTTP/1.1\r\nHost: shop.test/evil\r\n\r\n"),
    "a user in the host": (400, b"GET / HTTP/1.1\r\nHost: evil@shop.test\r\n\r\n"),
    "a port that is none": (400, b"GET / HTTP/1.1\r\nHost: shop.test:80a\r\n\r\n"),
    "raw bytes in the host": (400, "GET / HTTP/1.1\r\nHost: schön.test\r\n\r\n".encode()),
    # fields
    "space before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A : 1\r\n\r\n"),
    "space before content-length's colon": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 5\r\n\r\n" + BODY,
    ),
    "folded": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n 2\r\n\r\n"),
    "folded first": (400, b"GET / HTTP/1.1\r\n X-A: 1\r\n" + HOST + b"\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A\r\n\r\n"),
    "no name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": 1\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\x002\r\n\r\n"),
    "CR in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r2\r\n\r\n"),
    "LF at the end of a field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\nX-B: 2\r\n\r\n"),
    "LF only": (400, b"GET / HTTP/1.1\nHost: shop.test\n\n"),
    "control byte in a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-\x01A: 1\r\n\r\n"),
    "raw byte in a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-\xe4: 1\r\n\r\n"),
    # framing
    "length and chunked": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    ),
    "chunked and length": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + BODY,
    ),
    "chunked in 1.0": (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + BODY),
    "two lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + BODY),
    "equal lengths": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n" + BODY,
    ),
    "lengths in one": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\n" + BODY),
    "signed length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\n" + BODY),
    "negative length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\n" + BODY),
    "hexadecimal length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\n" + BODY),
    "length with an underscore": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n" + BODY),
    "empty length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n" + BODY),
    "enormous length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"),
    "arabic digits": (400, "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: ٥\r\n\r\n".encode() + BODY),
    "gzip, chunked": (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY),
    "identity": ((400, 501), b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n" + BODY),
    "xchunked": ((400, 501), b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY),
    "chunked twice": (
        (400, 501),
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    ),
    "vertical tab before chunked": (
        (400, 501),
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + BODY,
    ),
    # sizes
    "long target": (414, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long target, unfinished": (414, b"GET /" + b"x" * 9000),
    "long field": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"x" * 40_000 + b"\r\n\r\n"),
    "long head": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 9000) for n in range(9)),
    ),
    "many fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n" * 250 + b"\r\n"),
    "many fields of different names": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(250)) + b"\r\n",
    ),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad(scene, what):
    statuses, head = BAD[what]
    live = scene.backend()
    scene.route("shop.test", [live])
    for _ in range(2):
        reply, rest = await refused(scene, head)
        assert reply.status in (statuses if isinstance(statuses, tuple) else (statuses,))
        assert reply.error is not None
        assert reply["connection"] == "close"
        assert reply["x-styx-edge"] == "edge-1"
        assert rest == b""
        assert scene.letters == "CP"
    assert len(scene.outcomes) == 2
    assert not live.connections
    assert not scene.core.lookups


async def refused(scene, data):
    client = await scene.client()
    await client.write(data)
    reply = await client.read_reply()
    return reply, await client.rest()


LINES = [what for what, (_, head) in BAD.items() if head.endswith(b"1\r\n" + HOST + b"\r\n") or b"HTTP/0.9" in head]


@pytest.mark.parametrize("what", LINES)
async def test_a_bad_line_before_well_known_fields(scene, what):
    """That the same fields came with a good line before does not make a bad line good."""
    live = scene.backend()
    scene.route("shop.test", [live])
    for _ in range(3):
        assert (await scene.ask(PLAIN)).status == 200
    reply, _ = await refused(scene, BAD[what][1])
    assert reply.status >= 400
    assert reply["connection"] == "close"
    assert len(live.requests) == 3


@pytest.mark.parametrize("what", ["two hosts", "length and chunked", "no colon", "endless method"])
async def test_bad_after_a_good_one(scene, what):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(PLAIN + BAD[what][1] + PLAIN)
    assert (await client.read_reply()).status == 200
    assert (await client.read_reply()).status == 400
    assert await client.closed()
    assert len(live.requests) == 1


async def test_smuggled_behind_chunks(scene):
    """What follows the last chunk is the next request, and nothing else is."""
    live = scene.backend()
    scene.route("shop.test", [live])
    coded = request("shop.test", "/a", [("Transfer-Encoding", "chunked")], method="POST")
    client = await scene.client()
    await client.write(coded + chunked(PLAIN.replace(b"/ ", b"/evil ")) + request("shop.test", "/b"))
    assert [(await client.read_reply()).status for _ in range(2)] == [200, 200]
    assert [got.target for got in live.requests] == [b"/a", b"/b"]
    assert live.requests[0].body == PLAIN.replace(b"/ ", b"/evil ")


async def test_an_empty_line_before_a_request_is_ignored(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(b"\r\n" + PLAIN)
    assert (await client.read_reply()).status == 200
    await client.write(b"\r\n")
    await client.write(PLAIN)
    assert (await client.read_reply()).status == 200


@pytest.mark.parametrize("step", [1, 2, 1 << 20])
async def test_empty_lines_are_no_way_to_keep_us_busy(scene, step):
    """One is ignored; a megabyte of them is refused at the second."""
    client = await scene.client()
    for piece in range(0, 4, step):
        await client.write((b"\r\n" * (1 << 19))[piece : piece + step])
    assert (await client.read_reply()).error == "bad_request"
    assert await client.closed()


async def test_empty_lines_do_not_put_off_the_deadline(scene):
    scene.settings(timeouts={"head": SHORT})
    client = await scene.client()
    await client.write(b"\r\n")
    assert await client.closed()
    assert not scene.outcomes, "an idle connection with a stray empty line is closed without a word"


async def test_a_client_that_still_sends_sees_why(scene):
    """The rest of a refused upload is read on for a while, or a reset would take the response with it."""
    client = await scene.client()
    head = request("shop.test", method="POST", headers=[("Content-Length", "50000000"), ("Expect", "x")])
    await client.write(head + b"x" * 5_000_000)
    assert (await client.read_reply()).status == 417


async def test_the_longest_line_that_passes(scene):
    scene.route("shop.test", [scene.backend()])
    line = b"GET /" + b"x" * (8192 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
    assert (await scene.ask(line + b"\r\n" + HOST + b"\r\n")).status == 200
    reply, _ = await refused(scene, line.replace(b"/x", b"/xx") + b"\r\n" + HOST + b"\r\n")
    assert (reply.status, reply.error) == (414, "uri_too_long")


async def test_a_large_cookie_passes(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    cookie = "c=" + "x" * 32_000
    assert (await scene.get("shop.test", headers=[("Cookie", cookie)])).status == 200
    assert live.last["cookie"] == cookie.encode()
