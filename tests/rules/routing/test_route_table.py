"""The table of routes: which responses it accepts, for how long it keeps them, and how many."""

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.rules.routing.freshness import Freshness
from edge.rules.routing.removal_guard import FORGOTTEN_AFTER
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import BACKENDS_EACH, USE_RESOLUTION, Rejection, RouteTable
from edge.rules.routing.route_validation import MOST_BACKENDS
from edge.rules.routing.routes import RejectedResponse, Route
from tests.support.sample_routes import B1, B2, FOREVER, a_response, a_table, put, store, takes

# The table: what replaces what


def test_a_newer_generation_replaces() -> None:
    table = a_table()
    put(table, a_response(B1, generation=1))
    assert takes(table, a_response(B2, generation=2))


def test_the_same_generation_replaces() -> None:
    table = a_table()
    put(table, a_response(B1))
    assert takes(table, a_response(B2))


def test_a_lower_generation_is_accepted_when_it_is_repeated_for_a_minute() -> None:
    """A core API that was restored from a backup, or one response that was far off: neither pins a hostname."""
    table = a_table()
    known = put(table, a_response(B1, generation=2**62), 1000.0)
    fresh_until = known.fresh_until
    for now in (1100.0, 1120.0, 1159.9):
        assert store(table, a_response(B2, generation=4), now).rejection is Rejection.LOWER_GENERATION
        assert known.last_error is not None
        assert known.fresh_until == fresh_until, "it renews nothing"
        assert known.no_lookup_before == now + 5.0, "and is looked up again soon"
    assert takes(table, a_response(B2, generation=4), 1160.0)
    held = table.get("shop.test")
    assert held is not None
    assert held.overrides, "the other processes take it as well"
    assert takes(table, a_response(B1, generation=5), 1161.0)
    held = table.get("shop.test")
    assert held is not None
    assert not held.overrides


def test_a_response_that_is_not_accepted_is_described() -> None:
    table = a_table()
    known = put(table, a_response(B1, generation=9), 1000.0)
    for now in (1100.0, 1120.0):
        store(table, a_response(B2, generation=4), now)
        assert known.rejected == RejectedResponse("lower_generation", 4, 1100.0, 1160.0)
    store(table, a_response(generation=9), 1130.0)
    removal = known.rejected
    assert removal is not None
    assert (removal.reason, removal.generation, removal.since) == ("removal_unconfirmed", 9, 1130.0)
    assert removal.accepted_at > 1130.0
    put(table, a_response(B1, generation=9), 1140.0)
    held = table.get("shop.test")
    assert held is not None
    assert held.rejected is None


@pytest.mark.parametrize("between", ["a higher one", "304", "ten minutes without a word"])
def test_a_lower_generation_must_be_repeated_without_another_in_between(between: str) -> None:
    table = a_table()
    known = put(table, a_response(B1, generation=5), 1000.0)
    assert not takes(table, a_response(B2, generation=4), 1001.0)
    again = 1070.0
    if between == "a higher one":
        put(table, a_response(B1, generation=5), 1030.0)
    elif between == "304":
        table.renew(known, FOREVER, 1030.0, 0.0)
    else:
        again = 1001.0 + FORGOTTEN_AFTER + 1.0
    assert not takes(table, a_response(B2, generation=4), again)
    assert takes(table, a_response(B2, generation=4), again + 60.0)


def test_how_long_a_lower_generation_must_be_repeated_is_a_setting() -> None:
    table = a_table(regression_after=0.0)
    put(table, a_response(B1, generation=5))
    assert takes(table, a_response(B2, generation=4))


def test_a_lower_generation_is_accepted_at_once_when_no_known_backend_can_be_reached() -> None:
    table = a_table()
    known = put(table, a_response(B1, B2, generation=5))
    known.states[0].down_since = 1.0
    assert not takes(table, a_response(B2, generation=4))
    known.states[1].down_since = 1.0
    assert takes(table, a_response(Backend("b3", "10.0.0.3", 1), generation=4))


