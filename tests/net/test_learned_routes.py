"""Compact routes: learned from other processes, shared with them, and demoted from the table."""

import pytest

from edge.net.routing import compact_routes
from edge.rules.explain import RouteFilter, list_routes
from edge.rules.routing.change_records import Change
from edge.rules.routing.freshness import Freshness
from edge.rules.routing.invalidation import LastChanges
from edge.rules.routing.route_records import record_of, records
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.saved_route import SavedRoute
from edge.rules.settings import RouteSettings
from tests.net.routing.test_resolver import Case, turns

pytestmark = pytest.mark.usefixtures("nobody_pauses")

AHEAD = 5000.0
"Seconds by which the wall clock is ahead of the monotonic clock here."


@pytest.fixture
async def case():
    case = Case()
    case.resolver.compact_routes._wall = lambda: case.now + AHEAD
    yield case
    await case.resolver.close()


def a_record(hostname="a.test", *, confirmed=1000.0, generation=1, answered=True):
    answer = RouteResponse(hostname, "site", "live", generation, ()) if answered else None
    at = confirmed + AHEAD
    return record_of(hostname, at, SavedRoute(at + 60, at + 600, at + 9000, '"e"', answer))


async def look_up(case, hostname="a.test", **values):
    case.resolve(hostname)
    await turns()
    case.core.respond(hostname, **values)
    await turns()


async def test_a_looked_up_route_is_shared_once(case):
    await look_up(case)
    [record] = records(b"".join(case.resolver.compact_routes.take_unpublished(1000, 1 << 20)))
    assert (record.hostname, record.confirmed) == ("a.test", 1000.0 + AHEAD)
    assert case.resolver.compact_routes.take_unpublished(1000, 1 << 20) == []


async def test_a_learned_route_keeps_its_lifetime(case):
    case.now = 1010.0
    case.resolver.learn([a_record()])
    case.resolve("a.test")
    [route] = case.results
    assert (route.response.hostname, route.etag) == ("a.test", '"e"')
    assert route.freshness(1059.0) is Freshness.FRESH
    assert route.freshness(1061.0) is Freshness.STALE
    assert (case.core.asked, len(case.resolver.compact_routes)) == ([], 0)


async def test_a_route_from_before_the_start_is_stale(case):
    """Changes since then may have been missed: it is served at once, and looked up in the background."""
    case.resolver.learn([a_record(confirmed=990.0)])
    case.resolve("a.test")
    assert case.results[0].freshness(case.now) is Freshness.STALE
    await turns()
    assert case.core.asked == ["a.test"]


async def test_a_route_confirmed_in_the_future_is_stale(case):
    """A clock was a year ahead, and has been corrected since."""
    year = 365 * 86400
    case.resolver.learn([a_record(confirmed=case.now + year)])
    case.resolve("a.test")
    route = case.results[0]
    assert route.freshness(case.now) is Freshness.STALE
    assert route.gone_at <= case.now + 21 * 86400
    await turns()
    assert case.core.asked == ["a.test"]


async def test_an_expired_route_is_looked_up_first_and_served_if_that_fails(case):
    case.now = 1700.0
    case.resolver.learn([a_record()])
    case.resolve("a.test")
    assert case.results == []
    await turns()
    await case.core.fail("a.test")
    await turns()
    assert case.results[0].response.hostname == "a.test"


async def test_gone_routes_and_unknown_hosts_are_not_known(case):
    case.now = 20_000.0
    case.resolver.learn([a_record(), a_record("b.test", answered=False)])
    case.resolve("a.test")
    case.resolve("b.test")
    assert case.results == []
    await turns()
    assert case.core.asked == ["a.test", "b.test"]


async def test_the_newer_route_is_used(case):
    await look_up(case, generation=5)
    case.resolver.learn([a_record(confirmed=999.0, generation=6)])
    assert case.resolver.table.get("a.test").response.generation == 5, "confirmed earlier"
    case.now = 1010.0
    case.resolver.learn([a_record(confirmed=1009.0, generation=4)])
    assert case.resolver.table.get("a.test").response.generation == 5, "an older generation never wins"
    case.resolver.learn([a_record(confirmed=1009.0, generation=6)])
    assert case.resolver.table.get("a.test").response.generation == 6
    case.resolver.learn([a_record(confirmed=1010.0, answered=False)])
    assert case.resolver.table.get("a.test").response is None, "another worker learned that it is gone"


