"""The whole platform: goals, moves, faults, restarts."""

import asyncio

import aiohttp
import msgspec
import pytest

from edge.platform.containers.container import ContainerFailed
from edge.platform.fleet import Fleet
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.registry import NameTaken, UnknownName


async def route(platform, http, hostname="live-acme.localhost"):
    async with http.get(f"{platform.core_api_url}/v1/routes/{hostname}") as response:
        return await response.json()


def states(platform):
    return [row.state for row in platform.registry.containers("acme", "live")]


async def test_goal_up_and_down(platform, http, ask):
    await platform.create_environment("acme", containers=2, service_time=0)
    before = await route(platform, http)
    await platform.set_goal("acme", containers=5)
    after = await route(platform, http)
    assert after["generation"] > before["generation"]
    assert len(after["backends"]) == 5
    assert after["backends"][:2] == before["backends"]
    assert len({backend["server"] for backend in after["backends"]}) == 5
    for backend in after["backends"]:
        response = await ask(backend["port"], headers={"X-Styx-Backend": backend["id"]})
        assert response.headers["x-container"] == backend["id"]
    await platform.set_goal("acme", containers=1)
    assert (await route(platform, http))["backends"] == before["backends"][:1]
    with pytest.raises(ConnectionRefusedError):
        await ask(after["backends"][4]["port"])


async def test_surplus_is_draining_before_it_stops(platform, http, ask, until):
    """The request in flight is finished, and edges get the change first."""
    await platform.create_environment("acme", containers=2, service_time=0.1, service_cv=0)
    last = platform.containers("acme")[-1]
    asked = asyncio.ensure_future(ask(last.port))
    await until(lambda: last.capacity.taken == 1)
    seen = []
    publish = platform.changes.publish
    platform.changes.publish = lambda event: (seen.append(states(platform)), publish(event))
    lowered = asyncio.ensure_future(platform.set_goal("acme", containers=1))
    await lowered
    assert (await asked).status == 200
    # The states at each event: after the new goal, then one container draining, then one container left.
    assert seen == [["running", "running"], ["running", "draining"], ["running"]]
    with pytest.raises(UnknownName):
        platform.container(last.spec.id)


async def test_move_leaves_nothing_or_another_container(platform, http, ask):
    await platform.create_environment("acme", service_time=0)
    [container] = platform.containers("acme")
    name, first = container.spec.id, container.port
    before = await route(platform, http)
    await platform.move(name)
    with pytest.raises(ConnectionRefusedError):
        await ask(first)
    second = container.port
    await platform.move(name, leave="another")
    after = await route(platform, http)
    assert after["generation"] > before["generation"]
    assert after["backends"][0]["id"] == name
    assert after["backends"][0]["port"] == container.port
    other = await ask(second, headers={"X-Styx-Backend": name})
    assert (other.status, other.refused) == (421, None)
    assert b"live-another" in (await ask(second)).body
    assert (await ask(container.port, headers={"X-Styx-Backend": name})).status == 200


async def test_unannounced_move_changes_the_route_without_an_event(platform, http):
    await platform.create_environment("acme")
    [container] = platform.containers("acme")
    before, last = await route(platform, http), platform.changes.last
    await platform.move(container.spec.id, announce=False)
    assert platform.changes.last == last
    assert (await route(platform, http))["generation"] > before["generation"]


async def test_a_killed_container_stays_in_the_registry(platform, http, ask):
    await platform.create_environment("acme", containers=2)
    before = await route(platform, http)
    container = platform.containers("acme")[0]
    await container.kill()
    assert await route(platform, http) == before
    with pytest.raises(ConnectionRefusedError):
        await ask(container.port)
    await container.heal()
    assert (await ask(container.port)).status == 200


async def test_asleep_environment_wakes_and_sends_a_change(platform, http, ask):
    await platform.create_environment("acme", asleep=True, boot_time=0.01)
    before = await route(platform, http)
    assert before["backends"][0]["state"] == "asleep"
    assert (await ask(before["backends"][0]["port"])).status == 200
    after = await route(platform, http)
    assert after["backends"][0]["state"] == "running"
    assert after["generation"] > before["generation"]


async def test_a_start_that_fails_is_tried_again(platform, monkeypatch):
    real, failures = Fleet.launch, iter([ContainerFailed("no room"), OSError("no port")])

    async def launch(fleet, environment, role):
        error = next(failures, None)
        if error:
            raise error
        await real(fleet, environment, role)

    monkeypatch.setattr(Fleet, "launch", launch)
    await platform.create_environment("acme")
    assert len(platform.containers("acme")) == 1
    assert platform._reconciler.failures == {}


async def test_a_failed_start_is_reported(monkeypatch):
    tried = asyncio.Event()

    async def launch(*_):
        if tried.is_set():  # the first try has failed by now, and this one hangs
            await asyncio.Event().wait()
        tried.set()
        raise ContainerFailed("no room on any server")

    monkeypatch.setattr(Fleet, "launch", launch)
    async with PocketPlatform(PlatformSpec(goal_timeout=0.05)) as platform:
        with pytest.raises(ContainerFailed, match="did not reach its goal"):
            await platform.create_environment("acme")
        await tried.wait()
        with pytest.raises(ContainerFailed, match="no room on any server"):
            await platform.set_goal("acme", containers=1)


async def test_invalid_requests(platform):
    await platform.create_environment("acme")
    with pytest.raises(NameTaken):
        await platform.create_environment("acme")
    with pytest.raises(msgspec.ValidationError):
        await platform.create_environment("b", workers="many")
    with pytest.raises(UnknownName):
        platform.container("zzzz")


async def test_nothing_listens_after_stop(http, ask):
    platform = PocketPlatform()
    await platform.start()
    await platform.create_environment("acme")
    port, url = platform.containers("acme")[0].port, platform.core_api_url
    await platform.stop()
    with pytest.raises(ConnectionRefusedError):
        await ask(port)
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)


async def test_a_database_file_is_served_again(tmp_path, http):
    spec = PlatformSpec(db=str(tmp_path / "platform.sqlite"))
    async with PocketPlatform(spec) as first:
        made = await first.create_environment("acme", containers=2)
    async with PocketPlatform(spec) as second:
        again = await route(second, http)
        assert len(again["backends"]) == 2
        assert again["generation"] > made.generation
