"""The rate limit of lookups of unknown hostnames, and which clients are charged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.settings import LimitSettings
from tests.support.lookup_floods import charge_for

RESERVED, COMMON, REFUSED = LookupDecision.RESERVED, LookupDecision.COMMON, LookupDecision.REFUSED
AFTER_OWN, AFTER_RESERVED = LookupDecision.AFTER_OWN, LookupDecision.AFTER_RESERVED
AFTER_COMMON = LookupDecision.AFTER_COMMON


def limit(each: float = 8.0, everybody: float = 128.0, **more: float) -> UnknownHostLimit:
    return UnknownHostLimit(LimitSettings(unknown_hosts_per_client=each, unknown_hosts=everybody), **more)  # type: ignore[arg-type]


def name_one(limit: UnknownHostLimit, client: ClientKey, now: float) -> LookupDecision:
    """The client requests a hostname that does not exist; the lookup ends at once."""
    decision = limit.decide(client, now)
    if decision in (RESERVED, COMMON):
        limit.end(limit.begin(client, decision), now, unknown=True)
    return decision


def name_many(limit: UnknownHostLimit, client: ClientKey, now: float, most: int = 1000) -> int:
    """Number of made-up names of this client that are looked up."""
    for count in range(most):
        if name_one(limit, client, now) not in (RESERVED, COMMON):
            return count
    return most


def use_up_common(limit: UnknownHostLimit, now: float) -> None:
    """Fill the common bucket with lookups of clients that have debts."""
    clients = [f"198.51.100.{number}" for number in range(150)]
    for client in clients:
        charge_for(limit, client, now - 30.0)
    assert [name_one(limit, client, now) for client in clients][-1] is REFUSED


def use_up_reserved(limit: UnknownHostLimit, now: float) -> None:
    for number in range(10_000):
        if name_one(limit, f"203.0.{number // 250}.{number % 250}", now) is not RESERVED:
            return


# one client


def test_ten_seconds_worth_at_once_then_the_rate() -> None:
    of_one = limit(everybody=0.0)
    assert name_many(of_one, "a", 100.0) == 81
    assert of_one.decide("a", 100.0) is REFUSED
    assert name_many(of_one, "a", 101.0) == 8
    assert name_many(of_one, "a", 200.0) == 81


def test_names_that_exist_cost_nothing() -> None:
    of_one = limit()
    for _ in range(1000):
        decision = of_one.decide("a", 100.0)
        assert decision is RESERVED
        of_one.end(of_one.begin("a", decision), 100.0, unknown=False)
    assert not of_one.has_debts("a", 100.0)
    assert "debts=0 in_flight=0" in repr(of_one)


def test_lookups_in_flight_make_a_client_wait_and_never_refuse_it() -> None:
    of_one = limit(everybody=0.0)
    charges = []
    while (decision := of_one.decide("a", 100.0)) in (RESERVED, COMMON):
        charges.append(of_one.begin("a", decision))
    assert len(charges) == 81
    assert decision is AFTER_OWN
    of_one.end(charges.pop(), 100.0, unknown=False)
    assert of_one.decide("a", 100.0) is COMMON
    for charge in charges:
        of_one.end(charge, 100.0, unknown=True)
    assert of_one.decide("a", 100.0) is COMMON, "ten seconds' worth, and none more"
    assert name_many(of_one, "a", 100.0) == 1


def test_the_reserved_bucket_admits_a_few_lookups_of_one_client_at_a_time() -> None:
    of_one = limit()
    begun = [of_one.begin("a", of_one.decide("a", 100.0)) for _ in range(4)]
    assert all(charge.reserved for charge in begun)
    assert of_one.decide("a", 100.0) is COMMON, "as long as there is room for others"
    use_up_common(of_one, 100.0)
    assert of_one.decide("a", 100.0) is AFTER_OWN
    of_one.end(begun[0], 100.0, unknown=False)
    assert of_one.decide("a", 100.0) is RESERVED


def test_an_unknown_client_of_a_proxy() -> None:
    """It has debts like a client, but no limit of its own."""
    nobody = limit(everybody=0.0)
    assert name_many(nobody, "", 100.0) == 1000
    assert nobody.has_debts("", 100.0)


def test_a_prefix_of_ipv6_is_limited_as_one_client() -> None:
    """Each name from a new address: nine /56 are clients of their own, and then none is."""
    of_one = limit(everybody=0.0)
    names = [client_key(f"2001:db8:0:{n:x}::1") for n in range(65536)]
    found = [name_one(of_one, client, 100.0) for client in names]
    assert found.count(RESERVED) == 8 * 9 + 1
    assert found.count(RESERVED) + found.count(COMMON) <= 9 * 81
    assert set(found[9 * 256 :]) == {REFUSED}
    assert [name_one(of_one, client, 110.0) for client in names].count(COMMON) == 80


def test_lookups_in_flight_count_for_the_whole_prefix() -> None:
    of_one = limit(everybody=0.0)
    for n in range(9):
        charge_for(of_one, client_key(f"2001:db8:0:{n:x}::1"), 100.0)
    asked = 0
    while of_one.decide(client_key(f"2001:db8:0:{asked:x}::1"), 100.0) is COMMON:
        of_one.begin(client_key(f"2001:db8:0:{asked:x}::1"), COMMON)
        asked += 1
    assert asked == 81 - 9
    assert of_one.decide(client_key("2001:db8:0:ff::1"), 100.0) is AFTER_OWN


# all of them


def test_clients_without_debts_are_looked_up_whatever_the_others_do() -> None:
    of_all = limit()
    use_up_common(of_all, 100.0)
    assert of_all.decide("192.0.2.1", 100.0) is RESERVED
    assert of_all.priority("192.0.2.1", 100.0) is LookupPriority.WITHOUT_DEBTS
    assert of_all.priority("198.51.100.1", 100.0) is LookupPriority.WITH_DEBTS


def test_clients_without_debts_wait_when_there_are_too_many_of_them() -> None:
    of_all = limit()
    use_up_reserved(of_all, 100.0)
    assert of_all.decide("192.0.2.1", 100.0) is COMMON, "as long as there is room for others"
    for number in range(150):
        name_one(of_all, f"198.51.100.{number}", 100.0)
    assert of_all.decide("192.0.2.1", 100.0) is AFTER_RESERVED
    wait = of_all.room_in(AFTER_RESERVED, 100.0)
    assert 0.0 < wait <= 1.01 / 128
    assert of_all.decide("192.0.2.1", 100.0 + wait + 1e-9) is RESERVED


def test_the_first_name_that_does_not_exist_is_a_debt_for_a_minute() -> None:
    of_all = limit()
    assert name_one(of_all, "a", 100.0) is RESERVED
    use_up_common(of_all, 100.0)
    assert of_all.decide("a", 100.0) is REFUSED
    use_up_common(of_all, 159.9)
    assert of_all.decide("a", 159.9) is REFUSED
    use_up_common(of_all, 160.0)
    assert of_all.decide("a", 160.0) is RESERVED


def test_half_the_common_bucket_is_for_those_with_few_debts() -> None:
    of_all = limit()
    for _ in range(4):
        charge_for(of_all, "heavy", 90.0)
    for _ in range(3):
        charge_for(of_all, "light", 90.0)
    assert name_many(of_all, "heavy", 100.0) == 65
    assert name_one(of_all, "heavy", 100.0) is REFUSED
    assert name_one(of_all, "light", 100.0) is COMMON
    assert of_all.decide("light", 100.0) is REFUSED, "now it has more"


def test_those_with_debts_wait_for_what_is_in_flight() -> None:
    of_all = limit(everybody=10.0)
    charge_for(of_all, "a", 99.0)
    begun = []
    while (decision := of_all.decide("a", 100.0)) is COMMON:
        begun.append(of_all.begin("a", decision))
    assert (len(begun), decision) == (11, AFTER_COMMON)
    assert of_all.room_in(AFTER_COMMON, 100.0) > 0.0
    of_all.end(begun[0], 100.0, unknown=False)
    assert of_all.decide("a", 100.0) is COMMON


def test_zero_is_no_limit() -> None:
    assert name_many(limit(0.0, 0.0), "a", 100.0) == 1000
    assert limit(0.0, 0.0).room_in(AFTER_COMMON, 100.0) == 0.0
    of_all = limit(0.0)
    assert name_many(of_all, "a", 100.0) == 1 + 65
    assert of_all.decide("b", 100.0) is RESERVED


def test_other_limits_hold_at_once() -> None:
    of_one = limit(everybody=0.0)
    name_many(of_one, "a", 100.0)
    of_one.reconfigure(LimitSettings(unknown_hosts_per_client=0.0, unknown_hosts=0.0))
    assert of_one.decide("a", 100.0) is COMMON


@pytest.mark.parametrize("in_flight", [1, 7])
def test_the_core_api_is_asked_for_no_more_than_twice_the_limit(in_flight: int) -> None:
    """With any number of clients, each with this many lookups in flight, for ten seconds."""
    of_all = limit(everybody=10.0)
    asked, waiting = 0, list[LookupCharge]()
    for tick in range(1000):
        now = 100.0 + tick / 100
        for n in range(20):
            client = f"{tick % 200}.{n}.0.1"
            decision = of_all.decide(client, now)
            if decision in (RESERVED, COMMON):
                asked += 1
                waiting.append(of_all.begin(client, decision))
        while len(waiting) > in_flight:
            of_all.end(waiting.pop(0), now, unknown=True)
    assert asked <= 2 * (10 * 10 + 10 + 1)
    assert asked >= 2 * 10 * 10


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.floats(0.0, 0.3)), max_size=200))
def test_nothing_stays_in_flight(lookups: list[tuple[int, bool, float]]) -> None:
    of_all, now, begun = limit(everybody=5.0), 100.0, list[LookupCharge]()
    for number, unknown, pause in lookups:
        now += pause
        client = client_key(f"2001:db8:0:{number:x}::1")
        decision = of_all.decide(client, now)
        if decision in (RESERVED, COMMON):
            begun.append(of_all.begin(client, decision))
        if begun and unknown:
            of_all.end(begun.pop(0), now, unknown=True)
    for charge in begun:
        of_all.end(charge, now, unknown=False)
    assert not of_all._in_flight
    assert "in_flight=0" in repr(of_all)


def test_debts_are_bounded() -> None:
    of_all = limit(everybody=0.0, capacity=50)
    for n in range(200):
        charge_for(of_all, f"192.0.2.{n}", 100.0)
    assert "debts=50 " in repr(of_all)


def test_debtors_are_named_for_a_minute() -> None:
    names = limit(everybody=0)
    assert name_one(names, "192.0.2.1", 0.0) is RESERVED
    assert name_many(names, "192.0.2.2", 0.0) == 81
    assert names.debtors(0.0) == {"192.0.2.1": (1, False), "192.0.2.2": (81, True)}
    assert names.debtors(1.0)["192.0.2.2"] == (81, False)
    assert names.debtors(60.0) == {}
    free = limit(each=0, everybody=0)
    name_many(free, "192.0.2.2", 0.0, most=100)
    assert free.debtors(0.0) == {"192.0.2.2": (100, False)}
