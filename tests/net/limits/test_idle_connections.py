"""Who makes room for a new connection when there is none."""

import pytest

from edge.net.limits.idle_connections import FEWEST, LOOK_EVERY, IdleClients


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
    return IdleClients(lambda: [object(), *connections], clock)


def served(*ages):
    return [Connection(3, 1000.0 - age) for age in ages]


def silent(*ages):
    return [Connection(0, 1000.0 - age) for age in ages]


def closed(idle, connections, count):
    """Which of them are closed, one after the other."""
    found = []
    for _ in range(count):
        idle.close_one()
        found += [n for n, one in enumerate(connections) if one.closed and n not in found]
    return found


def test_the_one_that_is_idle_longest(clock):
    connections = served(5, 20, 10)
    assert closed(idle_clients(clock, *connections), connections, 2) == [1, 2]


def test_one_with_a_request_in_flight_stays_and_so_does_one_that_may_ask_just_now(clock):
    busy, fresh = Connection(3, None), Connection(3, 999.5)
    idle = idle_clients(clock, busy, fresh)
    assert not idle.close_one()
    assert [busy.closed, fresh.closed] == [False, False]
    assert idle.closed == 0


def test_the_kind_that_has_more_gives_one_up(clock):
    kept, crowd = served(100, 101), silent(2, 3, 4)
    assert closed(idle_clients(clock, *kept, *crowd), crowd, 1) == [2]
    kept, crowd = served(100, 101, 102), silent(2, 3)
    assert closed(idle_clients(clock, *kept, *crowd), kept, 1) == [2]


def test_newcomers_do_not_push_out_those_that_are_served(clock):
    """They have not had the time to ask for anything."""
    kept, crowd = served(100, 101), silent(0.1, 0.2, 0.3)
    assert not idle_clients(clock, *kept, *crowd).close_one()


def test_one_that_asks_after_it_was_found(clock):
    connections = served(30, 20, 10)
    idle = idle_clients(clock, *connections)
    assert idle.close_one()
    connections[1].since = None
    assert idle.close_one()
    assert [one.closed for one in connections] == [True, False, True]


def test_bytes_that_have_just_come_are_not_thrown_away(clock):
    connections = served(30, 20)
    connections[0].has_come = True
    idle = idle_clients(clock, *connections)
    assert idle.close_one()
    assert [one.closed for one in connections] == [False, True]
    assert idle.closed == 1


def test_all_are_looked_at_now_and_then_only(clock):
    looks = 0

    def connections():
        nonlocal looks
        looks += 1
        return []

    idle = IdleClients(connections, clock)
    for _ in range(100):
        assert not idle.close_one()
    assert looks == 1
    clock.now += 2 * LOOK_EVERY
    assert not idle.close_one()
    assert looks == 2


def test_one_look_finds_many(clock):
    connections = served(*range(2, FEWEST + 12))
    idle = idle_clients(clock, *connections)
    assert sum(idle.close_one() for _ in range(2 * FEWEST)) == FEWEST
