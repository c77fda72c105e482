"""IdleClients: which connection is closed to make room for a new one."""

import pytest

from edge.net.limits.idle_connections import MIN_SELECTED, SCAN_EVERY, IdleConnections


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Connection:
    """`since`: when it began to wait for a request; None = it has one."""

    def __init__(self, requests, since):
        self.requests = requests
        self.since = since
        self.closed = False
        self.has_come = False

    def idle_since(self):
        return None if self.closed else self.since

    def close_idle(self):
        self.closed = not self.has_come
        return self.closed


@pytest.fixture
def clock():
    return Clock()


def idle_clients(clock, *connections):
    return IdleConnections(lambda: [object(), *connections], clock)


def served(*ages):
    return [Connection(3, 1000.0 - age) for age in ages]


def unserved(*ages):
    return [Connection(0, 1000.0 - age) for age in ages]


def closed(idle, connections, count):
    """The indexes of those that are closed, in this order."""
    found = []
    for _ in range(count):
        idle.close_one()
        found += [n for n, one in enumerate(connections) if one.closed and n not in found]
    return found


def test_the_connection_that_is_idle_longest_is_closed(clock):
    connections = served(5, 20, 10)
    assert closed(idle_clients(clock, *connections), connections, 2) == [1, 2]


def test_connections_with_a_request_in_flight_or_just_idle_stay(clock):
    busy, fresh = Connection(3, None), Connection(3, 999.5)
    idle = idle_clients(clock, busy, fresh)
    assert not idle.close_one()
    assert [busy.closed, fresh.closed] == [False, False]
    assert idle.closed == 0


def test_one_of_the_larger_kind_is_closed(clock):
    old, new = served(100, 101), unserved(2, 3, 4)
    assert closed(idle_clients(clock, *old, *new), new, 1) == [2]
    old, new = served(100, 101, 102), unserved(2, 3)
    assert closed(idle_clients(clock, *old, *new), old, 1) == [2]


def test_new_connections_do_not_displace_served_ones(clock):
    """They have not had the time to send a request."""
    old, new = served(100, 101), unserved(0.1, 0.2, 0.3)
    assert not idle_clients(clock, *old, *new).close_one()


def test_a_connection_selected_before_its_request_stays(clock):
    connections = served(30, 20, 10)
    idle = idle_clients(clock, *connections)
    assert idle.close_one()
    connections[1].since = None
    assert idle.close_one()
    assert [one.closed for one in connections] == [True, False, True]


def test_a_request_that_has_just_arrived_is_not_dropped(clock):
    connections = served(30, 20)
    connections[0].has_come = True
    idle = idle_clients(clock, *connections)
    assert idle.close_one()
    assert [one.closed for one in connections] == [False, True]
    assert idle.closed == 1


def test_interval_of_scans(clock):
    scans = 0

    def connections():
        nonlocal scans
        scans += 1
        return []

    idle = IdleConnections(connections, clock)
    for _ in range(100):
        assert not idle.close_one()
    assert scans == 1
    clock.now += 2 * SCAN_EVERY
    assert not idle.close_one()
    assert scans == 2


def test_one_scan_selects_many(clock):
    connections = served(*range(2, MIN_SELECTED + 12))
    idle = idle_clients(clock, *connections)
    assert sum(idle.close_one() for _ in range(2 * MIN_SELECTED)) == MIN_SELECTED
