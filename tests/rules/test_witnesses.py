"""Failures seen by one client only cost a backend a part of its share, while other clients send requests too."""

from math import exp

import pytest

from edge.rules.balancing.demerits import DISPUTED_POINTS, OTHERS_SEEN
from edge.rules.outcomes import Cause
from tests.support.demerit_fleet import Fleet


def slow_response(fleet: Fleet, client: str, *, others: bool) -> None:
    """A slow response of the first backend to this client, which is alone unless there are `others`."""
    target = fleet.all[0]
    if fleet.demerits.record_response(target, 2.0, fleet.now):
        fleet.demerits.note_witness(target, client, fleet.now, alone=not others, first=target.slow == 1)
    fleet.weigh(0.1)


def failure(fleet: Fleet, client: str, *, others: bool) -> None:
    target = fleet.all[0]
    first = not (target.failures or target.slow)
    fleet.demerits.note_witness(target, client, fleet.now, alone=not others, first=first)
    fleet.demerits.record_failure(target, Cause.GATEWAY_ERROR, fleet.now)
    fleet.weigh(0.1)


@pytest.fixture
def fleet() -> Fleet:
    """Three backends that respond in 50 ms."""
    fleet = Fleet(3)
    fleet.answer([0.05] * 3, times=10)
    return fleet


@pytest.mark.parametrize("testify", [slow_response, failure])
def test_one_client_among_others_puts_no_backend_on_probation(fleet: Fleet, testify) -> None:
    for _ in range(30):
        testify(fleet, "attacker", others=True)
    target = fleet.all[0]
    assert target.probation is None
    assert 0.0 < target.points <= DISPUTED_POINTS
    assert target.weight >= exp(-DISPUTED_POINTS)


@pytest.mark.parametrize("testify", [slow_response, failure])
def test_two_clients_do(fleet: Fleet, testify) -> None:
    for n in range(30):
        testify(fleet, f"client {n % 2}", others=True)
    assert fleet.all[0].probation is not None


@pytest.mark.parametrize("testify", [slow_response, failure])
def test_a_client_that_is_alone_does(fleet: Fleet, testify) -> None:
    """A load generator, or the only visitor of a small site."""
    for _ in range(30):
        testify(fleet, "visitor", others=False)
    assert fleet.all[0].probation is not None


def test_others_that_left_are_forgotten(fleet: Fleet) -> None:
    slow_response(fleet, "visitor", others=True)
    fleet.now += OTHERS_SEEN
    for _ in range(10):
        slow_response(fleet, "visitor", others=False)
    assert fleet.all[0].probation is not None


def test_a_good_response_clears_the_testimony(fleet: Fleet) -> None:
    slow_response(fleet, "one", others=True)
    fleet.demerits.record_response(fleet.all[0], 0.05, fleet.now)
    for _ in range(5):
        slow_response(fleet, "two", others=True)
    assert fleet.all[0].witness == "two"
