"""The scoreboard: counters of all processes, in shared memory.

The master maps the memory before it forks. Each process that counts has a row of its own, so no number has two
writers; the admin process adds the rows up. The counts of an ended process stay, and the next process in its row
adds to them: sums never fall, even after a crash.

Cells are aligned doubles, so one is read and written whole. Writing one costs 0.1 µs. The layout of a row follows
from the table of metrics (`metrics_table.py`).
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from edge.admin import metric_sources as sources
from edge.admin.metric_sources import BOUNDS_MS, LISTENERS, STATUSES, Metric, MetricType, Named, NamedGroup
from edge.admin.metrics_table import METRICS, RESULTS
from edge.rules.background_tasks import BackgroundTask
from edge.rules.outcomes import Cause, Phase

BEGUN, SLOT, PID, HEARTBEAT = range(4)
"The first cells of a row: the process that writes there."
ACCEPTED_ON: Final = HEARTBEAT + 1
"The next LISTENERS cells: connections that this process has accepted on each listener."
TIMES: Final = 1 + len(BOUNDS_MS) + 1
"Cells of a histogram: the sum in milliseconds, then the buckets; the last one is for times above the last bound."


class Layout:
    """Assigns cells to each metric, in the order of the table."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self.metrics = metrics
        self.size = ACCEPTED_ON + LISTENERS
        self.common = 0
        "Cells from here on are of listeners and sites: the same cell may be of another one in another row."
        self.cells: dict[str, dict[str, int]] = {}
        "By metric and label value: the cell, or the first cell of a histogram."
        self.outcomes = 0
        "First cell of the matrix of outcomes: a row for each phase, in it a cell for each cause."
        self.gauges: list[int] = []
        "Cells that are reset when their process has ended."
        self.published_gauges: list[tuple[str, int]] = []
        "Key of each number, and its cell."
        self.published_counters: list[tuple[str, int]] = []
        "Key of each number, and its cell."
        # What is of a listener or a site comes last, because it is not added up with the rest.
        for metric in sorted(metrics, key=lambda metric: isinstance(metric.source, Named)):
            if isinstance(metric.source, Named) and not self.common:
                self.common = self.size
            start = self.size
            self._add(metric)
            if metric.type is MetricType.GAUGE:
                self.gauges.extend(range(start, self.size))
        self.common = self.common or self.size
        self.owners = {group: self._take(group.most) for group in NamedGroup}
        "First of the cells that say whose each slot of a group is."

    def _add(self, metric: Metric) -> None:
        source = metric.source
        match source:
            case sources.Outcomes():
                self.outcomes = self.outcomes or self._take(len(Phase) * len(Cause))
            case sources.Statuses():
                self.cells[metric.name] = {"": self._take(STATUSES)}
            case sources.AcceptQueues():
                self.cells[metric.name] = {"": self._take(LISTENERS)}
            case sources.Recorded():
                size = TIMES if metric.type is MetricType.HISTOGRAM else 1
                self.cells[metric.name] = {value: self._take(size) for value in source.values}
            case sources.ProcessNumber():
                self.cells[metric.name] = {"": self._take(1)}
            case sources.Named(group, _, values):
                size = group.most * (TIMES if metric.type is MetricType.HISTOGRAM else 1)
                self.cells[metric.name] = {value: self._take(size) for value in values}
            case sources.Published():
                cells = {number.value: self._take(1) for number in source.numbers}
                self.cells[metric.name] = cells
                is_counter = metric.type is MetricType.COUNTER
                published = self.published_counters if is_counter else self.published_gauges
                published.extend((number.key, cells[number.value]) for number in source.numbers)

    def slots_of(self, group: NamedGroup, slot: int) -> Iterator[tuple[int, int]]:
        """First cell and number of cells of this slot, for each number of the group."""
        for metric in self.metrics:
            if isinstance(metric.source, Named) and metric.source.group is group:
                size = TIMES if metric.type is MetricType.HISTOGRAM else 1
                for start in self.cells[metric.name].values():
                    yield start + slot * size, size

    def _take(self, count: int) -> int:
        self.size += count
        return self.size - count


LAYOUT: Final = Layout(METRICS)


def cell(name: str, value: str = "") -> int:
    """The cell of a metric and a value of its label. Raises KeyError."""
    return LAYOUT.cells[name][value]


ALIVE, LAG, LOOP_LAG = map(cell, ("styx_worker_up", "styx_loop_lag_last_seconds", "styx_loop_lag_seconds"))
USAGE = tuple(
    cell(f"styx_process_{name}") for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds")
)
RESIDENT = cell("styx_process_resident_memory_bytes")
QUEUES = cell("styx_accept_queue")
ACCEPTED = cell("styx_client_connections_accepted_total")
LAST_RELOAD_GOOD, LAST_RELOAD_TIME = map(cell, ("styx_last_reload_success", "styx_last_reload_timestamp_seconds"))


