"""Changes and invalidations: which routes become stale or expire, and which lookups follow."""

import asyncio
import time
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from edge.net.routing.core_api import LookupResult
from edge.net.routing.invalidator import IN_USE
from edge.net.time_slices import TimeSlices
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import Freshness
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.refresh_schedule import RefreshSchedule
from edge.rules.routing.route_records import record_of
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.saved_route import SavedRoute
from edge.rules.settings import RouteSettings
from tests.net.routing.test_resolver import Case
from tests.support.fake_transports import turns
from tests.support.needs import needs_plain
from tests.support.virtual_time import virtually

pytestmark = pytest.mark.usefixtures("nobody_pauses")


# What the platform tells without being asked


async def test_a_changed_route_in_use_is_looked_up_at_once():
    case = Case()
    used, unused = await case.learn("used.test", "unused.test")
    unused.used_at = case.now - IN_USE
    case.now += 1.0
    await case.changed(Change("hostname", "used.test"), Change("hostname", "unused.test"))
    assert used.freshness(case.now) is Freshness.STALE, "served at once nevertheless"
    await turns(10)
    assert case.core.asked[2:] == ["used.test"]
    case.core.respond("used.test", generation=2)
    await turns()
    assert case.resolver.table.peek("used.test").freshness(case.now) is Freshness.FRESH
    assert case.core.asked[3:] == [], "at its next request"
    case.resolver.refresh("unused.test", unused, case.now)
    await turns()
    assert case.core.asked[3:] == ["unused.test"]
    await case.resolver.close()


async def test_a_change_of_an_environment_finds_all_its_hostnames():
    case = Case()
    routes = await case.learn("a.test", "b.test")
    [other] = await case.learn("c.test", site="another")
    case.now += 120.0
    for route in (*routes, other):
        case.resolver.table.renew(route, "max-age=60", case.now, 0.0)
    case.now += 1.0
    await case.changed(Change("environment", "site/live"))
    assert [route.freshness(case.now) for route in routes] == [Freshness.STALE] * 2
    assert other.freshness(case.now) is Freshness.FRESH
    await turns(10)
    assert len(case.core.asked) == 3, "none was in use for a minute"


@pytest.mark.parametrize(
    ("change", "stale", "asked"),
    [
        (Change("all", ""), {"a.test", "b.test", "c.test"}, set()),
        (Change("server", "srv-1"), {"a.test", "b.test"}, {"b.test"}),
        (Change("site", "another"), {"c.test"}, {"c.test"}),
        (Change("environment", "site/live"), {"a.test", "b.test"}, {"b.test"}),
        (Change("environment", "nobody/live"), set(), set()),
        (Change("server", ""), set(), set()),
        (Change("planet", "earth"), set(), set()),
    ],
    ids=["all", "server", "site", "environment", "unknown environment", "no server", "unknown kind"],
)
async def test_a_change_makes_routes_stale_and_those_in_use_are_looked_up(change, stale, asked):
    """After a change of everything, routes are looked up at their next request."""
    case = Case()
    names = ("a.test", "b.test", "c.test")
    await case.learn("a.test", "b.test", server="srv-1")
    await case.learn("c.test", site="another", server="srv-2")
    case.now += 1.0
    table = case.resolver.table
    table.peek("a.test").used_at = case.now - IN_USE
    await case.changed(change)
    await turns()
    assert {name for name in names if table.peek(name).freshness(case.now) is Freshness.STALE} == stale
    assert set(case.core.asked[3:]) == asked
    await case.resolver.close()


async def test_a_change_of_an_unknown_host_removes_it():
    case = Case()
    case.resolve("new.test")
    await turns()
    case.core.respond_unknown("new.test")
    await turns()
    assert case.resolver.table.get("new.test") is not None
    await case.changed(Change("hostname", "new.test"))
    assert case.resolver.table.get("new.test") is None


async def test_the_result_of_a_lookup_from_before_the_change_is_stale():
    case = Case()
    [route] = await case.learn("a.test")
    case.now += 100.0
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    case.now += 0.1
    await case.changed(Change("hostname", "a.test"))
    case.now += 0.1
    case.core.respond("a.test")
    await turns()
    route = case.resolver.table.peek("a.test")
    assert route.taken_at == case.now
    assert route.freshness(case.now) is Freshness.STALE
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    case.core.respond("a.test", generation=2)
    await turns()
    assert case.resolver.table.peek("a.test").freshness(case.now) is Freshness.FRESH