def test_a_lookup_has_no_entity_tag_when_not_modified_would_not_help() -> None:
    table = a_table()
    route = table.put("shop.test", a_response(B1, B2), etag='"5"', cache_control=FOREVER, now=0.0, rand=0.0).route
    route.states[0].down_since = 1.0
    assert (route.is_reachable, route.validator) == (True, '"5"')
    route.states[1].down_since = 1.0
    assert (route.is_reachable, route.validator) == (False, None)
    route.states[0].down_since = 0.0
    assert route.validator == '"5"'
    table.invalidate("shop.test")
    assert (route.is_reachable, route.validator) == (True, None)


def test_a_route_without_backends_may_be_not_modified() -> None:
    route = a_table().put("shop.test", a_response(), etag='"5"', cache_control=FOREVER, now=0.0, rand=0.0).route
    assert route.validator == '"5"'


@pytest.mark.parametrize("after", [a_response(B2, generation=1), a_response(generation=9), None])
def test_after_an_invalidation_any_response_is_accepted(after: RouteResponse | None) -> None:
    table = a_table()
    put(table, a_response(B1, generation=9))
    table.invalidate("shop.test")
    assert takes(table, after)


def test_an_invalidation_holds_for_one_response() -> None:
    table = a_table()
    put(table, a_response(B1, generation=9))
    table.invalidate("shop.test")
    put(table, a_response(B1, generation=9))
    assert not takes(table, a_response(B1, generation=8))


def test_a_response_that_is_not_accepted_changes_no_backend() -> None:
    """The response moves its backend; that must have no effect until it is accepted."""
    table = a_table()
    route = put(table, a_response(B1, B2, generation=5))
    assert route.environment is not None
    demerits = route.environment.demerits
    for _ in range(5):
        for state in route.states:
            demerits.record_response(state, 0.01, 1.0)
    demerits.weigh(route.states, 1.0)
    before = [(s.endpoint, s.down_since, s.probation) for s in route.states]
    moved = Backend("b1", "10.9.9.9", 1), Backend("b3", "10.9.9.9", 2)
    assert not takes(table, a_response(*moved, generation=4), 2.0)
    assert not takes(table, None, 3.0)
    assert [(s.endpoint, s.down_since, s.probation) for s in route.states] == before
    assert len(demerits._states) == 2


def test_a_record_that_is_not_accepted_changes_nothing() -> None:
    table = a_table()
    route = put(table, a_response(B1, generation=5), 100.0)
    moved = a_response(Backend("b1", "10.9.9.9", 1), generation=4)
    for taken_at in (50.0, 150.0):
        assert table.adopt("shop.test", moved, taken_at=taken_at, until=(999.0,) * 3, now=200.0) is route
    assert route.states[0].endpoint == "b1@10.0.0.1:8000"
    held = table.adopt("shop.test", moved, taken_at=150.0, until=(999.0,) * 3, now=200.0, overrides=True)
    assert held.response == moved, "it was accepted elsewhere"


def test_generations_of_another_environment_do_not_compare() -> None:
    table = a_table()
    put(table, a_response(B1, generation=5))
    assert takes(table, a_response(B2, generation=1, environment="test"))


def test_an_empty_list_is_accepted_when_it_is_repeated_half_a_minute_later() -> None:
    table = a_table()
    full = put(table, a_response(B1), 1000.0)
    for now in (1001.0, 1010.0, 1030.9):
        assert store(table, a_response(), now).rejection is Rejection.UNCONFIRMED
        assert full.last_error is not None
    assert takes(table, a_response(), 1031.0)


def test_a_response_of_long_ago_confirms_nothing() -> None:
    table = a_table()
    put(table, a_response(B1), 1000.0)
    assert not takes(table, a_response(), 1001.0)
    assert not takes(table, a_response(), 1001.0 + FORGOTTEN_AFTER + 1.0)


def test_removing_a_site_with_many_hostnames_is_no_mass_removal() -> None:
    """All its hostnames are of one environment."""
    table = a_table()
    hosts = [f"{n}.test" for n in range(60)]
    for host in hosts:
        put(table, a_response(B1), 1000.0, host=host)
    for host in hosts:
        assert takes(table, a_response(generation=2), 1001.0, host=host)


def test_an_empty_list_of_a_higher_generation_is_accepted_at_once() -> None:
    table = a_table()
    put(table, a_response(B1, generation=1))
    assert takes(table, a_response(generation=2))


