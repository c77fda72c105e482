"""The resolver of certificates: one lookup for many handshakes, waiting, and what is served when it fails."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.net.certificates import certificate_resolver
from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.certificates.certificate_resolver import CertificateResolver
from edge.net.certificates.core_api_certificates import CertificateResult
from edge.net.deferred_queue import DeferredQueue
from edge.net.routing.core_api import CoreApiError
from edge.rules.certificates.certificate_table import CertificateTable
from edge.rules.certificates.certificates import Certificate
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.settings import LimitSettings, RouteSettings, TlsSettings
from edge.rules.tls.client_hello import Alert
from tests.support.fake_transports import turns
from tests.support.sample_certificates import DAY, WALL, authority
from tests.support.scripted_certificates import ScriptedSource, response_of
from tests.support.virtual_time import virtually

CA = authority()
FAR = 1e9
"A deadline that never comes."
LONG, STALE, EXPIRED = "max-age=60", "max-age=0, stale-while-revalidate=1000", "max-age=0, stale-while-revalidate=0"
DOWN = CoreApiError("no connection")


def answer(*names: str, cache_control: str = LONG, etag: str | None = None, **leaf: Any) -> CertificateResult:
    generation = leaf.pop("generation", 1)
    response = response_of(CA.leaf(*names, **leaf), names=names, generation=generation)
    return CertificateResult(response, cache_control=cache_control, etag=etag)


class Bench:
    """A resolver with a clock that stands still, and a source in the same process."""

    def __init__(self, *, concurrency: int = 64, timeout: float = 5.0, **limits: Any) -> None:
        self.now = 1000.0
        self.source = ScriptedSource()
        self.table = CertificateTable(TlsSettings(), RouteSettings(jitter=0.0))
        self.limit = UnknownHostLimit(LimitSettings(**limits))
        self.resolver = CertificateResolver(
            self.table,
            self.source,
            self.limit,
            deferred=DeferredQueue(asyncio.get_running_loop()),
            concurrency=concurrency,
            timeout=timeout,
            clock=lambda: self.now,
            rand=lambda: 0.0,
            wall=lambda: WALL + self.now - 1000.0,
        )

    async def lookup(self, hostname: str, client: str | None = "192.0.2.7", *, seconds: float = FAR) -> Certificate:
        async with asyncio.timeout(100):
            return await self.resolver.lookup(hostname, client, deadline=self.now + seconds)

    async def refusal(
        self, hostname: str, client: str | None = "192.0.2.7", *, seconds: float = FAR
    ) -> tuple[int, str]:
        with pytest.raises(NoCertificate) as raised:
            await self.lookup(hostname, client, seconds=seconds)
        return raised.value.alert, raised.value.reason

    def begin(self, hostname: str, client: str | None = "192.0.2.7") -> "asyncio.Task[Certificate]":
        return asyncio.create_task(self.lookup(hostname, client))

    async def quiet(self) -> None:
        """Wait until no lookup is under way."""
        async with asyncio.timeout(100):
            while self.resolver.asking:  # noqa: ASYNC110
                await asyncio.sleep(0)


UNKNOWN_NAME, INTERNAL = Alert.UNRECOGNIZED_NAME, Alert.INTERNAL_ERROR


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []
    monkeypatch.setattr(certificate_resolver, "AGAIN_AFTER", 0.0)

    def make(**options: Any) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.source.release()
        await bench.resolver.close()
        assert bench.resolver.asking == bench.resolver.waiting == 0
        assert bench.source.is_closed


@pytest.fixture
async def bench(made: Callable[..., Bench]) -> Bench:
    return made()


async def test_a_lookup(bench: Bench, tmp_path: Path) -> None:
    bench.source.answers["a.test"] = answer("a.test")
    assert bench.resolver.find("a.test") is None
    found = await bench.lookup("a.test")
    assert bench.resolver.find("a.test") is found
    assert await bench.lookup("a.test") is found
    assert bench.source.lookups == [("a.test", None)]
    (tmp_path / "c").write_bytes(found.pairs[0].chain_pem() + found.pairs[0].key_pem())
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c")


async def test_one_lookup_for_all_that_wait(bench: Bench) -> None:
    names = [f"{n}.test" for n in range(50)]
    for name in names:
        bench.source.answers[name] = answer(name)
    bench.source.hold()
    lookups = [bench.begin(name) for name in names for _ in range(20)]
    await turns()
    assert bench.resolver.waiting == 1000
    assert bench.resolver.asking == 50
    bench.source.release()
    found = await asyncio.gather(*lookups)
    assert len(set(found)) == 50
    assert sorted(bench.source.hostnames) == sorted(names)


async def test_those_that_wait_are_released_a_few_per_turn(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test")
    bench.source.hold()
    done: list[int] = []
    loop, per_turn = asyncio.get_running_loop(), []
    lookups = [bench.begin("a.test") for _ in range(40)]
    for task in lookups:
        task.add_done_callback(lambda _: done.append(1))
    await turns()
    bench.source.release()
    while len(done) < 40:
        before = len(done)
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
        per_turn.append(len(done) - before)
    assert 0 < max(per_turn) <= 8


async def test_lookups_at_once_are_bounded(made: Callable[..., Bench]) -> None:
    bench = made(concurrency=8, unknown_hosts=0, unknown_hosts_per_client=0)
    bench.source.hold()
    lookups = [bench.begin(f"{n}.test") for n in range(40)]
    await turns()
    bench.source.release()
    await asyncio.gather(*lookups, return_exceptions=True)
    assert bench.source.most_at_once <= 8
    assert len(bench.source.lookups) == 40


async def test_a_wildcard_that_arrives_serves_those_that_wait_for_a_slot(made: Callable[..., Bench]) -> None:
    bench = made(concurrency=1, unknown_hosts=0, unknown_hosts_per_client=0)
    bench.source.otherwise = answer("a.shop.test", "*.shop.test")
    bench.source.hold()
    lookups = [bench.begin(f"{letter}.shop.test") for letter in "abcdefgh"]
    await turns()
    bench.source.release()
    found = await asyncio.gather(*lookups)
    assert len(bench.source.lookups) == 1
    assert len(set(found)) == 1


async def test_there_is_none(bench: Bench) -> None:
    assert await bench.refusal("a.test") == (UNKNOWN_NAME, "absent")
    assert await bench.refusal("a.test") == (UNKNOWN_NAME, "absent")
    assert len(bench.source.lookups) == 1
    bench.now += 10
    bench.source.answers["a.test"] = answer("a.test")
    assert await bench.lookup("a.test")


async def test_a_404_that_may_not_be_cached_is_still_a_response(bench: Bench) -> None:
    bench.source.otherwise = CertificateResult(None, cache_control="no-store")
    assert await bench.refusal("a.test") == (UNKNOWN_NAME, "absent")
    assert len(bench.source.lookups) == 1


async def test_it_could_not_be_asked_for(bench: Bench) -> None:
    bench.source.otherwise = DOWN
    assert await bench.refusal("a.test") == (INTERNAL, "failed")
    assert len(bench.source.lookups) == 2, "it tries twice"
    assert await bench.refusal("a.test") == (INTERNAL, "failed")
    assert len(bench.source.lookups) == 2, "for a second it is not asked for again"
    bench.now += 1.0
    bench.source.otherwise = answer("a.test")
    assert await bench.lookup("a.test")


async def test_a_source_that_is_silent(made: Callable[..., Bench]) -> None:
    bench = made(timeout=0.05)
    bench.source.hold()
    assert await bench.refusal("a.test") == (INTERNAL, "failed")
    assert "no response within 0.05 s" in (bench.table.last_error("a.test") or "")


async def test_a_deadline(bench: Bench) -> None:
    bench.source.hold()
    waiting = bench.begin("a.test")
    assert await bench.refusal("a.test", seconds=0.02) == (INTERNAL, "timeout")
    bench.source.answers["a.test"] = answer("a.test")
    bench.source.release()
    assert await waiting, "the others wait on"
    assert len(bench.source.lookups) == 1


async def test_who_goes_leaves_the_others_waiting(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test")
    bench.source.hold()
    one, other = bench.begin("a.test"), bench.begin("a.test")
    await bench.source.asked()
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    bench.source.release()
    assert await other


async def test_a_stale_one_is_served_at_once(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE, etag='"1"')
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = answer("a.test", number=1)
    bench.now += 1
    assert bench.resolver.find("a.test") is first
    assert bench.resolver.find("a.test") is first
    await bench.quiet()
    assert bench.source.lookups == [("a.test", None), ("a.test", '"1"')]
    renewed = bench.resolver.find("a.test")
    assert renewed is not None
    assert renewed is not first


async def test_not_modified(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE, etag='"1"')
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = CertificateResult(None, True, None, LONG, '"1"')
    bench.now += 1
    for _ in range(3):
        assert bench.resolver.find("a.test") is first
        await bench.quiet()
    assert len(bench.source.lookups) == 2


async def test_a_304_for_what_is_not_known(bench: Bench) -> None:
    bench.source.otherwise = CertificateResult(None, True, None, LONG, '"1"')
    assert await bench.refusal("a.test") == (INTERNAL, "failed")


async def test_an_expired_one_is_asked_for_first(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=EXPIRED)
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = answer("a.test", number=1, cache_control=EXPIRED)
    bench.now += 1
    assert bench.resolver.find("a.test") is None
    second = await bench.lookup("a.test")
    assert second is not first
    bench.source.answers["a.test"] = DOWN
    bench.now += 1
    assert await bench.lookup("a.test") is second, "served if the lookup fails"
    asked = len(bench.source.lookups)
    assert bench.resolver.find("a.test") is second, "and for a moment without a lookup"
    assert len(bench.source.lookups) == asked
    bench.now += 3600
    assert await bench.lookup("a.test") is second


def test_handshakes_wait_a_moment_once_for_a_core_api_that_hangs() -> None:
    async def story() -> None:
        bench, loop = Bench(timeout=5.0), asyncio.get_running_loop()
        bench.source.answers["a.test"] = answer("a.test", cache_control=EXPIRED)
        known = await bench.lookup("a.test")
        bench.source.hold()
        bench.now += 1.0
        began = loop.time()
        assert await bench.lookup("a.test") is known
        assert loop.time() - began == pytest.approx(0.25, abs=0.01)
        assert bench.resolver.find("a.test") is known, "others are served at once"
        await asyncio.sleep(6.0)
        assert bench.resolver.asking == 0
        bench.now += 3600.0
        began = loop.time()
        assert await bench.lookup("a.test") is known, "the last lookup failed"
        assert loop.time() - began < 0.01
        assert bench.resolver.asking == 1, "but it is asked for"
        bench.source.answers["a.test"] = answer("a.test", number=1)
        bench.source.release()
        await asyncio.sleep(1.0)
        assert bench.resolver.find("a.test") is not known
        await bench.resolver.close()

    virtually(story())


async def test_the_core_api_is_gone_until_the_certificate_ends(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", until=timedelta(days=20))
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = DOWN
    for _ in range(19):
        bench.now += DAY
        assert bench.resolver.find("a.test") is first
        await bench.quiet()
    bench.now += DAY
    assert bench.resolver.find("a.test") is None
    assert await bench.refusal("a.test") == (INTERNAL, "failed"), "never after its end"


async def test_an_expired_wildcard_is_renewed_by_another_name(bench: Bench) -> None:
    wild = answer("a.shop.test", "*.shop.test", cache_control=EXPIRED)
    bench.source.answers["a.shop.test"] = wild
    await bench.lookup("a.shop.test")
    bench.now += 1
    found = await bench.lookup("b.shop.test")
    assert found.names == ("*.shop.test", "a.shop.test")
    assert bench.source.hostnames == ["a.shop.test"] * 2
    bench.now += 1
    bench.source.answers["a.shop.test"] = answer("a.shop.test", number=1)
    assert await bench.refusal("b.shop.test") == (UNKNOWN_NAME, "absent"), "then it asks for itself"
    assert bench.source.hostnames == ["a.shop.test"] * 3 + ["b.shop.test"]


# issuing


async def test_a_certificate_that_is_being_issued_is_waited_for(bench: Bench) -> None:
    answers = [CertificateResult(None, retry_after=0.0), CertificateResult(None, retry_after=0.0), answer("a.test")]
    bench.source.answers["a.test"] = lambda: answers.pop(0)
    lookups = [bench.begin("a.test") for _ in range(5)]
    assert len(set(await asyncio.gather(*lookups))) == 1
    assert len(bench.source.lookups) == 3


async def test_it_is_not_waited_for_beyond_the_deadline(bench: Bench) -> None:
    bench.source.answers["a.test"] = CertificateResult(None, retry_after=5.0)
    assert await bench.refusal("a.test", seconds=3.0) == (INTERNAL, "issuing")
    assert await bench.refusal("a.test", seconds=4.9) == (INTERNAL, "issuing")
    assert len(bench.source.lookups) == 1, "it is not asked again before"
    bench.now += 5
    bench.source.answers["a.test"] = answer("a.test")
    assert await bench.lookup("a.test")


async def test_who_comes_while_it_is_issued_waits_for_the_next_lookup(bench: Bench) -> None:
    bench.source.answers["a.test"] = CertificateResult(None, retry_after=0.2)
    assert await bench.refusal("a.test", seconds=0.1) == (INTERNAL, "issuing")
    bench.source.answers["a.test"] = answer("a.test")
    assert await bench.lookup("a.test", seconds=3.0)
    assert len(bench.source.lookups) == 2


async def test_the_old_one_serves_while_the_new_one_is_issued(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=EXPIRED)
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = CertificateResult(None, retry_after=30.0)
    bench.now += 1
    assert await bench.lookup("a.test") is first
    assert await bench.lookup("a.test") is first
    assert len(bench.source.lookups) == 2


async def test_results_are_counted(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE)
    await bench.lookup("a.test")
    assert bench.resolver.find("b.test") is None
    bench.now += 1
    assert bench.resolver.find("a.test")
    bench.source.answers["a.test"] = answer("a.test", number=1)
    await bench.quiet()
    bench.now += 1
    await bench.lookup("a.test")
    bench.resolver.changed("a.test")
    await bench.lookup("a.test")
    await bench.refusal("b.test")
    bench.source.hold()
    await bench.refusal("c.test", seconds=0.01)
    assert bench.resolver.results == {"asked": 1, "fresh": 1, "stale": 2, "absent": 1, "timeout": 1}


# what is not used


async def test_a_certificate_that_is_no_good(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.source.answers["a.test"] = answer("a.test", until=timedelta(days=-1))
    assert await bench.refusal("a.test") == (INTERNAL, "failed")
    assert bench.resolver.rejected["expired"] == 1
    told = [record for record in caplog.records if getattr(record, "code", "") == "certificate_rejected"]
    assert [(getattr(record, "certificate", ""), getattr(record, "reason", "")) for record in told] == [
        ("a.test", "expired")
    ]


async def test_a_renewal_that_is_no_good_leaves_the_old_one(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE)
    first = await bench.lookup("a.test")
    for bad in (answer("b.test"), answer("a.test", until=timedelta(days=-1)), answer("a.test", kind="rsa1024")):
        bench.source.answers["a.test"] = bad
        bench.now += 10
        assert bench.resolver.find("a.test") is first
        await bench.quiet()
    assert bench.resolver.find("a.test") is first
    assert sum(bench.resolver.rejected.values()) == 3


async def test_lower_generations_and_removals_are_reported(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE, generation=5)
    first = await bench.lookup("a.test")
    for contradiction, reason in (
        (answer("a.test", number=1, generation=4), "lower_generation"),
        (CertificateResult(None), "removal_unconfirmed"),
    ):
        bench.source.answers["a.test"] = contradiction
        bench.now += 10
        assert bench.resolver.find("a.test") is first
        await bench.quiet()
        assert bench.resolver.rejected[reason] == 1
    assert bench.resolver.find("a.test") is first


async def test_a_fault_does_not_leave_anybody_waiting(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.source.otherwise = ZeroDivisionError()
    assert await bench.refusal("a.test") == (INTERNAL, "failed")
    assert "certificate_fault" in [getattr(record, "code", "") for record in caplog.records]


# changes


async def test_a_change_event(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test")
    first = await bench.lookup("a.test")
    bench.source.answers["a.test"] = answer("a.test", number=1)
    bench.now += 1
    bench.resolver.changed("a.test")
    assert bench.resolver.find("a.test") is first
    await bench.quiet()
    assert bench.resolver.find("a.test") is not first
    bench.resolver.all_changed()
    assert bench.resolver.find("a.test") is not None
    await bench.quiet()
    assert len(bench.source.lookups) == 3


async def test_a_change_during_the_lookup(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test")
    bench.source.hold()
    waiting = bench.begin("a.test")
    await bench.source.asked()
    bench.resolver.changed("a.test")
    bench.source.release()
    first = await waiting
    bench.source.answers["a.test"] = answer("a.test", number=1)
    assert bench.resolver.find("a.test") is first
    await bench.quiet()
    assert bench.resolver.find("a.test") is not first, "it was asked for again"


async def test_an_invalidation(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", generation=5, etag='"5"')
    await bench.lookup("a.test")
    bench.source.answers["a.test"] = answer("a.test", number=1, generation=1)
    assert bench.resolver.invalidate("a.test")
    assert bench.resolver.find("a.test") is None
    assert (await bench.lookup("a.test")).generation == 1
    assert bench.source.lookups[-1] == ("a.test", None), "a complete response is asked for"
    assert not bench.resolver.invalidate("b.test")


# limits


async def test_unknown_names_are_charged_to_who_names_them(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts_per_client=1)
    bench.source.answers["a.test"] = answer("a.test")
    refused = 0
    for number in range(30):
        _, reason = await bench.refusal(f"{number}.test", seconds=0.01)
        refused += reason == "refused"
    assert refused > 10
    assert len(bench.source.lookups) < 20
    assert await bench.refusal("a.test", seconds=0.01) == (INTERNAL, "refused")
    assert await bench.lookup("a.test", "198.51.100.1"), "not to others"
    assert await bench.lookup("a.test"), "and not for a name that is known"


async def test_what_is_known_to_be_refused_is_refused_at_once(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts_per_client=1)
    refuse, client = bench.resolver.refuse, "192.0.2.7"
    assert refuse("0.test", client) is None, "it has to be asked for"
    for number in range(20):
        await bench.refusal(f"{number}.test", client, seconds=0.01)
    counted = bench.resolver.results["refused"]
    absent, refused = refuse("0.test", "198.51.100.1"), refuse("new.test", client)
    assert absent is not None
    assert refused is not None
    assert (absent.alert, absent.reason) == (UNKNOWN_NAME, "absent")
    assert (refused.alert, refused.reason) == (INTERNAL, "refused")
    assert bench.resolver.results["refused"] == counted + 1
    assert refuse("new.test", "198.51.100.1") is None, "only who has asked for too many"


async def test_what_is_asked_for_or_known_is_not_refused(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts_per_client=1)
    for number in range(20):
        await bench.refusal(f"{number}.test", seconds=0.01)
    bench.source.answers["a.test"] = answer("a.test", cache_control=EXPIRED)
    bench.source.hold()
    asked = bench.begin("a.test", "198.51.100.1")
    await turns()
    assert bench.resolver.refuse("a.test", "192.0.2.7") is None, "the lookup of another client will tell"
    bench.source.release()
    await asked
    bench.now += 1.0
    assert bench.resolver.find("a.test") is None, "it has expired"
    assert bench.resolver.refuse("a.test", "192.0.2.7") is None, "but there is one"


async def test_names_that_exist_are_free(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts_per_client=1)
    for number in range(30):
        bench.source.answers[f"{number}.test"] = answer(f"{number}.test")
        assert await bench.lookup(f"{number}.test")


async def test_a_flood_of_names_asks_no_more_than_unknown_hosts_may(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts=10)
    lookups = [
        bench.resolver.lookup(f"{n}.test", f"192.0.{n // 250}.{n % 250}", deadline=1000.05) for n in range(500)
    ]
    await asyncio.gather(*lookups, return_exceptions=True)
    assert len(bench.source.lookups) <= 2 * 10 + 2


async def test_the_edge_itself_is_not_limited(made: Callable[..., Bench]) -> None:
    bench = made(unknown_hosts=0.001)
    for number in range(5):
        assert await bench.refusal(f"{number}.test", None) == (UNKNOWN_NAME, "absent")
    assert len(bench.source.lookups) == 5


async def test_who_waits_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_resolver, "MOST_WAITING", 3)
    bench.source.hold()
    waiting = [bench.begin("a.test") for _ in range(3)]
    await bench.source.asked()
    assert await bench.refusal("a.test") == (INTERNAL, "busy")
    bench.source.release()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_lookups_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_resolver, "MOST_LOOKUPS", 3)
    bench.source.hold()
    waiting = [bench.begin(f"{n}.test", None) for n in range(3)]
    await turns()
    assert await bench.refusal("more.test", None) == (INTERNAL, "failed")
    bench.source.release()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_outage_is_not_waited_for_by_each_name(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=STALE)
    known = await bench.lookup("a.test")
    bench.source.answers["a.test"] = DOWN
    bench.source.otherwise = DOWN
    for number in range(8):
        assert await bench.refusal(f"{number}.test", None) == (INTERNAL, "failed")
    asked = len(bench.source.lookups)
    for number in range(8, 100):
        assert await bench.refusal(f"{number}.test", None) == (INTERNAL, "failed")
    assert len(bench.source.lookups) == asked, "the circuit is open"
    assert bench.resolver.find("a.test") is known
    bench.source.otherwise, bench.source.answers["a.test"] = CertificateResult(None), answer("a.test")
    bench.now += 10
    assert await bench.refusal("new.test", None) == (INTERNAL, "failed")
    await bench.quiet()
    assert bench.source.hostnames[asked:] == ["a.test"], "it is tested with a name that exists"
    bench.now += 10
    assert await bench.refusal("new.test", None) == (UNKNOWN_NAME, "absent")


async def test_an_expired_one_is_served_while_the_circuit_is_open(bench: Bench) -> None:
    bench.source.answers["a.test"] = answer("a.test", cache_control=EXPIRED)
    known = await bench.lookup("a.test")
    bench.source.answers["a.test"] = bench.source.otherwise = DOWN
    for number in range(8):
        await bench.refusal(f"{number}.test", None)
    await bench.quiet()
    asked = len(bench.source.lookups)
    for _ in range(20):
        bench.now += 0.001
        bench.table.mark_stale("a.test", bench.now)
        assert await bench.lookup("a.test") is known
    assert len(bench.source.lookups) == asked


async def test_the_end(made: Callable[..., Bench]) -> None:
    bench = made()
    bench.source.hold()
    waiting = bench.begin("a.test")
    await bench.source.asked()
    await bench.resolver.close()
    with pytest.raises(NoCertificate, match="closed"):
        await waiting
