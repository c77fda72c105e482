"""Large uploads: who is asked first whether they may come, and responses that do not wait for their end."""

import asyncio
import socket

import pytest

from edge.rules.balancing.expect_support import SILENT_FOR, TIMEOUT
from tests.support.scene import MIB, CutShort, Received, Wire, chunked, head_of, request
from tests.support.scene_backends import answering

CHUNKED = [("Transfer-Encoding", "chunked")]
LARGE = b"x" * 200_000
OK = head_of(200, [("Content-Length", "0")])


async def deaf(wire: Wire, got: Received) -> None:
    """Does not know `Expect`."""
    if "content-length" in got:
        got.body = await wire.exactly(int(got["content-length"]))
    else:
        got.body = await wire.until(b"0\r\n\r\n")
    await wire.send(OK)


def asked(backend) -> list[bool]:
    """For each request, whether the edge asked first."""
    return ["expect" in got for got in backend.requests]


def chunked_request(*parts: bytes) -> bytes:
    return request("shop.test", method="POST", headers=CHUNKED) + chunked(*parts)


# complete, and small enough to be sent again


@pytest.mark.parametrize("parts", [(), (b"abc",), (b"abc", b"d" * 5000)], ids=["empty", "small", "two"])
async def test_a_body_that_came_with_its_head_is_not_asked_for(scene, parts):
    """RFC 9110, section 10.1.1: nobody may ask for an empty one."""
    scene.settings(retries={"ask_before_upload": "always"})
    backend = scene.scripted(answering())
    scene.route("shop.test", [backend])
    client = await scene.client()
    for _ in range(3):  # over a new connection, and over a kept one
        await client.write(chunked_request(*parts))
        assert (await client.read_reply()).status == 200
    assert asked(backend) == [False] * 3
    assert {got.body for got in backend.requests} == {b"".join(parts)}
    assert backend.connections == 1


async def test_a_body_that_becomes_complete_is_not_held(scene):
    scene.settings(retries={"ask_before_upload": "always"})
    backend = scene.scripted(deaf)
    scene.route("shop.test", [backend])
    for _ in range(2):  # over a new connection, and over a kept one
        client = await scene.client()
        whole = chunked_request(b"abc", b"def")
        await client.write(whole[:-10])
        await backend.heads.acquire()
        await client.write(whole[-10:])
        assert (await client.read_reply()).status == 200
    assert asked(backend) == [True, True], "after a wait to its end the second would not be asked"
    assert scene.snapshot.links_idle == 1


async def test_a_body_that_is_held_is_read_up_to_the_replay_buffer(scene):
    scene.settings(retries={"ask_before_upload": "always"})
    backend = scene.backend()
    backend.hold()
    scene.route("shop.test", [backend])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=CHUNKED) + b"2000000\r\n")
    await backend.heads.acquire()
    writing = asyncio.ensure_future(client.write(b"x" * 32 * MIB + b"\r\n0\r\n\r\n"))
    reading = asyncio.ensure_future(client.read_reply())
    [connection] = scene.connections
    await scene.until(lambda: connection.paused)
    backend.release()
    assert (await reading).status == 200
    await writing
    assert len(backend.last.body) == 32 * MIB


# who is asked


async def test_backends_that_ignored_the_expectation_are_not_asked_again_for_a_while(scene):
    backend = scene.scripted(deaf)
    scene.route("shop.test", [backend])
    for _ in range(3):
        assert (await scene.post("shop.test", body=LARGE)).status == 200
    assert asked(backend) == [True, False, False]
    scene.pass_time(SILENT_FOR)
    for _ in range(2):
        assert (await scene.post("shop.test", body=LARGE)).status == 200
    assert asked(backend)[3:] == [True, False]
    assert {got.body for got in backend.requests} == {LARGE}


async def test_the_backends_of_other_environments_are_asked_all_the_same(scene):
    one, other = scene.scripted(deaf), scene.scripted(deaf)
    scene.route("one.test", [one])
    scene.route("other.test", [other])
    for host in ("one.test", "other.test"):
        assert (await scene.post(host, body=LARGE)).status == 200
    assert asked(one) == asked(other) == [True]


