"""Debts of clients: a bounded table in which whole prefixes become one client."""

from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.client_debts import ClientDebts
from edge.rules.limits.client_key import ClientKey, client_key, wider_prefixes

HOUR = 3600.0


def debts(capacity: int = 1000, memory: float = 60.0, widened_at: int = 3) -> ClientDebts:
    return ClientDebts(capacity=capacity, memory=memory, widened_at=widened_at)


def charge(table: ClientDebts, *addresses: str, now: float = 100.0, cost: float = 0.1) -> None:
    for address in addresses:
        table.charge(client_key(address), now, cost, most=10.0)


def owes(table: ClientDebts, address: str, now: float = 100.0) -> float:
    _, debt = table.find(client_key(address), now)
    return 0.0 if debt is None else round(debt.repaid_at - now, 6)


def test_a_debt_adds_up_and_is_repaid() -> None:
    table = debts()
    charge(table, "192.0.2.1", "192.0.2.1")
    assert (owes(table, "192.0.2.1"), owes(table, "192.0.2.2")) == (0.2, 0.0)
    assert owes(table, "192.0.2.1", now=100.15) == 0.05
    charge(table, "192.0.2.1", now=105.0)
    assert owes(table, "192.0.2.1", now=105.0) == 0.1, "what was repaid before does not count"


def test_a_debt_is_remembered_for_a_while_after_the_last_charge() -> None:
    table = debts()
    charge(table, "192.0.2.1")
    charge(table, "192.0.2.1", now=150.0)
    client = client_key("192.0.2.1")
    assert table.find(client, 209.9)[1] is not None
    assert table.find(client, 210.0) == (client, None)
    charge(table, "192.0.2.2", now=210.0)
    assert len(table) == 1, "the one that was repaid takes no room"


def test_many_64s_of_a_56_become_one_client() -> None:
    table = debts()
    charge(table, *(f"2001:db8:0:{n:x}::1" for n in range(3)))
    assert owes(table, "2001:db8:0:99::1") == 0.0, "a neighbour is not concerned yet"
    charge(table, "2001:db8:0:3::1")
    assert owes(table, "2001:db8:0:99::1") == 0.4, "one more, and what they owe is the whole prefix's"
    assert owes(table, "2001:db8:0:100::1") == 0.0, "another /56"
    charge(table, "2001:db8:0:98::1")
    assert (owes(table, "2001:db8:0::1"), len(table)) == (0.5, 1)


def test_many_56s_of_a_48_become_one_client() -> None:
    table = debts()
    charge(table, *(f"2001:db8:0:{n:x}00::1" for n in range(3)), *(f"2001:db8:0:{n:x}::1" for n in range(4)))
    assert owes(table, "2001:db8:0:99::1") == 0.5, "its /56: that of the first three is one of them"
    assert owes(table, "2001:db8:0:ff00::1") == 0.0
    charge(table, "2001:db8:0:300::1")
    assert owes(table, "2001:db8:0:ff00::1") == 0.8
    assert owes(table, "2001:db8:1::1") == 0.0, "no wider than a /48"
    assert len(table) == 1


def test_a_prefix_begins_with_no_more_than_a_client_may_owe() -> None:
    table = debts()
    charge(table, *(f"2001:db8:0:{n:x}::1" for n in range(4)), cost=9.0)
    assert owes(table, "2001:db8::1") == 10.0


def test_a_prefix_is_split_up_when_it_has_no_new_debt() -> None:
    table = debts()
    charge(table, *(f"2001:db8:0:{n:x}::1" for n in range(4)))
    charge(table, "2001:db8:0:1::1", now=200.0)
    assert owes(table, "2001:db8:0:1::1", now=200.0) == 0.1
    assert owes(table, "2001:db8:0:2::1", now=200.0) == 0.0


def test_many_addresses_of_ipv4_are_never_one_client() -> None:
    table = debts()
    charge(table, *(f"192.0.2.{n}" for n in range(200)))
    assert len(table) == 200
    assert owes(table, "192.0.2.201") == 0.0


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    table = debts(capacity=10)
    charge(table, *(f"192.0.2.{n}" for n in range(10)))
    charge(table, "192.0.2.0", "192.0.2.100")
    assert len(table) == 10
    assert (owes(table, "192.0.2.0"), owes(table, "192.0.2.1")) == (0.2, 0.0)


ADDRESSES = st.one_of(
    st.builds(lambda a, b, c: f"2001:db8:{a}:{b}{c:02x}::1", *[st.integers(0, 2)] * 2, st.integers(0, 5)),
    st.builds(lambda n: f"192.0.2.{n}", st.integers(0, 5)),
)


@given(
    st.lists(st.tuples(ADDRESSES, st.floats(0.0, 40.0)), max_size=120),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_the_table_stays_consistent(charges: list[tuple[str, float]], capacity: int, widened_at: int) -> None:
    table, now = debts(capacity=capacity, widened_at=widened_at), 0.0
    for address, pause in charges:
        now += pause
        client = client_key(address)
        table.charge(client, now, 0.1, most=10.0)
        _, debt = table.find(client, now)
        assert debt is not None, "whoever was charged has a debt"
        assert now < debt.repaid_at
        assert len(table) <= capacity
        held = set(table._debts)
        for key in held:
            assert not held & set(wider_prefixes(key)), "a client is counted once"
        narrower: dict[bytes, set[ClientKey]] = {}
        for key in held:
            for inner, prefix in zip((key, *wider_prefixes(key)), wider_prefixes(key), strict=False):
                narrower.setdefault(prefix, set()).add(inner)
        assert table._narrower == narrower, "there are no entries of prefixes without debts"
        assert all(len(inner) <= widened_at for inner in narrower.values())


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300), st.integers(1, 8))
def test_a_48_never_has_more_clients_than_it_is_allowed(subnets: list[int], widened_at: int) -> None:
    table = debts(widened_at=widened_at)
    for subnet in subnets:
        charge(table, f"2001:db8:0:{subnet:x}::1")
    assert len(table) <= widened_at**2
