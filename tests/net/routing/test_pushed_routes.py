"""Pushed routes, and how one set replaces another."""

import asyncio
import time

import pytest

from edge.net.routing.pushed_routes import PushedRoutes
from edge.rules.route_sets.route_set import NO_ROUTES, route_set
from edge.rules.route_sets.route_set_records import Destination, Endpoint
from edge.rules.settings import CoreApiSettings, LimitSettings, Settings
from edge.run.worker import Worker
from tests.net.conftest import PLAIN
from tests.support.fake_transports import turns

CLIENT = "192.0.2.7"


def parts(*hostnames, port=80, version=1):
    def to(hostname):
        return Destination(
            hostname, "live", (Endpoint("b", "10.0.0.1", port, "", "active", "running"),), False, None
        )

    named = [((hostname,), to(hostname)) for hostname in hostnames]
    return route_set(named, NO_ROUTES, version=version, source="/f", digest=b"")[0].parts


class Case:
    """A worker whose routes come from a file that the admin process reads."""

    def __init__(self):
        self.worker = Worker(Settings.model_validate({**PLAIN, "core_api": {"url": "file:/etc/routes.yaml"}}))
        self.resolver = self.worker.context.resolver
        self.pushed = self.worker.context.pushed

    async def route(self, hostname):
        """The route of this hostname, as a request gets it."""
        route = self.worker.context.table.use(hostname, time.monotonic())
        if route is not None and time.monotonic() < route.renew_at:
            return route
        done = asyncio.get_running_loop().create_future()
        self.resolver.resolve(hostname, done.set_result, CLIENT)
        return await done

    async def port(self, hostname):
        """The port of its backend; None = there is no such hostname."""
        answer = (await self.route(hostname)).response
        return None if answer is None else answer.backends[0].port

    async def coming(self, *hostnames, **about):
        """The next set, complete."""
        coming = self.pushed.begin(about.get("version", 2))
        for part in parts(*hostnames, **about):
            coming.add(part)
        await coming.compare()
        return coming


@pytest.fixture
async def case():
    case = Case()
    yield case
    await case.resolver.close()


async def test_a_lookup_waits_for_the_first_set(case):
    asking = asyncio.ensure_future(case.port("a.test"))
    await turns(10)
    assert not asking.done()
    await case.pushed.replace(1, parts("a.test"))
    assert await asking == 80
    assert await case.port("b.test") is None
    assert len(case.pushed) == 1


async def test_a_missing_set_is_a_failed_lookup():
    case = Case()
    case.resolver.reconfigure(CoreApiSettings(url="file:/etc/routes.yaml", timeout=0.01))
    assert await case.route("a.test") is None
    assert not case.pushed.up
    await case.pushed.replace(1, parts("a.test"))
    assert await case.port("a.test") == 80
    assert case.pushed.up
    await case.resolver.close()


async def test_routes_have_their_source_and_are_not_shared(case):
    await case.pushed.replace(1, parts("a.test"))
    route = await case.route("a.test")
    assert route.source == "the file of routes"
    assert route.response.generation == 1
    assert not case.resolver.compact_routes.take_unpublished(10, 10**6), "every worker has it already"


async def test_a_route_names_the_source_that_pushed_it(case):
    docker = PushedRoutes(case.worker.context.table, time.monotonic, "the Docker daemon")
    await docker.replace(1, parts("a.test"))
    assert (await docker.ask("a.test", None)).source == "the Docker daemon"
    docker.reconfigure(CoreApiSettings(url="file:/etc/routes.yaml"))
    assert (await docker.ask("a.test", None)).source == "the file of routes"


async def test_a_new_set_is_active_at_once_and_as_a_whole(case):
    await case.pushed.replace(1, parts("stays.test", "goes.test", "moves.test"))
    for hostname in ("stays.test", "goes.test", "moves.test", "comes.test"):
        await case.port(hostname)
    coming = await case.coming("stays.test", "moves.test", "comes.test", port=81)
    assert coming.moved == {"goes.test", "comes.test"}
    assert [await case.port(h) for h in ("stays.test", "goes.test", "comes.test")] == [80, 80, None], "not yet"
    await case.pushed.hold(coming)
    await case.pushed.switch(coming)
    assert [await case.port(h) for h in ("stays.test", "goes.test", "comes.test")] == [81, None, 81]
    assert case.pushed.version == 2