async def test_of_many_first_uploads_one_asks(scene):
    backend = scene.scripted(deaf)
    scene.route("shop.test", [backend])
    await scene.edge()
    replies = await asyncio.gather(*(scene.post("shop.test", body=LARGE) for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    assert sum(asked(backend)) == 1


async def test_backends_that_respond_to_expect_are_asked_each_time(scene):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    assert (await scene.post("shop.test", body=LARGE)).status == 200
    replies = await asyncio.gather(*(scene.post("shop.test", body=LARGE) for _ in range(5)))
    assert {reply.status for reply in replies} == {200}
    assert asked(backend) == [True] * 6


async def test_a_backend_that_responds_late_to_expect_is_waited_for_from_then_on(scene):
    async def slow(wire: Wire, got: Received) -> None:
        if len(backend.requests) == 1:
            await wire.exactly(1)  # sent because nobody answered
            got.body = b"x"
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            got.body += await wire.exactly(len(LARGE) - 1)
            await wire.send(OK)
        else:
            await wire.body(got)
            await wire.send(OK)

    backend = scene.scripted(slow)
    scene.route("shop.test", [backend])
    for _ in range(2):
        reply = await scene.post("shop.test", body=LARGE)
        assert (reply.status, reply.interim) == (200, [])
    assert asked(backend) == [True, True]


async def test_a_backend_that_refuses_the_expectation_is_not_asked_again(scene):
    async def script(wire: Wire, got: Received) -> None:
        if "expect" in got:
            await wire.send(head_of(417, [("Content-Length", "0")]))
        else:
            await deaf(wire, got)

    backend = scene.scripted(script)
    scene.route("shop.test", [backend])
    for _ in range(2):
        assert (await scene.post("shop.test", body=LARGE)).status == 200
        scene.pass_time(2 * TIMEOUT)
    assert asked(backend) == [True, False, False]


async def test_a_backend_that_refuses_by_the_head_is_asked_each_time(scene):
    full, live = scene.raw(b""), scene.backend()

    async def script(wire: Wire, got: Received) -> None:
        await wire.send(head_of(503, [("X-Styx-Refused", "queue"), ("Retry-After", "0"), ("Content-Length", "0")]))

    full.script = script
    scene.route("shop.test", [full, live])
    for _ in range(2):
        assert (await scene.post("shop.test", body=LARGE)).status == 200
        assert scene.attempts[-1] == "ok"
    assert asked(full) == [True] * len(full.requests)
    assert asked(live) == [True, True]


@pytest.mark.parametrize(("setting", "asks"), [("always", [True, True]), ("never", [False, False])])
async def test_as_it_is_set(scene, setting, asks):
    scene.settings(retries={"ask_before_upload": setting})
    backend = scene.scripted(deaf)
    scene.route("shop.test", [backend])
    for _ in range(2):
        assert (await scene.post("shop.test", body=LARGE)).status == 200
    assert asked(backend) == asks


async def test_a_client_that_leaves_while_its_upload_is_held(scene):
    backend = scene.backend()
    backend.hold()
    scene.route("shop.test", [backend])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=CHUNKED))
    await backend.heads.acquire()
    client.leave()
    assert (await scene.ended()).cause.value == "client_gone"
    backend.release()
    assert (await scene.post("shop.test", body=LARGE)).status == 200


# responses that do not wait


class Abrupt:
    """A backend of blocking calls: what it does in one step, the edge learns in one turn of its loop."""

    def __init__(self, scene) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        told = {"id": "b1", "address": "127.0.0.1", "port": self._listening.getsockname()[1], "server": "srv-1"}
        scene.route("shop.test")["backends"] = [{**told, "role": "active", "state": "running"}]

    async def upload_to(self, client) -> socket.socket:
        """The connection of an upload that has begun, with part of the body unread in it."""
        loop = asyncio.get_running_loop()
        await client.write(request("shop.test", method="POST", headers=[("Content-Length", str(5 * MIB))]))
        await client.write(b"x" * 100_000)
        connection, _ = await loop.sock_accept(self._listening)
        assert await loop.sock_recv(connection, 10)
        return connection

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
async def abrupt(scene):
    scene.settings(retries={"ask_before_upload": "never"})
    backend = Abrupt(scene)
    yield backend
    backend.close()


def respond_and_close(client, connection: socket.socket, response: bytes, *, ended: bool = False) -> None:
    """The client's next bytes are there first, so that writing them fails before the response is read."""
    client.send_now(b"x" * 1000)
    connection.sendall(response)
    if ended:
        connection.shutdown(socket.SHUT_WR)
    connection.close()


WHOLE = {
    "length": head_of(413, [("Connection", "close"), ("Content-Length", "3")]) + b"big",
    "chunked": head_of(413, [("Connection", "close"), *CHUNKED]) + chunked(b"big"),
    "hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + head_of(413, [("Content-Length", "3")]) + b"big",
}


@pytest.mark.parametrize("ended", [False, True], ids=["reset", "ended"])
@pytest.mark.parametrize("response", WHOLE)
async def test_a_response_is_read_though_the_upload_failed(scene, abrupt, response, ended):
    for _ in range(3):
        client = await scene.client()
        connection = await abrupt.upload_to(client)
        respond_and_close(client, connection, WHOLE[response], ended=ended)
        reply = await client.read_reply()
        assert (reply.status, reply.body, reply.error) == (413, b"big", None)
    assert scene.letters == "--"
    assert len(scene.attempts) == 1
    assert scene.snapshot.links_busy + scene.snapshot.links_idle == 0
    [backend] = scene.worker.explain("shop.test").backends
    assert not backend.demerits, "it is healthy"


async def test_a_response_that_ends_with_its_connection_is_whole_if_it_was_ended(scene, abrupt):
    client = await scene.client()
    connection = await abrupt.upload_to(client)
    respond_and_close(client, connection, head_of(413, [("Connection", "close")]) + b"big", ended=True)
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (413, b"big")
    assert scene.outcome.cause.value == "ok"


@pytest.mark.parametrize(
    "response",
    [head_of(413, [("Connection", "close")]) + b"big", head_of(413, [("Content-Length", "10")]) + b"big"],
    ids=["close", "length"],
)
async def test_a_response_that_was_cut_does_not_look_whole(scene, abrupt, response):
    client = await scene.client()
    connection = await abrupt.upload_to(client)
    respond_and_close(client, connection, response)
    with pytest.raises((CutShort, ConnectionError)):
        await client.read_reply()
    assert (await scene.ended()).cause.value == "truncated"


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 413 Half a he"], ids=["none", "half"])
async def test_an_upload_that_failed_without_a_response_is_not_sent_again(scene, abrupt, response):
    client = await scene.client()
    connection = await abrupt.upload_to(client)
    respond_and_close(client, connection, response)
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (502, "closed_early")
    assert scene.attempts == ["closed_early"]


async def test_what_is_no_response_is_reported_as_such(scene, abrupt):
    client = await scene.client()
    connection = await abrupt.upload_to(client)
    respond_and_close(client, connection, b"220 smtp.test ready\r\n\r\n")
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (502, "bad_answer")