def test_when_all_backends_drain_no_candidate_is_left() -> None:
    table = a_table()
    put(table, a_response(B1, generation=1))
    draining = Backend("b1", "10.0.0.1", 8000, state="draining")
    assert not takes(table, a_response(draining, generation=1))
    assert takes(table, a_response(draining, generation=2))


def test_maintenance_without_backends_is_no_removal() -> None:
    table = a_table()
    put(table, a_response(B1))
    closed = RouteResponse("shop.test", "acme", "live", 1, (), maintenance=True)
    assert takes(table, closed)
    assert not takes(table, a_response()), "a page for clients is lost, perhaps by mistake"


@pytest.mark.parametrize("between", ["full response", "304"])
def test_confirmations_of_an_empty_list_must_be_in_a_row(between: str) -> None:
    table = a_table()
    held = put(table, a_response(B1), 1000.0)
    assert not takes(table, a_response(), 1001.0)
    if between == "full response":
        held = put(table, a_response(B1), 1002.0)
    else:
        table.renew(held, None, 1002.0, 0.0)
    assert not takes(table, a_response(), 1031.0)


def test_an_empty_list_is_accepted_for_an_unknown_hostname() -> None:
    table = a_table()
    assert takes(table, a_response())
    assert takes(table, a_response(B1))


def test_a_known_hostname_is_removed_when_404_is_repeated_half_a_minute_later() -> None:
    table = a_table()
    known = put(table, a_response(B1, generation=9))
    assert not takes(table, None)
    assert known.last_error is not None
    assert known.no_lookup_before == 5.0, "looked up again soon, and used meanwhile"
    assert takes(table, None, 30.0)
    assert (len(table), table.unknown_hosts) == (0, 1)
    assert takes(table, a_response(B1, generation=1))
    assert (len(table), table.unknown_hosts) == (1, 0)


def test_304_renews_the_route_and_its_environment() -> None:
    table = a_table(jitter=0.0)
    route = put(table, a_response(B1))
    table.renew(route, "max-age=7", 100.0, 0.0)
    assert route.environment is not None
    assert route.environment.confirmed_at == 100.0
    assert route.fresh_until == 107.0


def test_a_404_between_two_responses_is_no_confirmation() -> None:
    table = a_table()
    put(table, a_response(B1))
    assert not takes(table, None)
    assert takes(table, a_response(B1))
    assert not takes(table, None)


def test_404_is_accepted_at_once_for_a_hostname_that_was_not_known() -> None:
    table = a_table()
    assert takes(table, None)
    assert table.unknown_hosts == 1


# The table: many removals at once


def a_platform(count: int, *, now: float) -> tuple[RouteTable, list[str]]:
    """As many known environments."""
    table, sites = a_table(), [f"site-{n}" for n in range(count)]
    for site in sites:
        put(table, a_response(B1, site=site), now, host=f"{site}.test")
    return table, sites


def serving(table: RouteTable, sites: list[str]) -> int:
    routes = [table.peek(f"{site}.test") for site in sites]
    return sum(bool(route is not None and route.states) for route in routes)


@pytest.mark.parametrize("kind", ["an empty list of a higher generation", "404", "an empty list"])
def test_a_mass_removal_is_held_back(kind: str) -> None:
    table, sites = a_platform(50, now=1000.0)
    generation = 2 if kind == "an empty list of a higher generation" else 1
    for number, site in enumerate(sites):
        answer = None if kind == "404" else a_response(site=site, generation=generation)
        stored = store(table, answer, 1001.0 + 0.1 * number, host=f"{site}.test")
        if number >= 9:
            assert stored.rejection is Rejection.HELD_BACK
        if number == 9 and generation == 2:
            assert sorted(stored.restored) == sorted(f"{site}.test" for site in sites[:9])
    assert serving(table, sites) == 50
    for now in (1010.0, 1020.0, 1030.9):
        for site in sites:
            put(
                table,
                None if kind == "404" else a_response(site=site, generation=generation),
                now,
                host=f"{site}.test",
            )
    assert serving(table, sites) == 50
    for site in sites:
        answer = None if kind == "404" else a_response(site=site, generation=generation)
        assert takes(table, answer, 1036.0, host=f"{site}.test"), "it was repeated for routes.removal_hold"


