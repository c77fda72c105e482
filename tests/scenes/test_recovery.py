"""A backend that was down comes back, whatever happened while it was: nobody gives it up for good."""

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.health_records import HealthEvent
from tests.support.scene import Backend, Scene, Wire
from tests.support.scene_backends import answering
from tests.support.scene_core_api import STALE

HOST, OTHER = "shop.test", "www.shop.test"
SITE = {"site": "shop"}


async def one_is_down(scene: Scene, *hosts: str) -> tuple[Backend, Backend]:
    """Nobody listens where it is, as three requests for the first hostname found out. Returns it, and the other."""
    lost, healthy = scene.dead(), scene.backend()
    for host in hosts or (HOST,):
        scene.route(host, [lost, healthy], **SITE)
    await scene.edge()
    for host in (*hosts[1:], *[hosts[0] if hosts else HOST] * 3):
        await scene.get(host)
        state_of(scene, lost, host).until = 0.0
    assert scene.explained(hosts[0] if hosts else HOST, lost).condition == "down"
    assert scene.snapshot.backends_down == 1
    return lost, healthy


def state_of(scene: Scene, backend: Backend, host: str = HOST) -> BackendState:
    route = scene.worker.context.table.get(host)
    assert route is not None
    assert route.environment is not None
    return route.environment.demerits._states[backend.name]


def environment(scene: Scene, host: str = HOST):
    return scene.worker.context.table.get(host).environment


async def given_up(scene: Scene) -> None:
    """Nobody connects in the background any more."""
    for waiting in scene.worker.context.balancer.checks.running.values():
        waiting.connect_now()
    await scene.until(lambda: not scene.worker.context.balancer.checks.running)


async def comes_back(scene: Scene, lost: Backend, host: str = HOST) -> None:
    """It listens again; the next request has it connected to, and a copy of a further one goes there."""
    await lost.come_up(answering())
    assert (await scene.get(host)).status == 200
    await scene.until(lambda: scene.explained(host, lost).condition != "down")
    await scene.get(host)
    await scene.until(lambda: lost.requests != [])


def goes_idle(scene: Scene, host: str = HOST) -> None:
    """As if nobody had asked for its site for so long that it is forgotten."""
    environment(scene, host).last_request_at -= 10_000.0
    environment(scene, host).confirmed_at -= 10_000.0


async def test_its_site_was_not_asked_for_for_long_and_the_core_api_says_304(scene):
    scene.core.etags, scene.core.cache_control = True, STALE
    lost, _ = await one_is_down(scene)
    await scene.until(lambda: not scene.worker.context.resolver._lookups)
    goes_idle(scene)
    await given_up(scene)
    explained = scene.explained(HOST, lost)
    assert (explained.condition, explained.next_probe) == ("down", None), "the next request is what it waits for"
    held = scene.worker.context.table.get(HOST)
    await comes_back(scene, lost)
    assert scene.worker.context.table.get(HOST) is held, "a 304 renewed it"


async def test_its_site_was_not_asked_for_for_long_and_the_core_api_says_200(scene):
    scene.core.cache_control = STALE
    lost, _ = await one_is_down(scene)
    await scene.until(lambda: not scene.worker.context.resolver._lookups)
    goes_idle(scene)
    await given_up(scene)
    await comes_back(scene, lost)


async def test_the_route_for_which_it_was_connected_to_is_kept_compact(scene):
    """Another hostname of the same site is still in use."""
    scene.settings(routes={"ready": 2})
    lost, healthy = await one_is_down(scene, HOST, OTHER)
    await scene.get(OTHER)
    scene.route("another.test", [healthy])
    environment(scene)  # it is the least recently used
    scene.worker.context.table._recent.move_to_end(OTHER)
    await scene.get("another.test")
    assert HOST not in scene.worker.context.table
    await given_up(scene)
    assert scene.explained(OTHER, lost).next_probe is None
    await comes_back(scene, lost, OTHER)


