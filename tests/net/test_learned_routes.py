"""What one worker was told by the core API, in another: as good as asked for, until something says otherwise."""

import pytest

import edge.net.resolver as resolver_module
from edge.rules.route_records import SavedRoute, record_of, records
from edge.rules.routes import Freshness, RouteAnswer
from tests.net.test_resolver import Case, turns

pytestmark = pytest.mark.usefixtures("nobody_pauses")

AHEAD = 5000.0
"By how much the clock on the wall is ahead of the monotonic one here."


@pytest.fixture
async def case():
    case = Case()
    case.resolver._wall = lambda: case.now + AHEAD
    yield case
    await case.resolver.close()


def a_record(hostname="a.test", *, confirmed=1000.0, generation=1, answered=True):
    answer = RouteAnswer(hostname, "site", "live", generation, ()) if answered else None
    at = confirmed + AHEAD
    return record_of(hostname, at, SavedRoute(at + 60, at + 600, at + 9000, '"e"', answer))


async def asked_and_said(case, hostname="a.test", **wishes):
    case.resolve(hostname)
    await turns()
    case.core.say(hostname, **wishes)
    await turns()


async def test_what_was_asked_is_told_once(case):
    await asked_and_said(case)
    [record] = records(b"".join(case.resolver.untold()))
    assert (record.hostname, record.confirmed) == ("a.test", 1000.0 + AHEAD)
    assert case.resolver.untold() == []


async def test_it_is_fresh_for_as_long_as_it_was_where_it_comes_from(case):
    case.now = 1010.0
    case.resolver.learn([a_record()])
    case.resolve("a.test")
    [route] = case.told
    assert (route.answer.hostname, route.etag) == ("a.test", '"e"')
    assert route.freshness(1059.0) is Freshness.FRESH
    assert route.freshness(1061.0) is Freshness.STALE
    assert (case.core.asked, case.resolver.saved) == ([], 0)


async def test_what_an_edge_before_us_knew_is_stale(case):
    """It may have missed what changed since: served at once, asked for in the background."""
    case.resolver.learn([a_record(confirmed=990.0)])
    case.resolve("a.test")
    assert case.told[0].freshness(case.now) is Freshness.STALE
    await turns()
    assert case.core.asked == ["a.test"]


async def test_what_has_expired_is_asked_for_first_and_served_when_that_fails(case):
    case.now = 1700.0
    case.resolver.learn([a_record()])
    case.resolve("a.test")
    assert case.told == []
    await turns()
    await case.core.fail("a.test")
    await turns()
    assert case.told[0].answer.hostname == "a.test"


async def test_what_is_gone_or_no_longer_exists_is_not_known(case):
    case.now = 20_000.0
    case.resolver.learn([a_record(), a_record("b.test", answered=False)])
    case.resolve("a.test")
    case.resolve("b.test")
    assert case.told == []
    await turns()
    assert case.core.asked == ["a.test", "b.test"]


async def test_the_newer_one_holds_whoever_was_told(case):
    await asked_and_said(case, generation=5)
    case.resolver.learn([a_record(confirmed=999.0, generation=6)])
    assert case.resolver.table.get("a.test").answer.generation == 5, "learned before"
    case.now = 1010.0
    case.resolver.learn([a_record(confirmed=1009.0, generation=4)])
    assert case.resolver.table.get("a.test").answer.generation == 5, "an older generation never wins"
    case.resolver.learn([a_record(confirmed=1009.0, generation=6)])
    assert case.resolver.table.get("a.test").answer.generation == 6
    case.resolver.learn([a_record(confirmed=1010.0, answered=False)])
    assert case.resolver.table.get("a.test").answer is None, "another worker was told that it is gone"


async def test_an_order_to_ask_anew_holds_for_it_too(case):
    case.now = 1010.0
    case.resolver.learn([a_record(), a_record("b.test")])
    case.resolver.invalidate("hostname", "a.test")
    assert case.resolver.table.get("a.test").freshness(case.now) is Freshness.EXPIRED
    case.resolver.invalidate("all", "")
    case.resolve("b.test")
    assert case.told == [], "asked first"
    await turns()
    assert case.core.asked == ["b.test"]


async def test_both_ways_are_bounded(case, monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_UNTOLD", 2)
    for n in range(4):
        await asked_and_said(case, f"{n}.test")
    assert len(case.resolver.untold()) == 2
    monkeypatch.setattr(type(case.resolver.table), "capacity", 3)
    case.resolver.learn(a_record(f"learned-{n}.test") for n in range(9))
    assert case.resolver.saved == 3
    case.resolve("learned-8.test")
    assert case.told[-1].answer.hostname == "learned-8.test", "the last ones are kept"
