"""A request waits for the lookup of an expired route for a moment, and goes on once."""

import asyncio
import time

import pytest

from edge.net.routing.lookups.lookup_wait import EXPIRED_WAIT, deliver_in_time
from edge.rules.routing.routes import Route
from tests.support.fake_transports import turns

TIMEOUT = 0.2
"Of a lookup, in seconds: requests wait for a twentieth of it."


class Waiting:
    """A request that waits for a lookup, which ends when the test says so."""

    def __init__(self):
        self.lookup = asyncio.get_running_loop().create_future()
        self.known, self.found = Route(None), Route(None)
        self.got = []
        self.went_on = asyncio.Event()
        deliver_in_time(self.lookup, self._go_on, lambda: self.known, TIMEOUT, lambda: 100.0)

    def _go_on(self, route):
        self.got.append(route)
        self.went_on.set()

    def end(self):
        self.lookup.set_result(self.found)


async def test_a_lookup_that_ends_in_time_is_delivered():
    waiting = Waiting()
    waiting.end()
    await turns()
    assert waiting.got == [waiting.found]
    assert waiting.found.no_lookup_before == 0.0


async def test_after_a_moment_the_known_route_is_used():
    waiting = Waiting()
    await waiting.went_on.wait()
    assert waiting.got == [waiting.known]
    assert waiting.known.no_lookup_before == 100.0 + TIMEOUT
    waiting.end()
    await turns()
    assert waiting.got == [waiting.known]


@pytest.mark.parametrize("ends_after", [0.5, 1.0, 1.5])
async def test_a_lookup_that_ends_in_the_same_turn_of_a_busy_loop_is_delivered_once(ends_after):
    """A request that goes on twice is sent to two backends, and its client gets parts of both responses."""
    waiting = Waiting()
    moment = EXPIRED_WAIT * TIMEOUT
    asyncio.get_running_loop().call_later(ends_after * moment, waiting.end)
    time.sleep(3 * moment)  # noqa: ASYNC251 - the loop is held up: now both timers are due at once
    await waiting.went_on.wait()
    await turns()
    await asyncio.sleep(moment)
    assert len(waiting.got) == 1
