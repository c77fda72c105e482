"""Most connections in total, and of one client: the one too many gets a 503 that costs nothing; room comes back."""

import asyncio
import socket
import struct

import pytest

from tests.corpus_h2.frames import ENHANCE_YOUR_CALM, GOAWAY_, PREFACE, SETTINGS_, get, settings
from tests.support.h2_wire import H2Wire
from tests.support.scene import MIB, SHORT, Client, request

pytestmark = pytest.mark.usefixtures("nobody_idles")
PLAIN = request("shop.test")
PROXIED = {"proxy_protocol": True, "trusted": ("127.0.0.0/8",)}


@pytest.fixture
def live(scene):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    return backend


async def client_from(scene, address):
    """A client with another address of this machine."""
    worker = await scene.edge()
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", worker.ports[0]))
    scene.clients.append(Client(sock))
    return scene.clients[-1]


async def proxied_client(scene, address):
    """A client whose proxy says that it has this address."""
    client = await scene.client()
    family = "TCP6" if ":" in address else "TCP4"
    await client.write(f"PROXY {family} {address} {address} 5000 80\r\n".encode())
    return client


async def is_in(client):
    """Whether it is served, after its first request."""
    await client.write(PLAIN)
    return (await client.read_reply()).status == 200


async def test_one_too_many_in_total(scene, live):
    scene.settings(limits={"connections": 2})
    first, second, third = [await scene.client() for _ in range(3)]
    reply = await third.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (503, "edge_overloaded", "close")
    assert reply["retry-after"] == "2"
    assert reply["cache-control"] == "no-store"
    assert reply["x-styx-edge"] == "edge-1"
    assert reply["x-request-id"].encode() in reply.body
    assert await third.closed()
    outcome = await scene.ended()
    assert (outcome.status, outcome.cause, outcome.client) == (503, "edge_overloaded", "127.0.0.1")
    assert (outcome.id, outcome.bytes_out) == (reply["x-request-id"], len(reply.body))
    assert scene.letters == "EP"
    assert await is_in(first)
    assert await is_in(second)
    assert scene.snapshot.client_connections_refused == 1


async def test_there_is_room_again(scene, live):
    scene.settings(limits={"connections": 1})
    for _ in range(3):
        client = await scene.client()
        assert await is_in(client)
        away = await scene.client()
        assert (await away.read_reply()).status == 503
        away.leave()
        client.leave()
        await scene.until(lambda: not scene.snapshot.client_connections)
    assert scene.snapshot.client_connections_refused == 3


async def test_one_turned_away_takes_no_room(scene, live):
    """Those who linger, having read why or not, are in nobody's way."""
    scene.settings(limits={"connections": 1})
    first = await scene.client()
    assert await is_in(first)
    away = [await scene.client() for _ in range(5)]
    await scene.until(lambda: scene.snapshot.client_connections_refused == 5)
    first.leave()
    await scene.until(lambda: scene.snapshot.client_connections == 5)
    assert await is_in(await scene.client())
    assert {(await client.read_reply()).status for client in away} == {503}


async def test_one_turned_away_is_counted_no_longer_than_it_lingers(scene, live):
    """It neither reads nor leaves."""
    scene.settings(limits={"connections": 1})
    context = (await scene.edge()).context
    context.rejected_linger = SHORT
    await scene.client()
    began = asyncio.get_running_loop().time()
    await scene.client()
    await scene.until(lambda: scene.snapshot.client_connections_refused == 1)
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    assert asyncio.get_running_loop().time() - began > SHORT / 2


async def test_one_that_sends_all_the_same_sees_why(scene, live):
    """What it sends is read and thrown away, or a reset would take the response with it."""
    scene.settings(limits={"connections": 1})
    (await scene.edge()).context.rejected_linger = 30.0
    await scene.client()
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * (4 * MIB)))
    assert (await client.read_reply("POST")).error == "edge_overloaded"
    assert await client.closed()
    assert not live.requests


async def test_at_most_so_many_of_one_client(scene, live):
    scene.settings(limits={"connections_per_client": 2})
    mine = [await client_from(scene, "127.0.0.2") for _ in range(3)]
    assert [await is_in(client) for client in mine] == [True, True, False]
    assert scene.outcomes[-1].client == "127.0.0.2"
    assert await is_in(await client_from(scene, "127.0.0.3"))
    mine[0].leave()
    await scene.until(lambda: scene.snapshot.client_connections == 2)
    assert await is_in(await client_from(scene, "127.0.0.2"))
    assert not await is_in(await client_from(scene, "127.0.0.2"))


async def test_a_home_has_one_64(scene, live):
    scene.settings(limits={"connections_per_client": 2})
    scene.listeners(PROXIED)
    home = [await proxied_client(scene, f"2001:db8:0:7::{n}") for n in range(3)]
    assert [await is_in(client) for client in home] == [True, True, False]
    assert await is_in(await proxied_client(scene, "2001:db8:0:8::1"))


