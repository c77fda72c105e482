"""A short run of `newcomers`: new clients are accepted, whatever others upload."""

import pytest

from bench.hostile.hostile_accept import (
    IN_A_ROW,
    SCENES,
    HostileAcceptPlan,
    HostileAcceptReport,
    Result,
    Scene,
    play,
    recovery,
)
from bench.hostile.hostile_clients import Visit

pytestmark = [pytest.mark.long, pytest.mark.alone]
TINY = Scene(name="tiny", clients=100, chunk=1, rate=2700.0)


def result(edge: str, p99_ms: float, *, failed: int = 0, recovery: float = 0.0) -> Result:
    return Result(
        scene="tiny",
        edge=edge,
        visits=100,
        failed=failed,
        p50_ms=1.0,
        p99_ms=p99_ms,
        max_ms=p99_ms,
        recovery=recovery,
        chunks=1.0,
        cut=0,
        cpu=1.0,
        resident=50.0,
        late_ms=1.0,
    )


async def test_nobody_is_kept_out_by_uploads_in_tiny_chunks():
    report = await play(HostileAcceptPlan(seconds=2.0, after=1.0, scenes=(TINY,), edges=("styx",)))
    [played] = report.results
    assert played.visits > 50, report.text()
    assert not played.failed, report.text()
    assert not played.cut
    assert played.chunks > 10_000, "there was an attack"
    assert report.good, report.text()


@pytest.mark.parametrize("scene", SCENES[-2:], ids=["heads", "interims"])
async def test_nobody_is_kept_out_by_what_is_costly_to_read(scene: Scene):
    report = await play(HostileAcceptPlan(seconds=2.0, after=1.0, scenes=(scene,), edges=("styx",)))
    [played] = report.results
    assert played.chunks > 0.7 * scene.clients * scene.rate, "there was an attack"
    assert report.good, report.text()


@pytest.mark.parametrize(
    ("results", "good"),
    [
        ([result("styx", 30.0), result("nginx", 10.0), result("haproxy", 1.0)], True),
        ([result("styx", 31.0), result("nginx", 10.0)], False),
        ([result("styx", 30.0, failed=1), result("nginx", 10.0)], False),
        ([result("styx", 30.0, recovery=2.1), result("nginx", 10.0)], False),
        ([result("styx", 30.0), result("nginx", 2000.0, failed=100)], True),
        ([result("styx", 30.0)], True),
    ],
)
def test_when_it_is_good(results: list[Result], good: bool):
    assert HostileAcceptReport(results).good is good
    assert "styx" in HostileAcceptReport(results).text()


def visits(*seconds: float, ok: bool = True) -> list[Visit]:
    """Ten a second, from the moment 100.0 on."""
    return [Visit(100.0 + n / 10, took, ok) for n, took in enumerate(seconds)]


def test_when_an_edge_has_recovered():
    fast = [0.01] * IN_A_ROW
    assert recovery(visits(*fast), 100.0) == 0.0
    assert recovery(visits(0.5, 0.2, *fast, *fast), 100.0) == pytest.approx(0.5), (
        "when the slow one had its response"
    )
    assert recovery(visits(*fast, 2.0), 100.0) == 0.0, "a hiccup later is another matter"
    assert recovery(visits(*fast[1:]), 100.0) == float("inf")
    assert recovery(visits(*fast, ok=False), 100.0) == float("inf")
