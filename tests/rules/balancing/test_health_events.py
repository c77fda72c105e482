"""Health events of one worker, and their effect in another."""

import pytest

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.environments import Environments
from edge.rules.balancing.health_events import MOST_REMEMBERED, MOST_UNSENT, HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.settings import DemeritSettings, RetrySettings
from tests.support.bound_route import bound

BACKENDS = tuple(Backend(name, "10.0.0.1", 8000, server="srv-1") for name in "abc")


class Worker:
    """The environments of one worker."""

    def __init__(self) -> None:
        self.environments = Environments(DemeritSettings(), RetrySettings())
        self.rings = 0
        self.environments.shared.ring = self.ring

    def ring(self) -> None:
        self.rings += 1

    def serve(self) -> "Worker":
        """Record requests for the environment that took 50 ms."""
        environment = self.environments.get("acme", "live", 0.0)
        self.demerits = environment.demerits
        self.route = bound(RouteResponse("shop.test", "acme", "live", 1, BACKENDS), environment)
        for state in self.route.states * 10:
            self.demerits.record_response(state, 0.05, 100.0)
        self.weigh(100.0)
        return self

    def weigh(self, now: float) -> None:
        self.demerits.weigh(self.route.states, now)

    def receive_from(self, other: "Worker", now: float) -> list[str]:
        events = other.environments.shared.take()
        for event in events:
            self.environments.apply_event(event, now, 0.5)
        return [event.kind for event in events]

    @property
    def first(self) -> BackendState:
        return self.route.states[0]


@pytest.fixture
def pair() -> tuple[Worker, Worker]:
    one, other = Worker().serve(), Worker().serve()
    assert one.environments.shared.take() == []
    return one, other


def test_down_and_up_again(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    one.demerits.record_unreachable(one.first, Cause.CONNECT_TIMEOUT, 200.0, 0.5)
    assert other.receive_from(one, 200.0) == ["down"]
    other.weigh(200.0)
    assert (other.first.down_since, other.first.weight) == (200.0, 0.0)
    assert other.demerits.to_connect == {other.first}, "it makes its own connects"
    one.demerits.record_connected(one.first, 201.0, 0.5)
    assert other.receive_from(one, 201.0) == ["up"]
    assert other.first.down_since == 0.0
    assert other.first.probation is not None


def test_probation_and_its_end(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    for _ in range(5):
        one.demerits.record_failure(one.first, Cause.SERVER_ERROR, 200.0)
    assert other.receive_from(one, 200.0) == ["probation"]
    other.weigh(200.0)
    assert (other.first.weight, other.demerits.probe_due) == (0.0, 201.0), "it makes its own probes"
    for _ in range(2):
        one.demerits.record_response(one.first, 0.05, 202.0)
    assert other.receive_from(one, 202.0) == ["healthy"]
    other.weigh(203.0)
    assert other.first.probation is None
    assert 0.1 < other.first.weight < 1.0, "its share grows here as well"


def test_slowness_is_reported_and_forgiven(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    for worker in pair:
        for n in range(6):
            worker.demerits.record_response(worker.first, 5.0, 200.0 + n)
            worker.weigh(200.0 + n)
        assert worker.first.probation is not None
    one.environments.shared.take()
    for _ in range(12):
        one.demerits.record_response(one.first, 0.05, 210.0)
    assert other.receive_from(one, 210.0) == ["healthy"]
    other.weigh(211.0)
    assert other.first.probation is None
    assert other.first.points == 0.0


def test_received_events_are_not_sent_on(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    one.demerits.record_unreachable(one.first, Cause.CONNECT_TIMEOUT, 200.0, 0.5)
    other.receive_from(one, 200.0)
    other.weigh(200.0)
    assert other.environments.shared.take() == []
    assert one.rings == 1


def test_an_event_about_a_former_endpoint_is_ignored(pair: tuple[Worker, Worker]) -> None:
    one, other = pair
    one.demerits.record_unreachable(one.first, Cause.CONNECT_TIMEOUT, 200.0, 0.5)
    other.demerits.state_of("a", "a@10.9.9.9:8000")
    other.receive_from(one, 200.0)
    assert other.first.down_since == 0.0


def test_a_suspect_server_is_suspect_everywhere(pair: tuple[Worker, Worker]) -> None:
    _, other = pair
    other.environments.apply_event(HealthEvent("suspect", "", "", "srv-1"), 200.0, 0.5)
    other.weigh(200.0)
    assert [bool(s.down_since) for s in other.route.states] == [True] * 3
    other.environments.apply_event(HealthEvent("clear", "", "", "srv-1"), 201.0, 0.5)
    assert other.environments.servers.suspect == []


def test_an_environment_that_is_served_later_uses_earlier_events(pair: tuple[Worker, Worker]) -> None:
    one, _ = pair
    later = Worker()
    one.demerits.record_unreachable(one.first, Cause.CONNECT_TIMEOUT, 200.0, 0.5)
    later.receive_from(one, 200.0)
    later.serve()
    assert later.first.down_since, "responses over old connections say nothing about new ones"
    assert [bool(s.down_since) for s in later.route.states[1:]] == [False, False]
    again = Worker()
    again.environments.apply_event(HealthEvent("down", "acme", "live", "a@10.0.0.1:8000"), 200.0, 0.5)
    environment = again.environments.get("acme", "live", 0.0)
    route = bound(RouteResponse("shop.test", "acme", "live", 1, BACKENDS), environment)
    assert [bool(s.down_since) for s in route.states] == [True, False, False]


def test_a_backend_that_flaps_without_requests_is_noted_once(pair: tuple[Worker, Worker]) -> None:
    _, other = pair
    for _ in range(50):
        for what in ("down", "up"):
            other.environments.apply_event(HealthEvent(what, "acme", "live", "a@10.0.0.1:8000"), 200.0, 0.5)
    assert len(other.demerits.to_connect) == 1


def test_events_of_unknown_environments_are_bounded() -> None:
    shared = HealthEvents()
    for n in range(MOST_REMEMBERED + 1):
        shared.remember(HealthEvent("down", f"s{n}", "live", "a@10.0.0.1:8000"), 100.0)
    assert shared.take_remembered("s0", "live", "a@10.0.0.1:8000") is None
    assert shared.take_remembered("s1", "live", "a@10.0.0.1:8000") is not None


def test_a_single_worker_queues_no_events() -> None:
    shared = HealthEvents()
    shared.publish(HealthEvent("down", "acme", "live", "a@10.0.0.1:8000"))
    assert shared.take() == []


def test_unsent_events_are_bounded() -> None:
    shared = HealthEvents()
    shared.ring = lambda: None
    for n in range(MOST_UNSENT + 10):
        shared.publish(HealthEvent("down", "acme", "live", f"c{n}@10.0.0.1:8000"))
    events = shared.take()
    assert len(events) == MOST_UNSENT
    assert events[-1].endpoint == f"c{MOST_UNSENT + 9}@10.0.0.1:8000"
