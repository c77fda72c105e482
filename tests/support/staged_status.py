"""A source of snapshots for the status page whose environments a test sets: as they are under load, and sick."""

import time

import msgspec

from edge.admin.status_page.status_records import (
    CertificateNow,
    DrainNow,
    EnvironmentsNow,
    ListenerNow,
    RoutesNow,
    ServedNow,
    Snapshot,
    SourceNow,
    WorkerNow,
)
from edge.rules.environment_status_records import ContainerStatus, EnvironmentStatus, FailureCount, RecentEvent
from edge.rules.traffic.top_records import Top, TopEntry

SITES = ("acme", "borealis", "cafe-central", "dunes", "ember", "fjordline")
POINTS = 300


def container(name: str, share: float, condition: str = "healthy", **changes) -> ContainerStatus:
    members = {
        "address": "10.4.7.12:26607",
        "server": "srv-192",
        "role": "active",
        "why": "",
        "points": 0.0,
        "in_flight": 2,
        "typical_ms": 12.3,
        "error_ratio": 0.0,
        "rests_for": 0.0,
        "next_probe": None,
        "failures": [],
    }
    return ContainerStatus(id=name, share=share, condition=condition, **{**members, **changes})


def environment(site: str, containers: list[ContainerStatus], **changes) -> EnvironmentStatus:
    members = {
        "hostname": f"www.{site}.example.org",
        "hostnames": 3,
        "rate": 120.4,
        "in_flight": 6,
        "queued": 0,
        "panicking": False,
        "maintenance": False,
        "redirect": None,
        "drained": False,
        "in_trouble": any(c.condition in ("down", "probation") for c in containers),
    }
    return EnvironmentStatus(site=site, environment="live", containers=containers, **{**members, **changes})


def healthy(site: str) -> EnvironmentStatus:
    return environment(site, [container(f"{site[:2]}0{n}", 1 / 3) for n in range(3)])


def busy(site: str, rate: float, *, errors: float = 0.0, mean_ms: float = 12.4) -> TopEntry:
    return TopEntry(
        site,
        "live",
        requests_per_second=rate,
        failures_per_second=errors,
        error_ratio=errors / rate,
        mean_ms=mean_ms,
        in_flight=rate * mean_ms / 1000,
        hostname=f"live-{site}.example.org",
    )


def busiest() -> Top:
    return Top(
        seconds=84.0,
        rate=[busy(site, 310.0 / (n + 1) ** 1.3) for n, site in enumerate(SITES[:5])],
        errors=[busy("ember", 41.2, errors=2.31, mean_ms=212.0), busy("dunes", 70.1, errors=0.2)],
        latency=[busy(site, 12.0 * (n + 1), mean_ms=4200 / 3.1**n) for n, site in enumerate(SITES[::-1][:5])],
        silent=[],
    )


class StagedStatus:
    """A `SnapshotSource`. `environments` may be changed at any time."""

    def __init__(self) -> None:
        self.environments = [healthy(site) for site in SITES]
        self.total = 10_214
        self.drains: list[DrainNow] = []
        self.certificates = [
            CertificateNow("*.example.org", 61.2, 1, "the core API"),
            CertificateNow("shop.example.net", 5.5, 0, "the core API", "the core API has none (404)"),
        ]
        self.top: Top | None = busiest()
        self.snapshots = 0
        self.changes: dict[str, object] = {}
        "Members of the snapshot that are not as usual."

    def sicken(self) -> None:
        """One container of the first site is down, one of the second is slow, a third one is drained."""
        sick = container("ac00", 0.0, "down", why="connect failed", next_probe=2.4)
        sick_failures = [FailureCount("connect_failed", 12, 3.2), FailureCount("refused", 3, 60.0)]
        self.environments[0] = environment(
            "acme",
            [
                container("ac00", 0.0, "down", why=sick.why, next_probe=2.4, failures=sick_failures),
                container("ac01", 0.5),
                container("ac02", 0.5),
            ],
        )
        self.environments[1] = environment(
            "borealis",
            [
                container("bo00", 0.05, "probation", why="slow", points=2.9, next_probe=1.1, typical_ms=140.0),
                container("bo01", 0.45),
                container("bo02", 0.5, "cold"),
            ],
        )
        self.environments[2] = environment(
            "cafe-central", [container("ca00", 1.0), container("ca01", 0.0, "drained")]
        )
        self.drains = [DrainNow("backend", "cafe-central/live/ca01", 600.0, time.time() + 600, "alice")]

    def _served(self, number: int) -> ServedNow:
        rate = 900.0 + 40.0 * (number % 7)
        return ServedNow(
            requests=rate,
            by_blame={"nobody": rate - 3.0, "client": 2.0, "backend": 1.0, "core": 0.0, "edge": 0.0},
            p50=11.4,
            p95=47.0,
            p99=131.0,
            retries=6.2,
            refusals=3.1,
            bytes_in=1e5,
            bytes_out=7.3e6,
            in_flight=31,
            connections=412,
        )

    def history(self) -> dict[str, list[float]]:
        now = time.time()
        served = [self._served(number) for number in range(POINTS)]
        columns = {"at": [now - POINTS + number for number in range(POINTS)]}
        columns |= {blame: [s.by_blame[blame] for s in served] for blame in served[0].by_blame}
        return columns | {
            name: [getattr(s, name) for s in served] for name in ("p50", "p95", "p99", "retries", "refusals")
        }

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        usual = Snapshot(
            at=time.time(),
            version="1.2.3",
            edge="edge-fra-1",
            stage="ready",
            reason="",
            now=self._served(self.snapshots),
            routes=RoutesNow(
                known=103_214, ready=12_000, unknown_hosts=341, environments=self.total, hit_ratio=0.99
            ),
            source=SourceNow("core API", lookups=4.2, p50=6.1, changes_up=True, changes_silence=2.1),
            workers=[WorkerNow(slot, 4100 + slot, 0.1, 0.4, 8, 100, leaving=False) for slot in range(4)],
            listeners=[ListenerNow("0.0.0.0:8080", 0, 37), ListenerNow("0.0.0.0:8443", 2, 375)],
            drains=self.drains,
            certificates=self.certificates,
            environments=EnvironmentsNow(
                self.total, sum(e.in_trouble for e in self.environments), list(self.environments), self.top
            ),
            events=[
                RecentEvent(time.time() - 90, "warning", "worker 1", "route lookup problem", "x", "hostname=a.b")
            ],
        )
        return msgspec.structs.replace(usual, **self.changes)
