"""The index of routes: it gives what a scan of all routes would give."""

import tracemalloc

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.rules.balancing.environments import Environments
from edge.rules.routing.change_records import Change
from edge.rules.routing.route_index import RouteIndex
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_table import RouteTable
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings

MANY = 50_000
SITES, ENVIRONMENTS, SERVERS = ("s1", "s2"), ("live", "test"), ("", "srv-1", "srv-2", "srv-3")
CHANGES = [
    *(Change("site", site) for site in SITES),
    *(Change("environment", f"{site}/{name}") for site in SITES for name in ENVIRONMENTS),
    *(Change("server", server) for server in SERVERS if server),
]


def a_response(hostname: str, site: str, environment: str, *servers: str, generation: int = 1) -> RouteResponse:
    backends = tuple(Backend(f"b{n}", "10.0.0.1", 8000 + n, server) for n, server in enumerate(servers))
    return RouteResponse(hostname, site, environment, generation, backends)


# Alone


def test_a_route_is_found_by_all_that_it_depends_on_and_by_nothing_else() -> None:
    index = RouteIndex()
    index.add("a.test", a_response("a.test", "s1", "live", "srv-1", "srv-2", "srv-1", ""))
    for found in (
        Change("site", "s1"),
        Change("environment", "s1/live"),
        Change("server", "srv-1"),
        Change("server", "srv-2"),
    ):
        assert index.hostnames(found) == ["a.test"]
        assert index.count(found) == 1
    for other in (
        Change("site", "s1/live"),
        Change("environment", "s1"),
        Change("server", "s1"),
        Change("server", ""),
        Change("hostname", "a.test"),
        Change("all", ""),
        Change("planet", "earth"),
    ):
        assert index.hostnames(other) == []
        assert index.count(other) == 0
        assert index.oldest(other) is None


def test_hostnames_keep_the_order_in_which_they_were_added() -> None:
    index, live = RouteIndex(), Change("environment", "s1/live")
    responses = {name: a_response(name, "s1", "live") for name in ("c.test", "a.test", "b.test")}
    for name, answer in responses.items():
        index.add(name, answer)
    assert index.hostnames(live) == ["c.test", "a.test", "b.test"]
    index.discard("c.test", responses["c.test"])
    index.add("c.test", responses["c.test"])
    assert (index.oldest(live), index.count(live)) == ("a.test", 3)


def test_nothing_is_left_of_what_was_discarded() -> None:
    index = RouteIndex()
    responses = [a_response(f"{n}.test", f"s{n % 3}", "live", f"srv-{n % 5}") for n in range(30)]
    for answer in responses:
        index.add(answer.hostname, answer)
    for answer in responses:
        index.discard(answer.hostname, answer)
        index.discard(answer.hostname, answer)
    assert index._by_kind == {"site": {}, "environment": {}, "server": {}}


def test_memory_per_route() -> None:
    """Each hostname has its own site with three backends on some of 300 servers, the only thing that is shared."""
    responses = [
        a_response(f"{n}.test", f"site-{n}", "live", *(f"srv-{(n * 7 + k * 101) % 300}" for k in range(3)))
        for n in range(MANY)
    ]
    index = RouteIndex()
    tracemalloc.start()
    try:
        for answer in responses:
            index.add(answer.hostname, answer)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / MANY < 300
    assert len(index.hostnames(Change("site", "site-77"))) == 1
    assert index.count(Change("server", "srv-7")) == 501


# In the table


class TableAndIndex(RuleBasedStateMachine):
    """After any operation on the table, the index gives what a scan of all its routes gives."""

    HOSTS = st.sampled_from([f"{n}.test" for n in range(6)])

    def __init__(self) -> None:
        super().__init__()
        environments = Environments(DemeritSettings(), RetrySettings())
        self.table = RouteTable(RouteSettings(ready=4, per_environment=2, jitter=0.0), environments)
        self.now = 0.0

    def take(self, host: str, answer: RouteResponse | None, *, adopted: bool, deliberate: bool = False) -> None:
        """From the core API, or from another process."""
        self.now += 1.0
        if adopted:
            until = (self.now + 9, self.now + 99, self.now + 999)
            self.table.adopt(host, answer, taken_at=self.now, until=until, now=self.now)
        else:
            self.table.put(host, answer, cache_control=None, now=self.now, rand=0.0, deliberate=deliberate)

    @rule(
        host=HOSTS,
        site=st.sampled_from(SITES),
        environment=st.sampled_from(ENVIRONMENTS),
        servers=st.lists(st.sampled_from(SERVERS), max_size=3),
        generation=st.integers(1, 3),
        adopted=st.booleans(),
    )
    def answer(
        self, host: str, site: str, environment: str, servers: list[str], generation: int, adopted: bool
    ) -> None:
        self.take(host, a_response(host, site, environment, *servers, generation=generation), adopted=adopted)

    @rule(host=HOSTS, adopted=st.booleans(), deliberate=st.booleans())
    def no_such_host(self, host: str, adopted: bool, deliberate: bool) -> None:
        self.take(host, None, adopted=adopted, deliberate=deliberate)

    @rule(host=HOSTS)
    def invalidate(self, host: str) -> None:
        self.table.invalidate(host)

    @rule(host=HOSTS)
    def use(self, host: str) -> None:
        self.now += 10.0
        self.table.use(host, self.now)

    @invariant()
    def the_index_is_exact(self) -> None:
        routes = {hostname: self.table.peek(hostname) for hostname in self.table.hostnames()}
        for change in CHANGES:
            concerned = {
                hostname for hostname, route in routes.items() if route is not None and route.is_of(change)
            }
            found = self.table.index.hostnames(change)
            assert set(found) == concerned
            assert len(found) == len(concerned) == self.table.index.count(change)


TestTableAndIndex = TableAndIndex.TestCase
TestTableAndIndex.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
