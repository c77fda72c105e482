"""Memory for those that do not take what they asked for, or do not finish what they send."""

import asyncio
import socket

import pytest

from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.tunnel import Tunnel
from edge.net.transport.small_reads import LARGEST, retained
from tests.scenes.test_tunnels import OFFER, switching
from tests.scenes.test_unread_clients import deaf, until_held_back
from tests.support.scene import MIB, Client, Scene, Wire, request

KIB = 1024
MANY = 120
"Clients that keep more than the smallest limit together."
EACH = 64 * KIB
"What is kept for one of them, at most."


async def connected(scene: Scene, address: str, *, receive_buffer: int = 4096) -> Client:
    """A client on another address of this machine, with little room."""
    worker = await scene.edge()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", worker.ports[0]))
    sock.setblocking(False)
    client = Client(sock)
    scene.clients.append(client)
    return client


async def pouring(wire: Wire, got: object) -> None:
    """A response without an end, as fast as the edge takes it."""
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        await wire.send(b"y" * MIB)


def kept(scene: Scene) -> list[int]:
    """Bytes, for each of those for which anything is kept."""
    members = [m for m in scene.worker.context.deadline_sweep if isinstance(m, H1Connection | Tunnel)]
    return [member.held_bytes for member in members if member.held_bytes]


async def settled(scene: Scene, count: int) -> list[int]:
    """The same, when so many are stuck and nothing changes any more."""
    before: list[int] = []
    async with asyncio.timeout(100):
        while len(before) < count or before != kept(scene):
            before = kept(scene)
            await asyncio.sleep(0.05)
    return before


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_client_that_does_not_read(scene, framing):
    async def script(wire: Wire, got: object) -> None:
        lines = {"length": b"Content-Length: 1000000000\r\n", "chunked": b"Transfer-Encoding: chunked\r\n"}
        await wire.send(b"HTTP/1.1 200 OK\r\n%b\r\n" % lines.get(framing, b""))
        while True:
            await wire.send(b"100000\r\n%b\r\n" % (b"y" * MIB) if framing == "chunked" else b"y" * MIB)

    scene.route("shop.test", [scene.scripted(script)])
    for _ in range(10):
        await (await connected(scene, "127.0.0.2")).write(request("shop.test"))
    sizes = await settled(scene, 10)
    assert max(sizes) <= EACH
    buffers = scene.worker.context.buffers
    assert (buffers.held, len(buffers)) == (sum(sizes), 10)
    for client in scene.clients:
        client.leave()
    await scene.until(lambda: buffers.held == 0)


@pytest.mark.parametrize("slow", ["client", "backend"])
async def test_either_side_of_a_tunnel(scene, slow):
    async def then(wire: Wire) -> None:
        if slow == "backend":
            await deaf(wire)
        while True:
            await wire.send(b"y" * MIB)

    scene.route("shop.test", [scene.scripted(switching(then))])
    client = await connected(scene, "127.0.0.2")
    await client.write(request("shop.test", "/chat", OFFER))
    if slow == "backend":
        assert b" 101 " in await client.read_some()
        await until_held_back(scene, client)
    [size] = await settled(scene, 1)
    assert size <= EACH
    assert scene.worker.context.buffers.held == size


async def test_an_upload_that_its_backend_does_not_take(scene):
    scene.settings(retries={"replay_buffer": 0})
    live = scene.scripted(deaf)
    scene.route("shop.test", [live])
    client = await scene.client()
    fields = [("Expect", "100-continue"), ("Content-Length", str(1000 * MIB))]
    await client.write(request("shop.test", method="POST", headers=fields))
    await live.got_head()
    await until_held_back(scene, client)
    [size] = await settled(scene, 1)
    assert size <= EACH


async def test_requests_behind_the_one_in_flight(scene):
    live = scene.silent()
    scene.route("shop.test", [live])
    client = await scene.client()
    many = request("shop.test", headers=[("X-Padding", "x" * 4000)]) * 100
    writing = [asyncio.ensure_future(client.write(many))]
    await live.got_head()
    [size] = await settled(scene, 1)
    assert 0 < size <= EACH * 2, "of the first read; those that follow are small"
    writing[0].cancel()