@pytest.mark.parametrize(
    ("change", "hits", "expired"),
    [
        (Change("hostname", "a.test"), 1, {"a.test"}),
        (Change("hostname", "gone.test"), 1, set()),
        (Change("hostname", "no.test"), 0, set()),
        (Change("site", "site"), 2, {"a.test", "b.test"}),
        (Change("environment", "other/live"), 1, {"c.test"}),
        (Change("environment", "other"), 0, set()),
        (Change("server", "srv-2"), 1, {"c.test"}),
        (Change("all", ""), 4, {"a.test", "b.test", "c.test"}),
    ],
    ids=["hostname", "absent", "unknown", "site", "environment", "unknown environment", "server", "all"],
)
async def test_invalidated_routes_are_expired(change, hits, expired):
    """The routes are not removed: they are used when the core API does not respond."""
    case = Case()
    names = ("a.test", "b.test", "c.test")
    await case.learn("a.test", "b.test", server="srv-1")
    await case.learn("c.test", site="other", server="srv-2")
    case.resolve("gone.test")
    await turns()
    case.core.respond_unknown("gone.test")
    await turns()
    assert await case.resolver.invalidator.invalidate(change) == hits
    table = case.resolver.table
    assert {name for name in names if table.get(name).freshness(case.now) is Freshness.EXPIRED} == expired
    assert (table.get("gone.test") is None) == (change.name == "gone.test" or change.kind == "all")


async def test_a_change_of_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="planet is none of hostname, environment, site, server, certificate, all"):
        await Case().resolver.invalidator.invalidate(Change("planet", "earth"))


# However much it is


MANY = 20_000


def backends(n):
    return (Backend("b1", "10.0.0.1", 80, f"srv-{n % 100}"),)


class CountingClock:
    """A clock that counts how often it is read: once in sixteen steps of a work."""

    def __init__(self, step=0.0):
        self.count, self.step = 0, step

    def __call__(self):
        self.count += 1
        return self.count * self.step


class CountingTable(RouteTable):
    """Counts the reads of single routes, and of all of them."""

    singles = lists = 0

    def peek(self, hostname):
        self.singles += 1
        return super().peek(hostname)

    def hostnames(self, start=0, most=None):
        self.lists += 1
        return super().hostnames(start, most)


def case_with_routes(hostnames, clock):
    """Sites of five hostnames each, on a hundred servers."""
    case = Case(
        table=CountingTable,
        slices=TimeSlices(budget=0.001, pause=0.0, longest_pause=0.0, clock=clock),
        routes=RouteSettings(jitter=0.0),
        wall=lambda: case.now,
    )
    compact_routes, at = case.resolver.compact_routes, case.now
    for n in range(hostnames):
        response = RouteResponse(f"{n}.test", f"site-{n // 5}", "live", 1, backends(n))
        compact_routes.keep(record_of(f"{n}.test", at, SavedRoute(at + 60, at + 600, at + 900, None, response)))
        assert compact_routes.promote(f"{n}.test") is not None
    case.now += 1.0
    return case


def stale(case):
    table = case.resolver.table
    return {name for name in table.hostnames() if table.peek(name).freshness(case.now) is not Freshness.FRESH}


@needs_plain
async def test_the_cost_of_a_change_depends_on_the_routes_concerned_only():
    clock, concerned = CountingClock(), set()
    case = case_with_routes(MANY, clock)
    table = case.resolver.table
    for change, numbers in (
        (Change("site", "site-77"), range(385, 390)),
        (Change("environment", "site-9/live"), range(45, 50)),
        (Change("server", "srv-95"), range(95, MANY, 100)),
        (Change("site", "nobody"), ()),
        (Change("hostname", "5.test"), [5]),
        (Change("hostname", "unknown.test"), ()),
    ):
        concerned |= {f"{n}.test" for n in numbers}
        for results in (case.changed(change), case.resolver.invalidator.invalidate(change)):
            clock.count = table.singles = table.lists = 0
            await results
            assert clock.count <= 2 + (len(numbers) + 16) / 16, change
            assert (table.singles, table.lists) <= (max(1, len(numbers)), 0), change
    assert stale(case) == concerned
    await case.resolver.close()


