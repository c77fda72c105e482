"""Merges the workers' reports about environments into one. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from edge.admin.status_page.status_records import CertificateNow, EnvironmentsNow
from edge.rules.environment_status_records import (
    CertificateStatus,
    ContainerStatus,
    EnvironmentStatus,
    FailureCount,
    RecentEvent,
    WorkerStatus,
)
from edge.rules.traffic.top_records import Top

MOST_SHOWN: Final = 30
"Environments in one snapshot: those in trouble first, then the busiest."
MOST_IN_TROUBLE: Final = 20
"Of these, those in trouble: others must remain in sight."
MOST_EVENTS: Final = 60
MOST_CERTIFICATES: Final = 10
DAY: Final = 86_400.0
WORST_FIRST: Final = ("down", "drained", "draining", "probation", "silent", "recovering", "cold", "healthy")
"Conditions: when workers differ, the first one that any of them reports is shown."


def merged_environments(reports: Sequence[WorkerStatus], top: Top | None = None) -> EnvironmentsNow:
    """One picture from the reports of all workers. Each worker chose the environments that it shows."""
    by_name: dict[tuple[str, str], list[EnvironmentStatus]] = {}
    for report in reports:
        for environment in report.shown:
            by_name.setdefault((environment.site, environment.environment), []).append(environment)
    merged = sorted(map(_merged, by_name.values()), key=lambda e: (-e.rate, e.site, e.environment))
    troubled = [environment for environment in merged if environment.in_trouble][:MOST_IN_TROUBLE]
    fine = [environment for environment in merged if not environment.in_trouble]
    shown = [*troubled, *fine[: MOST_SHOWN - len(troubled)]]
    return EnvironmentsNow(
        total=max((report.environments for report in reports), default=0),
        in_trouble=max((report.in_trouble for report in reports), default=0),
        shown=sorted(shown, key=lambda e: (e.site, e.environment)),
        top=top,
    )


def _merged(reports: Sequence[EnvironmentStatus]) -> EnvironmentStatus:
    """One environment, as all workers together see it: rates and requests in flight are added."""
    if len(reports) == 1:
        return reports[0]
    first = max(reports, key=lambda report: report.rate)
    weights = [report.rate + 0.1 for report in reports]
    containers: dict[str, list[tuple[float, ContainerStatus]]] = {}
    for weight, report in zip(weights, reports, strict=True):
        for container in report.containers:
            containers.setdefault(container.id, []).append((weight, container))
    return msgspec.structs.replace(
        first,
        hostnames=max(report.hostnames for report in reports),
        rate=sum(report.rate for report in reports),
        in_flight=sum(report.in_flight for report in reports),
        queued=sum(report.queued for report in reports),
        panicking=any(report.panicking for report in reports),
        in_trouble=any(report.in_trouble for report in reports),
        containers=[_merged_container(seen) for seen in containers.values()],
    )


def _merged_container(seen: Sequence[tuple[float, ContainerStatus]]) -> ContainerStatus:
    """One container. Shares, demerits and times are means, weighted by the requests of each worker."""
    if len(seen) == 1:
        return seen[0][1]
    total = sum(weight for weight, _ in seen)
    worst = min((container for _, container in seen), key=lambda c: WORST_FIRST.index(c.condition))
    timed = [(weight, c.typical_ms) for weight, c in seen if c.typical_ms is not None]
    probes = [c.next_probe for _, c in seen if c.next_probe is not None]
    return msgspec.structs.replace(
        worst,
        share=sum(weight * c.share for weight, c in seen) / total,
        points=sum(weight * c.points for weight, c in seen) / total,
        error_ratio=sum(weight * c.error_ratio for weight, c in seen) / total,
        typical_ms=sum(w * ms for w, ms in timed) / sum(w for w, _ in timed) if timed else None,
        in_flight=sum(c.in_flight for _, c in seen),
        rests_for=max(c.rests_for for _, c in seen),
        next_probe=min(probes, default=None),
        failures=_added(failure for _, c in seen for failure in c.failures),
    )


def _added(failures: Iterable[FailureCount]) -> list[FailureCount]:
    by_cause: dict[str, FailureCount] = {}
    for failure in failures:
        before = by_cause.get(failure.cause)
        if before is not None:
            failure = FailureCount(failure.cause, failure.count + before.count, min(failure.age, before.age))
        by_cause[failure.cause] = failure
    return sorted(by_cause.values(), key=lambda failure: failure.age)


def merged_events(*lists: Iterable[RecentEvent]) -> list[RecentEvent]:
    """The latest events of all processes, the newest first."""
    return sorted((event for events in lists for event in events), key=lambda event: -event.at)[:MOST_EVENTS]


def merged_certificates(reports: Iterable[WorkerStatus], wall: float) -> list[CertificateNow]:
    """The certificates that end first, of all workers. If they have different ones of a name, because each asks for
    a new one at its own time, it is the one that ends first. `wall`: seconds since the epoch."""
    by_name: dict[str, CertificateStatus] = {}
    for report in reports:
        for found in report.certificates:
            before = by_name.get(found.name)
            if before is None or (found.not_after, found.last_error is None) < (
                before.not_after,
                before.last_error is None,
            ):
                by_name[found.name] = found
    first = sorted(by_name.values(), key=lambda found: (found.not_after, found.name))[:MOST_CERTIFICATES]
    return [
        CertificateNow(
            found.name, round((found.not_after - wall) / DAY, 2), found.more_names, found.source, found.last_error
        )
        for found in first
    ]
