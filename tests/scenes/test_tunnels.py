"""WebSockets and other protocols that a client and its backend agree on: bytes both ways, unread."""

import asyncio
import gc

import pytest

from edge.net.h1.tunnel import Tunnel, TunnelEnd
from tests.support.scene import MIB, SHORT, Backend, Client, Gone, Received, Scene, Wire, request
from tests.support.scene_backends import Script

OFFER = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "WebSocket"),
    ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
]
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: yes\r\n\r\n"
)


def switching(then=None, *, head: bytes = SWITCH, early: bytes = b"") -> Script:
    """Says 101 (with the first bytes of the other protocol), then plays a script with the raw connection."""

    async def script(wire: Wire, got: Received) -> None:
        wire.tunnelled = True
        await wire.send(head + early)
        if then is not None:
            await then(wire)
        else:
            await wire.gone.wait()

    return script


async def opened(scene: Scene, script, early: bytes = b"") -> tuple[Client, bytes, Backend]:
    """A client whose offer was taken; what came with the 101; the backend."""
    live = scene.scripted(script)
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", "/chat", OFFER) + early)
    data = b""
    while b"\r\n\r\n" not in data:
        data += await client.read_some()
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
    return client, head + b"|" + rest, live


async def echo(wire: Wire) -> None:
    """Everything back, in pieces as they come; then the end."""
    try:
        while not wire.ended.is_set():
            await wire.more()
            await wire.send(wire._take(len(wire._held)))
        wire.end()
    except Gone:
        pass