async def test_an_operator_had_drained_it(scene):
    lost, _ = await one_is_down(scene)
    scene.worker.set_drain("backend", f"shop/live/{lost.name}", 60)
    await given_up(scene)
    await scene.get(HOST)
    scene.worker.set_drain("backend", f"shop/live/{lost.name}", 0)
    assert scene.explained(HOST, lost).next_probe is None
    await comes_back(scene, lost)


async def test_it_had_left_and_joins_again(scene):
    """It was remembered meanwhile, for it had a request in flight."""
    lost, healthy = await one_is_down(scene)
    state = state_of(scene, lost)
    state.in_flight += 1
    context = scene.worker.context
    scene.route(HOST, [healthy], **SITE)
    context.table.invalidate(HOST)
    await scene.get(HOST)
    await given_up(scene)
    state.in_flight -= 1
    scene.route(HOST, [lost, healthy], **SITE)
    context.table.invalidate(HOST)
    await scene.get(HOST)
    assert state_of(scene, lost) is state
    await comes_back(scene, lost)


async def test_other_workers_report_one_that_the_next_request_does_not_concern(scene):
    """Two hostnames of one environment that have not the same backends."""
    ours, theirs = scene.backend(), scene.backend()
    scene.route(HOST, [ours], **SITE)
    scene.route(OTHER, [theirs, scene.backend()], **SITE)
    for host in (HOST, OTHER):
        await scene.get(host)
    context, state = scene.worker.context, state_of(scene, theirs, OTHER)
    found = HealthEvent("down", "shop", "live", state.endpoint)
    context.resolver.environments.apply_event(found, context.clock(), 0.5)
    await scene.get(HOST)
    assert scene.explained(OTHER, theirs).condition == "down"
    environment(scene).demerits.weighed_at = -1.0
    await scene.get(OTHER)
    await scene.until(lambda: not state.down_since)


async def test_more_are_down_than_are_connected_to_at_once(scene):
    lost, _ = scene.dead(), scene.backend()
    scene.route(HOST, [lost, _], **SITE)
    context = (await scene.edge()).context
    others = {BackendState(): None for _ in range(context.balancer.checks.limit)}
    context.balancer.checks.running.update(others)  # type: ignore[arg-type]
    for _ in range(3):
        await scene.get(HOST)
        state_of(scene, lost).until = 0.0
    assert scene.explained(HOST, lost).condition == "healthy", "it rests instead"
    for other in others:
        del context.balancer.checks.running[other]
    await lost.come_up(answering())
    state_of(scene, lost).until = 0.0
    await scene.get(HOST)
    assert scene.attempts == ["ok"]
    assert scene.tried == [lost.name]


async def test_a_cold_one_that_can_be_connected_to_is_not_down(scene):
    only = scene.backend()
    only.state = "asleep"
    scene.route(HOST, [only], **SITE)
    await scene.get(HOST)
    context, [candidate] = scene.worker.context, scene.worker.context.table.get(HOST).active
    candidate.state.asleep = True
    await only.close_idle()
    environment(scene).demerits.goes_down(candidate.state, context.clock())
    context.balancer.checks.start(context.table.get(HOST), candidate)
    assert (await scene.get(HOST)).status == 200
    assert scene.explained(HOST, only).condition != "down"


async def test_limits_of_a_site_hold_over_all_its_hostnames_after_a_long_outage_of_the_core_api(scene):
    """It is in use all the time: what is known of it is not replaced."""
    scene.settings(limits={"in_flight_per_environment": 1})

    async def silent(wire: Wire, _) -> None:
        await wire.gone.wait()

    scene.route(HOST, [scene.scripted(silent)], **SITE)
    scene.route(OTHER, [scene.backend()], **SITE)
    await scene.get(OTHER)
    client = await scene.client()
    await client.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await scene.backends[0].got_head()
    environment(scene).confirmed_at -= 10_000.0
    environment(scene).last_request_at -= 10_000.0
    scene.worker.context.table.invalidate(OTHER)
    assert (await scene.get(OTHER)).error == "site_limit"
    assert environment(scene) is environment(scene, OTHER)
