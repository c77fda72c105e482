"""Who takes up most of a worker, as `styx clients` lists it."""

from edge.net.limits.client_report import busiest_clients
from tests.support.scene import request


async def listed(scene):
    found = await busiest_clients(scene.worker.context)
    return found.total, {client.client: client for client in found.clients}


async def test_connections_and_requests_in_flight(scene):
    scene.route("shop.test", [scene.silent()])
    idle = [await scene.client(source="127.0.0.2") for _ in range(3)]
    busy = await scene.client(source="127.0.0.3")
    await busy.write(request("shop.test"))
    await scene.until(lambda: scene.snapshot.exchanges == 1)
    total, clients = await listed(scene)
    assert total == 2
    assert (clients["127.0.0.2"].connections, clients["127.0.0.2"].in_flight) == (3, 0)
    assert (clients["127.0.0.3"].connections, clients["127.0.0.3"].in_flight) == (1, 1)
    for client in idle:
        client.leave()


async def test_requests_count_for_whom_a_trusted_proxy_names(scene):
    scene.listeners({"trusted": ("127.0.0.0/8",)})
    scene.route("shop.test", [scene.silent()])
    proxy = await scene.client()
    await proxy.write(request("shop.test", headers=[("X-Forwarded-For", "2001:db8::7")]))
    await scene.until(lambda: scene.snapshot.exchanges == 1)
    _, clients = await listed(scene)
    assert clients["2001:db8::/64"].in_flight == 1
    assert (clients["127.0.0.1"].connections, clients["127.0.0.1"].in_flight) == (1, 0)


async def test_made_up_hostnames(scene):
    scene.settings(limits={"unknown_hosts_per_client": 0.5})
    for number in range(8):
        await scene.get(f"made-up-{number}.test")
    total, clients = await listed(scene)
    assert (total, clients["127.0.0.1"].unknown_hosts) == (1, 6)
    assert clients["127.0.0.1"].at_limit


async def test_the_list_has_a_bound(scene):
    clients = [await scene.client(source=f"127.0.0.{number}") for number in range(2, 9)]
    await scene.until(lambda: scene.snapshot.client_connections == 7)
    found = await busiest_clients(scene.worker.context, most=3)
    assert (found.total, len(found.clients)) == (7, 3)
    for client in clients:
        client.leave()