async def test_only_lookups_of_added_or_removed_hostnames_wait_during_a_hold(case):
    await case.pushed.replace(1, parts("stays.test", "goes.test", "unasked.test"))
    for hostname in ("stays.test", "goes.test", "comes.test"):
        await case.port(hostname)
    coming = await case.coming("stays.test", "comes.test", "unasked.test", version=2)
    await case.pushed.hold(coming)
    waiting = [asyncio.ensure_future(case.port(h)) for h in ("goes.test", "comes.test")]
    assert [await case.port(h) for h in ("stays.test", "unasked.test", "unknown.test")] == [80, 80, None]
    await turns(10)
    assert not any(asking.done() for asking in waiting)
    await case.pushed.switch(coming)
    assert [await asking for asking in waiting] == [None, 80]


async def test_unchanged_routes_are_not_looked_up_again(case):
    """The route object stays the same, with all that was learned about its backends."""
    await case.pushed.replace(1, parts("a.test", "b.test"))
    route = await case.route("a.test")
    coming = await case.coming("a.test", "c.test", version=1)
    await case.pushed.hold(coming)
    await case.pushed.switch(coming)
    assert await case.route("a.test") is route


async def test_a_new_set_publishes_no_discovered_changes(case):
    """Only changes that a core API had not reported are published to other edges; a file reports all."""
    await case.pushed.replace(1, parts("a.test"))
    await case.port("a.test")
    await case.pushed.replace(2, parts("a.test", port=81, version=2))
    assert await case.port("a.test") == 81
    assert not len(case.resolver.discovered)


async def test_a_refused_client_gets_the_hostnames_of_the_file(case):
    """A client that asks for other hostnames is refused in the end."""
    await case.pushed.replace(1, parts("a.test"))
    refused, done = [], []
    for n in range(300):
        case.resolver.resolve(f"made-up-{n}.test", done.append, CLIENT, lambda n=n: refused.append(n))
        await turns(20)
    assert refused
    case.resolver.resolve("a.test", done.append, CLIENT, lambda: refused.append("a.test"))
    await turns(20)
    assert done[-1].response.hostname == "a.test"
    assert "a.test" not in refused


async def test_a_large_set_takes_no_long_turn_of_the_loop(case):
    """All steps are done in batches: the loop gets a turn between any two of them."""
    context = case.worker.context
    case.pushed = context.pushed = PushedRoutes(context.table, time.monotonic, at_once=100)
    case.resolver.core_api = case.pushed
    hostnames = [f"host-{n}.test" for n in range(2000)]
    await case.pushed.replace(1, parts(*hostnames))
    others = 0

    async def count():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    coming = case.pushed.begin(2)
    for part in parts(*hostnames[:1000], *(f"new-{n}.test" for n in range(1000)), port=81, version=2):
        coming.add(part)
    for step, least in ((coming.compare(), 20), (case.pushed.hold(coming), 20), (case.pushed.switch(coming), 30)):
        before = others
        await step
        assert others - before >= least - 1
    counting.cancel()
    assert await case.port("host-7.test") == 81
    assert await case.port("host-1007.test") is None


async def test_an_invalid_part_changes_nothing(case):
    await case.pushed.replace(1, parts("a.test"))
    with pytest.raises(ValueError, match="no set of routes"):
        await case.pushed.replace(2, [b"\xc1"])
    assert await case.port("a.test") == 80
    assert case.pushed.version == 1


async def test_routes_of_the_file_are_not_stored_as_compact_routes(case):
    case.worker.context.table._ready = 2
    await case.pushed.replace(1, parts("a.test", "b.test", "c.test"))
    for hostname in ("a.test", "b.test", "c.test"):
        assert await case.port(hostname) == 80
    assert len(case.resolver.compact_routes) == 0
    assert await case.port("a.test") == 80


