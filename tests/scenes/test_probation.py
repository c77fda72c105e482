"""Backends on probation: copies of requests decide, and no client meets their answers."""

from math import log

import pytest

from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.balancing.demerits import FAILURES_IN_A_ROW
from edge.rules.outcomes import Cause
from tests.support.scene import request
from tests.support.scene_backends import answering, refusing, silent

HOST = "shop.test"


def state_of(scene, backend) -> BackendState:
    route = scene.worker.context.table.get(HOST)
    return next(c.state for c in (*route.active, *route.standby) if c.backend.id == backend.name)


def due(scene, backend) -> Probation:
    """Its next probe goes with the next request."""
    probation = state_of(scene, backend).probation
    probation.due = scene.worker.context.clock()
    scene.worker.context.table.get(HOST).environment.demerits.reconfigure(scene.worker.settings.demerits)
    return probation


def usually(scene, seconds: float) -> None:
    """So long all have taken so far. On a busy machine single milliseconds are no measure."""
    for state in scene.worker.context.table.get(HOST).states:
        state.mean, state.samples = log(seconds), 10
    scene.worker.context.table.get(HOST).environment.demerits.reconfigure(scene.worker.settings.demerits)


class Moody:
    """A backend whose script can be changed."""

    def __init__(self, scene) -> None:
        self.answers = answering(500)
        self.backend = scene.scripted(self.script)

    async def script(self, wire, request) -> None:
        await self.answers(wire, request)


@pytest.fixture
async def unhealthy(scene):
    """One that failed until it was on probation, beside two that are well."""
    moody = Moody(scene)
    healthy = [scene.backend(), scene.backend()]
    scene.route(HOST, [moody.backend, *healthy])
    scene.dice = 0.0
    while (await scene.get(HOST)).status == 500:
        assert len(moody.backend.requests) <= FAILURES_IN_A_ROW
    usually(scene, 0.5)
    explained = scene.explained(HOST, moody.backend)
    assert (explained.condition, explained.on_probation_for, explained.probability) == ("probation", "failing", 0.0)
    assert 0.0 < explained.next_probe <= 1.0
    return moody


async def probed(scene, unhealthy, **ask):
    """One request, and the probe that goes with it, to its end."""
    due(scene, unhealthy.backend)
    before = len(unhealthy.backend.requests)
    reply = await (scene.post(HOST, **ask) if ask.pop("post", False) else scene.get(HOST, **ask))
    await scene.until(lambda: not scene.worker.context.probes.running)
    return reply, unhealthy.backend.requests[before:]


async def test_a_probe_that_fails_is_never_shown(scene, unhealthy):
    reply, [copy] = await probed(scene, unhealthy, path="/page?a=1")
    assert (reply.status, reply["x-styx-backend"]) == (200, "b1")
    assert (copy.method, copy.target, copy["x-styx-probe"]) == (b"GET", b"/page?a=1", b"1")
    assert copy["x-request-id"] == reply["x-request-id"].encode()
    assert scene.attempts == ["ok"], "the client's request knows nothing of it"
    probation = state_of(scene, unhealthy.backend).probation
    assert (probation.strikes, probation.probing) == (1, False)
    before = len(unhealthy.backend.requests)
    await scene.get(HOST)
    assert len(unhealthy.backend.requests) == before, "the next one is not due"
    assert scene.snapshot.probes == 1


async def test_two_good_responses_bring_it_back(scene, unhealthy):
    unhealthy.answers = answering(200)
    for _ in range(2):
        reply, copies = await probed(scene, unhealthy)
        assert (reply["x-styx-backend"], len(copies)) == ("b1", 1)
    explained = scene.explained(HOST, unhealthy.backend)
    assert (explained.condition, explained.on_probation_for) == ("recovering", "")
    assert 0.1 <= explained.weight < 0.3
    assert (await scene.get(HOST))["x-styx-backend"] == "b0"


async def test_a_head_is_copied_and_a_kept_connection_used_again(scene, unhealthy):
    unhealthy.answers = answering(200)
    connections = unhealthy.backend.connections
    for method in ("HEAD", "GET"):
        _, [copy] = await probed(scene, unhealthy, method=method)
        assert copy.method == method.encode()
    assert unhealthy.backend.connections == connections


