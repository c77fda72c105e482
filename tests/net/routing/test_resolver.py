"""Lookups at the core API: one for each hostname, bounded in number and time."""

import asyncio
import socket
import time

import msgspec
import pytest

from edge.net.routing import resolver as resolver_module
from edge.net.routing.core_api import CoreApiError, LookupResult
from edge.net.routing.resolver import RouteResolver
from edge.net.time_slices import TimeSlices
from edge.rules.balancing.circuit_breaker import FAILURES
from edge.rules.balancing.environments import Environments
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.routing.change_records import Change
from edge.rules.routing.lookup_failures import LookupState
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.settings import CoreApiSettings, DemeritSettings, LimitSettings, RetrySettings, RouteSettings
from tests.support.fake_transports import turns
from tests.support.virtual_time import virtually

pytestmark = pytest.mark.usefixtures("nobody_pauses")


REFUSED = "refused"
MOMENT = 0.05


class FakeCoreApi:
    """A core API that responds when the test decides."""

    def __init__(self):
        self.asked = []
        self.pending = {}
        self.timeouts = 0
        self.closed = False

    async def ask(self, hostname, etag):
        self.asked.append(hostname)
        self.pending[hostname] = answer = asyncio.get_running_loop().create_future()
        return await answer

    def respond(self, hostname, *, generation=1, site="site", server=""):
        backends = (Backend("b1", "10.0.0.1", 80, server),)
        route = RouteResponse(hostname, site, "live", generation, backends)
        self.pending[hostname].set_result(LookupResult(route, False, "max-age=60", None))

    async def fail(self, hostname):
        """Fail the first request, and the retry."""
        for _ in range(2):
            self.pending[hostname].set_exception(CoreApiError("status 500"))
            await turns(10)

    def respond_unknown(self, hostname):
        self.pending[hostname].set_result(LookupResult(None, False, "max-age=10", None))

    def timed_out(self):
        self.timeouts += 1

    def reconfigure(self, settings):
        pass

    async def close(self):
        self.closed = True


class Case:
    def __init__(
        self,
        limits=None,
        routes=None,
        *,
        core=None,
        clock=None,
        wall=time.time,
        rand=None,
        slices=None,
        table=RouteTable,
        **settings,
    ):
        self.core = core or FakeCoreApi()
        self.now = 1000.0
        self.results = []
        environments = Environments(DemeritSettings(), RetrySettings())
        self.resolver = RouteResolver(
            CoreApiSettings(url="http://127.0.0.1:1", **settings),
            table=table(routes or RouteSettings(jitter=0.0), environments),
            environments=environments,
            core_api=self.core,
            unknown_host_limit=UnknownHostLimit(limits or LimitSettings()),
            clock=clock or (lambda: self.now),
            wall=wall,
            rand=rand or (lambda: 0.0),
            slices=slices or TimeSlices(clock=lambda: 0.0),
        )

    def resolve(self, hostname, client=""):
        self.resolver.resolve(hostname, self.results.append, client, lambda: self.results.append(REFUSED))

    async def changed(self, *changes):
        """Apply these changes."""
        self.resolver.invalidator.changed(changes)
        await turns()

    async def learn(self, *hostnames, **values):
        """Look up these hostnames. Returns their routes."""
        for hostname in hostnames:
            self.resolve(hostname)
            await turns()
            self.core.respond(hostname, **values)
            await turns()
        return [self.resolver.table.peek(hostname) for hostname in hostnames]


async def test_one_lookup_for_all_requests_that_wait():
    case = Case()
    for _ in range(50):
        case.resolve("a.test")
    await turns()
    assert case.core.asked == ["a.test"]
    assert not case.results
    case.core.respond("a.test")
    await turns()
    assert len(case.results) == 50
    assert {route.response.hostname for route in case.results} == {"a.test"}
    case.resolve("a.test")
    await turns()
    assert case.core.asked == ["a.test"] * 2, "the next request begins a new lookup"
    await case.resolver.close()


