"""Requests in flight of one site: a client leaves some of them to others (`limits.in_flight_per_environment`)."""

import socket

from edge.rules.limits.slot_shares import SlotLimits
from tests.scenes.test_tunnels import OFFER, echo, switching
from tests.support.scene import Client, Scene, request

LIMIT = 100
HALF, QUARTER = LIMIT // 2, LIMIT // 4


def from_address(address: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def connected(scene: Scene, address: str) -> Client:
    """A client on another address of this machine."""
    worker = await scene.edge()
    client = Client(from_address(address, worker.ports[0]))
    scene.clients.append(client)
    return client


def in_flight(scene: Scene) -> int:
    route = scene.worker.context.table.get("shop.test")
    return 0 if route is None else route.environment.in_flight


async def open_sockets(scene: Scene, address: str, count: int) -> list[int]:
    """The statuses of so many WebSockets, which stay."""
    statuses = []
    for _ in range(count):
        client = await connected(scene, address)
        await client.write(request("shop.test", "/chat", OFFER))
        head = await client.read_some()
        statuses.append(int(head.split()[1]))
    return statuses


def with_sockets(scene: Scene, **settings: object) -> None:
    scene.settings(limits={"in_flight_per_environment": LIMIT}, **settings)
    scene.route("shop.test", [scene.scripted(switching(echo))])


async def test_one_client_does_not_take_all(scene):
    with_sockets(scene)
    statuses = await open_sockets(scene, "127.0.0.2", 120)
    assert statuses == [101] * HALF + [429] * 70
    assert scene.outcome.cause == "client_limit"
    assert await open_sockets(scene, "127.0.0.3", QUARTER + 5) == [101] * QUARTER + [429] * 5
    assert await open_sockets(scene, "127.0.0.4", QUARTER) == [101] * QUARTER
    assert await open_sockets(scene, "127.0.0.5", 1) == [503], "nothing is left"
    assert scene.outcome.cause == "site_limit"


async def test_who_left_has_room_again(scene):
    with_sockets(scene)
    await open_sockets(scene, "127.0.0.2", HALF)
    await open_sockets(scene, "127.0.0.3", QUARTER)
    assert await open_sockets(scene, "127.0.0.3", 1) == [429]
    scene.clients[HALF].leave()
    await scene.ended(2)
    assert await open_sockets(scene, "127.0.0.3", 2) == [101, 429]


async def test_when_there_is_plenty_nobody_is_counted(scene):
    with_sockets(scene)
    await open_sockets(scene, "127.0.0.2", HALF)
    assert await open_sockets(scene, "127.0.0.2", 1) == [429]
    environment = scene.worker.context.table.get("shop.test").environment
    assert environment.slots is not None
    assert len(environment.slots) == HALF, "tunnels count"
    for client in scene.clients[:-1]:
        client.leave()
    await scene.until(lambda: environment.in_flight == 0)
    assert environment.slots is None
    assert await open_sockets(scene, "127.0.0.2", HALF) == [101] * HALF


async def test_plain_requests_count_as_well(scene):
    scene.settings(limits={"in_flight_per_environment": 20})
    scene.route("shop.test", [scene.silent()])
    for _ in range(10):
        client = await connected(scene, "127.0.0.2")
        await client.write(request("shop.test"))
    await scene.until(lambda: in_flight(scene) == 10)
    client = await connected(scene, "127.0.0.2")
    await client.write(request("shop.test"))
    reply = await client.read_reply()
    assert (reply.status, reply.error, reply["retry-after"]) == (429, "client_limit", "2")
    other = await connected(scene, "127.0.0.3")
    await other.write(request("shop.test"))
    await scene.until(lambda: in_flight(scene) == 11)


async def test_clients_of_a_trusted_proxy_are_told_apart(scene):
    """By what it says of them; of whom it says nothing, may be anybody."""
    scene.settings(limits={"in_flight_per_environment": 20}, forwarding={"trusted": ("127.0.0.0/8",)})
    scene.route("shop.test", [scene.silent()])

    async def held(count: int, *fields: tuple[str, str]) -> None:
        await scene.edge()
        before = in_flight(scene)
        for _ in range(count):
            await (await scene.client()).write(request("shop.test", headers=fields))
        await scene.until(lambda: in_flight(scene) == before + count)

    await held(10, ("X-Forwarded-For", "192.0.2.1"))
    assert (await scene.get("shop.test", headers=[("X-Forwarded-For", "192.0.2.1")])).status == 429
    await held(5, ("X-Forwarded-For", "192.0.2.2"))
    assert (await scene.get("shop.test", headers=[("X-Forwarded-For", "192.0.2.2")])).status == 429
    await held(5)
    assert (await scene.get("shop.test")).status == 503


async def test_another_limit_holds_at_once(scene):
    with_sockets(scene)
    await open_sockets(scene, "127.0.0.2", HALF)
    assert await open_sockets(scene, "127.0.0.2", 1) == [429]
    scene.change("limits", slots_per_client=1.0)
    assert scene.worker.context.hot.slots == SlotLimits.of(LIMIT, 1.0)
    assert await open_sockets(scene, "127.0.0.2", HALF + 1) == [101] * HALF + [503]
