"""What a hostile reader of the code found: each was a fault once."""

import asyncio
import socket
import struct

import pytest

from tests.support.needs import needs_plain
from tests.support.scene import request
from tests.support.scene_backends import Received, Wire

REFUSED = b"HTTP/1.1 503 Full\r\nX-Styx-Refused: queue-full\r\nContent-Length: 0\r\n\r\n"


async def full_by_the_head(wire: Wire, received: Received) -> None:
    await wire.send(REFUSED)


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_connection_that_still_expects_a_body_gets_no_other_request(scene, size):
    """The container says "go on" and refuses at once; it throws the body away that it never got. Had the link been
    kept, the next client's request would have been that body."""

    async def full_but_polite(wire: Wire, received: Received) -> None:
        if received.method == b"GET":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSED)
            await wire.more()

    scene.settings(retries={"queue_timeout": 0.0})
    backend = scene.scripted(full_but_polite)
    scene.route("shop.test", [backend])
    assert (await scene.get("shop.test")).status == 200
    if size == 5:
        head = request("shop.test", method="POST", headers=[("Transfer-Encoding", "chunked")])
        reply = await scene.ask(head + b"5\r\nhel", "POST")  # the rest is still to come
    else:
        reply = await scene.post("shop.test", body=b"a" * size)
    assert reply.error == "all_refused"
    assert scene.snapshot.links_idle == 0
    assert (await scene.get("shop.test")).status == 200


async def test_a_client_that_reset_before_it_was_accepted_is_nobody(scene):
    """Its address cannot be told any more. It must not count as one that is trusted."""
    backend = scene.backend()
    scene.route("shop.test", [backend])
    assert (await scene.get("shop.test")).status == 200
    worker = await scene.edge()
    with socket.create_connection(("127.0.0.1", worker.ports[0])) as sock:  # blocks the loop: not accepted yet
        sock.sendall(request("shop.test", headers=[("X-Forwarded-For", "6.6.6.6")]))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await scene.until(lambda: scene.snapshot.client_connections_accepted == 2)
    await scene.until(lambda: scene.snapshot.client_connections == 0)
    assert len(backend.requests) == 1


@pytest.mark.parametrize("address", ["a..b", "a" * 70, "", "127.0.0.1\x00"])
async def test_an_address_that_is_none(scene, address):
    backend, live = scene.backend(), scene.backend()
    scene.route("shop.test", [backend, live])
    scene.core.routes["shop.test"]["backends"][0]["address"] = address
    for _ in range(4):
        assert (await scene.get("shop.test")).status == 200


async def test_the_timeout_for_100_does_not_run_on_into_the_next_attempt(scene):
    """Refused by the head, then two that hang in connect: the fourth is still tried."""
    scene.settings(timeouts={"connect": 0.7, "connect_total": 5.0, "deadline": 10.0})
    full, lost, live = scene.scripted(full_by_the_head), scene.unreachable(), scene.backend()
    scene.route("shop.test", [full, lost, scene.unreachable(), live])
    scene.dice = 0.0  # in the order of the route
    reply = await scene.post("shop.test", body=b"a" * 300_000)
    assert scene.attempts == ["refused", "connect_timeout", "connect_timeout", "ok"]
    assert reply.status == 200


@needs_plain
async def test_a_slow_first_attempt_leaves_time_to_connect(scene):
    """`connect_total` is about connecting: what was waited for a response is not taken off it."""

    async def late_and_dead(wire: Wire, received: Received) -> None:
        await wire.gate()
        wire.close()

    scene.settings(timeouts={"connect": 2.0, "connect_total": 3.0})
    slow, live = scene.scripted(late_and_dead), scene.backend()
    scene.route("shop.test", [slow, live])
    worker = await scene.edge()
    timeouts: list[float] = []
    dial = worker.context.pool._open

    def watched(candidate, timeout, handler, attempt):
        timeouts.append(timeout)
        return dial(candidate, timeout, handler, attempt)

    worker.context.pool = Watched(worker.context.pool, watched)
    slow.hold()
    asking = asyncio.ensure_future(scene.get("shop.test"))
    await slow.got_head()
    scene.pass_time(30.0)
    slow.release()
    assert (await asking).status == 200
    assert timeouts[1] > 1.0


class Watched:
    """A pool whose dialling is looked at."""

    def __init__(self, pool, opened):
        self._pool = pool
        self._opened = opened

    def __getattr__(self, name):
        return getattr(self._pool, name)

    def dial(self, *arguments):
        self._keep = asyncio.ensure_future(self._opened(*arguments))


async def test_a_half_closed_http10_client_can_tell_a_truncated_response(scene):
    """A response that ends with the connection must not end in order when it is not complete."""
    backend = scene.stalling(framing="chunked")
    scene.route("shop.test", [backend])
    client = await scene.client()
    await client.write(b"GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n")
    await client.read_some()
    client.half_close()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert scene.outcome.cause == "client_gone"


async def test_endless_interim_responses(scene):
    """A megabyte of them in one go is a bad response, not a deep recursion."""
    backend = scene.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40_000)
    scene.route("shop.test", [backend])
    client = await scene.client()
    await client.write(request("shop.test", method="POST", headers=[("Content-Length", "0")]))
    reply = await client.read_reply("POST")
    assert reply.error == "bad_answer"


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_is_accepted_while_the_edge_stops_is_served(scene, turns):
    """The loop has accepted it in the turn in which the drain begins, and may not have begun it."""
    scene.route("shop.test", [scene.backend()])
    worker = await scene.edge()
    with socket.create_connection(("127.0.0.1", worker.ports[0])) as sock:  # blocks the loop: not accepted yet
        sock.sendall(request("shop.test"))
        sock.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        await worker.drain(10, 0.1)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200"), "the drain has waited for the response"