@needs_plain
async def test_requests_do_not_wait_while_everything_becomes_stale():
    """A slice ends after a millisecond of the clock, and requests get their turn."""
    case = case_with_routes(2000, CountingClock(step=0.0001))
    case.resolver.invalidator.changed([EVERYTHING])
    seen = [0]
    while seen[-1] < 2000:
        await asyncio.sleep(0)
        seen.append(len(stale(case)))
    steps = [after - before for before, after in pairwise(seen)]
    assert max(steps) <= 16 * 11
    assert len([step for step in steps if step]) >= 2000 / (16 * 11)
    await case.resolver.close()


async def some_are_stale(case):
    """The number of stale routes in the first turn in which there are any."""
    while not (count := len(stale(case))):  # noqa: ASYNC110 - routes have no event
        await asyncio.sleep(0)
    return count


@needs_plain
async def test_requests_do_not_wait_while_everything_is_invalidated():
    case = case_with_routes(2000, CountingClock(step=0.0001))
    order = asyncio.create_task(case.resolver.invalidator.invalidate(EVERYTHING))
    expired = await some_are_stale(case)
    assert expired <= 16 * 11
    assert await order == 2000
    assert len(stale(case)) == 2000
    await case.resolver.close()


@needs_plain
async def test_the_same_command_given_many_times_is_executed_once_more():
    """The command that is being executed may have passed routes already, so one more execution is needed."""
    clock = CountingClock()
    case = case_with_routes(400, clock)
    case.resolver.invalidator._slices = TimeSlices(budget=0.0, pause=0.0, longest_pause=0.0, clock=clock)
    first = asyncio.create_task(case.resolver.invalidator.invalidate(EVERYTHING))
    await some_are_stale(case)
    others = [asyncio.create_task(case.resolver.invalidator.invalidate(EVERYTHING)) for _ in range(100)]
    assert await asyncio.gather(first, *others) == [400] * 101
    assert clock.count <= 2 * (2 * 400 / 16 + 3)
    await case.resolver.close()


async def test_a_failed_command_is_reported_and_the_next_ones_are_executed(monkeypatch, caplog):
    case = Case()
    await case.learn("a.test")
    with monkeypatch.context() as patch:
        patch.setattr(type(case.resolver.table), "invalidate", lambda table, hostname: 1 / 0)
        with pytest.raises(asyncio.CancelledError):
            await case.resolver.invalidator.invalidate(EVERYTHING)
    assert caplog.records[-1].code == "background_work_failed"
    assert await case.resolver.invalidator.invalidate(EVERYTHING) == 1
    await case.resolver.close()


async def test_a_flood_of_changes_of_unused_routes_demotes_nothing():
    """Compact routes stay compact, and are stale when they are recalled."""
    case = Case(routes=RouteSettings(jitter=0.0, ready=2), wall=lambda: case.now)
    await case.learn("0.test", "1.test", "2.test", "3.test")
    before = case.resolver.table.hostnames()
    case.now += 1.0
    await case.changed(*(Change("hostname", f"{n}.test") for n in range(2)))
    assert case.resolver.table.hostnames() == before
    assert len(case.resolver.compact_routes) == 2
    case.now += 1.0
    case.resolve("0.test")
    assert case.results[-1].freshness(case.now) is Freshness.STALE
    await turns()
    assert case.core.asked[4:] == ["0.test"], "served, and looked up"
    case.core.respond("0.test")
    await turns()
    await case.learn("4.test", "5.test")
    assert case.resolver.table.peek("0.test") is None
    case.now += 1.0
    case.resolve("0.test")
    assert case.results[-1].freshness(case.now) is Freshness.FRESH, "confirmed since"
    await case.changed(*(Change("hostname", name) for name in ("1.test", "2.test", "3.test", "unknown.test")))
    for name in ("1.test", "2.test", "3.test"):
        case.resolver.learn([record_of(name, case.now + 1, SavedRoute(case.now, case.now, case.now, None, None))])
        case.resolve(name)
    assert case.resolver.compact_routes._doubted_hostnames == {}
    await case.resolver.close()


# However long it lasts: on a virtual clock


