"""Backends that cannot be connected to: the background finds out when they are back, not a client."""

import asyncio

import pytest

from edge.net.balancing.balancer import Attempt
from edge.net.balancing.pool import Pool
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.outcomes import Cause
from tests.support.needs import needs_plain
from tests.support.scene import SHORT

HOST = "shop.test"


async def stopped(scene, backend):
    """Its port is closed, and so are its connections."""
    await backend.close_idle()
    await backend.stop_listening()


async def test_three_failed_connects_and_it_gets_no_more(scene):
    gone, healthy = scene.backend(), scene.backend()
    scene.route(HOST, [gone, healthy])
    scene.dice = 0.0
    await scene.get(HOST)
    await stopped(scene, gone)
    for _ in range(3):
        assert (await scene.get(HOST)).status == 200
        assert scene.attempts == ["connect_failed", "ok"]
        state = scene.worker.context.table.get(HOST).active[0].state
        state.until = 0.0 if not state.down_since else state.until
    assert scene.explained(HOST, gone).condition == "down"
    assert scene.snapshot.backends_down == 1
    for _ in range(5):
        await scene.get(HOST)
        assert scene.attempts == ["ok"]
    await scene.until(lambda: scene.snapshot.reconnects >= 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_connects_that_fail_are_no_attempts(scene, method):
    """nginx with 17 of 20 that refuse loses nothing either."""
    backends = [*(scene.dead() for _ in range(17)), *(scene.backend() for _ in range(3))]
    scene.route(HOST, backends)
    for n in range(60):
        scene.dice = n / 60
        reply = await (scene.get(HOST) if method == "GET" else scene.post(HOST))
        assert reply.status == 200, scene.attempts
    budget = scene.worker.context.table.get(HOST).environment.budget
    assert budget.exhausted == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_one_that_is_thought_to_be_down_is_tried_before_a_request_fails(scene, method):
    """Of two, one returns in the moment in which the other dies."""
    one, other = scene.backend(), scene.backend()
    scene.route(HOST, [one, other])
    await scene.get(HOST)
    context = scene.worker.context
    route = context.table.get(HOST)
    route.environment.demerits.goes_down(route.active[1].state, context.clock())
    await stopped(scene, one)
    reply = await (scene.get(HOST) if method == "GET" else scene.post(HOST))
    assert (reply.status, scene.attempts) == (200, ["connect_failed", "ok"])


async def test_one_connect_that_times_out_is_paid_by_one_client(scene):
    scene.settings(timeouts={"connect": SHORT})
    lost, healthy = scene.unreachable(), scene.backend()
    scene.route(HOST, [lost, healthy])
    scene.dice = 0.0
    await scene.get(HOST)
    assert scene.attempts == ["connect_timeout", "ok"]
    before = scene.snapshot.reconnects
    await scene.until(lambda: scene.snapshot.reconnects > before + 1)
    for _ in range(3):
        await scene.get(HOST)
        assert scene.attempts == ["ok"]


async def test_it_comes_back_by_probation_over_the_connection_that_was_made(scene):
    scene.settings(timeouts={"connect": SHORT})
    back, healthy = scene.backend(), scene.backend()
    scene.route(HOST, [healthy, back])
    scene.dice = 0.999
    await scene.get(HOST)
    context, state = scene.worker.context, scene.worker.context.table.get(HOST).active[1].state
    demerits = context.table.get(HOST).environment.demerits
    demerits.record_unreachable(state, Cause.CONNECT_TIMEOUT, context.clock(), 0.5)
    context.balancer.checks.start(context.table.get(HOST), context.table.get(HOST).active[1])
    context.balancer.checks.start(context.table.get(HOST), context.table.get(HOST).active[1])
    assert len(context.balancer.checks.running) == 1, "once is enough"
    assert scene.explained(HOST, back).condition == "down"
    await scene.until(lambda: not context.balancer.checks.running)
    explained = scene.explained(HOST, back)
    assert (explained.condition, explained.on_probation_for) == ("probation", "back")
    for _ in range(2):
        assert (await scene.get(HOST))["x-styx-backend"] == healthy.name
        await scene.until(lambda: not context.probes.running)
    assert (await scene.get(HOST))["x-styx-backend"] == back.name


async def test_when_all_are_down_requests_try_them_and_find_the_one_that_is_back(scene):
    only = scene.backend()
    scene.route(HOST, [only])
    await scene.get(HOST)
    context, candidate = scene.worker.context, scene.worker.context.table.get(HOST).active[0]
    await only.close_idle()
    demerits = context.table.get(HOST).environment.demerits
    demerits.record_unreachable(candidate.state, Cause.CONNECT_TIMEOUT, context.clock(), 0.5)
    context.balancer.checks.start(context.table.get(HOST), candidate)
    assert (await scene.get(HOST)).status == 200
    assert candidate.state.down_since == 0.0
    assert not context.balancer.checks.running, "the connect of the request was the check"
    assert candidate.state.probation is not None


async def test_a_response_over_an_old_connection_does_not_bring_a_backend_back(scene):
    """Its accept queue is full: the next client would wait for a connect that times out."""
    only = scene.backend()
    scene.route(HOST, [only])
    await scene.get(HOST)
    context, candidate = scene.worker.context, scene.worker.context.table.get(HOST).active[0]
    demerits = context.table.get(HOST).environment.demerits
    demerits.record_unreachable(candidate.state, Cause.CONNECT_TIMEOUT, context.clock(), 0.5)
    assert (await scene.get(HOST)).status == 200
    assert only.connections == 1
    assert candidate.state.down_since


async def test_one_that_moved_is_connected_to_where_it_is_now(scene):
    gone, healthy = scene.backend(), scene.backend()
    scene.route(HOST, [gone, healthy])
    await scene.get(HOST)
    context, candidate = scene.worker.context, scene.worker.context.table.get(HOST).active[0]
    context.table.get(HOST).environment.demerits.goes_down(candidate.state, context.clock())
    context.balancer.checks.start(context.table.get(HOST), candidate)
    moved = scene.backend()
    moved.name = gone.name
    scene.route(HOST, [moved, healthy])
    context.table.invalidate(HOST)
    await scene.get(HOST)
    assert candidate.state.down_since == 0.0, "it was down where it is no more"
    await scene.until(lambda: not context.balancer.checks.running)


async def test_one_that_left_is_connected_to_no_more(scene):
    gone, healthy = scene.backend(), scene.backend()
    scene.route(HOST, [gone, healthy])
    await scene.get(HOST)
    context, candidate = scene.worker.context, scene.worker.context.table.get(HOST).active[0]
    await stopped(scene, gone)
    context.table.get(HOST).environment.demerits.goes_down(candidate.state, context.clock())
    context.balancer.checks.start(context.table.get(HOST), candidate)
    scene.route(HOST, [healthy])
    context.table.invalidate(HOST)
    await scene.get(HOST)
    await scene.until(lambda: not context.balancer.checks.running)


async def test_one_that_others_reported_down_and_that_is_up_again_is_not_made_to_rest(scene):
    scene.route(HOST, [scene.backend(), scene.backend()])
    await scene.get(HOST)
    context = scene.worker.context
    state = context.table.get(HOST).active[0].state
    for what in ("down", "up"):
        context.resolver.environments.apply_event(
            HealthEvent(what, HOST, "live", state.endpoint), context.clock(), 0.5
        )
    context.balancer.checks.start_missing(context.table.get(HOST))
    assert (state.until, context.balancer.checks.running) == (0.0, {})


async def test_so_many_are_connected_to_at_once_and_others_rest(scene):
    scene.settings(timeouts={"connect": SHORT})
    lost, healthy = scene.unreachable(), scene.backend()
    scene.route(HOST, [lost, healthy])
    scene.dice = 0.0
    (await scene.edge()).context.balancer.checks.limit = 0
    await scene.get(HOST)
    explained = scene.explained(HOST, lost)
    assert explained.condition == "healthy"
    assert 4.0 < explained.rests_for <= 5.0
    await asyncio.sleep(0)
    assert scene.snapshot.backends_down == 0


async def many_sites(scene, *, named: bool):
    """Eight sites, each with a container on server a, which goes dark, and one on another server."""
    scene.settings(timeouts={"connect": SHORT})
    lost = [scene.unreachable() for _ in range(8)]
    for n, gone in enumerate(lost):
        healthy = scene.backend()
        route = scene.route(f"s{n}.test", [gone, healthy])
        for backend, server in zip(route["backends"], ("a", f"b{n}"), strict=True):
            backend["server"] = server if named else ""
    scene.dice = 0.0
    paid = 0
    for n in range(8):
        assert (await scene.get(f"s{n}.test")).status == 200
        paid += "connect_timeout" in scene.attempts
    return paid


async def test_a_dark_server_costs_three_waits_and_not_one_for_each_site(scene):
    assert await many_sites(scene, named=True) == 3
    assert scene.worker.context.resolver.environments.servers.suspect == ["a"]
    assert scene.explained("s7.test", scene.backends[7]).condition == "down"


async def test_sites_that_were_asked_a_moment_ago_learn_of_it_as_well(scene):
    """The server's loss is found by others, while the weights of this one hold."""
    scene.settings(timeouts={"connect": SHORT})
    named = [[scene.backend(), scene.backend()] for _ in range(2)]
    for n, backends in enumerate(named):
        for told in scene.route(f"s{n}.test", backends)["backends"]:
            told["server"] = "a" if told["id"] == backends[0].name else "b"
    scene.dice = 0.0
    assert [(await scene.get(f"s{n}.test")).status for n in range(2)] == [200, 200]
    context = scene.worker.context
    server = context.resolver.environments.servers.get("a")
    lost = context.table.peek("s0.test").active[0]
    for endpoint in ("x", "y"):
        server.record_unreachable(endpoint, context.clock())
    attempt = Attempt(lost, 0.0, cold=False)
    context.balancer.charge(context.table.peek("s0.test"), attempt, Cause.CONNECT_TIMEOUT, 0.0)
    for check in context.balancer.checks.running.values():  # on a slow machine, it would clear the server by then
        check._timer.cancel()
    assert server.suspect_since
    assert (await scene.get("s1.test")).status == 200
    assert scene.tried == [named[1][1].name]


async def test_without_names_of_servers_each_site_finds_out_for_itself(scene):
    assert await many_sites(scene, named=False) == 8


async def test_a_server_that_was_suspected_wrongly_is_cleared_by_the_first_connect(scene):
    """Three of its containers are broken, the others are well."""
    scene.settings(timeouts={"connect": SHORT})
    for n in range(4):
        backends = [scene.unreachable() if n < 3 else scene.backend(), scene.backend()]
        route = scene.route(f"s{n}.test", backends)
        route["backends"][0]["server"], route["backends"][1]["server"] = "a", f"b{n}"
    scene.dice = 0.0
    for n in range(3):
        await scene.get(f"s{n}.test")
    servers = scene.worker.context.resolver.environments.servers
    assert servers.suspect == ["a"]
    reply = await scene.get("s3.test")
    assert (reply["x-styx-backend"], scene.attempts) == (backends[1].name, ["ok"]), "nobody waits"
    await scene.until(lambda: not servers.suspect)
    reply = await scene.get("s3.test")
    assert (reply["x-styx-backend"], scene.attempts) == (backends[0].name, ["ok"])


async def test_a_server_that_comes_back_takes_all_its_containers_along(scene):
    assert await many_sites(scene, named=True) == 3
    context = scene.worker.context
    waiting = dict(context.balancer.checks.running)
    assert len(waiting) == 8
    for reconnect in waiting.values():  # the next connect of each is a long way off
        reconnect._timer.cancel()
    before = scene.snapshot.reconnects
    context.balancer.checks.record_reachable(next(iter(waiting)))
    await scene.until(lambda: scene.snapshot.reconnects >= before + 8)


@pytest.mark.parametrize("alone", [True, False])
async def test_the_last_one_left_is_waited_for_longer(scene, alone):
    """There may only have been a SYN lost; with others to turn to, nobody has to find out."""
    scene.settings(timeouts={"connect": SHORT, "connect_alone": 3 * SHORT if alone else 5.0})
    lost = scene.unreachable()
    scene.route(HOST, [lost] if alone else [lost, scene.backend()])
    scene.dice = 0.0
    reply = await scene.get(HOST)
    assert reply.status == (504 if alone else 200)
    assert (3 * SHORT if alone else SHORT) * 1000 <= scene.outcome.total_ms < 5000


@needs_plain
async def test_a_connect_that_fails_for_an_unforeseen_reason_is_not_the_last(scene, monkeypatch, caplog):
    """As long as one is in flight nobody else connects to that backend: it would stay out for ever."""
    back, healthy = scene.backend(), scene.backend()
    scene.route(HOST, [healthy, back])
    scene.dice = 0.999
    await scene.get(HOST)
    context, route = scene.worker.context, scene.worker.context.table.get(HOST)
    dial, faults = Pool.dial, [OverflowError("no such port")]

    def fails_once(pool, *arguments):
        if faults:
            raise faults.pop()
        dial(pool, *arguments)

    monkeypatch.setattr(Pool, "dial", fails_once)
    route.environment.demerits.record_unreachable(
        route.active[1].state, Cause.CONNECT_TIMEOUT, context.clock(), 0.5
    )
    context.balancer.checks.start(route, route.active[1])
    await scene.until(lambda: not context.balancer.checks.running)
    assert not faults
    assert [record.code for record in caplog.records if hasattr(record, "code")] == ["connect_check_failed"]
    explained = scene.explained(HOST, back)
    assert (explained.condition, explained.on_probation_for) == ("probation", "back")


async def test_a_check_that_has_ended_leaves_its_successor_alone(scene):
    """Its connect may succeed after the backend was up, and is down again."""
    scene.route(HOST, [scene.backend()])
    await scene.get(HOST)
    context = scene.worker.context
    route = context.table.get(HOST)
    [candidate], running = route.active, context.balancer.checks.running
    route.environment.demerits.goes_down(candidate.state, context.clock())
    context.balancer.checks.start(route, candidate)
    first = running.pop(candidate.state)
    context.balancer.checks.start(route, candidate)
    second = running[candidate.state]
    first.stop()
    assert running == {candidate.state: second}
    second.stop()
    assert not running
