"""Made-up hostnames from hundreds of addresses, beside sites that exist, on a virtual clock.

Times and counts are those of the rules, on any machine. (On real sockets: tests/scenes/test_unknown_host_flood.py.)
"""

import asyncio
from collections import Counter

import pytest

from edge.net.routing.core_api import LookupResult
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.routes import Route
from edge.rules.settings import LimitSettings
from tests.net.routing.test_resolver import REFUSED, Case, FakeCoreApi
from tests.support.virtual_time import virtually

ADDRESSES, NAMES_EACH = 250, 6
COLD, KNOWN = 100, 10
LIMIT = 25.0
"Unknown hostnames a second, in each of two buckets of one second."
RESPONSE_TIME = 0.01
TRIP = 0.001
"Seconds between a result and the next request of the same client."

pytestmark = pytest.mark.usefixtures("nobody_pauses")


class SteadyCoreApi(FakeCoreApi):
    """Takes the same time for each hostname; those with `none` in them do not exist."""

    async def ask(self, hostname, etag):
        self.asked.append(hostname)
        await asyncio.sleep(RESPONSE_TIME)
        if "none" in hostname:
            return LookupResult(None, False, "max-age=10", None)
        backends = (Backend("b1", "10.0.0.1", 80),)
        return LookupResult(RouteResponse(hostname, "site", "live", 1, backends), False, "max-age=600", None)


class Flood:
    """A resolver in virtual time, and clients that ask for one hostname after the other."""

    def __init__(self):
        self.clock = asyncio.get_running_loop().time
        self.core = SteadyCoreApi()
        limits = LimitSettings(unknown_hosts=LIMIT, unknown_hosts_per_client=10.0)
        self.resolver = Case(limits, core=self.core, clock=self.clock).resolver
        self.made_up = Counter()
        self.over = asyncio.Event()

    async def status(self, client, hostname):
        """The status that this client gets, and after how many seconds."""
        result, began = asyncio.get_running_loop().create_future(), self.clock()
        self.resolver.resolve(hostname, result.set_result, client, lambda: result.set_result(REFUSED))
        route = await result
        took = self.clock() - began
        await asyncio.sleep(TRIP)
        if isinstance(route, Route):
            return (404 if route.response is None else 200), took
        return (429 if route == REFUSED else 503), took

    async def name_many(self, number):
        for n in range(NAMES_EACH):
            status, _ = await self.status(f"127.1.{number // 250}.{number % 250}", f"{number}-{n}.none.test")
            self.made_up[status] += 1

    async def ask_known(self):
        statuses = Counter()
        while not self.over.is_set():
            for n in range(KNOWN):
                statuses[await self.status("127.2.0.1", f"known-{n}.test")] += 1
        return statuses


async def story():
    flood = Flood()
    for n in range(KNOWN):
        assert (await flood.status("127.2.0.1", f"known-{n}.test"))[0] == 200
    began = flood.clock()
    known = asyncio.create_task(flood.ask_known())
    many = [asyncio.create_task(flood.name_many(n)) for n in range(ADDRESSES)]
    while flood.made_up[429] <= 50:  # noqa: ASYNC110 - the clock jumps
        await asyncio.sleep(RESPONSE_TIME)
    cold = [await flood.status(f"127.3.0.{n + 1}", f"cold-{n}.test") for n in range(COLD)]
    await asyncio.gather(*many)
    took = flood.clock() - began
    flood.over.set()
    assert {status for status, _ in cold} == {200}
    assert max(seconds for _, seconds in cold) < 2.0
    lookups_of_known = await known
    assert {status for status, _ in lookups_of_known} == {200}
    assert max(seconds for _, seconds in lookups_of_known) == pytest.approx(RESPONSE_TIME), "they go first"
    unknown = sum("none" in name for name in flood.core.asked)
    assert unknown <= 2 * LIMIT * (took + 1.0) + 2
    assert flood.made_up[429] > ADDRESSES * NAMES_EACH / 2
    assert flood.made_up == {404: unknown, 429: ADDRESSES * NAMES_EACH - unknown}, "nobody waited in vain"
    await flood.resolver.close()


def test_cold_and_known_sites_are_served_in_a_flood():
    virtually(story())
