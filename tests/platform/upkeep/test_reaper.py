"""The Reaper: what keeps a container awake, and that idle ones sleep and wake without a lost request."""

import asyncio

import pytest

from edge.platform.containers.container import Activity
from edge.platform.registry import ContainerRow
from edge.platform.upkeep.reaper import Wakefulness, wakefulness


def row(state="running"):
    return ContainerRow(
        id="b7c1", site="acme", environment="live", address="", port=1, server="srv-1", role="active", state=state
    )


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        (Activity(3.4, last_request="GET / by curl/8"), Wakefulness(6.6, "GET / by curl/8, 3 s ago")),
        (Activity(0, 1, 5, "POST /a"), Wakefulness(10.0, "1 request in flight, last POST /a")),
        (Activity(0, 2, 5, "POST /a"), Wakefulness(10.0, "2 requests in flight, last POST /a")),
        (Activity(0.4, last_request="GET /"), Wakefulness(9.6, "GET /, just now")),
        (Activity(2.0), Wakefulness(8.0, "its start, 2 s ago")),
        (Activity(10.0, last_request="GET /"), Wakefulness(0.0, "")),
        (Activity(11.0), Wakefulness(0.0, "")),
    ],
)
def test_what_keeps_a_container_awake(activity, expected):
    found = wakefulness(row(), activity, 10.0, listening=True)
    assert found.due_in == pytest.approx(expected.due_in)
    assert found.kept_by == expected.kept_by


@pytest.mark.parametrize(("state", "listening"), [("asleep", True), ("draining", True), ("running", False)])
def test_others_are_not_its_business(state, listening):
    assert wakefulness(row(state), Activity(99.0), 10.0, listening=listening) == Wakefulness(None, "")


async def test_only_idle_containers_sleep_and_a_request_wakes_them(platform, ask, until):
    await platform.create_environment("acme", containers=2, service_time=0, boot_time=0.01)
    idle, busy = platform.containers("acme")
    _reader, writer = await asyncio.open_connection("127.0.0.1", busy.port)
    writer.write(b"GET /hang HTTP/1.1\r\nHost: acme\r\nUser-Agent: visitor/1 x\r\n\r\n")
    await until(lambda: busy.capacity.taken == 1)
    platform.reaper.seconds = 3600.0
    await platform.reaper.act()
    assert (idle.state, busy.state) == ("running", "running"), "they have just started"
    platform.reaper.seconds = 0.02
    await until(lambda: idle.activity().idle_for > 0.02)
    await platform.reaper.act()
    assert (idle.state, busy.state, platform.reaper.acted) == ("asleep", "running", 1)
    assert platform.registry.container(idle.spec.id).state == "asleep"
    kept_by = platform.reaper.wakefulness(platform.registry.container(busy.spec.id)).kept_by
    assert kept_by == "1 request in flight, last GET /hang by visitor/1"
    assert (await ask(idle.port)).status == 200
    assert idle.state == "running"
    writer.close()


async def test_a_request_that_comes_while_the_reaper_waits_keeps_the_container_awake(platform, until):
    await platform.create_environment("acme")
    [container] = platform.containers("acme")
    platform.reaper.seconds = 0.01
    await until(lambda: container.activity().idle_for > 0.01)
    async with platform.fleet._turn(container.spec.id):
        acting = asyncio.ensure_future(platform.reaper.act())
        await asyncio.sleep(0)
        _, writer = await asyncio.open_connection("127.0.0.1", container.port)
        writer.write(b"GET /hang HTTP/1.1\r\n\r\n")
        await until(lambda: container.capacity.taken == 1)
    await acting
    assert (container.state, platform.reaper.acted) == ("running", 0)
    writer.close()


async def test_switched_on_and_off_by_the_management_api(platform, http, until):
    await platform.create_environment("acme")
    [container] = platform.containers("acme")
    url = f"{platform.core_api_url}/v1/platform/upkeep"
    async with http.patch(f"{url}/reaper", json={"on": True, "seconds": 0.1}) as response:
        assert (await response.json())["reaper"] == {"on": True, "seconds": 0.1}
    await until(lambda: container.state == "asleep")
    async with http.patch(f"{url}/reaper", json={"on": False}) as response:
        assert (await response.json())["reaper"] == {"on": False, "seconds": 0.1}
    await platform.fleet.wake(container.spec.id)
    async with http.get(url) as response:
        assert (await response.json())["dragon"] == {"on": False, "seconds": 1.0}
    for path, body, status in (("/reaper", {"seconds": 0}, 400), ("/phoenix", {}, 404)):
        async with http.patch(url + path, json=body) as response:
            assert response.status == status
    assert container.state == "running"
