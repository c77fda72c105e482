"""The table of certificates: what is used, what is asked for, and what is believed."""

import time
import weakref
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.certificates.certificate_table import (
    ASK_AGAIN_AFTER,
    CertificateRejection,
    CertificateState,
    CertificateTable,
    NameState,
)
from edge.rules.certificates.certificates import Certificate, KeyKind, KeyPair
from edge.rules.settings import RouteSettings, TlsSettings
from tests.support.sample_certificates import DAY, WALL

State = CertificateState
NOW = 1000.0
LONG = "max-age=100, stale-while-revalidate=50, stale-if-error=1000"


def certificate(*names: str, generation: int = 1, days: float = 90.0, leaf: bytes = b"leaf") -> Certificate:
    dates = WALL - 10 * DAY, WALL + days * DAY
    pair = KeyPair(KeyKind.ECDSA, b"%b %d" % (leaf, generation), (), b"key", dates)
    return Certificate(names, (pair,), ("h2", "http/1.1"), generation)


class Table(CertificateTable):
    """A table with a clock: `now` and `wall` go together."""

    __slots__ = ("now",)

    def __init__(self, routes: dict[str, Any] | None = None, **tls: Any) -> None:
        super().__init__(TlsSettings(**tls), RouteSettings(**{"jitter": 0.0, **(routes or {})}))
        self.now = NOW

    @property
    def wall(self) -> float:
        return WALL + self.now - NOW

    def state(self, hostname: str) -> State:
        return self.look(hostname).state

    def look(self, hostname: str) -> NameState:
        return self.look_up(hostname, self.now, self.wall)

    def add(self, hostname: str, *names: str, cache_control: str | None = LONG, **more: Any) -> Any:
        made = certificate(*(names or (hostname,)), **more)
        return self.put(hostname, made, cache_control=cache_control, now=self.now, wall=self.wall, rand=0.0)

    def absent(self, hostname: str, cache_control: str | None = None) -> Any:
        return self.put_absent(hostname, cache_control, now=self.now, wall=self.wall)

    def failed(self, hostname: str, pause: float = 2.0) -> None:
        self.put_failed(hostname, "it failed", now=self.now, wall=self.wall, pause=pause)

    def issuing(self, hostname: str, seconds: float) -> None:
        self.put_issuing(hostname, self.now + seconds, now=self.now, wall=self.wall)


def served(table: Table, hostname: str) -> tuple[str, ...] | None:
    known = table.look(hostname).known
    return None if known is None else known.certificate.names


def test_the_stages_of_a_lifetime() -> None:
    table = Table()
    assert table.look("a.test") == (State.UNKNOWN, None, "a.test")
    table.add("a.test")
    stages = []
    for seconds in (0, 89, 90, 99, 100, 149, 150, 1099, 1100):
        table.now = NOW + seconds
        found = table.look("a.test")
        stages.append((seconds, found.state.name, found.ask_for is not None))
    assert stages == [
        (0, "FRESH", False),
        (89, "FRESH", False),
        (90, "FRESH", True),
        (99, "FRESH", True),
        (100, "STALE", True),
        (149, "STALE", True),
        (150, "EXPIRED", True),
        (1099, "EXPIRED", True),
        (1100, "UNKNOWN", True),
    ]


def test_without_directives_it_serves_until_its_end() -> None:
    table = Table(max_age=60)
    table.add("a.test", cache_control=None, days=30)
    assert table.state("a.test") is State.FRESH
    table.now += 61
    assert table.state("a.test") is State.STALE
    table.now = NOW + 30 * DAY - 1
    assert table.state("a.test") is State.STALE
    table.now += 1
    assert table.look("a.test") == (State.UNKNOWN, None, "a.test"), "never after notAfter"


def test_no_directive_extends_it_beyond_its_end() -> None:
    table = Table()
    table.add("a.test", cache_control="max-age=604800, stale-if-error=604800", days=1)
    table.now += DAY
    assert served(table, "a.test") is None