def test_a_removal_that_is_repeated_is_undone_as_well() -> None:
    """Routes may be looked up again every second."""
    table, sites = a_platform(50, now=1000.0)
    for number, site in enumerate(sites):
        for now in (1001.0, 1002.0):
            store(table, a_response(site=site, generation=2), now + 0.01 * number, host=f"{site}.test")
    assert serving(table, sites) == 50


CLOSED = {"maintenance": {"maintenance": True}, "redirect": {"redirect": "https://example.org/login"}}


@pytest.mark.parametrize("kind", ["an empty list", *CLOSED])
def test_a_removal_that_304_repeats_is_undone_as_well(kind: str) -> None:
    """What was accepted a moment ago is asked for again with its entity tag."""
    table, sites = a_platform(50, now=1000.0)
    for number, site in enumerate(sites[:10]):
        hostname = f"{site}.test"
        answer = msgspec.structs.replace(
            a_response(site=site, generation=2), hostname=hostname, **CLOSED.get(kind, {})
        )
        route = put(table, answer, 1001.0 + 0.1 * number, host=hostname)
        if number < 9:
            assert route.response == answer
            table.renew(route, None, 1002.0 + 0.1 * number, 0.0)
    assert serving(table, sites) == 50


def test_304_of_a_route_that_is_in_use_again_is_not_undone() -> None:
    table, sites = a_platform(50, now=1000.0)
    for number, site in enumerate(sites[:10]):
        hostname = f"{site}.test"
        put(table, a_response(site=site, generation=2), 1001.0 + 0.1 * number, host=hostname)
        if number == 0:
            answer = msgspec.structs.replace(a_response(B2, site=site, generation=3), hostname=hostname)
            table.renew(put(table, answer, 1001.05, host=hostname), None, 1001.06, 0.0)
    route = table.peek("site-0.test")
    assert route is not None
    assert route.response is not None
    assert route.response.backends == (B2,)


@pytest.mark.parametrize("kind", CLOSED)
def test_sites_of_which_no_backend_can_be_reached_are_closed_at_once(kind: str) -> None:
    """A planned maintenance of many environments, whose containers are stopped: their visitors get the page."""
    table, sites = a_platform(50, now=1000.0)
    stopped = sites[:20]

    def stop(site: str) -> None:
        route = table.peek(f"{site}.test")
        assert route is not None
        for state in route.states:
            state.down_since = 1000.5

    for site in stopped[1:]:
        stop(site)
    first = table.peek("site-0.test")
    assert first is not None
    for number, site in enumerate(stopped):
        closed = msgspec.structs.replace(a_response(B1, site=site, generation=2), **CLOSED[kind])
        assert takes(table, closed, 1001.0 + 0.1 * number, host=f"{site}.test")
    first.states[0].down_since = 1003.5  # stopped after it was closed
    others = [
        store(table, a_response(site=site, generation=2), 1004.0, host=f"{site}.test") for site in sites[20:40]
    ]
    assert others[-1].rejection is Rejection.HELD_BACK, "sites that work are held back"
    assert not {f"{site}.test" for site in stopped} & {name for each in others for name in each.restored}
    closed_sites = [route.response for site in stopped if (route := table.peek(f"{site}.test")) is not None]
    assert all(response is not None and response.use == 1 for response in closed_sites)