async def test_a_fast_client_of_a_large_response_gets_it_whole(scene):
    body = bytes(range(256)) * (4 * MIB // 256)
    scene.route("shop.test", [scene.backend(body=body)])
    client = await scene.client()
    for _ in range(3):
        await client.write(request("shop.test"))
        assert (await client.read_reply()).body == body
    await scene.post("shop.test", body=body)
    assert scene.backends[0].last.body == body
    assert scene.backends[0].connections == 1


# all of them together


def narrow(scene: Scene, size: int = MIB) -> None:
    scene.settings(limits={"buffers": size})


async def cut_off(scene: Scene, count: int) -> None:
    await scene.until(lambda: scene.snapshot.buffers_cut >= count)


async def test_those_that_hold_most_are_cut_off(scene):
    narrow(scene)
    scene.route("shop.test", [scene.scripted(pouring)])
    modest = [await connected(scene, f"127.0.0.{n}") for n in range(3, 6)]
    greedy = [await connected(scene, "127.0.0.2") for _ in range(MANY)]
    for client in [*modest, *greedy]:
        await client.write(request("shop.test"))
    await cut_off(scene, 1)
    # Sizes are counted when a buffer becomes full, and once a second: a moment later all is known, and within it.
    await scene.until(lambda: scene.snapshot.buffered_bytes == sum(kept(scene)) <= MIB and len(kept(scene)) >= 10)
    outcomes = [(outcome.client, outcome.cause, outcome.status) for outcome in scene.outcomes]
    assert set(outcomes) == {("127.0.0.2", "buffer_limit", 200)}
    assert len(outcomes) == scene.snapshot.buffers_cut
    assert scene.letters == "ED"


async def test_a_tunnel_is_cut_off(scene):
    async def then(wire: Wire) -> None:
        while True:
            await wire.send(b"y" * MIB)

    narrow(scene)
    scene.route("shop.test", [scene.scripted(switching(then))])
    for _ in range(MANY):
        await (await connected(scene, "127.0.0.2")).write(request("shop.test", "/chat", OFFER))
    await cut_off(scene, 1)
    await scene.ended()
    assert {outcome.cause for outcome in scene.outcomes} == {"buffer_limit"}
    assert scene.worker.context.buffers.held <= MIB


async def test_halves_of_heads_and_of_uploads_count(scene):
    """Each may keep 64 KiB; who has not got any of its response is told why it gets none."""
    narrow(scene)
    scene.route("shop.test", [scene.silent()])
    half_a_head = request("shop.test", headers=[(f"X-{n}", "x" * 10_000) for n in range(6)])[:-4]
    fields = [("Expect", "100-continue"), ("Content-Length", "60000")]
    half_an_upload = request("shop.test", method="POST", headers=fields) + b"x" * 50_000
    for n in range(30):
        await (await scene.client()).write(half_a_head if n % 2 else half_an_upload)
    await cut_off(scene, 2)
    assert scene.worker.context.buffers.held <= MIB
    assert {(outcome.cause, outcome.status) for outcome in scene.outcomes} == {("buffer_limit", 503)}


async def test_a_reload_lowers_the_limit(scene):
    scene.route("shop.test", [scene.scripted(pouring)])
    for _ in range(MANY):
        await (await connected(scene, "127.0.0.2")).write(request("shop.test"))
    assert sum(await settled(scene, MANY)) > MIB
    settings = scene.worker.settings
    limits = settings.limits.model_copy(update={"buffers": MIB})
    scene.worker.reconfigure(settings.model_copy(update={"limits": limits}))
    await (await connected(scene, "127.0.0.2")).write(request("shop.test"))
    await cut_off(scene, 1)


def test_the_bounds_fit():
    assert LARGEST + 8 * KIB <= EACH, "with the objects of a connection"


@pytest.mark.parametrize(
    ("unsent", "full", "kept"),
    [(0, False, 0), (100, False, 100), (0, True, 0), (1, True, LARGEST), (LARGEST + 1, True, LARGEST + 1)],
)
def test_what_is_left_of_a_piece_keeps_the_whole_piece(unsent, full, kept):
    assert retained(unsent, full=full) == kept


async def test_a_client_that_leaves_a_few_bytes_is_counted_for_the_whole_piece(scene):
    """Those that take nearly all of each piece hold as much memory as those that take nothing."""
    scene.route("shop.test", [scene.scripted(pouring)])
    client = await connected(scene, "127.0.0.2")
    await client.write(request("shop.test"))
    [size] = await settled(scene, 1)
    [connection] = scene.connections
    assert not connection.writable
    assert size >= LARGEST
    assert scene.worker.context.buffers.held == size


async def test_the_last_piece_is_counted_after_the_end_of_its_exchange(scene):
    scene.route("shop.test", [scene.backend(body=b"x" * 30_000)])
    client = await scene.client(receive_buffer=4096)
    await scene.small_send_buffer()
    await client.write(request("shop.test"))
    await scene.ended()
    [connection] = scene.connections
    assert connection.exchange is None
    assert scene.worker.context.buffers.held == connection.held_bytes >= LARGEST
    assert len((await client.read_reply()).body) == 30_000
    await scene.until(lambda: scene.worker.context.buffers.held == 0)