def test_the_wall_clock_decides_about_the_end() -> None:
    table = Table()
    table.add("a.test", days=1)
    assert table.look_up("a.test", NOW, WALL + DAY).known is None
    assert table.look_up("a.test", NOW, WALL + DAY - 1).known is not None


def test_exact_goes_before_wildcard() -> None:
    table = Table()
    table.add("a.shop.test", "*.shop.test", "shop.test")
    for hostname in ("a.shop.test", "b.shop.test", "shop.test"):
        assert served(table, hostname) == ("*.shop.test", "shop.test")
    for hostname in ("a.b.shop.test", "test", "*.shop.test.x", "ashop.test"):
        assert table.state(hostname) is State.UNKNOWN
    table.add("b.shop.test")
    assert served(table, "b.shop.test") == ("b.shop.test",)
    assert served(table, "c.shop.test") == ("*.shop.test", "shop.test")


def test_a_wildcard_serves_while_the_exact_one_is_over() -> None:
    table = Table()
    table.add("a.shop.test", "*.shop.test", cache_control=None)
    table.add("b.shop.test", days=1, cache_control=None)
    table.now += DAY
    found = table.look("b.shop.test")
    assert found.known is not None
    assert (found.known.certificate.names, found.ask_for) == (("*.shop.test",), "b.shop.test")


def test_a_wildcard_is_renewed_by_the_name_that_it_was_asked_for_with() -> None:
    table = Table()
    table.add("a.shop.test", "*.shop.test")
    table.now += 100
    assert table.look("random.shop.test").ask_for == "a.shop.test"
    table.renew("a.shop.test", LONG, now=table.now, wall=table.wall, rand=0.0)
    assert table.look("random.shop.test").ask_for is None
    table.add("a.shop.test", generation=2)  # from now on it has one of its own
    assert table.state("random.shop.test") is State.UNKNOWN


def test_a_404_for_a_made_up_name_does_not_remove_the_wildcard() -> None:
    table = Table(routes={"removal_hold": 0})
    table.add("a.shop.test", "*.shop.test")
    assert table.absent("random.shop.test") is None
    assert table.state("random.shop.test") is State.FRESH
    assert table.misses == 0


def test_names_without_a_certificate() -> None:
    table = Table()
    assert table.absent("a.test") is None
    assert table.look("a.test") == (State.ABSENT, None, None)
    assert "404" in (table.last_error("a.test") or "")
    table.now += 9.9
    assert table.state("a.test") is State.ABSENT
    table.now += 0.1
    assert table.state("a.test") is State.UNKNOWN
    table.absent("a.test", "max-age=30")
    table.now += 29
    assert table.state("a.test") is State.ABSENT
    table.absent("b.test", "max-age=604800")
    table.now += 3600
    assert table.state("b.test") is State.UNKNOWN, "an hour at most"


def test_a_certificate_ends_what_was_known_without_it() -> None:
    table = Table()
    for record in (table.absent, table.failed, lambda name: table.issuing(name, 10)):
        record("a.test")
        table.add("a.test")
        assert table.state("a.test") is State.FRESH
        assert table.misses == 0
        table.invalidate("a.test")
        table.absent("a.test")
        table.mark_stale("a.test", table.now)


def test_a_failed_lookup() -> None:
    table = Table()
    table.failed("a.test")
    assert table.look("a.test") == (State.FAILED, None, None)
    assert table.last_error("a.test") == "it failed"
    table.now += 1
    assert table.state("a.test") is State.UNKNOWN


def test_a_failed_lookup_for_a_known_name() -> None:
    table = Table()
    table.add("a.test")
    table.now += 200
    assert table.state("a.test") is State.EXPIRED
    table.failed("a.test", pause=2.0)
    assert table.look("a.test").ask_for is None
    assert table.state("a.test") is State.STALE, "it is used without a lookup for a moment"
    assert table.last_error("a.test") == "it failed"
    table.now += 2
    assert table.state("a.test") is State.EXPIRED
    table.now += 1000
    table.failed("a.test")
    assert table.state("a.test") is State.FAILED, "it is over"


