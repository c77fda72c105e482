"""When a whole server is suspect, and what that means for its backends."""

import pytest

from edge.rules.balancing.backend_state import Why
from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.server_failures import ENOUGH, MOST, ServerFailures, ServerState
from edge.rules.outcomes import Cause
from edge.rules.settings import DemeritSettings


def test_three_containers_within_ten_seconds_make_it_suspect() -> None:
    server = ServerState("srv-1")
    assert [server.record_unreachable(name, 100.0 + n) for n, name in enumerate("abc")] == [False, False, True]
    assert server.suspect_since == 102.0
    assert not server.record_unreachable("d", 103.0), "it is already"


@pytest.mark.parametrize("failures", [[("a", 0), ("a", 1), ("a", 2), ("b", 3)], [("a", 0), ("b", 6), ("c", 11)]])
def test_neither_one_container_repeatedly_nor_three_over_time_do(failures: list[tuple[str, int]]) -> None:
    server = ServerState("srv-1")
    assert not any(server.record_unreachable(name, 100.0 + at) for name, at in failures)


def test_a_container_that_responds_clears_it() -> None:
    server = ServerState("srv-1")
    for name in "abc":
        server.record_unreachable(name, 100.0)
    assert server.record_reached()
    assert not server.suspect_since
    assert not server.record_reached()
    assert not server.record_unreachable("d", 100.0), "from the beginning"


def test_failures_are_bounded_however_many_containers_there_are() -> None:
    server = ServerState("srv-1")
    for n in range(10_000):
        server.record_unreachable(f"c{n}", 100.0)
    assert len(server._unreachable) <= ENOUGH


def test_servers_are_known_by_their_names_and_not_too_many() -> None:
    servers = ServerFailures()
    assert servers.get("") is None
    assert servers.get("srv-1") is servers.get("srv-1")
    first = servers.get("first")
    for n in range(MOST):
        servers.get(f"srv-{n}")
    assert servers.get("first") is not first


def test_backends_of_a_suspect_server_are_down_until_a_connect_succeeded() -> None:
    demerits, server = Demerits(DemeritSettings()), ServerState("srv-1")
    states = [demerits.state_of(name, name) for name in "abcd"]
    states[0].server = states[1].server = server
    for name in "xyz":  # of other environments
        server.record_unreachable(name, 100.0)
    demerits.weigh(states, 100.0)
    assert [bool(s.down_since) for s in states] == [True, True, False, False]
    assert [s.weight for s in states] == [0.0, 0.0, 1.0, 1.0]
    assert demerits.to_connect == set(states[:2])
    server.record_reached()
    demerits.record_connected(states[0], 101.0, 0.5)
    demerits.weigh(states, 101.0)
    assert (states[0].weight, states[0].probation) == (1.0, None), "it had done nothing"


def test_a_backend_that_failed_itself_begins_on_probation() -> None:
    demerits = Demerits(DemeritSettings())
    lost = demerits.state_of("a", "a")
    demerits.record_unreachable(lost, Cause.HOST_UNREACHABLE, 100.0, 0.5)
    assert lost.down_since == 100.0
    demerits.record_connected(lost, 101.0, 0.5)
    assert lost.probation is not None
    assert lost.probation.why is Why.BACK