class SlowCoreApi:
    """A core API that responds after some seconds, with a higher generation each time."""

    def __init__(self, delay=0.005):
        self.asked = []
        self.delay = delay
        self.generation = 0
        self.event = asyncio.Event()

    async def ask(self, hostname, etag):
        began = asyncio.get_running_loop().time()
        self.asked.append((began, hostname))
        self.event.set()
        await asyncio.sleep(self.delay)
        self.generation += 1
        response = RouteResponse(hostname, f"site-{hostname}", "live", self.generation, backends(1))
        return LookupResult(response, False, "max-age=60", None)

    def timed_out(self):
        raise AssertionError

    async def close(self):
        pass


def new_case(core, **schedule):
    loop = asyncio.get_running_loop()
    rand = Random(1).random
    case = Case(core=core, clock=loop.time, rand=rand)
    if schedule:
        case.resolver.refresher._schedule = RefreshSchedule(**schedule)
    return case


async def use_route(case, hostname):
    """Use the route of this hostname as an exchange does."""
    now = asyncio.get_running_loop().time()
    route = case.resolver.table.use(hostname, now)
    if route is None or now >= route.expired_at:
        done = asyncio.get_running_loop().create_future()
        case.resolver.resolve(hostname, done.set_result)
        await done
    elif now >= route.renew_at:
        case.resolver.refresh(hostname, route, now)


FLOOD_KINDS = ("hostname", "site", "environment", "server", "all")


def random_change(rand, names):
    kind, name = rand.choice(FLOOD_KINDS), rand.choice([*names, f"no-{rand.randrange(100_000)}.test"])
    named = {
        "hostname": name,
        "site": f"site-{name}",
        "environment": f"site-{name}/live",
        "server": "srv-1",
        "all": "",
    }
    return Change(kind, named[kind])


@pytest.mark.parametrize("rate", [None, 20.0])
def test_ten_seconds_of_changes_cause_few_lookups_and_the_last_change_is_seen(rate):
    async def flood():
        loop, core, rand = asyncio.get_running_loop(), SlowCoreApi(), Random(2)
        case = new_case(core, **({} if rate is None else {"rate": rate}))
        names = [f"{n}.test" for n in range(50)]
        for name in names:
            await use_route(case, name)
        await asyncio.sleep(2.0)
        core.asked.clear()
        began = loop.time()
        for n in range(1000):  # five changes and two requests in each hundredth of a second
            case.resolver.invalidator.changed(random_change(rand, names) for _ in range(50))
            for _ in range(2):
                await use_route(case, names[(7 * n) % 50])
            await asyncio.sleep(0.01)
        ended = loop.time()
        assert ended - began == pytest.approx(10.0, abs=0.1)
        most = 50.0 if rate is None else rate
        assert len(core.asked) <= 11 * most + 10
        assert len(core.asked) >= 0.8 * 10 * most
        for name in names:
            times = [at for at, asked in core.asked if asked == name]
            assert all(after - before >= 0.999 for before, after in pairwise(times))
        await asyncio.sleep(50 / most + 1.5)
        assert len(case.resolver.refresher) == 0
        for name in names:
            if rate is not None:
                await use_route(case, name)  # after `all`, routes are looked up at the next request
        await asyncio.sleep(50 / most + 1.5)
        for name in names:
            route = case.resolver.table.peek(name)
            assert route.taken_at > route.changed_at
            assert max(at for at, asked in core.asked if asked == name) > route.changed_at, (
                "looked up after the change"
            )
        await case.resolver.close()

    virtually(flood())


def test_repeated_changes_of_everything_are_applied_once_a_second():
    async def flood():
        loop, case = asyncio.get_running_loop(), new_case(SlowCoreApi())
        await use_route(case, "a.test")
        moments, route = [], case.resolver.table.peek("a.test")
        for _ in range(350):
            case.resolver.invalidator.changed([EVERYTHING])
            await asyncio.sleep(0.01)
            if route.changed_at not in moments:
                moments.append(route.changed_at)
        last = loop.time()
        assert [after - before for before, after in pairwise(moments)] == pytest.approx([1.0] * 3, abs=0.02)
        await asyncio.sleep(1.0)
        assert route.changed_at > last - 0.01
        await case.resolver.close()

    virtually(flood())


