"""What an answer of the core API is worth, for how long, and what it may replace."""

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.rules import contradictions
from edge.rules.contradictions import CONTRADICTION_FORGOTTEN, MANY_CONTRADICTED
from edge.rules.demerits import DemeritBook
from edge.rules.environments import Environment
from edge.rules.lifetimes import Lifetime, lifetime_of
from edge.rules.retries import RetryBudget
from edge.rules.route_table import USED_ANEW, RouteTable
from edge.rules.routes import Backend, Freshness, Route, RouteAnswer, may_exist, redirect_location
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings

DEFAULT = Lifetime(60.0, 600.0, 86400.0)
B1, B2 = Backend("b1", "10.0.0.1", 8000), Backend("b2", "10.0.0.2", 8000)
FOREVER = "max-age=3600"


def an_environment() -> Environment:
    return Environment(
        "acme", "live", book=DemeritBook(DemeritSettings()), budget=RetryBudget(RetrySettings(), 0.0)
    )


def an_answer(
    *backends: Backend, generation: int = 1, environment: str = "live", site: str = "acme"
) -> RouteAnswer:
    return RouteAnswer("shop.test", site, environment, generation, backends)


def a_route(*backends: Backend, generation: int = 1, environment: str = "live", site: str = "acme") -> Route:
    answer = an_answer(*backends, generation=generation, environment=environment, site=site)
    return Route(answer, an_environment(), '"etag"')


def nowhere() -> Route:
    """The answer 404."""
    return Route(None, None, None)


def a_table(**settings: object) -> RouteTable:
    return RouteTable(RouteSettings(**settings))  # type: ignore[arg-type]


def put(table: RouteTable, route: Route, now: float = 0.0, *, host: str = "shop.test") -> Route:
    return table.put(host, route, FOREVER, now, 0.0)


# Reading the answer


def test_the_body_of_an_answer() -> None:
    body = b"""{"hostname": "shop.test", "site": "acme", "environment": "live", "generation": 7, "colour": "red",
      "backends": [{"id": "b1", "address": "10.0.0.1", "port": 8000, "weight": 3},
                   {"id": "b2", "address": "fd00::7", "port": 1, "server": "srv-1", "role": "standby",
                    "state": "asleep"}]}"""
    answer = msgspec.json.decode(body, type=RouteAnswer)
    assert answer.backends == (B1, Backend("b2", "fd00::7", 1, "srv-1", "standby", "asleep"))
    assert (answer.backends[0].role, answer.backends[0].state) == ("active", "running")
    assert (answer.generation, answer.maintenance, answer.redirect) == (7, False, None)


@pytest.mark.parametrize("missing", ["hostname", "site", "environment", "generation", "backends"])
def test_an_answer_without_its_essentials_is_none(missing: str) -> None:
    body = msgspec.to_builtins(an_answer(B1))
    del body[missing]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, RouteAnswer)


@pytest.mark.parametrize(
    ("cache_control", "lifetime"),
    [
        pytest.param(None, DEFAULT, id="absent"),
        pytest.param("", DEFAULT, id="empty"),
        pytest.param("max-age=5", Lifetime(5, 600, 86400), id="one word"),
        pytest.param(
            "max-age=5, stale-while-revalidate=6, stale-if-error=7", Lifetime(5, 6, 7), id="all three of them"
        ),
        pytest.param('max-age="5"', Lifetime(5, 600, 86400), id="quoted"),
        pytest.param("MAX-AGE=5,Stale-If-Error=0", Lifetime(5, 600, 0), id="any case, no blank"),
        pytest.param("private, max-age=5, foo=bar", Lifetime(5, 600, 86400), id="words that we do not know"),
        pytest.param("max-age=0", Lifetime(0, 600, 86400), id="zero is a number"),
        pytest.param("no-store", Lifetime(0, 0, 86400), id="no-store"),
        pytest.param("max-age=5, no-cache", Lifetime(0, 0, 86400), id="no-cache goes before max-age"),
        pytest.param("max-age", DEFAULT, id="a word without its number"),
        pytest.param("max-age=", DEFAULT, id="nothing after ="),
        pytest.param("max-age=-5", DEFAULT, id="negative"),
        pytest.param("max-age=5.5", DEFAULT, id="fraction"),
        pytest.param("max-age=soon, stale-if-error=9", Lifetime(60, 600, 9), id="one is malformed"),
        pytest.param("max-age = 5", DEFAULT, id="blanks around ="),
        pytest.param('max-age="5', DEFAULT, id="half quoted"),
        pytest.param("s-max-age=5", DEFAULT, id="a longer word"),
        pytest.param("max-age=" + "9" * 400, DEFAULT, id="absurd"),
    ],
)
def test_lifetime_of(cache_control: str | None, lifetime: Lifetime) -> None:
    assert lifetime_of(cache_control, DEFAULT) == lifetime


