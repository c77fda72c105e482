"""The order in which waiting lookups of unknown hostnames are made."""

from hypothesis import given
from hypothesis import strategies as st

from edge.rules.limits.client_key import client_key
from edge.rules.limits.lookup_queue import LookupQueue, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, UnknownHostLimit
from edge.rules.settings import LimitSettings
from tests.support.lookup_floods import charge_for

NOW = (LookupDecision.RESERVED, LookupDecision.COMMON)


class Case:
    """A limit of one lookup a second for each of the two buckets, and a virtual clock."""

    def __init__(self, *, rate: float = 1.0, each: float = 10.0, capacity: int = 1000) -> None:
        self.limit = UnknownHostLimit(LimitSettings(unknown_hosts=rate, unknown_hosts_per_client=each))
        self.queue = LookupQueue(self.limit, capacity=capacity)
        self.now = 100.0
        self.in_flight: dict[str, LookupCharge] = {}

    def come(self, hostname: str, address: str) -> WaitingLookup | None:
        """Add a request. Returns the lookup that is removed for it."""
        decision = self.limit.decide(client_key(address), self.now)
        if decision in NOW and not self.queue.has_line:
            self.in_flight[hostname] = self.limit.begin(client_key(address), decision)
            return None
        lookup = WaitingLookup(hostname, client_key(address), self.now + 10.0, lambda _: None, lambda: None)
        return self.queue.add(lookup, decision, self.now)

    def take_all_that_may(self) -> list[str]:
        """Hostnames that leave the queue; refused ones have a sign before them."""
        taken = []
        while (found := self.queue.take_next(self.now)) is not None:
            lookup, decision = found
            if decision is LookupDecision.REFUSED:
                taken.append(f"-{lookup.hostname}")
            else:
                taken.append(lookup.hostname)
                self.in_flight[lookup.hostname] = self.limit.begin(lookup.client, decision)
        return taken

    def end(self, hostname: str, *, unknown: bool = False) -> list[str]:
        charge = self.in_flight.pop(hostname)
        self.limit.end(charge, self.now, unknown=unknown)
        self.queue.own_ended(charge.client)
        return self.take_all_that_may()

    def take_as_time_passes(self) -> list[str]:
        """Take one lookup after the other; each finds nothing, and none expires."""
        taken = []
        while self.queue.has_line:
            due = self.queue.next_at(self.now)
            assert due is not None
            self.now = max(due, self.now + 0.001)
            for hostname in self.take_all_that_may():
                taken.append(hostname)
                if not hostname.startswith("-"):
                    self.end(hostname, unknown=True)
        return taken

    def use_up(self, names: int = 3) -> None:
        """Fill both buckets with this many unknown names, of clients that do not return."""
        for number in range(names):
            for _ in range(2):  # the first is paid by the one bucket, the second by the other
                charge_for(self.limit, f"0.0.{number // 250}.{number % 250}", self.now)

    def occupy(self, lookups: int) -> None:
        """Put this many lookups of other clients in flight, from the common bucket."""
        for number in range(lookups):
            self.limit.begin(f"0.0.{number // 250}.{number % 250}", LookupDecision.COMMON)


def test_the_newest_client_goes_first() -> None:
    case = Case()
    case.use_up()
    for n in range(3):
        case.come(f"{n}.test", f"10.1.0.{n}")
    assert case.take_all_that_may() == []
    assert case.take_as_time_passes() == ["2.test", "1.test", "0.test"]


def test_networks_take_turns_and_a_new_one_goes_first() -> None:
    case = Case()
    case.use_up()
    for n in range(3):
        case.come(f"a{n}.test", f"10.1.0.{n}")
    for n in range(2):
        case.come(f"b{n}.test", f"10.2.0.{n}")
    case.come("c.test", "10.3.0.1")
    assert case.take_as_time_passes() == ["c.test", "b1.test", "a2.test", "b0.test", "a1.test", "a0.test"]


def test_a_whole_32_of_ipv6_is_one_network() -> None:
    case = Case()
    case.use_up()
    for n in range(20):
        case.come(f"a{n}.test", f"2001:db8:{n:x}::1")
    case.come("b.test", "2001:db9::1")
    assert case.take_all_that_may() == []
    case.now += 10.0
    assert case.take_all_that_may()[0] == "b.test"


def test_of_one_client_the_oldest_lookup_goes_first_and_then_the_others_have_their_turn() -> None:
    case = Case(rate=100.0, each=0.0)
    case.use_up(1000)
    for n in range(3):
        case.come(f"a{n}.test", "10.1.0.1")
    case.come("b.test", "10.1.0.2")
    case.now += 30.0
    assert case.take_all_that_may() == ["b.test", "a0.test", "a1.test", "a2.test"]


def test_a_new_lookup_does_not_overtake_those_in_line() -> None:
    case = Case()
    case.use_up()
    case.come("early.test", "10.1.0.1")
    case.now += 20.0
    case.come("late.test", "10.1.0.1")
    assert not case.in_flight
    assert case.take_all_that_may() == ["early.test", "late.test"]


def test_clients_without_debts_go_before_those_with() -> None:
    case = Case(rate=10.0)
    charge_for(case.limit, "10.1.0.1", case.now - 20.0)
    begun = [case.limit.begin(f"0.0.0.{n}", LookupDecision.COMMON) for n in range(11)]
    begun += [case.limit.begin(f"0.0.0.{n}", LookupDecision.RESERVED) for n in range(11)]
    case.come("debts.test", "10.1.0.1")
    case.come("none.test", "10.2.0.1")
    assert case.take_all_that_may() == []
    case.limit.end(begun[0], case.now, unknown=False)
    assert case.take_all_that_may() == ["none.test"], "though it is the common bucket that has room"
    case.limit.end(begun[1], case.now, unknown=False)
    assert case.take_all_that_may() == ["debts.test"]