@pytest.mark.parametrize("kind", CLOSED)
def test_a_site_that_is_held_back_is_closed_when_its_last_backend_stops(kind: str) -> None:
    table, sites = a_platform(50, now=1000.0)
    responses = [msgspec.structs.replace(a_response(B1, site=s, generation=2), **CLOSED[kind]) for s in sites]
    for site, closed in zip(sites, responses, strict=True):
        store(table, closed, 1001.0, host=f"{site}.test")
    assert serving(table, sites) == 50
    route = table.peek("site-3.test")
    assert route is not None
    assert not takes(table, responses[3], 1002.0, host="site-3.test")
    route.states[0].down_since = 1002.5
    assert not takes(table, a_response(site="site-3", generation=2), 1003.0, host="site-3.test"), "no page"
    assert takes(table, responses[3], 1004.0, host="site-3.test")
    put(table, responses[4], 1005.0, host="site-4.test")
    after = table.peek("site-3.test")
    assert after is not None
    assert after.response == responses[3]


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("generation", [1, 2])
def test_many_sites_that_are_closed_at_once_are_held_back(kind: str, generation: int) -> None:
    """A default that was turned round; the backends are all there."""
    table, sites = a_platform(50, now=1000.0)

    def closed(site: str) -> RouteResponse:
        return msgspec.structs.replace(a_response(B1, site=site, generation=generation), **CLOSED[kind])

    def open_sites() -> int:
        responses = [route.response for site in sites if (route := table.peek(f"{site}.test")) is not None]
        return sum(response is not None and response.use == 2 for response in responses)

    assert takes(table, closed(sites[0]), 1001.0, host=f"{sites[0]}.test"), "a single one goes at once"
    for now in (1002.0, 1012.0, 1022.0, 1030.9):
        for site in sites:
            store(table, closed(site), now, host=f"{site}.test")
    assert open_sites() == 50, "also the one before"
    for site in sites:
        assert takes(table, closed(site), 1036.0, host=f"{site}.test"), "it was repeated for routes.removal_hold"
    for site in sites:
        assert takes(table, a_response(B1, site=site, generation=generation), 1037.0, host=f"{site}.test")


def test_another_response_in_between_is_accepted() -> None:
    table, sites = a_platform(50, now=1000.0)
    for site in sites:
        put(table, a_response(site=site, generation=2), 1001.0, host=f"{site}.test")
    for site in sites:
        assert takes(table, a_response(B2, site=site, generation=3), 1010.0, host=f"{site}.test")
    assert not takes(table, None, 1032.0, host="site-0.test"), "the response in between has ended the hold"


@pytest.mark.parametrize(
    ("known", "gone", "held"), [(200, 20, False), (200, 21, True), (20, 9, False), (20, 10, True)]
)
def test_a_tenth_and_at_least_ten_are_a_mass_removal(known: int, gone: int, *, held: bool) -> None:
    table, sites = a_platform(known, now=1000.0)
    for site in sites[:gone]:
        put(table, a_response(site=site, generation=2), 1001.0, host=f"{site}.test")
    assert serving(table, sites) == (known if held else known - gone)


def test_removals_one_after_the_other_are_no_mass_removal() -> None:
    table, sites = a_platform(50, now=1000.0)
    for number, site in enumerate(sites):
        assert takes(table, a_response(site=site, generation=2), 1001.0 + 2.0 * number, host=f"{site}.test")


def test_idle_environments_are_not_counted() -> None:
    """Of 200 that were known, 150 have been idle for hours: a tenth of the rest is five."""
    table, sites = a_platform(200, now=1000.0)
    for site in sites[:50]:
        put(table, a_response(B1, site=site), 9000.0, host=f"{site}.test")
    for site in sites[:12]:
        put(table, a_response(site=site, generation=2), 9001.0, host=f"{site}.test")
    assert serving(table, sites) == 200


def test_an_invalidation_by_an_operator_takes_effect_at_once() -> None:
    table, sites = a_platform(50, now=1000.0)
    for site in sites:
        put(table, None, 1001.0, host=f"{site}.test")
    for site in sites:
        table.invalidate(f"{site}.test")
        assert takes(table, None, 1002.0, host=f"{site}.test")


# The table: for how long


def lifetimes(route: Route) -> tuple[float, float, float]:
    return route.fresh_until, route.expired_at, route.gone_at


@pytest.mark.parametrize(("rand", "max_age"), [(0.0, 100.0), (0.5, 90.0), (0.999, 80.02)])
def test_jitter_only_shortens(rand: float, max_age: float) -> None:
    header = "max-age=100, stale-while-revalidate=50"
    route = a_table(jitter=0.2).put("shop.test", a_response(B1), cache_control=header, now=1000.0, rand=rand).route
    assert route.fresh_until - 1000.0 == pytest.approx(max_age)
    assert route.expired_at - route.fresh_until == pytest.approx(50.0)


