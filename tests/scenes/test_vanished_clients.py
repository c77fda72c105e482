"""Clients whose machine or network is gone: nobody says goodbye, and the edge notices all the same."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bench.lab.remote_machine import NoNamespace, RemoteMachine, remote_machine
from edge.net.transport.tcp_keepalive import PROBES, set_keepalive
from edge.rules.settings import TimeoutSettings
from tests.scenes.test_tunnels import OFFER, switching
from tests.support.scene import Client, Scene, Wire, head_of, request

SOON = 1.0
"`timeouts.unacknowledged`; the kernel counts probes in seconds."
LATEST = 30 * SOON
"From the pulled cable to the end: the first probe, the second, the sweep, and a machine that is busy."


@pytest.fixture
def remote() -> Iterator[RemoteMachine]:
    try:
        with remote_machine() as machine:
            yield machine
    except NoNamespace as why:
        pytest.skip(str(why))


async def connected(scene: Scene, remote: RemoteMachine) -> Client:
    worker = await scene.edge()
    client = Client(remote.connect(worker.ports[0]))
    scene.clients.append(client)
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    return client


def watched(scene: Scene, remote: RemoteMachine, **timeouts: float) -> None:
    scene.listeners({"address": f"{remote.here}:0"})
    scene.settings(timeouts={"unacknowledged": SOON, "write_stall": SOON, **timeouts})


async def gone(scene: Scene) -> None:
    """Until nothing is left of the client."""
    async with asyncio.timeout(LATEST):
        await scene.until(lambda: not (scene.snapshot.client_connections or scene.snapshot.exchanges))


async def test_an_idle_connection(scene, remote):
    watched(scene, remote, head=1000, keep_alive=1000)
    await connected(scene, remote)
    remote.pull_the_cable()
    await gone(scene)


async def test_an_event_stream(scene, remote):
    async def script(wire: Wire, got: object) -> None:
        await wire.send(head_of(200, [("Content-Type", "text/event-stream")]))
        while not wire.gone.is_set():
            await wire.send(b"data: x\n\n")
            await asyncio.sleep(0.1)

    watched(scene, remote)
    scene.route("shop.test", [scene.scripted(script)])
    client = await connected(scene, remote)
    await client.write(request("shop.test"))
    assert b"data: x" in await client.read_some() + await client.read_some()
    remote.pull_the_cable()
    await gone(scene)
    assert (scene.outcome.cause, scene.letters) == ("client_gone", "CD")


@pytest.mark.parametrize("pings", [False, True], ids=["quiet", "pinged"])
async def test_a_web_socket(scene, remote, pings):
    async def then(wire: Wire) -> None:
        while not wire.gone.is_set():
            if pings:
                await wire.send(b"\x89\x00")
            await asyncio.sleep(0.1)

    watched(scene, remote)
    scene.route("shop.test", [scene.scripted(switching(then))])
    client = await connected(scene, remote)
    await client.write(request("shop.test", "/chat", OFFER))
    assert b" 101 " in await client.read_some()
    remote.pull_the_cable()
    await gone(scene)
    assert scene.outcome.cause == "client_gone"


async def test_one_that_is_there_and_silent_stays(scene, remote):
    watched(scene, remote, head=1000)
    client = await connected(scene, remote)
    with pytest.raises(TimeoutError):
        await gone(scene)
    remote.pull_the_cable()
    await gone(scene)
    client.leave()


async def test_a_backend_at_the_other_end_of_a_tunnel(scene, remote):
    """The client is here, and quiet; the container's machine is lost."""

    def listening() -> socket.socket:
        return socket.create_server(("", 0))

    scene.settings(timeouts={"unacknowledged": SOON, "write_stall": SOON})
    backend = remote.open(listening)
    backend.setblocking(False)
    port = backend.getsockname()[1]
    scene.route("shop.test")["backends"] = [{"id": "b9", "address": remote.there, "port": port, "server": "srv"}]
    client = await scene.client()
    await client.write(request("shop.test", "/chat", OFFER))
    loop = asyncio.get_running_loop()
    wire, _ = await loop.sock_accept(backend)
    assert await loop.sock_recv(wire, 65536)
    await loop.sock_sendall(
        wire, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    assert b" 101 " in await client.read_some()
    remote.pull_the_cable()
    await gone(scene)
    assert scene.outcome.cause == "tunnel_cut"
    for sock in (wire, backend):
        sock.close()


# what is asked of the kernel


def options(sock: socket.socket) -> tuple[int, ...]:
    of_tcp = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(sock.getsockopt(socket.IPPROTO_TCP, option) for option in of_tcp),
    )


def inherited(listening: socket.socket) -> tuple[int, ...]:
    """What a connection has that is made now."""
    with socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            return options(accepted)


@pytest.mark.parametrize(
    ("seconds", "stall", "expected"),
    [(60.0, 60.0, (60_000, 30, 10)), (60.0, 600.0, (600_000, 30, 10)), (1.0, 0.5, (1_000, 1, 1))],
)
def test_what_is_accepted_inherits_it(seconds, stall, expected):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        plain = inherited(listening)
        set_keepalive(listening, seconds, stall=stall)
        assert inherited(listening) == (1, *expected, PROBES)
        set_keepalive(listening, 0.0)
        assert inherited(listening)[:2] == plain[:2] == (0, 0)


def test_a_unix_socket_is_left_alone(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        set_keepalive(sock, 60.0)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_the_default_and_a_reload(scene):
    scene.listeners({})
    worker = await scene.edge()
    sock = worker._listeners[0]._sock
    assert options(sock) == (1, 60_000, 30, 10, 3)
    timeouts = TimeoutSettings(unacknowledged=12.0, write_stall=5.0)
    worker.reconfigure(worker.settings.model_copy(update={"timeouts": timeouts}))
    assert options(sock) == (1, 12_000, 6, 2, 3)
