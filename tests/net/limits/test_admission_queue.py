"""The queue of lookups that wait for the limit of unknown hosts: its bounds, and what it does for both kinds."""

from itertools import pairwise

import pytest

from edge.net.limits.admission_queue import NOW, AdmissionQueue
from edge.rules.limits.lookup_queue import WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, UnknownHostLimit
from edge.rules.settings import LimitSettings
from tests.support.fake_transports import turns


class Bench:
    """A queue that is full of lookups of different clients, with a clock that stands still."""

    def __init__(self, *, capacity: int = 100, at_once: int = 100) -> None:
        self.now = 1000.0
        self.limit = UnknownHostLimit(LimitSettings(unknown_hosts=2.0, unknown_hosts_per_client=0.5))
        self.admitted: list[str] = []
        self.expired: list[str] = []
        self.charges: list[LookupCharge] = []
        self.queue = AdmissionQueue(
            self.limit,
            clock=lambda: self.now,
            admit=self.admit,
            expire=lambda lookup: self.expired.append(lookup.hostname),
            capacity=capacity,
            at_once=at_once,
        )
        while (decision := self.limit.decide(f"192.0.2.{len(self.charges)}", self.now)) in NOW:
            self.charges.append(self.limit.begin(f"192.0.2.{len(self.charges)}", decision))

    def admit(self, lookup: WaitingLookup, decision: LookupDecision, now: float) -> None:
        assert now == self.now
        self.admitted.append(lookup.hostname)

    def add(self, number: int) -> WaitingLookup | None:
        """Returns the lookup that was displaced."""
        client = f"198.51.100.{number}"
        lookup = WaitingLookup(f"{number}.test", client, self.now + 10, lambda _: None, lambda: None)
        return self.queue.add(lookup, self.limit.decide(client, self.now), self.now)

    def end_all(self) -> None:
        for charge in self.charges:
            self.limit.end(charge, self.now, unknown=False)


async def test_beyond_its_capacity_the_oldest_is_displaced() -> None:
    bench = Bench(capacity=3)
    assert [bench.add(number) for number in range(3)] == [None] * 3
    displaced = bench.add(3)
    assert displaced is not None
    assert displaced.hostname == "0.test"
    assert len(bench.queue) == 3
    assert not bench.admitted
    assert not bench.expired, "the caller ends it"


@pytest.mark.parametrize("over", [False, True], ids=["admitted", "expired"])
async def test_so_many_are_called_in_one_turn_of_the_loop(over: bool) -> None:
    bench = Bench(at_once=2)
    for number in range(5):
        bench.add(number)
    if over:
        bench.now += 11.0
    called = bench.expired if over else bench.admitted
    counts = [0]
    bench.end_all()
    while len(called) < 5 and len(counts) < 100:
        await turns(1)
        counts.append(len(called))
    assert max(after - before for before, after in pairwise(counts)) == 2
    assert len(bench.queue) == 0


async def test_one_that_is_closed_hears_of_no_lookup_any_more() -> None:
    bench = Bench()
    bench.add(1)
    assert [lookup.hostname for lookup in bench.queue.close()] == ["1.test"]
    assert bench.limit.ended == []
    assert bench.queue.close() == [], "twice is once"
    bench.end_all()
    await turns()
    assert not bench.admitted
    assert not bench.expired