def test_absent_directives_come_from_the_settings() -> None:
    table = a_table(
        max_age=3.0, stale_while_revalidate=4.0, stale_if_error=9.0, unknown_host_max_age=2.0, jitter=0.0
    )
    route = table.put("shop.test", a_response(B1), cache_control=None, now=0.0, rand=0.0).route
    assert lifetimes(route) == (3.0, 7.0, 12.0)
    unknown = table.put("made-up.test", None, cache_control=None, now=0.0, rand=0.0).route
    assert (unknown.fresh_until, unknown.gone_at) == (2.0, 2.0)


def test_an_unknown_host_is_cached_for_an_hour_at_most() -> None:
    unknown = a_table().put("new.test", None, cache_control="max-age=604800", now=0.0, rand=0.0).route
    assert unknown.fresh_until == 3600.0


def test_an_unknown_hostname_is_never_served_stale() -> None:
    header = "max-age=5, stale-while-revalidate=60, stale-if-error=60"
    unknown = a_table().put("made-up.test", None, cache_control=header, now=0.0, rand=0.0).route
    assert unknown.freshness(4.9) is Freshness.FRESH
    assert unknown.freshness(5.0) is Freshness.GONE


# The table: how many


def test_the_least_recently_used_route_is_forgotten() -> None:
    table = a_table(capacity=2)
    given_away: list[str] = []
    table.demote = lambda hostname, route: given_away.append(hostname)
    for host in ("a.test", "b.test"):
        put(table, a_response(B1), host=host)
    assert table.use("a.test", 100.0) is table.get("a.test") is not None
    assert table.get("b.test") is not None, "to look is no use"
    put(table, a_response(B1), host="c.test")
    assert table.hostnames() == ["a.test", "c.test"]
    table.use("a.test", 100.0 + USE_RESOLUTION - 0.1)
    put(table, a_response(B1), host="d.test")
    assert table.hostnames() == ["c.test", "d.test"], "a use that soon after another is none"
    assert given_away == ["b.test", "a.test"]
    assert len(table) == 2


def test_the_hostnames_of_an_environment_are_limited_and_replace_only_each_other() -> None:
    """The hostnames of a wildcard, of which any client can invent more."""
    table = a_table(per_environment=10)
    put(table, a_response(B1, site="other"), host="other.test")
    for n in range(1500):
        put(table, a_response(B1), host=f"{n}.wild.test")
    assert table.hostnames() == ["other.test", *(f"{n}.wild.test" for n in range(1490, 1500))]


def test_a_wildcard_of_one_environment_does_not_fill_the_compact_routes_either() -> None:
    table = a_table(ready=20, per_environment=10)
    given_away: list[str] = []
    table.demote = lambda hostname, route: given_away.append(hostname)
    for n in range(19):
        put(table, a_response(B1, site=f"site-{n}"), host=f"site-{n}.test")
    for n in range(1500):
        put(table, a_response(B1), host=f"{n}.wild.test")
    assert len(given_away) <= 19 + 10
    assert len(table) <= 20

    table = a_table(ready=3, per_environment=3)
    table.demote = lambda hostname, route: given_away.append(hostname)
    given_away.clear()
    for n in range(3):
        put(table, a_response(B1), host=f"{n}.wild.test")
    for n in range(2):
        put(table, a_response(B1, site=f"site-{n}"), host=f"site-{n}.test")
    assert given_away == ["1.wild.test"], "the first one went while there were as many as there may be"


def test_routes_of_a_thousand_backends_do_not_fill_the_memory() -> None:
    table = a_table(ready=500)
    demoted: list[str] = []
    table.demote = lambda hostname, route: demoted.append(hostname)
    backends = tuple(Backend(f"b{n}", "10.0.0.1", 8000 + n) for n in range(MOST_BACKENDS))
    for n in range(20):
        put(table, a_response(*backends, site=f"site-{n}"), host=f"{n}.test")
        assert table.index.backends <= BACKENDS_EACH * 500
    assert demoted == [f"{n}.test" for n in range(16)], "the least recently used ones"
    table.put("19.test", None, cache_control=None, now=2000.0, rand=0.0, deliberate=True)
    assert table.index.backends == 3 * MOST_BACKENDS
    for n in range(496):
        put(table, a_response(B1, site=f"small-{n}"), host=f"small-{n}.test")
    assert len(demoted) == 16, "others have room"

    alone = a_table(ready=1)
    put(alone, a_response(*backends), host="large.test")
    assert len(alone) == 1