async def test_the_clients_of_one_proxy_are_many(scene, live):
    """Each counts for itself; the proxy, over whose address they all come, does not."""
    scene.settings(limits={"connections_per_client": 1})
    scene.listeners(PROXIED)
    for n in range(3):
        assert await is_in(await proxied_client(scene, f"203.0.113.{n}"))
    assert not await is_in(await proxied_client(scene, "203.0.113.1"))


async def test_trusted_proxies_are_exempt(scene, live):
    scene.settings(limits={"connections_per_client": 1}, forwarding={"trusted": ("127.0.0.2/32",)})
    for _ in range(4):
        assert await is_in(await client_from(scene, "127.0.0.2"))
    assert await is_in(await client_from(scene, "127.0.0.3"))
    assert not await is_in(await client_from(scene, "127.0.0.3"))


async def test_zero_is_no_limit(scene, live):
    scene.settings(limits={"connections_per_client": 0})
    for _ in range(20):
        assert await is_in(await scene.client())


async def test_proxies_that_do_not_say_who_take_room_too(scene, live):
    scene.settings(limits={"connections": 2})
    scene.listeners(PROXIED)
    for _ in range(2):
        await scene.client()
    assert (await (await scene.client()).read_reply()).error == "edge_overloaded"


async def test_proxies_that_do_not_say_who_give_their_room_back(scene, live):
    scene.settings(limits={"connections": 2}, timeouts={"head": SHORT})
    scene.listeners(PROXIED)
    silent = [await scene.client() for _ in range(2)]
    for client in silent:
        assert await client.closed()
    assert await is_in(await proxied_client(scene, "203.0.113.1"))


async def test_a_tunnel_and_a_refused_request_leave_as_they_came(scene, live):
    """However a connection ends, it gives its place back."""

    async def switching(wire, received):
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        await wire.more()

    scene.settings(limits={"connections": 1})
    scene.route("echo.test", [scene.scripted(switching)])
    upgrade = request("echo.test", headers=[("Connection", "Upgrade"), ("Upgrade", "echo")])
    for sent in (upgrade, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", PLAIN, request("shop.test", version="1.0")):
        client = await scene.client()
        await client.write(sent)
        assert await client.read_some()
        client.leave()
        await scene.until(lambda: not scene.snapshot.client_connections)
    assert repr(scene.worker.context.connection_limiter) == "<ConnectionLimiter admitted=0 clients=0 lingering=0>"
    assert not scene.snapshot.client_connections_refused


async def test_as_many_wait_to_be_accepted_as_configured(scene):
    """Beyond the backlog the kernel drops, and clients that believe they are connected hang."""
    scene.listeners({"backlog": 777})
    worker = await scene.edge()
    [listener] = worker._listeners
    told = listener._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("I", told, 28) == (777,)  # tcpi_sacked, of a listening socket


async def test_a_crowd_at_the_door(scene, live):
    """More than may linger: some are told, the others are just closed, and who is in is served."""
    scene.settings(limits={"connections": 1})
    context = (await scene.edge()).context
    context.rejected_linger, context.connection_limiter.most_lingering = 30.0, 50
    first = await scene.client()
    assert await is_in(first)
    crowd = [await scene.client() for _ in range(400)]
    await scene.until(lambda: scene.snapshot.client_connections_refused == 400)

    async def heard(client):
        try:
            return (await client.rest())[:12]
        except ConnectionResetError:
            return b""

    said = await asyncio.gather(*map(heard, crowd))
    assert (said.count(b"HTTP/1.1 503"), said.count(b"")) == (50, 350)
    assert [outcome.cause for outcome in scene.outcomes] == ["ok"] + ["edge_overloaded"] * 50
    assert await is_in(first)
    for client in crowd:
        client.leave()
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    assert repr(scene.worker.context.connection_limiter) == "<ConnectionLimiter admitted=1 clients=1 lingering=0>"


async def test_one_too_many_over_http2_is_told_by_goaway(scene, live):
    """With the reason as text, and without a stream that was opened: all of it may be sent elsewhere."""
    scene.listeners({"http2": True})
    scene.settings(limits={"connections": 1})
    first = H2Wire(await scene.raw_client())
    await first.write(PREFACE + settings())
    await first.until("SETTINGS", lambda: bool(first.frames))
    second = H2Wire(await scene.raw_client())
    await second.write(PREFACE + settings() + get(1))
    assert await second.closed() == ENHANCE_YOUR_CALM
    (first_kind, *_), (kind, _, _, payload) = second.frames
    assert (first_kind, kind) == (SETTINGS_, GOAWAY_)
    assert (payload[:4], payload[8:]) == (b"\0\0\0\0", b"edge_overloaded: too many connections")
    outcome = await scene.ended()
    assert (outcome.status, outcome.cause, outcome.protocol, outcome.bytes_out) == (503, "edge_overloaded", "h2", 0)
    assert scene.snapshot.client_connections_refused == 1