async def test_an_invalidation_applies_to_compact_routes_too(case):
    case.now = 1010.0
    case.resolver.learn([a_record(), a_record("b.test")])
    await case.resolver.invalidator.invalidate(Change("hostname", "a.test"))
    assert case.resolver.table.get("a.test").freshness(case.now) is Freshness.EXPIRED
    await case.resolver.invalidator.invalidate(Change("site", "another"))
    case.resolver.learn([a_record("c.test")])
    case.resolve("c.test")
    assert case.results[-1].response.hostname == "c.test", "not invalidated"
    case.results.clear()
    await case.resolver.invalidator.invalidate(Change("all", ""))
    case.resolve("b.test")
    assert case.results == [], "looked up first"
    await turns()
    assert case.core.asked == ["b.test"]


async def test_a_record_learned_during_a_lookup_is_removed(case):
    case.resolve("a.test")
    await turns()
    case.resolver.learn([a_record()])
    assert len(case.resolver.compact_routes) == 1
    case.core.respond("a.test")
    await turns()
    assert (len(case.resolver.table), len(case.resolver.compact_routes)) == (1, 0)


async def test_both_ways_are_bounded(case, monkeypatch):
    monkeypatch.setattr(compact_routes, "MAX_UNPUBLISHED", 2)
    for n in range(4):
        await look_up(case, f"{n}.test")
    assert len(case.resolver.compact_routes.take_unpublished(1000, 1 << 20)) == 2
    monkeypatch.setattr(type(case.resolver.table), "capacity", 3)
    case.resolver.learn(a_record(f"learned-{n}.test") for n in range(9))
    assert len(case.resolver.compact_routes) == 3
    case.resolve("learned-8.test")
    assert case.results[-1].response.hostname == "learned-8.test", "the newest ones are stored"


# Routes that the table demotes


@pytest.fixture
async def small():
    """A case with a table of two routes."""
    case = Case(routes=RouteSettings(jitter=0.0, ready=2))
    case.resolver.compact_routes._wall = lambda: case.now + AHEAD
    yield case
    await case.resolver.close()


async def test_a_demoted_route_comes_back_unchanged(small):
    for n in range(4):
        await look_up(small, f"{n}.test", site=f"site-{n}", generation=n)
    assert (len(small.resolver.table), len(small.resolver.compact_routes)) == (2, 2)
    before = small.results[0]
    small.now += 10.0
    small.resolve("0.test")
    route = small.results[-1]
    assert route is not before
    assert route.response == before.response
    assert (route.taken_at, route.fresh_until, route.gone_at) == (1000.0, 1060.0, before.gone_at)
    assert small.core.asked == [f"{n}.test" for n in range(4)], "no lookup"
    assert (len(small.resolver.table), len(small.resolver.compact_routes)) == (2, 2), "another one was demoted"


async def test_an_environment_is_forgotten_with_its_last_hostname(small):
    await look_up(small, "a.test", site="one")
    await look_up(small, "b.test", site="one")
    await look_up(small, "c.test", site="two")
    assert small.resolver.environments.peek("one", "live") is small.results[0].environment
    await look_up(small, "d.test", site="three")
    assert len(small.resolver.environments) == 2
    small.results.clear()  # while it is referenced, its name leads to it
    small.resolver.compact_routes.take_unpublished(1000, 1 << 20)
    assert small.resolver.environments.peek("one", "live") is None


async def test_an_environment_with_requests_in_flight_is_not_forgotten(small):
    await look_up(small, "a.test", site="one")
    small.results[0].environment.in_flight = 1
    for name in ("b.test", "c.test"):
        await look_up(small, name, site=name)
    assert small.resolver.environments.peek("one", "live") is small.results[0].environment