def test_a_certificate_that_is_being_issued() -> None:
    table = Table()
    table.issuing("a.test", 3.0)
    assert table.look("a.test") == (State.ISSUING, None, None)
    assert table.issued_at("a.test") == table.now + 3
    table.now += 3
    assert table.state("a.test") is State.UNKNOWN
    table.add("a.test")
    assert table.issued_at("a.test") == 0.0
    table.now += 100
    table.issuing("a.test", 30.0)
    assert table.look("a.test").ask_for is None, "the old one serves meanwhile"
    assert served(table, "a.test") == ("a.test",)


def test_a_lower_generation_is_not_believed_at_first() -> None:
    table = Table()
    table.add("a.test", generation=7)
    table.now += 1
    assert table.add("a.test", generation=6) is CertificateRejection.LOWER_GENERATION
    known = table.get("a.test")
    assert known is not None
    assert known.certificate.generation == 7
    assert table.look("a.test").ask_for is None
    table.now += ASK_AGAIN_AFTER
    assert table.look("a.test").ask_for == "a.test", "it is asked again soon"
    table.now += 60 - ASK_AGAIN_AFTER
    assert table.add("a.test", generation=6) is None
    assert table.add("a.test", generation=6) is None
    assert table.add("a.test", generation=8) is None


def test_a_removal_is_not_believed_at_first() -> None:
    table = Table()
    table.add("a.test")
    assert table.absent("a.test") is CertificateRejection.UNCONFIRMED
    assert table.state("a.test") is State.FRESH
    table.now += 30
    assert table.absent("a.test") is None
    assert table.state("a.test") is State.ABSENT
    assert len(table) == 0


def test_after_an_invalidation_anything_is_believed() -> None:
    table = Table()
    for record in (lambda: table.add("a.test", generation=1), lambda: table.absent("a.test")):
        table.add("a.test", generation=7)
        assert table.invalidate("a.test")
        assert table.look("a.test")[0::2] == (State.EXPIRED, "a.test")
        assert record() is None
    assert not table.invalidate("b.test")
    table.absent("b.test")
    assert table.invalidate("b.test")
    assert table.state("b.test") is State.UNKNOWN


def test_one_that_is_over_is_replaced_by_anything() -> None:
    table = Table()
    table.add("a.test", generation=7, days=1)
    table.now += 2 * DAY
    assert table.add("a.test", generation=1) is None
    assert table.state("a.test") is State.FRESH


def test_the_same_certificate_stays_the_same_object() -> None:
    """TLS contexts are kept by it."""
    table = Table()
    table.add("a.test")
    before = table.look("a.test").known
    table.now += 100
    assert table.state("a.test") is State.STALE
    assert table.add("a.test") is None
    after = table.look("a.test").known
    assert after is before
    assert table.state("a.test") is State.FRESH
    table.add("a.test", leaf=b"new")
    assert table.look("a.test").known is not before
    assert len(table) == 1


def test_a_change_of_a_name() -> None:
    table = Table()
    table.add("a.test")
    assert table.mark_stale("a.test", table.now)
    assert table.look("a.test")[0::2] == (State.STALE, "a.test")
    assert not table.mark_stale("b.test", table.now)
    table.absent("b.test")
    assert table.mark_stale("b.test", table.now)
    assert table.state("b.test") is State.UNKNOWN


def test_a_change_of_a_name_under_a_wildcard() -> None:
    table = Table()
    table.add("a.shop.test", "*.shop.test")
    assert table.mark_stale("b.shop.test", table.now)
    assert table.look("b.shop.test")[0::2] == (State.STALE, "b.shop.test")
    assert table.look("c.shop.test")[0::2] == (State.FRESH, None)
    table.failed("b.shop.test", pause=2.0)
    assert table.look("b.shop.test")[0::2] == (State.STALE, None)
    table.now += 2
    assert table.look("b.shop.test").ask_for == "b.shop.test"
    table.add("b.shop.test")
    assert served(table, "b.shop.test") == ("b.shop.test",)
    assert table.mark_stale("*.shop.test", table.now)
    assert table.look("c.shop.test")[0::2] == (State.STALE, "a.shop.test")