# patterns


def parts_of(*ports, version=1, redirect=None):
    """Hostnames or patterns, each with the port of its backend."""
    named = [
        (
            (name,),
            Destination(
                name, "live", (Endpoint(name, "10.0.0.1", port, "", "active", "running"),), False, redirect
            ),
        )
        for name, port in ports
    ]
    return route_set(named, NO_ROUTES, version=version, source="/f", digest=b"")[0].parts


EXACT, LONG, SHORT, DEFAULT = ("a.b.test", 1), ("*.b.test", 2), ("*.test", 3), ("*", 4)


async def test_a_hostname_precedes_the_longest_pattern_and_that_the_default(case):
    await case.pushed.replace(1, parts_of(DEFAULT, SHORT, EXACT, LONG))
    found = {
        "a.b.test": 1,
        "x.b.test": 2,
        "x.a.b.test": 2,
        "b.test": 3,
        "x.c.test": 3,
        "test": 4,
        "other.org": 4,
        "[::1]": 4,
    }
    for hostname, port in found.items():
        assert await case.port(hostname) == port, hostname
    assert (await case.route("x.b.test")).response.hostname == "x.b.test"


async def test_without_a_default_other_hostnames_do_not_exist(case):
    await case.pushed.replace(1, parts_of(LONG))
    assert await case.port("x.b.test") == 2
    assert await case.port("b.test") is None
    assert await case.port("xb.test") is None


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([LONG, EXACT], [LONG], (1, 2)),
        ([LONG], [LONG, EXACT], (2, 1)),
        ([SHORT], [SHORT, LONG], (3, 2)),
        ([DEFAULT], [LONG], (4, 2)),
        ([LONG], [("*.b.test", 7)], (2, 7)),
        ([LONG], [EXACT], (2, 1)),
        ([EXACT], [DEFAULT], (1, 4)),
        ([SHORT], [("c.test", 9)], (3, None)),
        ([("c.test", 9)], [SHORT], (None, 3)),
    ],
)
async def test_a_new_set_applies_to_the_hostnames_of_a_pattern(case, before, after, found):
    await case.pushed.replace(1, parts_of(*before))
    assert await case.port("a.b.test") == found[0]
    await case.pushed.replace(2, parts_of(*after, version=2))
    assert await case.port("a.b.test") == found[1]


async def test_lookups_while_a_pattern_is_added_or_removed(case):
    """Hostnames that are added or removed wait; those that only change get the old route, and then the new one."""
    await case.pushed.replace(1, parts_of(SHORT, ("*.org", 5)))
    for hostname in ("a.b.test", "x.org", "c.net"):
        await case.port(hostname)
    coming = case.pushed.begin(2)
    for part in parts_of(SHORT, LONG, ("*.net", 6), version=2):
        coming.add(part)
    await coming.compare()
    await case.pushed.hold(coming)
    assert await case.port("a.b.test") == 3
    waiting = [asyncio.ensure_future(case.port(hostname)) for hostname in ("x.org", "c.net")]
    await turns()
    assert not any(task.done() for task in waiting)
    await case.pushed.switch(coming)
    assert await asyncio.gather(*waiting) == [None, 6]
    assert await case.port("a.b.test") == 2


async def test_a_pattern_redirects_no_hostname_to_itself(case):
    await case.pushed.replace(1, parts_of(DEFAULT, redirect="https://shop.test"))
    assert (await case.route("www.test")).response.redirect == "https://shop.test"
    assert (await case.route("shop.test")).response is None


async def test_a_refused_client_gets_the_hostnames_of_a_pattern(case):
    case.resolver.lookups.limit.reconfigure(LimitSettings(unknown_hosts_per_client=1.0))
    await case.pushed.replace(1, parts_of(LONG))
    for n in range(100):
        assert await case.port(f"x{n}.b.test") == 2
