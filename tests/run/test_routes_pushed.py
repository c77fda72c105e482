"""The admin process publishes routes, and the workers switch to them together, also when some come late or die."""

import asyncio

import pytest

from edge.rules.route_sets.route_set import NO_ROUTES, route_set
from edge.rules.route_sets.route_set_records import Destination
from edge.rules.settings import Settings
from edge.run.control.control_messages import (
    HoldRoutes,
    RoutesAre,
    RoutesFetched,
    RoutesHeld,
    RoutesPart,
    RoutesWanted,
    SwitchRoutes,
)
from edge.run.routes.route_set_publisher import RouteSetPublisher
from edge.run.routes.route_set_receiver import RouteSetReceiver
from edge.run.worker import Worker
from tests.support.fake_transports import turns

SETTINGS = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "file:/etc/routes.yaml"}}
LONG = 60.0
"Seconds that no test waits for."


def a_set(version, *hostnames):
    named = [((hostname,), Destination(hostname, "live", (), True, None)) for hostname in hostnames]
    return route_set(named, NO_ROUTES, version=version, source="/f", digest=b"")[0]


class Wire:
    """The connection between a worker and the admin process. Records the messages both ways."""

    def __init__(self, publisher, connections, hold_timeout=LONG):
        self.worker = Worker(Settings.model_validate(SETTINGS))
        self._publisher = publisher
        self._connections = connections
        self.said = []
        self.told = []
        self.withheld = ()
        "The first message of these kinds does not get through, nor does what follows it."
        self._backlog = []
        self.receiver = RouteSetReceiver(lambda: self.worker.context.pushed, self._send, hold_timeout=hold_timeout)
        self.receiver.start(self.worker.background)

    def join(self):
        self._connections.add(self)
        self._publisher.joined(self)

    def leave(self):
        self._backlog.clear()
        self._connections.discard(self)
        self._publisher.left(self)
        self.receiver.disconnected()

    @property
    def version(self):
        return self.worker.context.pushed.version

    # of the admin process

    def send(self, message, most):
        self.told.append(message)
        if self._backlog or isinstance(message, self.withheld):
            self._backlog.append(message)
        else:
            self.receiver.received(message)
        return True

    def go_on(self):
        """The worker reads what the kernel has buffered for it."""
        self.withheld, backlog, self._backlog = (), self._backlog, []
        for message in backlog:
            self.receiver.received(message)

    def close(self):
        self.leave()

    # of the worker

    def _send(self, message):
        self.said.append(message)
        if self in self._connections and not isinstance(message, self.withheld):
            self._publisher.received(self, message)


class Edge:
    """An admin process and its workers."""

    def __init__(self):
        self.connections = set()
        self.wires = []
        self.publisher = RouteSetPublisher(self.connections, time_limit=LONG, hold_timeout=LONG)

    def restarted(self, **limits):
        """Start another admin process, with these time limits."""
        for wire in list(self.connections):
            wire.leave()
        self.publisher = RouteSetPublisher(self.connections, **{"time_limit": LONG, "hold_timeout": LONG, **limits})
        for wire in self.wires:
            wire._publisher = self.publisher

    def wire(self, **about):
        wire = Wire(self.publisher, self.connections, **about)
        self.wires.append(wire)
        return wire


@pytest.fixture
async def an_edge():
    made = Edge()
    yield made
    for wire in made.wires:
        await wire.receiver.stop()
        await wire.worker.context.resolver.close()


async def test_all_workers_hold_before_any_of_them_switches(an_edge):
    wires = [an_edge.wire() for _ in range(3)]
    for wire in wires:
        wire.join()
    await an_edge.publisher.publish(a_set(5, "a.test"))
    await turns(20)
    assert [wire.version for wire in wires] == [5, 5, 5]
    for wire in wires:
        assert list(map(type, wire.told)) == [RoutesAre, RoutesPart, HoldRoutes, SwitchRoutes]
        assert list(map(type, wire.said)) == [RoutesWanted, RoutesFetched, RoutesHeld]
        assert wire.receiver.up_to_date.is_set()


@pytest.mark.parametrize("kind", [RoutesFetched, RoutesHeld])
async def test_no_worker_switches_before_all_are_ready(an_edge, kind):
    fast, slow = an_edge.wire(), an_edge.wire()
    slow.withheld = (kind,)
    for wire in (fast, slow):
        wire.join()
    publishing = asyncio.create_task(an_edge.publisher.publish(a_set(5, "a.test")))
    await turns(50)
    assert not publishing.done()
    assert not any(isinstance(message, SwitchRoutes) for message in fast.told)
    an_edge.publisher.received(slow, kind(5))
    if kind is RoutesFetched:
        await turns(20)
    await publishing
    await turns(20)
    assert fast.version == slow.version == 5