def test_a_change_of_a_name_that_has_none_of_its_own() -> None:
    table = Table()
    table.add("a.shop.test", "*.shop.test")
    table.mark_stale("b.shop.test", table.now)
    table.absent("b.shop.test")
    assert table.look("b.shop.test")[0::2] == (State.FRESH, None)


def test_a_change_of_everything() -> None:
    table = Table()
    table.add("a.test")
    table.absent("b.test")
    table.now += 1
    table.mark_all_stale(table.now)
    assert table.look("a.test")[0::2] == (State.STALE, "a.test")
    assert table.state("b.test") is State.UNKNOWN
    table.failed("a.test", pause=2.0)
    assert table.look("a.test").ask_for is None, "the failure is not forgotten at the next look"
    table.now += 2
    table.add("a.test")
    table.add("c.test")
    assert table.state("a.test") is table.state("c.test") is State.FRESH


def test_a_certificate_of_fewer_names_than_before() -> None:
    table = Table()
    table.add("a.test", "a.test", "b.test")
    table.add("a.test", "a.test", generation=2)
    assert served(table, "a.test") == ("a.test",)
    assert table.state("b.test") is State.UNKNOWN, "it asks for itself"
    assert len(table) == 1


def test_a_certificate_that_takes_over_names() -> None:
    table = Table()
    table.add("a.test", "a.test", "c.test")
    table.add("b.test", "b.test", "c.test")
    assert served(table, "c.test") == ("b.test", "c.test")
    assert served(table, "a.test") == ("a.test", "c.test")
    table.add("c.test", "a.test", "b.test", "c.test", generation=2)
    assert len(table) == 1


def test_the_number_is_bounded() -> None:
    table = Table(capacity=3)
    for number in range(3):
        table.add(f"{number}.test")
    known = table.look("0.test").known
    assert known is not None
    table.used(known)
    table.add("3.test")
    assert [table.state(f"{n}.test").name for n in range(4)] == ["FRESH", "UNKNOWN", "FRESH", "FRESH"]
    assert [each.hostname for each in table.recently_used()] == ["3.test", "0.test", "2.test"]
    table.used(known)
    assert next(table.recently_used()).hostname == "0.test"
    assert (table.owner_of("0.test"), table.owner_of("1.test")) == ("0.test", None)


def test_the_bytes_are_bounded() -> None:
    table = Table(memory=1 << 20)
    for number in range(2000):
        table.add(f"{number}.test", leaf=bytes(10_000))
        assert table.size <= 1 << 20
    assert 80 < len(table) < 110
    assert table.state("1999.test") is State.FRESH
    table.add("large.test", leaf=bytes(2 << 20))
    assert table.state("large.test") is State.FRESH, "the last one stays"
    assert len(table) == 1


def test_misses_are_bounded() -> None:
    table = Table(routes={"unknown_host_capacity": 100})
    table.add("a.shop.test", "*.shop.test")
    for number in range(300):
        table.absent(f"{number}.test")
        table.mark_stale(f"{number}.shop.test", table.now)
    assert table.misses == 100
    assert len(table._changed_names) == 100


def test_those_that_end_first_among_many() -> None:
    table = Table()
    for number in range(200):
        table.add(f"{number}.test", days=10 + number * 37 % 200)
    for number in range(0, 200, 3):
        table.add(f"{number}.test", days=300 + number, generation=2)  # the old ones stay in the heap
    ends = sorted(known.certificate.not_after for known in table._recent)
    assert [known.certificate.not_after for known in table.ending_first(10)] == ends[:10]
    assert len(table.ending_first(1000)) == 200
    began = time.thread_time()
    for _ in range(100):
        table.ending_first(10)
    assert time.thread_time() - began < 1.0, "not all are looked at"


def test_the_soonest_end() -> None:
    table = Table()
    assert table.soonest_not_after is None
    for days in (30, 10, 20):
        table.add(f"{days}.test", days=days)
    assert table.soonest_not_after == WALL + 10 * DAY
    table.add("10.test", days=40, generation=2)
    assert table.soonest_not_after == WALL + 20 * DAY
    table.now += 25 * DAY
    table.add("new.test", days=90)
    assert table.soonest_not_after == WALL + 30 * DAY, "those that are over are dropped"
    assert len(table) == 3