def test_paging_through_routes_misses_none() -> None:
    table = a_table(capacity=3)
    for host in ("a.test", "b.test", "c.test"):
        put(table, a_response(B1), host=host)
    seen = table.hostnames(0, 2)
    table.use("a.test", 100.0)
    put(table, a_response(B1), host="b.test")
    assert [*seen, *table.hostnames(2, 2)] == ["a.test", "b.test", "c.test"]


def test_a_removed_hostname_makes_room() -> None:
    table = a_table(capacity=2)
    for host in ("a.test", "b.test"):
        put(table, a_response(B1), host=host)
    table.put("a.test", None, cache_control=FOREVER, now=1.0, rand=0.0, deliberate=True)
    put(table, a_response(B1), host="c.test")
    assert table.hostnames() == ["b.test", "c.test"]


def test_a_scan_of_unknown_hosts_displaces_no_route() -> None:
    table = a_table(capacity=1, unknown_host_capacity=3)
    site = put(table, a_response(B1))
    for n in range(50):
        put(table, None, host=f"scan-{n}.test")
    assert table.get("shop.test") is site
    assert (len(table), table.unknown_hosts) == (1, 3)
    assert table.get("scan-49.test") is not None
    assert table.get("scan-46.test") is None


class TableAndModel(RuleBasedStateMachine):
    """The table against a simple model: the route of each hostname by the documented rules."""

    HOSTS = st.sampled_from(["a.test", "b.test", "c.test"])

    def __init__(self) -> None:
        super().__init__()
        self.table = a_table()
        self.holds: dict[str, RouteResponse | None] = {}
        self.removed_since: dict[str, float] = {}
        self.lower_since: dict[str, float] = {}
        self.now = 0.0

    def _said_for(self, since: dict[str, float], host: str, seconds: float) -> bool:
        return self.now - since.setdefault(host, self.now) >= seconds

    def _is_believed(self, host: str, new: RouteResponse | None) -> bool:
        known = self.holds.get(host)
        if known is None:
            return True
        if new is not None and new.generation < known.generation:
            if not self._said_for(self.lower_since, host, 60.0):
                return False
        else:
            self.lower_since.pop(host, None)
        if new is not None and (new.backends or not known.backends):
            return True
        confirmed = new is not None and new.generation > known.generation
        return self._said_for(self.removed_since, host, 30.0) or confirmed

    def _say(self, host: str, new: RouteResponse | None) -> None:
        self.now += 10.0
        if self._is_believed(host, new):
            self.holds[host] = new
            self.removed_since.pop(host, None)
            self.lower_since.pop(host, None)
        assert put(self.table, new, self.now, host=host).response == self.holds[host]

    @rule(host=HOSTS, generation=st.integers(1, 3), full=st.booleans())
    def answer(self, host: str, generation: int, full: bool) -> None:
        self._say(host, a_response(*([B1] if full else []), generation=generation, site=host))

    @rule(host=HOSTS)
    def no_such_host(self, host: str) -> None:
        self._say(host, None)

    @invariant()
    def the_table_knows_what_the_model_knows(self) -> None:
        for host, holds in self.holds.items():
            route = self.table.get(host)
            assert route is not None
            assert route.response == holds
        existing = sum(answer is not None for answer in self.holds.values())
        assert (len(self.table), self.table.unknown_hosts) == (existing, len(self.holds) - existing)


TestTableAndModel = TableAndModel.TestCase
TestTableAndModel.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)


def test_a_lowered_stale_if_error_bounds_the_default_of_what_is_served_at_once() -> None:
    """A route is not used without a lookup for longer than it may be used at all."""
    table = a_table(max_age=60.0, stale_if_error=30.0, jitter=0.0)
    route = table.put("shop.test", a_response(B1), cache_control=None, now=0.0, rand=0.0).route
    assert (route.fresh_until, route.expired_at, route.gone_at) == (60.0, 90.0, 90.0)
