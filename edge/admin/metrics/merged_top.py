"""Merges the workers' reports of their busiest environments into one. Pure."""

from collections.abc import Callable, Sequence

import msgspec

from edge.admin.admin_messages import WorkerReplies
from edge.rules.traffic.top_records import SiteLoad, Top, TopEntry, TopReport


def merged_top(replies: WorkerReplies, limit: int) -> Top:
    """The first `limit` environments of each list, with the numbers of all workers together."""
    reports = [msgspec.json.decode(reply.content, type=TopReport) for reply in replies.workers if not reply.error]
    return Top(
        max((report.seconds for report in reports), default=0.0),
        _ranked([(one.seconds, one.requests) for one in reports], lambda entry: entry.requests_per_second, limit),
        _failing(_ranked([(one.seconds, one.failures) for one in reports], _failures, limit)),
        # Sorted by what they take first: a site with one slow request in a minute is no news.
        sorted(
            _ranked([(one.seconds, one.time) for one in reports], lambda entry: entry.in_flight, limit),
            key=lambda entry: -entry.mean_ms,
        ),
        replies.silent,
    )


def _failures(entry: TopEntry) -> float:
    return entry.failures_per_second


def _failing(entries: list[TopEntry]) -> list[TopEntry]:
    return [entry for entry in entries if entry.failures_per_second]


def _ranked(
    lists: Sequence[tuple[float, Sequence[SiteLoad]]], measure: Callable[[TopEntry], float], limit: int
) -> list[TopEntry]:
    """The environments with most of this measure. `lists`: of each worker, with the seconds that it reports."""
    added: dict[tuple[str, str], list[float]] = {}
    hostnames: dict[tuple[str, str], str] = {}
    for seconds, loads in lists:
        for load in loads:
            key = (load.site, load.environment)
            sums = added.setdefault(key, [0.0, 0.0, 0.0, 0.0])
            hostnames[key] = load.hostname or hostnames.get(key, "")
            for n, number in enumerate((load.requests, load.failures, load.seconds, load.missed)):
                sums[n] += number / seconds
    entries = [_entry(key, hostnames[key], *sums) for key, sums in added.items()]
    return sorted(entries, key=lambda entry: (-measure(entry), entry.site, entry.environment))[:limit]


def _entry(
    key: tuple[str, str], hostname: str, requests: float, failures: float, time: float, missed: float
) -> TopEntry:
    return TopEntry(
        *key,
        requests_per_second=round(requests, 3),
        failures_per_second=round(failures, 3),
        error_ratio=round(failures / requests, 4) if requests else 0.0,
        mean_ms=round(time / requests * 1000, 2) if requests else 0.0,
        in_flight=round(time, 3),
        missed=round(missed, 3),
        hostname=hostname,
    )