# A route


def test_groups_of_backends() -> None:
    spare = Backend("b3", "10.0.0.3", 8000, role="standby")
    leaving = Backend("b4", "10.0.0.4", 8000, state="draining")
    spare_leaving = Backend("b5", "10.0.0.5", 8000, role="standby", state="draining")
    asleep = Backend("b6", "10.0.0.6", 8000, state="asleep")
    route = a_route(B1, spare, leaving, spare_leaving, asleep)
    assert [c.backend for c in route.active] == [B1, asleep]
    assert [c.backend for c in route.standby] == [spare]
    assert set(route.standings) == {c.standing for c in (*route.active, *route.standby)}


def test_a_candidate_is_who_and_where() -> None:
    (candidate,) = a_route(B1).active
    assert repr(candidate) == "<b1@10.0.0.1:8000>"
    assert candidate.head_line == b"X-Styx-Backend: b1\r\n"
    (moved,) = a_route(Backend("b1", "10.0.0.9", 8000)).active
    assert moved.place != candidate.place


@pytest.mark.parametrize("hostile", ["b1\r\nX-Evil: 1", "b1\n", "bö", "b 1", "b\x00"])
def test_no_id_breaks_out_of_its_line(hostile: str) -> None:
    line = a_route(Backend(hostile, "10.0.0.1", 8000)).active[0].head_line
    assert line.startswith(b"X-Styx-Backend: b")
    assert line.endswith(b"\r\n")
    assert all(0x21 <= byte <= 0x7E for byte in line[len(b"X-Styx-Backend: ") : -2])


def test_standings_outlive_the_refresh_of_a_route() -> None:
    environment = an_environment()
    before = Route(an_answer(B1, B2), environment, None)
    after = Route(an_answer(B2, generation=2), environment, None)
    assert after.active[0].standing is before.active[1].standing


@pytest.mark.parametrize(
    ("now", "freshness"),
    [
        (100.0, Freshness.FRESH),
        (109.9, Freshness.FRESH),
        (110.0, Freshness.STALE),
        (129.9, Freshness.STALE),
        (130.0, Freshness.EXPIRED),
        (149.9, Freshness.EXPIRED),
        (150.0, Freshness.GONE),
    ],
)
def test_stages_of_freshness(now: float, freshness: Freshness) -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 40), 100.0)
    assert route.freshness(now) is freshness


def test_a_short_stale_if_error_does_not_cut_the_revalidation() -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 5), 100.0)
    assert route.freshness(129.0) is Freshness.STALE
    assert route.freshness(130.0) is Freshness.GONE
    assert route.gone_at == 130.0


def test_a_failed_question_leaves_the_freshness_and_buys_quiet() -> None:
    route = a_route(B1)
    route.renew(Lifetime(10, 20, 40), 100.0)
    route.not_renewed("timeout", 115.0, 3.0)
    assert (route.last_error, route.quiet_until, route.taken_at) == ("timeout", 118.0, 100.0)
    assert route.freshness(116.0) is Freshness.STALE
    route.renew(Lifetime(10, 20, 40), 117.0)
    assert (route.last_error, route.quiet_until, route.taken_at) == (None, 126.0, 117.0), (
        "a tenth before it is stale"
    )


# The table: what replaces what


def test_a_newer_generation_replaces() -> None:
    table = a_table()
    put(table, a_route(B1, generation=1))
    newer = a_route(B2, generation=2)
    assert put(table, newer) is newer
    assert table.get("shop.test") is newer


def test_the_same_generation_replaces() -> None:
    table = a_table()
    put(table, a_route(B1))
    again = a_route(B2)
    assert put(table, again) is again


