"""The circuit breaker of lookups: neither strangers nor the owner of some hostnames open it or keep it open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from edge.net.routing.core_api import CoreApiError, LookupResult
from edge.net.routing.lookup_circuit import LookupCircuit
from edge.net.routing.resolver import RouteResolver
from edge.rules.balancing.circuit_breaker import FAILURES, LONGEST_PAUSE
from edge.rules.balancing.environments import Environments
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Route
from edge.rules.settings import CoreApiSettings, DemeritSettings, LimitSettings, RetrySettings, RouteSettings
from tests.support.virtual_time import virtually

TIMEOUT = 4.0
BAD = "bad"


class PartlyBroken:
    """A core API that does what `trouble` says for hostnames with `BAD` in them, and knows all others. The site is
    what is before the last two dots."""

    def __init__(self) -> None:
        self.trouble: Callable[[], Awaitable[object]] | None = None
        self.is_broken: Callable[[str], bool] = lambda hostname: BAD in hostname
        self.asked: list[str] = []

    async def ask(self, hostname: str, etag: str | None) -> LookupResult:
        self.asked.append(hostname)
        if self.trouble is not None and self.is_broken(hostname):
            await self.trouble()
        site = hostname.rsplit(".", 2)[-2]
        route = RouteResponse(hostname, site, "live", 1, (Backend("b1", "10.0.0.1", 80),))
        return LookupResult(route, False, "max-age=3600", None)

    def timed_out(self) -> None:
        pass

    def reconfigure(self, settings: CoreApiSettings) -> None:
        pass

    async def close(self) -> None:
        pass


class Bench:
    """A resolver on virtual time."""

    def __init__(self) -> None:
        self.core = PartlyBroken()
        clock = asyncio.get_running_loop().time
        environments = Environments(DemeritSettings(), RetrySettings())
        self.resolver = RouteResolver(
            CoreApiSettings(url="http://127.0.0.1:1", timeout=TIMEOUT),
            table=RouteTable(RouteSettings(jitter=0.0), environments),
            environments=environments,
            core_api=self.core,
            unknown_host_limit=UnknownHostLimit(LimitSettings()),
            clock=clock,
            rand=lambda: 0.0,
        )

    async def ask(self, hostname: str) -> Route | None:
        found: asyncio.Future[Route | None] = asyncio.get_running_loop().create_future()
        self.resolver.resolve(hostname, found.set_result)
        return await found

    async def use(self, hostname: str) -> Route | None:
        """As a request whose route must be looked up first."""
        route = self.resolver.table.use(hostname, asyncio.get_running_loop().time())
        if route is not None:
            route.expired_at = route.fresh_until = route.no_lookup_before = 0.0
        return await self.ask(hostname)

    @property
    def is_open(self) -> bool:
        return self.resolver.lookup_state("nobody.test").circuit_open


def played(story: Callable[[Bench], Coroutine[object, object, None]]) -> None:
    async def play() -> None:
        bench = Bench()
        await story(bench)
        await bench.resolver.close()

    virtually(play())


async def hangs() -> None:
    await asyncio.sleep(1000)


async def ends_the_connection() -> None:
    raise CoreApiError("ServerDisconnectedError: Server disconnected")


async def fails() -> None:
    raise CoreApiError("status 500")


async def refuses() -> None:
    raise CoreApiError("ClientConnectorError: Connect call failed", connected=False)


@pytest.mark.parametrize("trouble", [hangs, ends_the_connection, fails])
@pytest.mark.parametrize("made_up", ["{n}.bad-name.test", "bad-{n}.test"])
def test_names_of_strangers_do_not_open_it(trouble: Callable[[], Awaitable[object]], made_up: str) -> None:
    """The core API stumbles over some names, such as those of a part of its database."""

    async def story(bench: Bench) -> None:
        for known in ("www.shop.test", "www.blog.test"):
            assert await bench.ask(known) is not None
        bench.core.trouble = trouble
        for round_ in range(4):
            asked = [bench.ask(made_up.format(n=f"{round_}-{n}")) for n in range(2 * FAILURES)]
            under_way = asyncio.gather(*asked)
            while not under_way.done():
                await asyncio.sleep(TIMEOUT / 50)
                assert not bench.is_open
            assert set(await under_way) == {None}
            assert await bench.ask(f"cold-{round_}.other.test") is not None
        assert bench.core.asked.count("www.blog.test") > 1, "one that is known was asked for, to compare"

    played(story)


@pytest.mark.parametrize("trouble", [hangs, ends_the_connection, fails])
def test_hostnames_of_one_owner_do_not_open_it(trouble: Callable[[], Awaitable[object]]) -> None:
    """Its record in the core API is broken."""

    async def story(bench: Bench) -> None:
        mine = [f"{n}.bad.test" for n in range(2 * FAILURES)]
        for hostname in ("www.shop.test", "www.blog.test", *mine):
            assert await bench.ask(hostname) is not None
        bench.core.trouble = trouble
        for round_ in range(4):
            under_way = asyncio.gather(*map(bench.use, mine))
            while not under_way.done():
                await asyncio.sleep(TIMEOUT / 50)
                assert not bench.is_open
            assert await bench.ask(f"cold-{round_}.other.test") is not None

    played(story)


def test_the_owner_of_the_hostname_used_last_cannot_keep_it_open() -> None:
    async def story(bench: Bench) -> None:
        mine = [f"{n}.bad.test" for n in range(2 * FAILURES)]
        for hostname in ("www.shop.test", "www.blog.test", *mine):
            assert await bench.ask(hostname) is not None
        bench.core.trouble, bench.core.is_broken = fails, lambda hostname: True
        for hostname in ("www.shop.test", "www.blog.test", *mine):
            await bench.use(hostname)
        assert bench.is_open
        bench.core.is_broken = lambda hostname: BAD in hostname
        for _ in range(round(3 * LONGEST_PAUSE / 0.1)):
            for hostname in mine:
                await bench.use(hostname)
            await asyncio.sleep(0.1)
        assert not bench.is_open
        assert await bench.ask("cold.other.test") is not None

    played(story)


@pytest.mark.parametrize("trouble", [hangs, ends_the_connection, fails, refuses])
def test_a_core_api_that_fails_for_everybody_opens_it(trouble: Callable[[], Awaitable[object]]) -> None:
    async def story(bench: Bench) -> None:
        for known in ("www.shop.test", "www.blog.test"):
            assert await bench.ask(known) is not None
        bench.core.trouble, bench.core.is_broken = trouble, lambda hostname: True
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(bench.ask(f"{n}.cold.test") for n in range(FAILURES)))
        await asyncio.sleep(TIMEOUT / 5)
        assert bench.is_open
        assert loop.time() - began < 0.75 * TIMEOUT

    played(story)


def test_it_shows_its_state() -> None:
    async def story(bench: Bench) -> None:
        circuit = LookupCircuit(
            bench.resolver.table, (), start=lambda hostname: None, clock=lambda: 1.0, rand=lambda: 0.5
        )
        assert repr(circuit) == "<LookupCircuit closed>"
        for n in range(FAILURES):
            circuit.record_failure(f"{n}.test", connected=False)
        assert repr(circuit) == "<LookupCircuit open>"

    played(story)