async def test_lookups_under_way_are_bounded(monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_UNKNOWN_WAITING", 3)
    case = Case()
    for n in range(5):
        case.resolve(f"{n}.test")
    assert case.results == [None, None], "failed lookups, reported at once"
    await turns()
    assert case.core.asked == ["0.test", "1.test", "2.test"]
    await case.resolver.close()


async def test_each_hostname_has_its_own_lookup():
    case = Case()
    for name in ("a.test", "b.test", "a.test"):
        case.resolve(name)
    await turns()
    assert case.core.asked == ["a.test", "b.test"]
    await case.resolver.close()
    assert case.core.closed


async def test_deadline():
    case = Case(timeout=0.02)
    case.resolve("a.test")
    await asyncio.wait_for(wait_for_results(case), 100)
    assert case.results == [None]
    assert case.core.timeouts == 1
    case.resolve("a.test")
    await turns()
    case.core.respond("a.test")
    await turns()
    assert case.results[1].response.hostname == "a.test"


async def test_the_deadline_includes_the_wait_for_a_slot():
    case = Case(timeout=0.02, concurrency=1)
    case.resolve("a.test")
    case.resolve("b.test")
    await turns()
    assert case.core.asked == ["a.test"]
    await asyncio.wait_for(wait_for_results(case, 2), 100)
    assert case.results == [None, None]


def test_only_a_lookup_that_had_a_slot_shows_that_the_core_api_is_slow():
    async def story():
        case = Case(timeout=0.02, concurrency=1)
        case.resolve("a.test")
        await turns()
        case.resolver._settings = case.resolver._settings.model_copy(update={"timeout": 0.01})
        case.resolve("b.test")
        await wait_for_results(case)
        assert case.core.asked == ["a.test"]
        assert case.core.timeouts == 0
        failure = case.resolver.lookup_state("b.test").failure
        assert failure is not None
        assert failure.error == "no response within 0.01 s, and no free slot of core_api.concurrency"
        await wait_for_results(case, 2)
        assert case.core.timeouts == 1
        await case.resolver.close()

    virtually(story())


async def test_concurrent_lookups_are_bounded():
    case = Case(concurrency=2)
    for name in "abcd":
        case.resolve(f"{name}.test")
    await turns()
    assert case.core.asked == ["a.test", "b.test"]
    case.core.respond("a.test")
    await turns(10)
    assert case.core.asked == ["a.test", "b.test", "c.test"]
    await case.resolver.close()
    assert len(case.results) == 4


@pytest.mark.parametrize("hostname", ["-a.test", "a..b", "", "x" * 64, "ä.test"])
async def test_impossible_hostnames_are_not_looked_up(hostname):
    case = Case()
    case.resolve(hostname)
    assert len(case.results) == 1
    assert case.results[0].response is None
    assert not case.core.asked


async def test_an_error_leaves_the_known_route():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.respond("a.test")
    await turns()
    case.now += 100.0
    case.resolve("a.test")
    await turns()
    await case.core.fail("a.test")
    assert case.results[1] is case.results[0]
    assert case.results[1].last_error == "status 500"


async def test_a_background_lookup_is_not_duplicated():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.respond("a.test")
    await turns()
    [route] = case.results
    case.now += 100.0
    for _ in range(10):
        case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 2
    await case.core.fail("a.test")
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 3, "a pause after a failure"
    case.now += 5.0
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 4
    await case.resolver.close()


async def test_forced_lookups_are_limited():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.respond("a.test")
    await turns()
    [route] = case.results
    allowed = [case.resolver.claim_lookup("a.test", route, case.now) for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2
    case.resolver.refresh_in_background("a.test")
    await turns()
    case.core.respond("a.test", generation=2)
    await turns()
    route = case.resolver.table.get("a.test")
    assert not case.resolver.claim_lookup("a.test", route, case.now + 0.5), "a response does not refill the bucket"
    assert case.resolver.claim_lookup("a.test", route, case.now + 1.5)
    assert not case.resolver.claim_lookup("a.test", route, case.now + 1.5)
    await case.resolver.close()


async def wait_for_results(case, count=1):
    while len(case.results) < count:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0.001)


async def test_a_failed_lookup_is_retried_once():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.pending["a.test"].set_exception(CoreApiError("status 500"))
    await turns(10)
    assert not case.results
    case.core.respond("a.test")
    await turns()
    assert case.results[0].response.hostname == "a.test"
    assert case.core.asked == ["a.test"] * 2


async def test_lookups_are_not_retried_while_the_circuit_is_open():
    case = Case()
    for n in range(5):
        case.resolve(f"{n}.test")
        await turns()
        await case.core.fail(f"{n}.test")
    assert case.results == [None] * 5
    case.now += 10.0
    case.resolve("probe.test")
    await turns()
    case.core.pending["probe.test"].set_exception(CoreApiError("status 500"))
    await turns(10)
    assert case.results == [None] * 6
    assert case.core.asked.count("probe.test") == 1


async def test_known_hostnames_go_first():
    case = Case(concurrency=1)
    [route] = await case.learn("known.test")
    case.now += 100.0
    for name in ("a.test", "b.test"):
        case.resolve(name)
    case.resolver.refresh("known.test", route, case.now)
    await turns()
    case.core.respond("a.test")
    await turns(10)
    assert case.core.asked == ["known.test", "a.test", "known.test"]
    await case.resolver.close()


async def test_unknown_hosts_leave_slots_for_known_ones(monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_UNKNOWN_WAITING", 2)
    case = Case()
    [route] = await case.learn("known.test")
    case.now += 100.0
    for n in range(4):
        case.resolve(f"{n}.test")
    case.resolver.refresh("known.test", route, case.now)
    await turns()
    assert case.core.asked == ["known.test", "0.test", "1.test", "known.test"]
    await case.resolver.close()


async def test_a_route_in_use_is_looked_up_before_it_is_stale():
    """max-age=60: a tenth before."""
    case = Case()
    [route] = await case.learn("a.test")
    assert (route.renew_at, route.fresh_until) == (1054.0, 1060.0)
    case.now = 1053.9
    case.resolver.refresh("a.test", route, case.now)
    assert len(case.core.asked) == 1
    case.now = 1054.0
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 2
    await case.resolver.close()


# Names that nobody has


async def test_a_client_of_too_many_unknown_hosts_is_refused():
    case = Case(LimitSettings(unknown_hosts_per_client=8.0, unknown_hosts=0.0))
    for n in range(150):
        case.resolve(f"{n}.test", "192.0.2.1")
        await turns()
        if f"{n}.test" in case.core.pending:
            case.core.respond_unknown(f"{n}.test")
            await turns()
    assert len(case.core.asked) == 81, "ten seconds' worth, and the one that exceeded the limit"
    assert case.results[81:] == [REFUSED] * 69
    case.resolve("other.test", "192.0.2.2")
    await turns()
    assert case.core.asked[81:] == ["other.test"], "other clients"
    case.now += 1.0
    case.resolve("late.test", "192.0.2.1")
    await turns()
    assert case.core.asked[82:] == ["late.test"], "the debt decreases with time"
    await case.resolver.close()


async def test_a_known_hostname_is_never_refused():
    case = Case(LimitSettings(unknown_hosts_per_client=0.1))
    await case.learn("known.test")
    for n in range(2):
        case.resolve(f"{n}.test", "192.0.2.1")
        await turns()
        case.core.respond_unknown(f"{n}.test")
        await turns()
    case.resolve("new.test", "192.0.2.1")
    assert case.results[-1] == REFUSED
    case.resolver.table.peek("known.test").invalidate()
    case.resolve("known.test", "192.0.2.1")
    await turns()
    assert case.core.asked[-1] == "known.test"
    case.core.respond("known.test")
    await turns()
    assert case.results[-1].response.hostname == "known.test"


async def test_unknown_hosts_of_many_clients_do_not_block_others():
    case = Case(LimitSettings(unknown_hosts=2.0))
    for n in range(60):
        case.resolve(f"{n}.test", f"192.0.2.{n % 20}")
        await turns()
        if f"{n}.test" in case.core.pending:
            case.core.respond_unknown(f"{n}.test")
            await turns()
    assert len(case.core.asked) == 6, "three of each bucket: two, and the one that exceeded the limit"
    case.now += 0.5
    case.resolve("new.test", "198.51.100.1")
    await turns()
    assert case.core.asked[6] == "new.test", "before those that wait already"
    await case.resolver.close()


async def test_hostnames_that_exist_are_not_charged():
    case = Case()
    for n in range(150):
        case.resolve(f"{n}.test", "192.0.2.1")
        await turns()
        case.core.respond(f"{n}.test")
        await turns()
    assert len(case.core.asked) == 150
    assert not case.resolver.lookups.limit.has_debts("192.0.2.1", case.now)


async def test_a_thousand_requests_for_one_hostname_cost_one_lookup():
    case = Case()
    for _ in range(1000):
        case.resolve("none.test", "192.0.2.1")
    await turns()
    case.core.respond_unknown("none.test")
    await turns()
    assert len(case.results) == 1000
    assert case.core.asked == ["none.test"]
    case.resolve("new.test", "192.0.2.1")
    await turns()
    assert case.core.asked == ["none.test", "new.test"]
    await case.resolver.close()


async def test_a_lookup_that_fails_because_of_its_hostname_is_charged():
    case = Case(LimitSettings(unknown_hosts_per_client=0.1))
    for n in range(2):
        case.resolve(f"{n}.test", "192.0.2.1")
        case.resolve(f"service-{n}.test", "192.0.2.2")
        await turns()
        case.core.pending[f"{n}.test"].set_exception(CoreApiError("status 400", service_failed=False))
        await case.core.fail(f"service-{n}.test")
    for n in (1, 2):
        case.resolve(f"new-{n}.test", f"192.0.2.{n}")
    await turns()
    assert case.results[-1] == REFUSED
    assert case.core.asked[-1] == "new-2.test"
    await case.resolver.close()


async def test_an_unknown_host_waits_for_at_most_the_timeout_of_a_lookup():
    case = Case(timeout=4.0)
    assert case.resolver.lookups.timeout == 4.0
    case.resolver.reconfigure(CoreApiSettings(url="http://127.0.0.1:1", timeout=1.0))
    assert case.resolver.lookups.timeout == 1.0


async def test_waiting_lookups_are_counted_and_end_with_the_resolver():
    case = Case(LimitSettings(unknown_hosts=1.0))
    for n in range(6):
        case.resolve(f"{n}.test", f"192.0.2.{n}")
    await turns()
    assert (len(case.core.asked), case.resolver.lookups_under_way) == (4, 6)
    await case.resolver.close()
    assert case.results == [None] * 6


# A core API that hangs


def test_silence_for_half_the_timeout_ends_all_lookups():
    async def story():
        case = Case(timeout=0.4)
        case.clock = asyncio.get_running_loop().time
        case.resolver._clock = case.clock
        began = case.clock()
        for n in range(6):
            case.resolve(f"{n}.test")
        await asyncio.wait_for(wait_for_results(case, 6), 100)
        assert 0.19 <= case.clock() - began < 0.39
        assert case.results == [None] * 6
        case.resolve("next.test")
        assert case.results == [None] * 7, "later lookups fail at once"
        await case.resolver.close()

    virtually(story())


def test_one_response_shows_that_the_core_api_does_not_hang():
    async def story():
        case = Case(timeout=0.4)
        case.clock = asyncio.get_running_loop().time
        case.resolver._clock = case.clock
        began = case.clock()
        for n in range(7):
            case.resolve(f"{n}.test")
        for n in range(2):
            await asyncio.sleep(0.15)
            case.core.respond(f"{n}.test")
        await asyncio.wait_for(wait_for_results(case, 7), 100)
        assert case.clock() - began >= 0.39, "the others had the whole timeout"
        await case.resolver.close()

    virtually(story())


async def test_a_site_for_which_the_core_api_hangs_leaves_slots_for_others():
    case = Case(concurrency=16)
    routes = dict(zip(names := [f"{n}.test" for n in range(50)], await case.learn(*names), strict=True))
    case.core.asked.clear()
    case.now += 1000.0
    for hostname, route in routes.items():
        case.resolver.refresh(hostname, route, case.now)
    await turns()
    assert case.core.asked == names[:12], "nobody else waits: three quarters"
    case.resolve("cold.test")
    await turns()
    assert case.core.asked[-1] == "cold.test"
    for done in range(50):
        case.core.respond(names[done])
        await turns()
    assert set(case.core.asked) == {*names, "cold.test"}, "all have their turn"
    case.core.respond("cold.test")
    await turns()
    assert len(case.resolver._slots) == 0, "nothing is kept"
    await case.resolver.close()


def test_a_known_route_is_served_when_the_core_api_hangs():
    async def story():
        case = Case(timeout=0.4)
        [route] = await case.learn("known.test")
        case.now = route.expired_at + 1.0
        clock = asyncio.get_running_loop().time
        ahead = case.now - clock()
        case.resolver._clock = lambda: clock() + ahead
        case.resolve("known.test")
        for n in range(5):
            case.resolve(f"{n}.test")
        await asyncio.wait_for(wait_for_results(case, 7), 100)
        assert route in case.results
        assert case.results.count(None) == 5
        await case.resolver.close()

    virtually(story())


class ExpiredCase(Case):
    """A known route that has expired, on the clock of the loop."""

    async def begin(self):
        loop = asyncio.get_running_loop()
        [self.route] = await self.learn("known.test")
        self.ahead = self.route.expired_at + 1.0 - loop.time()
        self.resolver._clock = lambda: loop.time() + self.ahead
        self.began = loop.time()

    async def seconds(self, *, again=False):
        """How long a request of now waits for its route."""
        loop, count = asyncio.get_running_loop(), len(self.results)
        began = loop.time()
        if again:
            self.resolver.resolve_again("known.test", self.results.append)
        else:
            self.resolve("known.test")
        await wait_for_results(self, count + 1)
        assert self.results[-1] is self.route
        return loop.time() - began


def test_requests_for_an_expired_route_wait_a_moment_once_for_a_core_api_that_hangs():
    async def story():
        case = ExpiredCase(timeout=5.0)
        await case.begin()
        assert await case.seconds() == pytest.approx(0.25, abs=0.01)
        assert case.route.no_lookup_before > case.resolver._clock(), "others are served as with a stale route"
        await asyncio.sleep(5.0)
        assert case.route.last_error is not None
        case.ahead += 10.0
        assert await case.seconds() < 0.01, "the last lookup has failed"
        await turns()
        assert case.core.asked == ["known.test"] * 3, "but it is looked up"
        case.core.respond("known.test", generation=2)
        await turns()
        case.ahead += 1000.0
        [case.route] = [case.resolver.table.peek("known.test")]
        assert case.route.response.generation == 2
        assert await case.seconds() == pytest.approx(0.25, abs=0.01), "it has succeeded meanwhile"
        await case.resolver.close()

    virtually(story())


def test_a_request_whose_backends_fail_waits_for_the_whole_lookup():
    async def story():
        case = ExpiredCase(timeout=5.0)
        await case.begin()
        assert await case.seconds(again=True) == pytest.approx(5.0, abs=0.01)
        await case.resolver.close()

    virtually(story())


def test_an_expired_route_is_replaced_by_the_response_if_it_comes_at_once():
    async def story():
        case = ExpiredCase(timeout=5.0)
        await case.begin()
        case.resolve("known.test")
        await turns()
        case.core.respond("known.test", generation=2)
        await wait_for_results(case, 2)
        assert case.results[-1].response.generation == 2
        await asyncio.sleep(1.0)
        assert len(case.results) == 2, "each request has one result"
        await case.resolver.close()

    virtually(story())


# what other edges are told


CLOSED = {
    "maintenance": {"maintenance": True},
    "redirect": {"redirect": "https://example.org/"},
    "an empty list": {"backends": ()},
}


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("again", [None, "200", "304"])
def test_a_closed_site_is_announced_when_it_is_certain_not_to_be_one_of_many(kind, again):
    async def story():
        case = Case()
        [route] = await case.learn("a.test")
        case.now += 100.0
        closed = msgspec.structs.replace(route.response, generation=2, **CLOSED[kind])
        case.resolve("a.test")
        await turns()
        case.core.pending["a.test"].set_result(LookupResult(closed, False, "max-age=60", '"2"'))
        await turns()
        await asyncio.sleep(1.0)
        if again is not None:
            result = LookupResult(closed if again == "200" else None, again == "304", "max-age=60", '"2"')
            case.resolver.refresh_in_background("a.test")
            await turns()
            case.core.pending["a.test"].set_result(result)
            await turns()
        assert not len(case.resolver.discovered)
        await asyncio.sleep(10.0)
        assert case.resolver.table.peek("a.test").response == closed
        assert case.resolver.discovered.take_all(case.now) == [Change("environment", "site/live")]
        await case.resolver.close()

    virtually(story())


def test_a_closed_site_that_is_open_again_is_not_announced():
    async def story():
        case = Case()
        [route] = await case.learn("a.test")
        case.now += 100.0
        for changes in ({"generation": 2, "maintenance": True}, {"generation": 2}):
            case.resolver.refresh_in_background("a.test")
            await turns()
            response = msgspec.structs.replace(route.response, **changes)
            case.core.pending["a.test"].set_result(LookupResult(response, False, "max-age=60", None))
            await turns()
        await asyncio.sleep(11.0)
        assert not len(case.resolver.discovered)
        await case.resolver.close()

    virtually(story())


# what is known about lookups


async def test_a_failed_lookup_is_remembered_until_one_succeeds():
    case = Case()
    assert case.resolver.lookup_state("a.test") == LookupState()
    case.resolve("a.test")
    await turns()
    assert case.resolver.lookup_state("a.test").is_under_way
    await case.core.fail("a.test")
    await wait_for_results(case)
    case.now += 3.0
    state = case.resolver.lookup_state("a.test")
    assert state.failure is not None
    assert (state.failure.error, state.failure.at, state.is_under_way) == ("status 500", 1000.0, False)
    assert (state.circuit_open, state.wait) == (False, 0.0)
    await case.learn("a.test")
    assert case.resolver.lookup_state("a.test").failure is None


async def test_while_the_circuit_is_open_every_hostname_shows_why():
    case = Case()
    for number in range(FAILURES):
        case.resolve(f"{number}.test")
        await turns()
        await case.core.fail(f"{number}.test")
        await wait_for_results(case, number + 1)
    state = case.resolver.lookup_state("other.test")
    assert state.circuit_open
    assert state.wait > 0.0
    assert state.failure is not None
    assert state.failure.error == "status 500"


async def test_a_response_that_is_not_usable_makes_a_pause():
    case = Case()
    for _ in range(3):
        case.resolve("a.test")
        await turns()
        case.core.pending["a.test"].set_exception(CoreApiError("not a route", service_failed=False))
        await turns(10)
        case.now += 1.0
    state = case.resolver.lookup_state("a.test")
    assert state.failure is not None
    assert state.failure.rejected
    assert state.wait == max(0.0, state.failure.at + state.failure.pause - case.now)


async def test_a_response_that_came_while_the_worker_was_busy_is_in_time() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    class Remote(FakeCoreApi):
        """Responds over a socket."""

        async def ask(self, hostname, etag):
            await asyncio.get_running_loop().sock_recv(ours, 1)
            route = RouteResponse(hostname, "site", "live", 1, (Backend("b1", "10.0.0.1", 80),))
            return LookupResult(route, False, "max-age=60", None)

    with ours, theirs:
        case = Case(core=Remote(), timeout=MOMENT)
        case.resolve("a.test")
        await turns()
        theirs.send(b"x")
        time.sleep(3 * MOMENT)  # noqa: ASYNC251 - the loop is held up: the time limit passes, too
        await turns(20)
        assert [route is not None and route.response.hostname for route in case.results] == ["a.test"]
        assert case.core.timeouts == 0