def test_an_older_generation_never_replaces_and_is_asked_again_soon() -> None:
    table = a_table()
    newer = put(table, a_route(B1, generation=5))
    for _ in range(3):
        assert put(table, a_route(B2, generation=4), 1000.0) is newer
    assert table.get("shop.test") is newer
    assert newer.last_error == "the core API answered generation 4, older than 5"
    assert newer.freshness(1000.0) is Freshness.FRESH
    assert newer.freshness(1005.0) is Freshness.STALE


def test_generations_of_another_environment_do_not_compare() -> None:
    table = a_table()
    put(table, a_route(B1, generation=5))
    moved = a_route(B2, generation=1, environment="test")
    assert put(table, moved) is moved


def test_an_empty_list_is_believed_when_it_is_said_again_half_a_minute_later() -> None:
    table = a_table()
    full, last = a_route(B1), a_route()
    put(table, full, 1000.0)
    for now in (1001.0, 1010.0, 1030.9):
        assert put(table, a_route(), now) is full
        assert full.last_error is not None
    assert put(table, last, 1031.0) is last
    assert table.get("shop.test") is last


def test_what_was_said_long_ago_confirms_nothing() -> None:
    table = a_table()
    full = put(table, a_route(B1), 1000.0)
    assert put(table, a_route(), 1001.0) is full
    assert put(table, a_route(), 1001.0 + CONTRADICTION_FORGOTTEN + 1.0) is full


def test_when_many_environments_lose_everything_nobody_does() -> None:
    """A core API that has lost its data says so for hours."""
    table = a_table()
    sites = [f"site-{n}" for n in range(MANY_CONTRADICTED + 5)]
    for site in sites:
        put(table, a_route(B1, site=site), 1000.0, host=f"{site}.test")
    for now in (1001.0, 1031.0, 1301.0, 1601.0):
        for n, site in enumerate(sites):
            said = nowhere() if n % 2 else a_route(site=site)
            assert put(table, said, now, host=f"{site}.test") is not said
    for site in sites[:10]:
        put(table, a_route(B1, site=site), 1602.0, host=f"{site}.test")
    gone = nowhere()
    assert put(table, gone, 1603.0, host="site-20.test") is gone, "of fifteen it may be true"


def test_a_site_with_many_hostnames_may_go() -> None:
    table = a_table()
    hosts = [f"{n}.test" for n in range(3 * MANY_CONTRADICTED)]
    for host in hosts:
        put(table, a_route(B1), 1000.0, host=host)
    for host in hosts:
        put(table, nowhere(), 1001.0, host=host)
    for host in hosts:
        gone = nowhere()
        assert put(table, gone, 1031.0, host=host) is gone


def test_contradictions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contradictions, "MOST_CONTRADICTIONS", 3)
    table = a_table()
    for n in range(5):
        put(table, a_route(B1), 1000.0, host=f"{n}.test")
    for now in (1001.0, 1040.0):
        put(table, nowhere(), now, host="4.test")
        for n in range(4):
            put(table, nowhere(), now, host=f"{n}.test")
    assert [table.peek(f"{n}.test") is None for n in range(5)] == [True, True, False, False, True]


def test_an_empty_list_of_a_higher_generation_is_believed_at_once() -> None:
    table = a_table()
    put(table, a_route(B1, generation=1))
    empty = a_route(generation=2)
    assert put(table, empty) is empty


@pytest.mark.parametrize("between", ["full answer", "304"])
def test_confirmations_of_an_empty_list_must_be_in_a_row(between: str) -> None:
    table = a_table()
    held = put(table, a_route(B1), 1000.0)
    assert put(table, a_route(), 1001.0) is held
    if between == "full answer":
        held = put(table, a_route(B1), 1002.0)
    else:
        table.renew(held, None, 1002.0, 0.0)
    assert put(table, a_route(), 1031.0) is held


def test_an_empty_list_of_an_older_generation_is_never_believed() -> None:
    table = a_table()
    full = put(table, a_route(B1, generation=2))
    assert put(table, a_route(generation=1)) is full
    assert put(table, a_route(generation=1)) is full


def test_an_empty_list_is_believed_where_nothing_was() -> None:
    table = a_table()
    empty = a_route()
    assert put(table, empty) is empty
    full = a_route(B1)
    assert put(table, full) is full


