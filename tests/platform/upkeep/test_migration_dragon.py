"""The migration dragon: from where to where, what it leaves alone, and that a move loses no request."""

import asyncio
import itertools
import socket

import pytest

from edge.platform.upkeep.migration_dragon import Migration, Movable, next_migration, server_heat

SERVERS = ("a", "b", "c")


def moved(*candidates, placed=None):
    counts = {server: sum(c.server == server for c in candidates) for server in SERVERS}
    return next_migration(SERVERS, placed or counts, candidates)


def test_from_the_hottest_to_the_emptiest():
    hot, warm, cold = Movable("1", "a", 50, 0), Movable("2", "b", 20, 0), Movable("3", "b", 1, 0)
    assert server_heat(SERVERS, (hot, warm, cold)) == {"a": 50, "b": 21, "c": 0}
    assert moved(hot, warm, cold) == Migration("1", "a", "c")


def test_the_coolest_of_the_equally_empty():
    candidates = Movable("1", "a", 50, 0), Movable("2", "b", 20, 0), Movable("3", "c", 1, 0)
    assert moved(*candidates) == Migration("1", "a", "c")


def test_sleeping_containers_fill_a_server_too():
    assert moved(Movable("1", "a", 50, 0), placed={"a": 1, "c": 1}) == Migration("1", "a", "b")


def test_the_one_that_has_stayed_longest_goes_first():
    assert moved(Movable("1", "a", 50, 8.0), Movable("2", "a", 1, 3.0)) == Migration("2", "a", "b")


def test_the_same_one_is_not_carried_round_and_round():
    places = {"1": ("a", 50.0, 0.0), "2": ("b", 5.0, 0.0), "3": ("b", 4.0, 0.0), "4": ("c", 3.0, 0.0)}
    order = []
    for now in range(1, 9):
        found = moved(*(Movable(name, *place) for name, place in places.items()))
        places[found.container] = (found.target, places[found.container][1], float(now))
        order.append(found.container)
    assert set(order[:4]) | set(order[4:]) == set(places)
    assert all(one != other for one, other in itertools.pairwise(order))


def test_nothing_to_move_or_nowhere_to_go():
    assert moved() is None
    assert next_migration(("a",), {"a": 1}, [Movable("1", "a", 1, 0)]) is None


async def test_it_moves_what_runs_and_says_what_it_did(platform):
    await platform.create_environment("acme", containers=2)
    await platform.create_environment("sleepy", asleep=True)
    first, second = (row.server for row in platform.registry.containers("acme", "live"))
    for _ in range(2):
        await platform.dragon.act()
    after = [row.server for row in platform.registry.containers("acme", "live")]
    assert platform.dragon.acted == 2
    assert after[0] != first
    assert after[1] != second
    assert platform.dragon.last.target in after


async def test_it_rests_while_no_edge_can_learn_of_a_move(platform):
    await platform.create_environment("acme")
    await platform.stop_core_api()
    await platform.dragon.act()
    assert platform.dragon.acted == 0
    await platform.start_core_api()
    await platform.dragon.act()
    assert platform.dragon.acted == 1


async def test_while_a_move_is_new_both_ports_serve_and_kept_connections_too(platform, ask, until):
    """A client that has not heard of the move gets its responses, also on a kept connection."""
    await platform.create_environment("acme", service_time=0)
    [container] = platform.containers("acme")
    old, name = container.port, container.spec.id
    reader, writer = await asyncio.open_connection("127.0.0.1", old)
    platform.fleet._notice = 60.0
    moving = asyncio.ensure_future(platform.move(name))
    await until(lambda: platform.registry.container(name).port != old)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        assert b" 200 OK" in await reader.readuntil(b"}")
    assert [(await ask(port)).status for port in (old, container.port)] == [200, 200]
    moving.cancel()
    await asyncio.wait([moving])
    with pytest.raises(ConnectionRefusedError):
        await ask(old)
    assert (await ask(container.port)).status == 200
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
    assert b"Connection: close" in await reader.read(), "the kept connection gets one more response"
    writer.close()


async def test_a_connection_that_is_new_gets_its_first_response_after_the_move(platform, until):
    await platform.create_environment("acme", service_time=0)
    [container] = platform.containers("acme")
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    await until(lambda: len(container._listener.connections) == 1)
    await platform.move(container.spec.id)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
    response = await reader.read()
    assert response.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in response
    writer.close()


async def test_to_a_server_that_is_named(platform, http):
    await platform.create_environment("acme")
    [container] = platform.containers("acme")
    url = f"{platform.core_api_url}/v1/platform/containers/{container.spec.id}/move"
    async with http.post(url, json={"server": "srv-6"}) as response:
        assert (await response.json())["server"] == "srv-6"
    async with http.post(url, json={"server": "srv-7"}) as response:
        assert response.status == 404
        assert "there is no server srv-7" in (await response.json())["error"]


async def test_a_move_that_is_not_announced_closes_idle_connections(platform, ask):
    """As when a server fails, and its containers start elsewhere."""
    await platform.create_environment("acme", service_time=0)
    [container] = platform.containers("acme")
    reader, writer = await asyncio.open_connection("127.0.0.1", container.port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
    await reader.readuntil(b"}")
    await platform.move(container.spec.id, announce=False)
    assert await reader.read() == b""
    writer.close()


async def test_connections_that_wait_at_the_old_port_are_accepted_before_it_closes(platform, until):
    """Also those that come while the new port is being opened."""
    await platform.create_environment("acme", service_time=0, workers=64)
    [container] = platform.containers("acme")
    moving = asyncio.ensure_future(container.move())
    clients = []
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", container.port), timeout=30)
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        clients.append(client)
    old = container.port
    await moving
    assert container.port != old
    for _ in range(20):  # nobody accepts meanwhile: they wait in the queue of the old port
        client = socket.create_connection(("127.0.0.1", old), timeout=30)
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        clients.append(client)
    await container.leave_old_port()
    responses = [await asyncio.to_thread(client.recv, 100) for client in clients]
    assert {response[:12] for response in responses} == {b"HTTP/1.1 200"}
    for client in clients:
        client.close()
