"""A source of routes that has all of them, and how one set takes the place of another."""

import asyncio
import time

import pytest

from edge.net.routing.pushed_routes import PushedRoutes
from edge.rules.route_sets.route_set import NO_ROUTES, route_set
from edge.rules.route_sets.route_set_records import Destination, Endpoint
from edge.rules.routing.routes import Source
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
    """A worker whose routes come from a file that somebody else reads."""

    def __init__(self):
        self.worker = Worker(Settings.model_validate({**PLAIN, "core_api": {"url": "file:/etc/routes.yaml"}}))
        self.resolver = self.worker.context.resolver
        self.pushed = self.worker.context.pushed

    async def route(self, hostname):
        """What holds of it, as a request would find out."""
        route = self.worker.context.table.use(hostname, time.monotonic())
        if route is not None and time.monotonic() < route.renew_at:
            return route
        done = asyncio.get_running_loop().create_future()
        self.resolver.resolve(hostname, done.set_result, CLIENT)
        return await done

    async def port(self, hostname):
        """Of its backend; None = there is no such hostname."""
        answer = (await self.route(hostname)).answer
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


async def test_who_asks_before_there_is_a_set_waits_for_it(case):
    asking = asyncio.ensure_future(case.port("a.test"))
    await turns(10)
    assert not asking.done()
    await case.pushed.replace(1, parts("a.test"))
    assert await asking == 80
    assert await case.port("b.test") is None
    assert len(case.pushed) == 1


async def test_a_set_that_does_not_come_is_no_answer():
    case = Case()
    case.resolver.reconfigure(CoreApiSettings(url="file:/etc/routes.yaml", timeout=0.01))
    assert await case.route("a.test") is None
    assert not case.pushed.up
    await case.pushed.replace(1, parts("a.test"))
    assert await case.port("a.test") == 80
    assert case.pushed.up
    await case.resolver.close()


async def test_its_answers_say_where_they_come_from_and_are_told_to_nobody(case):
    await case.pushed.replace(1, parts("a.test"))
    route = await case.route("a.test")
    assert route.source is Source.FILE
    assert route.answer.generation == 1
    assert not case.resolver.compact_routes.take_untold(10, 10**6), "every worker has it already"


async def test_another_set_holds_at_once_and_as_a_whole(case):
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


async def test_who_asks_for_what_comes_or_goes_waits_while_it_holds_and_nobody_else(case):
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


async def test_what_stays_as_it_was_is_not_asked_for_again(case):
    """Nor does its route become another one, with all that was learned about its backends."""
    await case.pushed.replace(1, parts("a.test", "b.test"))
    route = await case.route("a.test")
    coming = await case.coming("a.test", "c.test", version=1)
    await case.pushed.hold(coming)
    await case.pushed.switch(coming)
    assert await case.route("a.test") is route


async def test_no_route_is_found_to_have_changed_when_the_file_has(case):
    """Other edges are told of what a core API changed without saying so; a file says it."""
    await case.pushed.replace(1, parts("a.test"))
    await case.port("a.test")
    await case.pushed.replace(2, parts("a.test", port=81, version=2))
    assert await case.port("a.test") == 81
    assert not len(case.resolver.discovered)


async def test_a_client_with_debts_is_answered_for_what_the_file_names(case):
    """Whoever names what the file does not is refused at last."""
    await case.pushed.replace(1, parts("a.test"))
    refused, done = [], []
    for n in range(300):
        case.resolver.resolve(f"made-up-{n}.test", done.append, CLIENT, lambda n=n: refused.append(n))
        await turns(20)
    assert refused
    case.resolver.resolve("a.test", done.append, CLIENT, lambda: refused.append("a.test"))
    await turns(20)
    assert done[-1].answer.hostname == "a.test"
    assert "a.test" not in refused


async def test_a_large_set_takes_no_long_turn_of_the_loop(case):
    """All steps are cut into pieces: others get a turn between any two of them."""
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


async def test_what_is_no_part_changes_nothing(case):
    await case.pushed.replace(1, parts("a.test"))
    with pytest.raises(ValueError, match="no set of routes"):
        await case.pushed.replace(2, [b"\xc1"])
    assert await case.port("a.test") == 80
    assert case.pushed.version == 1


async def test_a_route_of_the_file_does_not_take_up_room_among_the_compact_ones(case):
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


async def test_a_hostname_goes_before_the_longest_pattern_and_that_before_the_default(case):
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
    assert (await case.route("x.b.test")).answer.hostname == "x.b.test"


async def test_without_a_default_others_do_not_exist(case):
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
async def test_a_new_set_holds_for_what_a_pattern_stood_for(case, before, after, found):
    await case.pushed.replace(1, parts_of(*before))
    assert await case.port("a.b.test") == found[0]
    await case.pushed.replace(2, parts_of(*after, version=2))
    assert await case.port("a.b.test") == found[1]


async def test_who_asks_while_a_pattern_moves(case):
    """What comes or goes by it waits; what only goes elsewhere is answered as before, and then as it is."""
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


async def test_a_pattern_sends_no_hostname_to_itself(case):
    await case.pushed.replace(1, parts_of(DEFAULT, redirect="https://shop.test"))
    assert (await case.route("www.test")).answer.redirect == "https://shop.test"
    assert (await case.route("shop.test")).answer is None


async def test_a_client_with_debts_is_answered_for_what_a_pattern_stands_for(case):
    case.resolver.lookups.limit.reconfigure(LimitSettings(unknown_hosts_per_client=1.0))
    await case.pushed.replace(1, parts_of(LONG))
    for n in range(100):
        assert await case.port(f"x{n}.b.test") == 2