def test_a_client_that_gets_debts_while_it_waits_is_refused() -> None:
    case = Case(rate=10.0)
    case.use_up(40)
    for n in range(5):
        case.come(f"a{n}.test", "10.1.0.1")
    assert len(case.queue) == 5
    charge_for(case.limit, "10.1.0.1", case.now)
    assert case.take_all_that_may() == [f"-a{n}.test" for n in range(5)]
    assert len(case.queue) == 0


def test_a_client_waits_for_its_own_lookups() -> None:
    """A thousand sites that exist, opened at once while made-up names use up the common bucket."""
    case = Case(rate=1000.0)
    case.occupy(1001)
    for n in range(1000):
        case.come(f"{n}.test", "10.1.0.1")
    assert list(case.in_flight) == [f"{n}.test" for n in range(4)]
    assert not case.queue.has_line
    for n in range(1000):
        following = case.end(f"{n}.test")
        assert following == ([f"{n + 4}.test"] if n < 996 else [])
    assert len(case.queue) == 0


def test_another_client_of_its_network_need_not_wait_for_them() -> None:
    case = Case(rate=1000.0)
    case.occupy(1001)
    for n in range(10):
        case.come(f"a{n}.test", "10.1.0.1")
    case.come("b.test", "10.1.0.2")
    assert "b.test" in case.in_flight


def test_a_client_that_waited_for_its_own_goes_behind_the_others_of_its_network() -> None:
    case = Case(rate=10.0)
    case.occupy(11)
    for n in range(5):
        case.come(f"a{n}.test", "10.1.0.1")
    assert not case.queue.has_line
    case.use_up(10)
    case.come("b.test", "10.1.0.2")
    case.come("c.test", "10.1.0.3")
    assert case.end("a0.test") == []
    case.now += 10.0
    assert case.take_all_that_may() == ["c.test", "b.test", "a4.test"]


def test_all_lookups_of_one_hostname_leave_together() -> None:
    case = Case()
    case.use_up()
    for n in range(3):
        case.come("same.test", f"10.{n}.0.1")
    case.come("other.test", "10.1.0.1")
    assert case.queue.hostnames == 2
    assert len(case.queue.take_hostname("same.test")) == 3
    assert case.queue.take_hostname("same.test") == []
    assert (case.queue.hostnames, len(case.queue)) == (1, 1)
    assert case.take_as_time_passes() == ["other.test"]


def test_the_oldest_lookup_is_removed_when_the_queue_is_full() -> None:
    case = Case(capacity=10)
    case.use_up()
    left = [case.come(f"{n}.test", f"10.{n}.0.1") for n in range(13)]
    assert [lookup and lookup.hostname for lookup in left] == [None] * 10 + ["0.test", "1.test", "2.test"]
    assert len(case.queue) == 10
    assert case.take_as_time_passes()[-1] == "3.test"


def test_no_lookup_waits_beyond_its_deadline() -> None:
    case = Case()
    case.use_up(100)
    case.come("a.test", "10.1.0.1")
    case.now += 5.0
    case.come("b.test", "10.1.0.1")
    assert list(case.queue.take_expired(109.9)) == []
    assert case.queue.next_at(case.now) == 110.0
    assert [lookup.hostname for lookup in case.queue.take_expired(110.0)] == ["a.test"]
    assert [lookup.hostname for lookup in case.queue.take_all()] == ["b.test"]
    assert case.queue.next_at(case.now) is None
    assert not case.queue.has_line


STEPS = st.one_of(
    st.tuples(st.just("come"), st.integers(0, 12), st.integers(0, 6)),
    st.tuples(st.just("end"), st.integers(0, 10), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.0, 4.0), st.none()),
    st.tuples(st.just("look"), st.none(), st.none()),
)


@given(st.lists(STEPS, max_size=150), st.sampled_from([0.0, 1.0, 20.0]), st.integers(1, 30))
def test_every_lookup_ends_once(steps: list[tuple[str, object, object]], rate: float, capacity: int) -> None:
    case = Case(rate=rate, each=1.0, capacity=capacity)
    came: list[str] = []
    ended: list[str] = []

    def look() -> None:
        ended.extend(lookup.hostname for lookup in case.queue.take_expired(case.now))
        ended.extend(hostname.removeprefix("-") for hostname in case.take_all_that_may())

    for number, (what, one, other) in enumerate(steps):
        if what == "come":
            hostname = f"{number}.test"
            address = f"10.{one}.0.1" if isinstance(one, int) and one < 4 else f"2001:db8:0:{one}0{other}::1"
            came.append(hostname)
            gone = case.come(hostname, address)
            ended += [hostname] if hostname in case.in_flight else []
            ended += [gone.hostname] if gone is not None else []
        elif what == "end" and case.in_flight:
            assert isinstance(one, int)
            answered = list(case.in_flight)[one % len(case.in_flight)]
            ended += [h.removeprefix("-") for h in case.end(answered, unknown=bool(other))]
        elif what == "wait":
            assert isinstance(one, float)
            case.now += one
        else:
            look()
        assert len(case.queue) <= capacity
        waiting = case.queue.next_at(case.now)
        assert (waiting is None) == (len(case.queue) == 0)
    case.now += 20.0
    look()
    assert sorted(ended) == sorted(came)
    assert (len(case.queue), case.queue.hostnames, case.queue.has_line) == (0, 0, False)
    assert not case.queue._waiters