def test_a_known_hostname_is_gone_when_404_is_said_again_half_a_minute_later() -> None:
    table = a_table()
    known = put(table, a_route(B1, generation=9))
    assert put(table, nowhere()) is known
    assert known.last_error is not None
    assert known.freshness(4.9) is Freshness.FRESH
    assert known.freshness(5.1) is Freshness.STALE, "asked again soon, and served meanwhile"
    gone = nowhere()
    assert put(table, gone, 30.0) is gone
    assert table.get("shop.test") is gone
    assert (len(table), table.absent) == (0, 1)
    back = a_route(B1, generation=1)
    assert put(table, back) is back
    assert (len(table), table.absent) == (1, 0)


def test_304_renews_the_route_and_its_environment() -> None:
    table = a_table(jitter=0.0)
    route = put(table, a_route(B1))
    table.renew(route, "max-age=7", 100.0, 0.0)
    assert route.environment is not None
    assert route.environment.seen == 100.0
    assert route.fresh_until == 107.0


def test_a_404_between_two_answers_is_no_confirmation() -> None:
    table = a_table()
    known = put(table, a_route(B1))
    assert put(table, nowhere()) is known
    again = a_route(B1)
    assert put(table, again) is again
    assert put(table, nowhere()) is again


def test_404_is_believed_at_once_of_a_hostname_that_was_not_known() -> None:
    table = a_table()
    absent = nowhere()
    assert put(table, absent) is absent
    assert table.absent == 1


# The table: for how long


@pytest.mark.parametrize(("rand", "kept"), [(0.0, 100.0), (0.5, 90.0), (0.999, 80.02)])
def test_jitter_only_shortens(rand: float, kept: float) -> None:
    route = a_route(B1)
    a_table(jitter=0.2).put("shop.test", route, "max-age=100, stale-while-revalidate=50", 1000.0, rand)
    assert route.fresh_until - 1000.0 == pytest.approx(kept)
    assert route.expired_at - route.fresh_until == pytest.approx(50.0)


def test_words_that_are_absent_come_from_the_settings() -> None:
    table = a_table(max_age=3.0, stale_while_revalidate=4.0, stale_if_error=9.0, negative_max_age=2.0, jitter=0.0)
    route, absent = a_route(B1), nowhere()
    table.put("shop.test", route, None, 0.0, 0.0)
    assert (route.fresh_until, route.expired_at, route.gone_at) == (3.0, 7.0, 12.0)
    table.put("made-up.test", absent, None, 0.0, 0.0)
    assert (absent.fresh_until, absent.gone_at) == (2.0, 2.0)


def test_an_unknown_hostname_is_never_served_stale() -> None:
    absent = nowhere()
    a_table().put("made-up.test", absent, "max-age=5, stale-while-revalidate=60, stale-if-error=60", 0.0, 0.0)
    assert absent.freshness(4.9) is Freshness.FRESH
    assert absent.freshness(5.0) is Freshness.GONE


# The table: how many


def test_the_least_recently_used_route_is_forgotten() -> None:
    table = a_table(capacity=2)
    given_away: list[str] = []
    table.shelve = lambda hostname, route: given_away.append(hostname)
    for host in ("a.test", "b.test"):
        put(table, a_route(B1), host=host)
    assert table.use("a.test", 100.0) is table.get("a.test") is not None
    assert table.get("b.test") is not None, "to look is no use"
    put(table, a_route(B1), host="c.test")
    assert table.hostnames() == ["a.test", "c.test"]
    table.use("a.test", 100.0 + USED_ANEW - 0.1)
    put(table, a_route(B1), host="d.test")
    assert table.hostnames() == ["c.test", "d.test"], "a use that soon after another is none"
    assert given_away == ["b.test", "a.test"]
    assert len(table) == 2


def test_who_turns_the_pages_of_routes_misses_none_of_them() -> None:
    table = a_table(capacity=3)
    for host in ("a.test", "b.test", "c.test"):
        put(table, a_route(B1), host=host)
    seen = table.hostnames(0, 2)
    table.use("a.test", 100.0)
    put(table, a_route(B1), host="b.test")
    assert [*seen, *table.hostnames(2, 2)] == ["a.test", "b.test", "c.test"]


def test_a_hostname_that_is_gone_makes_room() -> None:
    table = a_table(capacity=2)
    for host in ("a.test", "b.test"):
        put(table, a_route(B1), host=host)
    table.put("a.test", nowhere(), FOREVER, 1.0, 0.0, deliberate=True)
    put(table, a_route(B1), host="c.test")
    assert table.hostnames() == ["b.test", "c.test"]