async def test_a_copy_is_not_part_of_the_clients_trace(scene, unhealthy):
    unhealthy.answers = answering(200)
    trace = [("Traceparent", f"00-{'4b' * 16}-{'f0' * 8}-01"), ("tracestate", "vendor=1"), ("X-Trace", "kept")]
    _, [copy] = await probed(scene, unhealthy, headers=trace)
    assert "traceparent" not in copy
    assert "tracestate" not in copy
    assert copy["x-trace"] == b"kept"
    [asked] = [backend.last for backend in scene.backends if backend is not unhealthy.backend and backend.requests]
    assert asked["traceparent"].endswith(b"-01"), "the request itself is"


@pytest.mark.parametrize(
    "ask",
    [
        {"post": True},
        {"method": "PUT"},
        {"method": "DELETE"},
        {"headers": [("Upgrade", "websocket"), ("Connection", "upgrade")]},
    ],
)
async def test_what_may_not_be_sent_twice_is_not_copied(scene, unhealthy, ask):
    reply, copies = await probed(scene, unhealthy, **ask)
    assert (reply.status, copies) == (200, [])


async def test_without_copies_single_requests_are_the_probes(scene):
    scene.settings(demerits={"shadow_probes": False})
    moody = Moody(scene)
    scene.route(HOST, [moody.backend, scene.backend(), scene.backend()])
    scene.dice = 0.0
    while (await scene.get(HOST)).status == 500:
        pass
    usually(scene, 0.5)
    moody.answers = answering(200)
    due(scene, moody.backend)
    reply = await scene.get(HOST)
    assert reply["x-styx-backend"] == moody.backend.name
    assert "x-styx-probe" not in moody.backend.last
    assert (await scene.get(HOST))["x-styx-backend"] == moody.backend.name, "a good one asks for another at once"
    assert scene.snapshot.probes == 0


async def test_for_want_of_others_such_a_request_probes_after_a_while(scene, unhealthy):
    unhealthy.answers = answering(200)
    await probed(scene, unhealthy)
    probation = due(scene, unhealthy.backend)
    probation.due = scene.worker.context.clock() - 31.0
    reply = await scene.post(HOST)
    assert reply["x-styx-backend"] == "b0"
    assert "x-styx-probe" not in unhealthy.backend.last
    assert state_of(scene, unhealthy.backend).probation is None


async def test_a_probe_without_a_response_is_given_up_and_nobody_waits(scene, unhealthy):
    unhealthy.answers = silent
    usually(scene, 0.05)
    reply, copies = await probed(scene, unhealthy)
    assert (reply.status, len(copies)) == (200, 1)
    assert state_of(scene, unhealthy.backend).probation.strikes == 1
    await unhealthy.backend.left()


async def test_a_large_response_to_a_probe_is_not_read(scene, unhealthy):
    unhealthy.answers = answering(200, b"x" * 10_000_000)
    reply, _ = await probed(scene, unhealthy)
    assert reply.body == b"hello"
    await unhealthy.backend.left()


@pytest.mark.parametrize("then", [refusing(), refusing(3), answering(421), answering(503)])
async def test_it_is_no_good_response(scene, unhealthy, then):
    unhealthy.answers = then
    reply, copies = await probed(scene, unhealthy)
    assert (reply.status, len(copies)) == (200, 1)
    assert state_of(scene, unhealthy.backend).probation.good == 0
    assert scene.attempts == ["ok"]


async def test_a_probe_that_cannot_connect(scene, unhealthy):
    await unhealthy.backend.close_idle()
    await unhealthy.backend.stop_listening()
    reply, copies = await probed(scene, unhealthy)
    assert (reply.status, copies) == (200, [])
    assert state_of(scene, unhealthy.backend).unreachable == 1


async def test_one_probe_at_a_time(scene, unhealthy):
    unhealthy.answers = answering(200)
    unhealthy.backend.hold()
    due(scene, unhealthy.backend)
    await scene.get(HOST)
    await unhealthy.backend.got_head()
    before = len(unhealthy.backend.requests)
    due(scene, unhealthy.backend)
    await scene.get(HOST)
    assert len(unhealthy.backend.requests) == before
    assert len(scene.worker.context.probes.running) == 1
    unhealthy.backend.release()
    await scene.until(lambda: not scene.worker.context.probes.running)