async def exactly(client: Client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await client.read_some()
        assert more, data
        data += more
    return data


def parts_of_tunnels() -> list[str]:
    """Types of all parts of tunnels that are in memory."""
    return sorted(type(found).__name__ for found in gc.get_objects() if type(found) in (Tunnel, TunnelEnd))


@pytest.mark.parametrize("first", ["client", "backend"])
async def test_an_ended_tunnel_leaves_no_cycle_of_references(scene, first):
    """Its memory is free at once, not when the garbage collector comes by."""
    stay = asyncio.Event()

    async def leave(wire: Wire) -> None:
        await stay.wait()
        wire.reset()

    client, _, _ = await opened(scene, switching(echo if first == "client" else leave))
    assert parts_of_tunnels() == ["Tunnel", "TunnelEnd", "TunnelEnd"]
    gc.collect()
    gc.disable()
    try:
        if first == "client":
            client.leave()
        stay.set()
        await scene.ended()
        await scene.until(lambda: not parts_of_tunnels())
    finally:
        gc.enable()


async def test_what_both_sides_receive(scene):
    client, head, live = await opened(scene, switching(echo))
    assert live.last["upgrade"] == b"WebSocket"
    assert live.last["connection"] == b"Upgrade"
    assert live.last["sec-websocket-key"] == b"x3JJHMbDL1EzLkh9GBhXDw=="
    for line in (b"\r\nUpgrade: websocket", b"\r\nConnection: Upgrade", b"\r\nSec-WebSocket-Accept: yes"):
        assert head.count(line) == 1
    for name in (b"X-Request-Id", b"X-Styx-Edge", b"X-Styx-Backend"):
        assert head.count(b"\r\n" + name + b": ") == 1
    assert b"Content-Length" not in head
    client.half_close()
    assert await client.rest() == b""


async def test_bytes_both_ways_and_what_the_log_says(scene):
    client, _, _ = await opened(scene, switching(echo))
    for n in range(50):
        await client.write(bytes([n]) * (n * 100 + 1))
        assert await exactly(client, n * 100 + 1) == bytes([n]) * (n * 100 + 1)
    assert scene.snapshot.exchanges == 1
    client.half_close()
    assert await client.rest() == b""
    outcome = await scene.ended()
    size = sum(n * 100 + 1 for n in range(50))
    assert (outcome.status, outcome.bytes_in, outcome.bytes_out) == (101, size, size)
    assert (outcome.cause.value, scene.letters, outcome.backend) == ("ok", "--", "b0")


async def test_bytes_that_came_with_the_101(scene):
    """From either side: no reader may swallow them."""
    client, head, _ = await opened(scene, switching(echo, early=b"server first"), early=b"client first")
    got = head.partition(b"|")[2]
    got += await exactly(client, len(b"server firstclient first") - len(got))
    assert got == b"server firstclient first"
    client.half_close()
    assert await client.rest() == b""


async def test_a_client_that_ends_its_half_still_gets_the_rest(scene):
    async def script(wire: Wire) -> None:
        asked = await wire.rest()
        await wire.send(asked * 1000)
        wire.end()

    client, _, _ = await opened(scene, switching(script))
    await client.write(b"0123456789")
    client.half_close()
    assert await client.rest() == b"0123456789" * 1000


async def test_a_backend_that_ends_its_half_still_gets_the_rest(scene):
    got = bytearray()

    async def script(wire: Wire) -> None:
        wire.end()
        got.extend(await wire.rest())

    client, _, _ = await opened(scene, switching(script))
    assert await client.rest() == b""
    await client.write(b"x" * MIB)
    client.half_close()
    await scene.until(lambda: len(got) == MIB)
    await scene.ended()


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_one_that_resets_takes_the_other_along(scene, who):
    gone = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.send(b"hello")
        if who == "backend":
            await wire.exactly(3)
            wire.reset()
        else:
            await wire.rest()
        gone.set()

    client, head, live = await opened(scene, switching(script))
    if not head.endswith(b"hello"):
        assert await client.read_some() == b"hello"
    if who == "client":
        client.reset()
    else:
        await client.write(b"bye")
        assert await client.closed()
    outcome = await scene.ended()
    await asyncio.wait_for(gone.wait(), 100)
    assert (outcome.cause.value, scene.letters) == {
        "client": ("client_gone", "CD"),
        "backend": ("tunnel_cut", "BD"),
    }[who]
    assert scene.points("shop.test", live) == 0


async def test_silence_of_both_ends_it(scene):
    scene.settings(timeouts={"tunnel": 100.0})
    client, _, _ = await opened(scene, switching(echo))
    for _ in range(4):  # as long as somebody speaks, it stays
        await client.write(b"x")
        assert await exactly(client, 1) == b"x"
        scene.pass_time(90.0)
    scene.pass_time(11.0)
    assert await client.rest() == b""
    assert (await scene.ended()).cause.value == "tunnel_idle"
    assert scene.letters == "--"


async def test_the_half_that_is_left_has_a_shorter_timeout(scene):
    scene.settings(timeouts={"tunnel": 600.0, "between_bytes": SHORT})
    client, _, _ = await opened(scene, switching(None))
    client.half_close()
    assert await client.rest() == b""
    assert (await scene.ended()).cause.value == "tunnel_idle"


@pytest.mark.parametrize("slow", ["client", "backend"])
async def test_a_slow_side_slows_the_other(scene, slow):
    """What waits in the edge is bounded by buffers, not by what is sent."""
    size = 32 * MIB
    go = asyncio.Event()
    got = 0

    async def script(wire: Wire) -> None:
        nonlocal got
        if slow == "client":
            await wire.send(b"y" * size)
            wire.end()
            return
        wire.transport.pause_reading()
        await go.wait()
        wire.transport.resume_reading()
        while got < size:
            if not wire._held:
                await wire.more()
            got += len(wire._take(len(wire._held)))
        wire.end()

    client, head, live = await opened(scene, switching(script))
    if slow == "client":
        await scene.until(lambda: live.wires[0].transport.get_write_buffer_size() > 0)
        before = -1
        while before != (before := live.wires[0].transport.get_write_buffer_size()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert before > size // 2
        assert len(head.partition(b"|")[2] + await client.rest()) == size
    else:
        writing = asyncio.ensure_future(client.write(b"z" * size))
        before = -1
        while before != (before := client.sent):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert 0 < before < size // 2
        go.set()
        await writing
        await scene.until(lambda: got == size)
    client.leave()
    await scene.ended()


@pytest.mark.parametrize("then", ["stay", "end", "reset"])
async def test_a_side_that_takes_nothing_is_cut(scene, then):
    scene.settings(timeouts={"write_stall": SHORT})

    async def script(wire: Wire) -> None:
        wire.transport.write(b"y" * (32 * MIB))
        await wire.exactly(1)
        if then == "end":
            wire.end()
        elif then == "reset":
            wire.reset()
        await wire.gone.wait()

    client, _, _ = await opened(scene, switching(script))
    await scene.until(lambda: len(scene.worker.context.buffers) == 1)  # or it is the end of a tunnel that flows
    await client.write(b"x")
    assert (await scene.ended()).cause.value == "client_stalled"
    assert scene.letters == "CD"


async def test_a_backend_that_takes_nothing_is_cut(scene):
    scene.settings(timeouts={"write_stall": SHORT})

    async def script(wire: Wire) -> None:
        wire.transport.pause_reading()
        await wire.gone.wait()

    client, _, _ = await opened(scene, switching(script))
    with pytest.raises(ConnectionError):
        await client.write(b"x" * 64 * MIB)
    assert (await scene.ended()).cause.value == "tunnel_cut"


async def test_an_offer_that_is_declined_is_an_ordinary_request(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test", headers=OFFER))
    reply = await client.read_reply()
    assert (reply.status, reply.body, reply["connection"]) == (200, b"hello", "close")
    assert await client.rest() == b""


async def test_bytes_behind_an_offer_that_is_declined_are_no_request(scene):
    """They were meant for another protocol: whoever chose them must not choose a request."""
    live = scene.backend()
    scene.route("shop.test", [live])
    response = await scene.send_raw(request("shop.test", headers=OFFER) + request("shop.test", "/smuggled"))
    assert response.count(b"HTTP/1.1 ") == 1
    assert [got.target for got in live.requests] == [b"/"]


@pytest.mark.parametrize(
    "head",
    [
        SWITCH.replace(b"websocket", b"chat"),
        SWITCH.replace(b"Upgrade: websocket\r\n", b""),
        SWITCH.replace(b"Connection: Upgrade\r\n", b""),
        SWITCH.replace(b"websocket", b"websocket, chat"),
    ],
    ids=["another protocol", "no protocol", "no Connection", "one more"],
)
async def test_a_switch_to_what_was_not_offered(scene, head):
    live = scene.scripted(switching(head=head))
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", headers=OFFER)
    assert (reply.status, reply.error) == (502, "bad_answer")
    assert scene.attempts == ["bad_answer"]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_switch_that_nobody_offered(scene, version):
    live = scene.scripted(switching())
    scene.route("shop.test", [live])
    offer = [] if version == "1.1" else OFFER
    response = await scene.send_raw(
        request("shop.test", headers=[*offer, ("Connection", "close")], version=version)
    )
    assert response.startswith(b"HTTP/1.1 502 ")
    assert b"X-Styx-Error: bad_answer\r\n" in response


async def test_the_ladder_holds_until_the_switch(scene):
    dead, full, live = scene.dead(), scene.refusing(), scene.scripted(switching(echo))
    scene.route("shop.test", [dead, full, live])
    client = await scene.client()
    await client.write(request("shop.test", headers=OFFER))
    assert (await client.read_some()).startswith(b"HTTP/1.1 101 ")
    await client.write(b"x")
    assert await exactly(client, 1) == b"x"
    client.leave()
    await scene.ended()
    assert scene.attempts == ["connect_failed", "refused", "ok"]


async def test_tunnels_can_be_forbidden(scene):
    scene.settings(forwarding={"upgrades": "none"})
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", headers=OFFER)).status == 200
    assert "upgrade" not in live.last


async def test_a_tunnel_counts_as_in_flight(scene):
    client, _, live = await opened(scene, switching(echo))
    assert scene.explained("shop.test", live).in_flight == 1
    client.leave()
    await scene.ended()
    assert scene.explained("shop.test", live).in_flight == 0