class Row:
    """The numbers of one process."""

    __slots__ = ("_bases", "cells", "layout")

    def __init__(self, cells: "memoryview[float]", layout: Layout = LAYOUT) -> None:
        self.cells = cells
        self.layout = layout
        self._bases: dict[int, float] = {}
        "Values of the published counters when this process took over the row."

    # called by the process that counts

    def begin(self, slot: int, pid: int, now: float, *, serves: bool = True) -> None:
        """Take over the row for this process. `serves`: it is a worker."""
        cells = self.cells
        cells[SLOT], cells[PID], cells[HEARTBEAT], cells[LAG] = slot, pid, now, 0.0
        cells[BEGUN], cells[ALIVE] = 1.0, serves
        for listener in range(LISTENERS):
            cells[ACCEPTED_ON + listener] = 0.0
        self._bases = {cell: cells[cell] for _, cell in self.layout.published_counters}

    def alive_at(self, now: float) -> None:
        """Record a heartbeat of the event loop, at `now` (monotonic seconds)."""
        self.cells[HEARTBEAT] = now

    def beat(self, now: float, lag: float) -> None:
        """Record a heartbeat of a worker's event loop. `lag`: seconds by which it was late."""
        self.alive_at(now)
        self.cells[LAG] = lag
        observe(self.cells, LOOP_LAG, lag * 1_000)

    def publish(self, status: Mapping[str, float]) -> None:
        """Copy the numbers that the worker holds elsewhere (`metrics_table.worker_status`)."""
        cells, bases = self.cells, self._bases
        for key, cell in self.layout.published_gauges:
            cells[cell] = status[key]
        for key, cell in self.layout.published_counters:
            cells[cell] = bases.get(cell, 0.0) + status[key]

    def publish_accepted(self, listener: int, count: int) -> None:
        """Publish how many connections this worker has accepted on a listener. `listener`: its index in the
        configuration."""
        if listener < LISTENERS:
            self.cells[ACCEPTED_ON + listener] = count

    def count(self, name: str, value: str = "", by: float = 1.0) -> None:
        """Add to a `Recorded` counter. Raises KeyError: no such metric or value of its label."""
        self.cells[self.layout.cells[name][value]] += by

    # called by every process

    def publish_usage(self, usage: Sequence[float]) -> None:
        """Write what this process uses, in the order of `ProcessUsage`."""
        for at, number in zip(USAGE, usage, strict=True):
            self.cells[at] = number

    # called by workers and by the admin process

    def task_failed(self, task: BackgroundTask) -> None:
        """Count a failure of a background task, which is restarted."""
        self.count("styx_background_failures_total", task.value)

    def control_refused(self, count: int) -> None:
        """Count connections to the control channel that were not from workers of this edge."""
        self.count("styx_control_connections_refused_total", by=count)

    # called by the master

    def publish_queue(self, listener: int, length: int) -> None:
        """Publish the length of this worker's accept queue. `listener`: its index in the configuration."""
        if listener < LISTENERS:
            self.cells[QUEUES + listener] = length

    def ended(self) -> None:
        """Reset the gauges of a process that has ended; its counts stay."""
        for cell in self.layout.gauges:
            self.cells[cell] = 0.0

    def started(self, wall_time: float) -> None:
        """Record the time at which the configuration was first read."""
        self.cells[LAST_RELOAD_TIME] = wall_time

    def reloaded(self, done: bool, wall_time: float) -> None:
        """Count a reload, which succeeded or changed nothing."""
        self.count("styx_reloads_total", RESULTS[not done])
        self.cells[LAST_RELOAD_GOOD] = done
        if done:
            self.cells[LAST_RELOAD_TIME] = wall_time

    def restarted(self, reason: str) -> None:
        """Count a process that replaces one which ended by itself; `reason` is a label value of the metric."""
        self.count("styx_worker_restarts_total", reason)

    def upgraded(self, done: bool) -> None:
        """Count an upgrade to another version, which succeeded or failed."""
        self.count("styx_upgrades_total", RESULTS[not done])

    # called by readers

    @property
    def begun(self) -> bool:
        """Whether a process ever counted here."""
        return self.cells[BEGUN] > 0

    @property
    def alive(self) -> bool:
        """Whether a worker counts here now."""
        return self.cells[ALIVE] > 0

    @property
    def slot(self) -> int:
        return int(self.cells[SLOT])

    @property
    def pid(self) -> int:
        return int(self.cells[PID])

    def accepted_on(self, listener: int) -> float:
        """Connections that it had accepted on a listener at its last heartbeat; for a listener beyond LISTENERS, on
        all of them."""
        return self.cells[ACCEPTED_ON + listener if listener < LISTENERS else ACCEPTED]

    @property
    def heartbeat(self) -> float:
        """Time of the last heartbeat, monotonic seconds."""
        return self.cells[HEARTBEAT]


class Scoreboard:
    """The shared memory. Row 0 belongs to the master. Pages that were never written to take no memory."""

    def __init__(self, rows: int = 512, layout: Layout = LAYOUT) -> None:
        self.rows, self.layout = rows, layout
        self._memory = memoryview(mmap.mmap(-1, rows * layout.size * 8)).cast("d")
        self._memory[BEGUN] = self._memory[LAST_RELOAD_GOOD] = 1.0

    def row(self, number: int) -> Row:
        """The row of this number."""
        size = self.layout.size
        return Row(self._memory[number * size : (number + 1) * size], self.layout)

    def used(self) -> list[Row]:
        """Rows in which a process ever counted; the master's first."""
        rows = (self.row(number) for number in range(self.rows) if self._memory[number * self.layout.size + BEGUN])
        return list(rows)


def observe(cells: "memoryview[float]", times: int, ms: float) -> None:
    """Count a time in the histogram whose first cell is `times`."""
    cells[times] += ms
    # bisect_left: a time that equals a bound belongs to its bucket, as the label `le` (less or equal) says.
    cells[times + 1 + bisect_left(BOUNDS_MS, ms)] += 1


def summed(rows: Iterable[Row]) -> Sequence[float]:
    """Add rows up, cell by cell, up to `Layout.common`. There must be at least one row."""
    lists = [row.cells[: row.layout.common].tolist() for row in rows]
    return [sum(column) for column in zip(*lists, strict=True)]