@pytest.mark.parametrize("kind", [RoutesAre, RoutesPart, HoldRoutes])
async def test_a_stalled_worker_delays_the_others_briefly_and_follows(an_edge, kind):
    an_edge.restarted(time_limit=0.05, hold_timeout=0.05)
    fast, slow = an_edge.wire(), an_edge.wire()
    slow.withheld = (kind,)
    for wire in (fast, slow):
        wire.join()
    await an_edge.publisher.publish(a_set(5, "a.test"))
    await turns(20)
    assert (fast.version, slow.version) == (5, 0)
    slow.go_on()
    await turns(50)
    assert slow.version == 5


async def test_the_set_is_announced_to_a_later_worker_at_once(an_edge):
    await an_edge.publisher.publish(a_set(5, "a.test"))
    late = an_edge.wire()
    late.join()
    await turns(20)
    assert late.version == 5
    assert late.receiver.up_to_date.is_set()


async def test_a_worker_that_has_the_set_fetches_nothing(an_edge):
    """It has read the same set from disk, or has it from an earlier admin process."""
    wire = an_edge.wire()
    await wire.worker.context.pushed.replace(5, a_set(5, "a.test").parts)
    wire.join()
    await an_edge.publisher.publish(a_set(5, "a.test"))
    await turns(20)
    assert wire.said == [RoutesFetched(5), RoutesHeld(5)]
    await an_edge.publisher.publish(a_set(6, "a.test", "b.test"))
    await turns(20)
    assert wire.version == 6


async def test_a_worker_that_dies_is_not_waited_for(an_edge):
    fast, dies = an_edge.wire(), an_edge.wire()
    dies.withheld = (RoutesPart,)
    for wire in (fast, dies):
        wire.join()
    publishing = asyncio.create_task(an_edge.publisher.publish(a_set(5, "a.test")))
    await turns(20)
    dies.leave()
    await publishing
    await turns(20)
    assert fast.version == 5


async def test_the_admin_process_dies_while_a_set_is_fetched(an_edge):
    wire = an_edge.wire()
    wire.withheld = (RoutesPart,)
    wire.join()
    publishing = asyncio.create_task(an_edge.publisher.publish(a_set(5, "a.test")))
    await turns(20)
    publishing.cancel()
    an_edge.restarted()
    wire.withheld = ()
    await turns(20)
    assert wire.version == 0
    wire.join()
    await an_edge.publisher.publish(a_set(6, "a.test"))
    await turns(20)
    assert wire.version == 6


async def test_the_admin_process_dies_while_workers_hold(an_edge):
    """They have the whole set, and so have the others: they switch."""
    wire = an_edge.wire()
    wire.withheld = (SwitchRoutes,)
    wire.join()
    await an_edge.publisher.publish(a_set(5, "a.test"))
    await turns(20)
    assert isinstance(wire.said[-1], RoutesHeld)
    assert wire.version == 0
    wire.leave()
    await turns(20)
    assert wire.version == 5


async def test_a_worker_does_not_hold_for_long(an_edge):
    wire = an_edge.wire(hold_timeout=0.05)
    wire.withheld = (SwitchRoutes,)
    wire.join()
    await an_edge.publisher.publish(a_set(5, "a.test"))
    async with asyncio.timeout(100):
        await wire.worker.context.pushed.arrived.wait()
    assert wire.version == 5


@pytest.mark.parametrize("kind", [RoutesPart, SwitchRoutes])
async def test_another_set_replaces_one_that_is_being_fetched(an_edge, kind):
    wire = an_edge.wire()
    wire.withheld = (kind,)
    wire.join()
    publishing = asyncio.create_task(an_edge.publisher.publish(a_set(5, "a.test")))
    await turns(50)
    publishing.cancel()
    wire.go_on()
    await an_edge.publisher.publish(a_set(6, "a.test", "b.test"))
    await turns(50)
    assert wire.version == 6


async def test_a_withdrawn_set_is_not_announced(an_edge):
    await an_edge.publisher.publish(a_set(5, "a.test"))
    an_edge.publisher.withdraw()
    late = an_edge.wire()
    late.join()
    await turns(20)
    assert late.told == []