def test_nothing_grows_when_certificates_are_replaced() -> None:
    table = Table()
    for generation in range(1, 5000):
        table.add("a.test", generation=generation)
    assert len(table) == 1
    assert len(table._ends) < 1100
    assert table.size == certificate("a.test", generation=4999).size


class _Watched(Certificate):
    """One to which there can be weak references: it has no slots."""


def test_a_certificate_that_has_left_the_table_is_freed_with_its_key() -> None:
    table = Table(capacity=3)
    table.add("ends-first.test", days=1)  # first in the heap: those behind it stay there when they have left
    left = []
    for generation in range(1, 101):
        made = certificate("a.test", generation=generation)
        watched = _Watched(made.names, made.pairs, made.alpn, generation)
        left.append(weakref.ref(watched))
        table.put("a.test", watched, cache_control=LONG, now=table.now, wall=table.wall, rand=0.0)
    del watched
    assert len(table._ends) == 101
    assert sum(each() is not None for each in left) == 1, "the one that is in use"
    for number in range(3):
        table.add(f"{number}.test")
    assert left[-1]() is None, "evicted"


names = st.sampled_from(["a.test", "b.test", "x.s.test", "y.s.test", "*.s.test", "s.test"])
hosts = names.filter(lambda name: name[0] != "*")
steps = st.one_of(
    st.tuples(st.just("put"), hosts, st.lists(names, max_size=3), st.integers(1, 3), st.floats(0, 3)),
    st.tuples(st.sampled_from(["absent", "failed", "issuing", "stale", "invalidate", "use"]), hosts),
    st.tuples(st.just("wait"), st.floats(0, 2 * DAY)),
    st.tuples(st.just("all")),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=400, deadline=None)
def test_whatever_happens(happened: list[Any]) -> None:
    """Nothing is served after its end, nor for a name that it does not have; sizes add up."""
    table = Table(capacity=3)
    for step in happened:
        match step:
            case ("put", hostname, others, generation, days):
                table.add(
                    hostname,
                    hostname,
                    *dict.fromkeys(n for n in others if n != hostname),
                    generation=generation,
                    days=days,
                )
            case ("absent", hostname):
                table.absent(hostname)
            case ("failed", hostname):
                table.failed(hostname)
            case ("issuing", hostname):
                table.issuing(hostname, 5.0)
            case ("stale", hostname):
                table.mark_stale(hostname, table.now)
            case ("invalidate", hostname):
                table.invalidate(hostname)
            case ("use", hostname):
                known = table.look(hostname).known
                if known is not None:
                    table.used(known)
            case ("wait", seconds):
                table.now += seconds
            case _:
                table.mark_all_stale(table.now)
        assert len(table) <= 3
        assert table.size == sum(known.certificate.size for known in table._recent)
        ends = [known.certificate.not_after for known in table._recent]
        assert table.soonest_not_after == (min(ends) if ends else None)
        assert [known.certificate.not_after for known in table.ending_first(2)] == sorted(ends)[:2]
        for hostname in ("a.test", "b.test", "x.s.test", "y.s.test", "s.test"):
            found = table.look(hostname)
            assert (found.known is None) == (found.state.name in ("UNKNOWN", "ABSENT", "FAILED", "ISSUING"))
            if found.known is not None:
                assert table.wall < found.known.certificate.not_after
                assert {hostname, "*" + hostname[1:]} & set(found.known.certificate.names)


def test_jitter_shortens() -> None:
    table = CertificateTable(TlsSettings(), RouteSettings(jitter=0.5))
    table.put("a.test", certificate("a.test"), cache_control="max-age=100", now=NOW, wall=WALL, rand=0.9)
    known = table.get("a.test")
    assert known is not None
    assert known.fresh_until == pytest.approx(NOW + 55)
    assert known.gone_at == inf