async def test_compact_routes_are_listed_after_those_of_the_table(small, monkeypatch):
    for n in range(4):
        await look_up(small, f"{n}.test", site=f"site-{n % 2}")
    small.resolver.learn([a_record("learned.test"), a_record("gone.test", answered=False)])
    small.now += 1.0
    await small.changed(Change("site", "site-1"))

    def pages(wanted=RouteFilter(), most=100, looks=1000):  # noqa: B008 - it is frozen
        start, found, count = 0, [], 0
        while start is not None:
            page = list_routes(
                small.resolver.table,
                small.resolver.compact_routes.listed,
                wanted,
                start=start,
                most=most,
                now=small.now,
                looks=looks,
            )
            assert len(page.routes) <= most
            found += [(route.hostname, route.freshness) for route in page.routes]
            start, count = page.next, count + 1
        return found, count

    ready, compact = [("2.test", "fresh"), ("3.test", "stale")], [("0.test", "fresh"), ("1.test", "stale")]
    every = [*ready, *compact, ("learned.test", "fresh")]
    assert pages() == (every, 1)
    assert pages(most=2)[0] == every
    assert pages(RouteFilter(site="site-1"))[0] == [("3.test", "stale"), ("1.test", "stale")]
    assert pages(RouteFilter(freshness="fresh"))[0] == every[::2]
    assert pages(looks=1) == (every, 6), "a page ends when it has cost enough"
    assert len(small.resolver.compact_routes) == 4, "listing is not a use"


async def test_a_changed_compact_route_is_stale_when_it_comes_back(small):
    for n in range(4):
        await look_up(small, f"{n}.test", site=f"site-{n}", server=f"srv-{n}")
    small.now += 1.0
    await small.changed(Change("environment", "site-0/live"))
    small.now += 1.0
    small.resolve("0.test")
    assert small.results[-1].freshness(small.now) is Freshness.STALE
    await turns()
    assert small.core.asked[4:] == ["0.test"], "served, and looked up"
    small.resolve("1.test")
    assert small.results[-1].freshness(small.now) is Freshness.FRESH, "another environment"
    await small.changed(Change("server", "srv-other"))
    small.now += 1.0
    small.resolve("2.test")
    assert small.results[-1].freshness(small.now) is Freshness.FRESH, "another server"
    await small.changed(Change("server", "srv-3"))
    small.now += 1.0
    small.resolve("3.test")
    assert small.results[-1].freshness(small.now) is Freshness.STALE


async def test_changes_of_too_many_environments_are_a_change_of_everything(small):
    small.resolver.compact_routes.doubted = LastChanges(limit=3)
    for n in range(4):
        await look_up(small, f"{n}.test", site=f"site-{n}")
    small.now += 1.0
    for n in range(4):
        await small.changed(Change("environment", f"other-{n}/live"))
    small.now += 1.0
    small.resolve("0.test")
    assert small.results[-1].freshness(small.now) is Freshness.STALE


@pytest.mark.parametrize("values", [{"generation": 2**64}, {"generation": -(2**70)}], ids=str)
async def test_a_route_that_cannot_be_encoded_is_served_and_not_shared(case, caplog, values):
    """It blocks no other route: a core API may send any number."""
    await look_up(case, "huge.test", **values)
    await look_up(case, "a.test")
    [huge, _] = case.results
    assert huge.response.generation == values["generation"]
    [record] = records(b"".join(case.resolver.compact_routes.take_unpublished(1000, 1 << 20)))
    assert record.hostname == "a.test"
    assert [r.hostname for r in caplog.records if getattr(r, "code", "") == "route_not_encodable"] == ["huge.test"]


async def test_a_full_table_drops_a_route_that_cannot_be_encoded():
    case = Case(routes=RouteSettings(ready=1, capacity=10))
    await look_up(case, "huge.test", generation=2**64)
    await look_up(case, "a.test")
    assert case.resolver.table.hostnames() == ["a.test"]
    assert len(case.resolver.compact_routes) == 0
    await case.resolver.close()


async def test_batches_of_shared_routes_are_bounded_in_number_and_bytes(case):
    for n in range(30):
        await look_up(case, f"{n}.test")
    compact_routes = case.resolver.compact_routes
    one = len(compact_routes.take_unpublished(1, 1)[0])
    assert len(compact_routes.take_unpublished(5, 1 << 20)) == 5
    assert len(compact_routes.take_unpublished(1000, 3 * one)) == 3
    assert len(compact_routes.take_unpublished(1000, 1 << 20)) == 21
    assert compact_routes.take_unpublished(1000, 1 << 20) == []


async def test_a_route_demoted_meanwhile_is_shared_from_its_record():
    case = Case(routes=RouteSettings(ready=1, capacity=10))
    for hostname in ("a.test", "b.test", "c.test"):
        await look_up(case, hostname)
    assert len(case.resolver.table) == 1
    shared = records(b"".join(case.resolver.compact_routes.take_unpublished(1000, 1 << 20)))
    assert [record.hostname for record in shared] == ["a.test", "b.test", "c.test"]
    await case.resolver.close()
