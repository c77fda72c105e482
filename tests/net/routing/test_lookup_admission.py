"""Lookups of unknown hostnames that wait: their timer, their turns of the loop, and how they end."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest

from edge.net.routing.lookup_admission import LookupAdmission
from edge.rules.limits.unknown_host_limit import LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.routing.routes import Route
from edge.rules.settings import LimitSettings
from tests.support.fake_transports import turns
from tests.support.lookup_floods import charge_for
from tests.support.virtual_time import virtually

REFUSED = "refused"
KNOWN = Route(None)


class Case:
    """Lookups that end when the test decides, and known hostnames."""

    def __init__(self, *, rate=1.0, timeout=5.0, capacity=100, at_once=100):
        self.asked = {}
        self.priorities = []
        self.known = {}
        self.rejected = set()
        self.results = {}
        self.out_of_order = False
        self.event = asyncio.Event()
        self.clock = asyncio.get_running_loop().time
        self.admission = LookupAdmission(
            UnknownHostLimit(LimitSettings(unknown_hosts=rate, unknown_hosts_per_client=10.0)),
            clock=self.clock,
            timeout=timeout,
            look_up=self.look_up,
            resolve_known=self.resolve_known,
            is_rejected=lambda hostname: hostname in self.rejected,
            capacity=capacity,
            at_once=at_once,
        )

    def look_up(self, hostname, priority):
        if self.out_of_order:
            return None
        self.asked[hostname] = asyncio.get_running_loop().create_future()
        self.priorities.append(priority)
        self.event.set()

        async def ask():
            return await self.asked[hostname]

        return asyncio.create_task(ask())

    def resolve_known(self, hostname, done):
        if hostname in self.known:
            done(self.known[hostname])
        return hostname in self.known

    def submit(self, hostname, client):
        record = partial(self.record, hostname)
        self.admission.submit(hostname, client, record, partial(record, REFUSED))

    def record(self, hostname, route):
        self.results.setdefault(hostname, []).append(route)
        self.event.set()

    async def until(self, condition):
        async with asyncio.timeout(100):
            while not condition():
                self.event.clear()
                await self.event.wait()

    async def answer(self, hostname, *, exists=False):
        route = Route(None)
        if exists:
            route.response = object()
        self.asked[hostname].set_result(route)
        await turns()

    def use_up(self, names=1):
        """Empty the buckets of unknown hosts with lookups of `names` clients."""
        for n in range(names):
            for _ in range(3):
                charge_for(self.admission.limit, f"10.0.{n}.1", self.clock())


def test_a_lookup_waits_until_there_is_a_token():
    async def story():
        case = Case(rate=20.0)
        case.use_up(21)
        case.submit("a.test", "192.0.2.1")
        await turns()
        assert not case.asked
        assert case.admission.waiting == 1
        began = case.clock()
        await case.until(lambda: "a.test" in case.asked)
        assert case.clock() - began == pytest.approx(0.05, abs=0.001), "a twentieth of a second"
        assert case.priorities == [LookupPriority.WITHOUT_DEBTS]
        await case.answer("a.test", exists=True)
        assert case.results["a.test"][0].response is not None
        assert case.admission.waiting == 0

    virtually(story())


async def test_a_lookup_that_ends_makes_room_at_once():
    case = Case()
    for n in range(3):
        case.submit(f"{n}.test", f"192.0.2.{n}")
    case.submit("3.test", "192.0.2.3")
    case.submit("4.test", "192.0.2.4")
    assert list(case.asked) == ["0.test", "1.test", "2.test", "3.test"]
    await case.answer("0.test", exists=True)
    assert "4.test" in case.asked


async def test_a_client_waits_for_its_own_lookups_only():
    case = Case(rate=4.0)
    for n in range(10):
        case.admission.limit.begin(f"10.0.{n}.1", LookupDecision.COMMON)
    for n in range(6):
        case.submit(f"{n}.test", "192.0.2.1")
    assert len(case.asked) == 4
    for n in range(6):
        await case.answer(f"{n}.test", exists=True)
    assert len(case.results) == 6


async def test_no_lookup_waits_for_longer_than_the_timeout():
    case = Case(rate=0.01, timeout=0.02)
    case.use_up(10)
    case.submit("a.test", "192.0.2.1")
    case.submit("b.test", "192.0.2.1")
    await case.until(lambda: len(case.results) == 2)
    assert case.results == {"a.test": [None], "b.test": [None]}
    assert not case.asked
    assert case.admission.waiting == 0


async def test_waiting_lookups_are_bounded():
    case = Case(rate=0.01, capacity=3)
    case.use_up(10)
    for n in range(5):
        case.submit(f"{n}.test", f"192.0.{n}.1")
    assert case.results == {"0.test": [None], "1.test": [None]}
    case.admission.close()
    assert len(case.results) == 5


async def test_all_requests_that_wait_for_a_hostname_get_its_route():
    case = Case()
    case.use_up(2)
    for n in range(10):
        case.submit("same.test", f"192.0.{n}.1")
    assert case.admission.waiting == 1
    case.admission.reconfigure(LimitSettings(unknown_hosts=0.0))
    await case.until(lambda: case.asked)
    await case.answer("same.test", exists=True)
    assert len(case.results["same.test"]) == 10
    assert len(case.asked) == 1


async def test_a_hostname_that_has_become_known_is_not_looked_up():
    case = Case(rate=0.01, timeout=0.02)
    case.use_up(10)
    case.submit("late.test", "192.0.2.1")
    case.known["late.test"] = KNOWN
    await case.until(lambda: case.results)
    assert case.results == {"late.test": [KNOWN]}
    case.submit("soon.test", "192.0.2.2")
    case.known["soon.test"] = KNOWN
    case.admission.reconfigure(LimitSettings(unknown_hosts=0.0))
    await case.until(lambda: len(case.results) == 2)
    assert case.results["soon.test"] == [KNOWN]
    assert not case.asked
    assert "in_flight=0" in repr(case.admission)


async def test_the_waiting_lookups_of_a_refused_client_end_in_several_turns_of_the_loop():
    case = Case(rate=0.0, at_once=10)
    for n in range(200):
        case.submit(f"{n}.test", "192.0.2.1")
    assert len(case.asked) == 101
    for hostname in list(case.asked):
        case.asked[hostname].set_result(Route(None))
    for hostname in list(case.asked)[:90]:
        while hostname not in case.results:
            await turns(1)
    refused = [len([h for h in case.results if h not in case.asked])]
    while case.admission.waiting:
        await turns(1)
        refused.append(len([h for h in case.results if h not in case.asked]))
    assert refused[-1] + len(case.asked) == 200
    assert all(results == [REFUSED] for hostname, results in case.results.items() if hostname not in case.asked)
    assert max(after - before for before, after in pairwise(refused)) <= 10


async def test_all_waiting_requests_end_when_no_lookup_is_possible():
    case = Case()
    case.use_up(2)
    for n in range(3):
        case.submit("same.test", f"192.0.{n}.1")
    case.out_of_order = True
    case.admission.reconfigure(LimitSettings(unknown_hosts=0.0))
    await case.until(lambda: case.results)
    assert case.results == {"same.test": [None] * 3}
    assert "in_flight=0" in repr(case.admission)


async def test_the_client_of_an_unknown_host_is_charged():
    case = Case(rate=0.0)
    case.rejected.add("rejected.test")
    names = ("unknown.test", "rejected.test", "failed.test", "exists.test")
    for n, name in enumerate(names):
        case.submit(name, f"192.0.2.{n}")
    await case.answer("unknown.test")
    case.asked["rejected.test"].set_result(None)
    case.asked["failed.test"].set_result(None)
    await case.answer("exists.test", exists=True)
    has_debts = case.admission.limit.has_debts
    assert [has_debts(f"192.0.2.{n}", case.clock()) for n in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1"])
async def test_lookups_that_are_cancelled_are_not_charged(client):
    case = Case()
    case.submit("a.test", client)
    await turns()
    case.asked["a.test"].cancel()
    await turns()
    assert case.results == {"a.test": [None]}
    assert "debts=0 in_flight=0" in repr(case.admission)