def test_a_change_during_a_lookup_causes_another_lookup():
    """The response may be from before or after the change."""

    async def play():
        core = SlowCoreApi()
        case = new_case(core)
        await use_route(case, "a.test")
        await asyncio.sleep(2.0)
        core.asked.clear()
        core.event.clear()
        case.resolver.invalidator.changed([Change("hostname", "a.test")])
        await core.event.wait()
        await asyncio.sleep(0.001)
        case.resolver.invalidator.changed([Change("hostname", "a.test")])
        await asyncio.sleep(5.0)
        assert len(core.asked) == 2
        route = case.resolver.table.peek("a.test")
        assert route.freshness(asyncio.get_running_loop().time()) is Freshness.FRESH
        await case.resolver.close()

    virtually(play())


def test_a_change_during_a_slow_lookup_is_looked_up_after_it():
    """The slow lookup was caused by time, not by a change."""

    async def play():
        loop, core = asyncio.get_running_loop(), SlowCoreApi(delay=2.5)
        case = new_case(core)
        await use_route(case, "a.test")
        await asyncio.sleep(57.0)
        core.asked.clear()
        core.event.clear()
        await use_route(case, "a.test")
        await core.event.wait()
        began = loop.time()
        await asyncio.sleep(0.1)
        case.resolver.invalidator.changed([Change("hostname", "a.test")])
        await asyncio.sleep(10.0)
        assert [at - began for at, _ in core.asked] == pytest.approx([0.0, 3.2], abs=0.3)
        assert case.resolver.table.peek("a.test").freshness(loop.time()) is Freshness.FRESH
        await case.resolver.close()

    virtually(play())


def test_changed_compact_routes_are_looked_up_at_the_same_rate():
    async def play():
        loop, core = asyncio.get_running_loop(), SlowCoreApi()
        case = Case(core=core, clock=loop.time, wall=loop.time, rand=Random(1).random)
        at = loop.time()
        for n in range(500):
            response = RouteResponse(f"{n}.test", f"site-{n}", "live", 1, backends(1))
            saved = SavedRoute(at + 60, at + 600, at + 900, None, response)
            case.resolver.compact_routes.keep(record_of(f"{n}.test", at, saved))
        await asyncio.sleep(1.0)
        case.resolver.invalidator.changed([Change("server", "srv-1")])
        await asyncio.sleep(1.0)
        for n in range(500):
            await use_route(case, f"{n}.test")
        await asyncio.sleep(1.0)
        assert 90 <= len(core.asked) <= 103
        await asyncio.sleep(9.0)
        assert len({name for _, name in core.asked}) == len(core.asked) == 500
        await case.resolver.close()

    virtually(play())


def test_the_sites_of_a_server_are_looked_up_one_after_the_other():
    async def play():
        loop, core = asyncio.get_running_loop(), SlowCoreApi()
        case = new_case(core)
        for n in range(1000):
            await use_route(case, f"{n}.test")
        core.asked.clear()
        began = loop.time()
        case.resolver.invalidator.changed([Change("server", "srv-1")])
        await asyncio.sleep(12.0)
        times = [at - began for at, _ in core.asked]
        assert len(times) == len({name for _, name in core.asked}) == 1000
        assert 9.0 < max(times) < 11.0
        assert max(Counter(int(at) for at in times).values()) <= 103
        assert min(times) < 0.1
        await case.resolver.close()

    virtually(play())


def test_a_route_learned_from_another_worker_is_not_looked_up():
    async def play():
        loop, core = asyncio.get_running_loop(), SlowCoreApi()
        case = new_case(core, spread=1.0)
        await use_route(case, "a.test")
        await asyncio.sleep(2.0)
        core.asked.clear()
        case.resolver.invalidator.changed([Change("hostname", "a.test")])
        await asyncio.sleep(0.0)
        at = time.time() + 0.001
        response = RouteResponse("a.test", "site-a.test", "live", 99, backends(1))
        case.resolver.learn([record_of("a.test", at, SavedRoute(at + 60, at + 600, at + 900, None, response))])
        await asyncio.sleep(3.0)
        assert core.asked == []
        assert case.resolver.table.peek("a.test").freshness(loop.time()) is Freshness.FRESH
        case.resolver.invalidator.changed([Change("hostname", "a.test")])
        await asyncio.sleep(3.0)
        assert len(core.asked) == 1, "it is in use nevertheless"
        await case.resolver.close()

    virtually(play())
