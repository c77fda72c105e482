"""Who may ask for a certificate that nobody knows, who waits for it, and for how long."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from edge.net.certificates.certificate_admission import CertificateAdmission, LookupTurn
from edge.rules.limits.lookup_queue import WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.settings import LimitSettings
from tests.support.fake_transports import turns


class Bench:
    """An admission with a clock that stands still. Lookups stay in flight until `end`."""

    def __init__(self, *, rate: float = 2.0, each: float = 0.5, capacity: int = 100, at_once: int = 16) -> None:
        self.now = 1000.0
        self.limit = UnknownHostLimit(LimitSettings(unknown_hosts=rate, unknown_hosts_per_client=each))
        self.asked: list[str] = []
        self.charges: dict[str, LookupCharge] = {}
        self.ends: dict[str, str] = {}
        self.last: WaitingLookup | None = None
        self.admission = CertificateAdmission(
            self.limit, clock=lambda: self.now, ask=self._ask, capacity=capacity, at_once=at_once
        )

    def _ask(self, hostname: str, priority: LookupPriority, charge: Callable[[], LookupCharge]) -> None:
        self.asked.append(hostname)
        self.charges[hostname] = charge()

    def submit(self, hostname: str, client: str, *, seconds: float = 10.0) -> bool:
        """Whether it waits."""
        self.last = self.admission.submit(
            hostname,
            client,
            self.now + seconds,
            lambda _: self.ends.__setitem__(f"{client} {hostname}", "goes on"),
            lambda: self.ends.__setitem__(f"{client} {hostname}", "refused"),
        )
        return self.last is not None

    def fill(self) -> int:
        """Ask until one has to wait; returns how many were asked for."""
        number = 0
        while not self.submit(f"fill{number}.test", f"192.0.2.{number}"):
            number += 1
        return number

    def end(self, hostname: str, *, unknown: bool) -> None:
        self.limit.end(self.charges.pop(hostname), self.now, unknown=unknown)


async def test_who_must_wait_goes_on_when_a_lookup_ends() -> None:
    bench = Bench()
    number = bench.fill()
    assert bench.asked == [f"fill{n}.test" for n in range(number)]
    assert number > 0
    assert len(bench.admission) == 1
    bench.end("fill0.test", unknown=False)
    await turns()
    assert bench.ends == {f"192.0.2.{number} fill{number}.test": "goes on"}
    assert bench.asked[-1] == f"fill{number}.test", "its lookup has begun"
    assert len(bench.admission) == 0


async def test_all_that_wait_for_a_name_go_on_with_its_lookup() -> None:
    bench = Bench()
    number = bench.fill()
    assert bench.submit(f"fill{number}.test", "198.51.100.1")
    bench.end("fill0.test", unknown=False)
    await turns()
    assert list(bench.ends.values()) == ["goes on", "goes on"]
    assert bench.asked.count(f"fill{number}.test") == 1


async def test_who_has_asked_for_too_many_is_refused() -> None:
    bench = Bench(rate=1000.0, each=0.1)
    for number in range(5):
        bench.submit(f"{number}.test", "192.0.2.1")
        if f"{number}.test" in bench.charges:
            bench.end(f"{number}.test", unknown=True)
        await turns()
    assert bench.limit.decide("192.0.2.1", bench.now) is LookupDecision.REFUSED
    asked = len(bench.asked)
    assert await bench.admission.turn("more.test", "192.0.2.1", bench.now + 10) is LookupTurn.REFUSED
    assert len(bench.asked) == asked


async def test_who_waits_for_its_own_lookups_goes_on_when_one_of_a_route_has_ended() -> None:
    """Lookups of routes and of certificates are counted together."""
    bench = Bench(rate=1000.0, each=0.1)
    routes = [bench.limit.begin("192.0.2.1", LookupDecision.COMMON) for _ in range(4)]
    assert bench.limit.decide("192.0.2.1", bench.now) is LookupDecision.AFTER_OWN
    assert bench.submit("a.test", "192.0.2.1")
    await turns()
    assert not bench.ends
    for charge in routes:
        bench.limit.end(charge, bench.now, unknown=False)
    await turns()
    assert bench.asked == ["a.test"]
    assert list(bench.ends.values()) == ["goes on"]


async def test_after_its_deadline_nobody_waits() -> None:
    bench = Bench()
    number = bench.fill()
    bench.now += 11.0
    bench.end("fill0.test", unknown=True)
    await turns()
    assert bench.ends == {f"192.0.2.{number} fill{number}.test": "goes on"}, "to learn that it is too late"
    assert len(bench.admission) == 0


async def test_who_leaves_is_not_called() -> None:
    bench = Bench()
    bench.fill()
    assert bench.last is not None
    bench.admission.leave(bench.last)
    bench.admission.leave(bench.last)
    bench.end("fill0.test", unknown=False)
    await turns()
    assert not bench.ends
    assert len(bench.admission) == 0


async def test_a_task_that_is_cancelled_leaves() -> None:
    bench = Bench()
    number = bench.fill()
    task = asyncio.create_task(bench.admission.turn("a.test", "198.51.100.1", bench.now + 10))
    await turns()
    assert len(bench.admission) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(bench.admission) == 1
    bench.end("fill0.test", unknown=False)
    await turns()
    assert f"fill{number}.test" in bench.asked


async def test_who_waits_is_bounded() -> None:
    bench = Bench(capacity=3)
    number = bench.fill()
    for more in range(4):
        assert bench.submit(f"more{more}.test", f"198.51.100.{more}")
    assert len(bench.admission) == 3
    assert bench.ends == {
        f"192.0.2.{number} fill{number}.test": "refused",
        "198.51.100.0 more0.test": "refused",
    }


@pytest.mark.parametrize("at_once", [1, 3])
async def test_so_many_go_on_in_one_turn_of_the_loop(at_once: int) -> None:
    bench = Bench(at_once=at_once)
    number = bench.fill()
    for more in range(10):
        assert bench.submit(f"more{more}.test", f"198.51.100.{more}")
    bench.now += 11.0
    bench.end("fill0.test", unknown=False)
    seen = [0]
    while len(bench.admission):
        await asyncio.sleep(0)
        seen.append(len(bench.ends))
    assert max(after - before for before, after in pairwise(seen)) == at_once
    assert number > 0


async def test_the_end() -> None:
    bench = Bench()
    bench.fill()
    bench.admission.close()
    bench.admission.close()
    assert list(bench.ends.values()) == ["refused"]
    bench.end("fill0.test", unknown=False)
    await turns()
    assert len(bench.asked) == len(bench.charges) + 1
