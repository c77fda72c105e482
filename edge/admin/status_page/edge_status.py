"""Collects the data of the status page from the scoreboard and from the workers' reports."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from edge import __version__
from edge.admin.control_api import ControlApi
from edge.admin.health import Health
from edge.admin.metric_sources import EdgeState
from edge.admin.metrics.merged_top import merged_top
from edge.admin.scoreboard import Row, Scoreboard, summed
from edge.admin.status_page.merged_status import merged_certificates, merged_environments, merged_events
from edge.admin.status_page.served_now import (
    Reading,
    listeners_now,
    routes_now,
    served_now,
    source_now,
    workers_now,
)
from edge.admin.status_page.status_records import DrainNow, ServedNow, Snapshot
from edge.rules.environment_status_records import RecentEvent, WorkerStatus
from edge.rules.traffic.top_records import Top

SAMPLE_PERIOD: Final = 1.0
"Seconds between two calls of `EdgeStatus.sample`."
KEPT_READINGS: Final = 11
"Readings of the scoreboard: latencies are of the time between the first and the last of them."
KEPT_POINTS: Final = 300
"Points of the charts: five minutes."
TOP_PERIOD: Final = 5.0
"Seconds for which the busiest sites are not asked for again."
TOP_SHOWN: Final = 5
"Sites in each of their lists."
COLUMNS: Final = ("p50", "p95", "p99", "retries", "refusals")


class EdgeStatus:
    """The state of this edge, for the status page. `sample` is called each second."""

    def __init__(
        self,
        board: Scoreboard,
        control_api: ControlApi,
        health: Health,
        *,
        edge: str,
        listeners: Sequence[str],
        edge_state: Callable[[], EdgeState],
        workers: Callable[[], dict[int, int]],
        events: Callable[[], Sequence[RecentEvent]] = tuple,
    ) -> None:
        """`workers`: process id by slot. `events`: those of this process."""
        self._board = board
        self._control_api = control_api
        self._health = health
        self._edge, self._listeners = edge, listeners
        self._edge_state = edge_state
        self._current_workers = workers
        self._events = events
        self._readings: deque[Reading] = deque(maxlen=KEPT_READINGS)
        self._top: Top | None = None
        self._top_at = 0.0
        self._points: deque[tuple[float, ServedNow]] = deque(maxlen=KEPT_POINTS)

    def sample(self) -> None:
        """Read the scoreboard, for the charts and the rates."""
        self._read(self._board.used())

    def _read(self, rows: Sequence[Row]) -> None:
        now = Reading(time.monotonic(), summed(rows))
        self._readings.append(now)
        before = self._readings[-2] if len(self._readings) > 1 else now
        self._points.append((time.time(), served_now(now, before, self._readings[0])))

    def history(self) -> dict[str, list[Any]]:
        """The numbers of the last minutes, column by column."""
        columns: dict[str, list[Any]] = {"at": [round(at, 2) for at, _ in self._points]}
        for blame in self._points[-1][1].by_blame if self._points else ():
            columns[blame] = [served.by_blame.get(blame, 0.0) for _, served in self._points]
        for name in COLUMNS:
            columns[name] = [getattr(served, name) for _, served in self._points]
        return columns

    async def snapshot(self) -> Snapshot:
        """The state of the edge now."""
        replies, top = await asyncio.gather(self._control_api.statuses(), self._top_now())
        reports = [
            msgspec.json.decode(reply.content, type=WorkerStatus) for reply in replies.workers if not reply.error
        ]
        rows = self._board.used()
        if not self._readings:
            self._read(rows)
        workers = [row for row in rows if row.alive]
        at, served = self._points[-1]
        last, first, edge_state = self._readings[-1], self._readings[0], self._edge_state()
        return Snapshot(
            at=round(at, 2),
            version=__version__,
            edge=self._edge,
            stage=self._health.stage,
            reason=self._health.reason,
            now=served,
            routes=routes_now(last, first, workers),
            source=source_now(last, first, workers, edge_state),
            workers=workers_now(workers, self._current_workers(), time.monotonic()),
            listeners=listeners_now(self._listeners, workers),
            drains=[DrainNow(d.kind, d.name, d.seconds, d.until, d.by) for d in self._control_api.drains()],
            certificates=merged_certificates(reports, at),
            environments=merged_environments(reports, top),
            events=merged_events(self._events(), *(report.events for report in reports)),
        )

    async def _top_now(self) -> Top:
        """The busiest sites, at most TOP_PERIOD seconds old: they are of a minute or two, and change slowly."""
        now = time.monotonic()
        if self._top is None or now - self._top_at >= TOP_PERIOD:
            self._top_at = now
            self._top = merged_top(await self._control_api.top(), TOP_SHOWN)
        return self._top