async def test_so_many_probes_of_a_worker_at_once(scene, unhealthy):
    scene.worker.context.probes.limit = 0
    _, copies = await probed(scene, unhealthy)
    assert copies == []


async def test_the_last_one_left_is_asked_if_it_is_only_slow(scene):
    slow, full = scene.backend(), scene.refusing()
    scene.route(HOST, [slow, full])
    await scene.get(HOST)
    state = state_of(scene, slow)
    state.probation = Probation(Why.SLOW, scene.worker.context.clock(), 0.5)
    state.mean, state.samples = 3.0, 10
    state_of(scene, full).samples = 10
    scene.worker.context.table.get(HOST).environment.demerits.reconfigure(scene.worker.settings.demerits)
    reply = await scene.get(HOST)
    assert (reply.status, scene.attempts) == (200, ["refused", "ok"])


async def test_one_that_joins_is_probed_before_it_gets_requests(scene):
    first = [scene.backend(), scene.backend()]
    scene.route(HOST, first)
    scene.dice = 0.0
    for _ in range(5):
        await scene.get(HOST)
    joined = scene.backend()
    usually(scene, 0.5)
    assert scene.explained(HOST, first[0]).samples == 10
    scene.route(HOST, [joined, *first])
    scene.worker.context.table.invalidate(HOST)
    for _ in range(2):
        assert (await scene.get(HOST))["x-styx-backend"] != joined.name
        await scene.until(lambda: not scene.worker.context.probes.running)
    assert len(joined.requests) == 2
    assert (await scene.get(HOST))["x-styx-backend"] == joined.name


async def test_all_new_ones_are_asked_at_once(scene):
    """A deployment replaced them all."""
    before, after = [scene.backend() for _ in range(2)], [scene.backend() for _ in range(2)]
    scene.route(HOST, before)
    for _ in range(6):
        await scene.get(HOST)
    scene.route(HOST, after)
    scene.worker.context.table.invalidate(HOST)
    reply = await scene.get(HOST)
    assert reply["x-styx-backend"] in {b.name for b in after}


async def test_a_worker_stops_with_a_probe_on_its_way(scene, unhealthy):
    unhealthy.answers = silent
    due(scene, unhealthy.backend)
    await scene.get(HOST)
    assert len(scene.worker.context.probes.running) == 1
    for probe in list(scene.worker.context.probes.running):
        probe.give_up()
    assert not scene.worker.context.probes.running


async def test_a_client_that_leaves_does_not_judge(scene, unhealthy):
    """Not even one whose request went there as the last resort."""
    state = state_of(scene, unhealthy.backend)
    demerits = scene.worker.context.table.get(HOST).environment.demerits
    now = scene.worker.context.clock()
    demerits.charge(state, Cause.CLIENT_GONE, now, rand=0.5)
    assert state.probation.strikes == 0
    assert scene.worker.context.balancer.choose(scene.worker.context.table.get(HOST), [], now) is not None


async def from_address(scene, address, path="/"):
    """A request of a client with this address."""
    client = await scene.client(source=address)
    await client.write(request(HOST, path))
    return await client.read_reply("GET")


@pytest.mark.parametrize(("addresses", "condemned"), [(["127.0.0.2"], False), (["127.0.0.2", "127.0.0.3"], True)])
async def test_whom_a_single_client_makes_fail_keeps_its_share(scene, addresses, condemned):
    """It asks for a page that crashes; to all others the container answers well."""
    healthy, target = scene.backend(), scene.backend(status=502)
    scene.route(HOST, [target, healthy])
    scene.settings(demerits={"shadow_probes": False}, retries={"attempts": 1})
    scene.dice = 0.999
    await scene.get(HOST)
    for n in range(12):
        scene.dice = 0.0
        await from_address(scene, addresses[n % len(addresses)])
        scene.dice = 0.999
        await from_address(scene, "127.0.0.9")
        state_of(scene, target).weight = 1.0  # the dice are to fall on it again
    assert (state_of(scene, target).probation is not None) == condemned