def test_a_scan_of_made_up_names_pushes_no_site_out() -> None:
    table = a_table(capacity=1, negative_capacity=3)
    site = put(table, a_route(B1))
    for n in range(50):
        put(table, nowhere(), host=f"scan-{n}.test")
    assert table.get("shop.test") is site
    assert (len(table), table.absent) == (1, 3)
    assert table.get("scan-49.test") is not None
    assert table.get("scan-46.test") is None


class TableAndModel(RuleBasedStateMachine):
    """The table against the plainest model: what holds for each hostname, by the rules as the design has them."""

    HOSTS = st.sampled_from(["a.test", "b.test", "c.test"])

    def __init__(self) -> None:
        super().__init__()
        self.table = a_table()
        self.holds: dict[str, Route] = {}
        self.doubted: dict[str, float] = {}
        self.now = 0.0

    def _is_believed(self, host: str, *, doubtful: bool) -> bool:
        """What takes everything from a known hostname is believed when it is said for half a minute."""
        if not doubtful:
            self.doubted.pop(host, None)
            return True
        if self.now - self.doubted.setdefault(host, self.now) < 30.0:
            return False
        del self.doubted[host]
        return True

    @rule(host=HOSTS, generation=st.integers(1, 3), full=st.booleans())
    def answer(self, host: str, generation: int, full: bool) -> None:
        self.now += 10.0
        new, known = a_route(*([B1] if full else []), generation=generation), self.holds.get(host)
        before = known.answer if known is not None else None
        older = before is not None and generation < before.generation
        doubtful = before is not None and bool(before.backends) and not full and generation == before.generation
        if self._is_believed(host, doubtful=doubtful) and not older:
            self.holds[host] = new
        assert put(self.table, new, self.now, host=host) is self.holds[host]

    @rule(host=HOSTS)
    def no_such_host(self, host: str) -> None:
        self.now += 10.0
        new, known = nowhere(), self.holds.get(host)
        if self._is_believed(host, doubtful=known is not None and known.answer is not None):
            self.holds[host] = new
        assert put(self.table, new, self.now, host=host) is self.holds[host]

    @invariant()
    def the_table_knows_what_the_model_knows(self) -> None:
        for host in ("a.test", "b.test", "c.test"):
            assert self.table.get(host) is self.holds.get(host)
        existing = sum(route.answer is not None for route in self.holds.values())
        assert (len(self.table), self.table.absent) == (existing, len(self.holds) - existing)


TestTableAndModel = TableAndModel.TestCase
TestTableAndModel.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)


# Where else


@pytest.mark.parametrize(
    ("redirect", "target", "location"),
    [
        ("www.shop.test", b"/a?b=c", b"//www.shop.test/a?b=c"),
        ("https://www.shop.test", b"/a", b"https://www.shop.test/a"),
        ("https://www.shop.test/", b"/a", b"https://www.shop.test/a"),
        ("https://www.shop.test/base/", b"/a", b"https://www.shop.test/base/a"),
        ("https://www.shop.test", b"*", b"https://www.shop.test/"),
        ("https://www.shop.test", b"http://shop.test/a", b"https://www.shop.test/"),
        ("https://www.shop.test", b"//evil.test/a", b"https://www.shop.test//evil.test/a"),
        ("https://www.shop.test/\r\nSet-Cookie: a=b", b"/c", b"https://www.shop.test/Set-Cookie:a=b/c"),
        ("https://www.shöp.test", b"/", b"https://www.shp.test/"),
    ],
)
def test_redirect_location(redirect: str, target: bytes, location: bytes) -> None:
    assert redirect_location(redirect, target) == location


@pytest.mark.parametrize(
    "hostname", ["a", "shop.test", "xn--mnchen-3ya.test", "a_b.test", "_dmarc.test", "1.2.3.4", "a" * 63 + ".test"]
)
def test_names_worth_asking_for(hostname: str) -> None:
    assert may_exist(hostname)


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.test",
        "a-.test",
        "a b",
        "[::1]",
        "A.test",
        "a" * 64,
        "a." * 127 + "a",
        "a\n",
    ],
)
def test_names_that_cannot_exist(hostname: str) -> None:
    assert not may_exist(hostname)
