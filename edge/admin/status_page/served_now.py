"""Computes rates and latencies from two readings of the scoreboard. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from edge.admin.metric_sources import BOUNDS_MS, LISTENERS, EdgeState
from edge.admin.metrics.named_slots import connections_on, identity
from edge.admin.scoreboard import LAYOUT, QUEUES, TIMES, Layout, Row, cell
from edge.admin.status_page.status_records import ListenerNow, RoutesNow, ServedNow, SourceNow, WorkerNow
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase

BLAMES: Final = {Blame.CLIENT: "client", Blame.BACKEND: "backend", Blame.CORE: "core", Blame.EDGE: "edge"}
"Names of those to whom failures are put down, as the page shows them; everything else is `nobody`."
_BLAME_OF_CELL: Final = [BLAMES.get(VERDICTS[cause].blame, "nobody") for _ in Phase for cause in Cause]
_FAILED_LOOKUPS: Final = ("rejected", "error", "timeout")


class Reading(NamedTuple):
    """The numbers of all processes at one moment."""

    at: float
    "Seconds, on a clock that only goes forward."
    sums: Sequence[float]
    "All rows added up, cell by cell."


def _cell(sums: Sequence[float], name: str, value: str = "") -> float:
    return sums[cell(name, value)]


def _total(sums: Sequence[float], name: str) -> float:
    return sum(sums[at] for at in LAYOUT.cells[name].values())


def percentile(counts: Sequence[float], part: float) -> float | None:
    """The time in milliseconds below which this part of the counted times is; None = there are none. `counts`: of
    each bucket of `BOUNDS_MS`. Linear within a bucket; times above the last bound count as the last bound."""
    reached = list(accumulate(counts))
    if not reached or reached[-1] <= 0:
        return None
    wanted = part * reached[-1]
    for bucket, up_to in enumerate(reached):
        if up_to >= wanted and counts[bucket] > 0:
            if bucket >= len(BOUNDS_MS):
                return BOUNDS_MS[-1]
            low = BOUNDS_MS[bucket - 1] if bucket else 0.0
            inside = (wanted - (up_to - counts[bucket])) / counts[bucket]
            return low + (BOUNDS_MS[bucket] - low) * inside
    return BOUNDS_MS[-1]


def _buckets(sums: Sequence[float], before: Sequence[float], start: int) -> list[float]:
    return [max(0.0, sums[at] - before[at]) for at in range(start + 1, start + TIMES)]


def served_now(now: Reading, before: Reading, earlier: Reading, layout: Layout = LAYOUT) -> ServedNow:
    """Rates between the readings `before` and `now`, latencies between `earlier` and `now`."""
    seconds = max(1e-3, now.at - before.at)
    by_blame = dict.fromkeys(("nobody", *BLAMES.values()), 0.0)
    for at, blame in enumerate(_BLAME_OF_CELL, layout.outcomes):
        if now.sums[at] != before.sums[at]:
            by_blame[blame] += (now.sums[at] - before.sums[at]) / seconds
    by_blame = {blame: round(rate, 2) for blame, rate in by_blame.items()}
    times = _buckets(now.sums, earlier.sums, cell("styx_request_seconds"))

    def rate(name: str, value: str = "") -> float:
        return round((_cell(now.sums, name, value) - _cell(before.sums, name, value)) / seconds, 2)

    return ServedNow(
        requests=round(sum(by_blame.values()), 2),
        by_blame=by_blame,
        p50=percentile(times, 0.5),
        p95=percentile(times, 0.95),
        p99=percentile(times, 0.99),
        retries=round(
            (_total(now.sums, "styx_retries_total") - _total(before.sums, "styx_retries_total")) / seconds, 2
        ),
        refusals=rate("styx_attempts_total", Cause.REFUSED.value),
        bytes_in=rate("styx_request_body_bytes_total"),
        bytes_out=rate("styx_response_body_bytes_total"),
        in_flight=_cell(now.sums, "styx_requests_in_flight"),
        connections=_cell(now.sums, "styx_client_connections"),
    )


def routes_now(now: Reading, earlier: Reading, workers: Sequence[Row]) -> RoutesNow:
    """The cached routes, in the worker that has most, and how often a request found its route there."""

    def most(name: str) -> float:
        return max((row.cells[cell(name)] for row in workers), default=0.0)

    lookups = {
        result: max(0.0, now.sums[at] - earlier.sums[at])
        for result, at in LAYOUT.cells["styx_route_lookups_total"].items()
    }
    total = sum(lookups.values())
    return RoutesNow(
        known=most("styx_routes"),
        ready=most("styx_routes_ready"),
        unknown_hosts=most("styx_unknown_hosts"),
        environments=most("styx_environments"),
        hit_ratio=round(1.0 - lookups["miss"] / total, 4) if total else 1.0,
        not_accepted=_total(now.sums, "styx_routes_not_accepted_total"),
    )


def source_now(now: Reading, earlier: Reading, workers: Sequence[Row], edge: EdgeState) -> SourceNow:
    """The state of the source of routes."""
    file, changes = edge.routes_file, edge.changes
    if file.is_read:
        return SourceNow(
            "file", up=file.good, hostnames=file.hostnames, held_back=file.held_back, problem=file.problem
        )
    seconds = max(1e-3, now.at - earlier.at)
    results = LAYOUT.cells["styx_core_api_seconds"]
    counted = {result: _buckets(now.sums, earlier.sums, start) for result, start in results.items()}
    times = [sum(column) for column in zip(*counted.values(), strict=True)]
    up = min((row.cells[cell("styx_core_api_up")] for row in workers), default=1.0)
    return SourceNow(
        "core API",
        up=bool(up),
        lookups=round(sum(times) / seconds, 2),
        failures=round(sum(sum(counted[result]) for result in _FAILED_LOOKUPS) / seconds, 2),
        p50=percentile(times, 0.5),
        changes_up=changes.connected,
        changes_silence=edge.now - changes.last_message_at if changes.last_message_at >= 0.0 else None,
    )


def workers_now(workers: Sequence[Row], current: dict[int, int], now: float) -> list[WorkerNow]:
    """The worker processes. `current`: the process id of each slot; others are about to end."""
    found = [
        WorkerNow(
            row.slot,
            row.pid,
            heard=max(0.0, now - row.heartbeat),
            lag_ms=row.cells[cell("styx_loop_lag_last_seconds")] * 1_000,
            in_flight=row.cells[cell("styx_requests_in_flight")],
            connections=row.cells[cell("styx_client_connections")],
            leaving=row.pid != current.get(row.slot, row.pid),
        )
        for row in workers
    ]
    return sorted(found, key=lambda worker: (worker.slot, worker.leaving, worker.pid))


def listeners_now(addresses: Sequence[str], workers: Sequence[Row]) -> list[ListenerNow]:
    """The listeners: the connections that are open, and those that wait in the accept queues of all workers."""
    by_slot = {row.slot: row for row in workers}.values()
    opened = [connections_on(row) for row in workers]
    return [
        ListenerNow(
            address,
            sum(row.cells[QUEUES + number] for row in by_slot),
            sum(of_row.get(identity(address), 0.0) for of_row in opened),
        )
        for number, address in enumerate(addresses[:LISTENERS])
    ]
