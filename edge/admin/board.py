"""What all processes count, in memory that they share.

The master maps it before it forks. Each process that counts has a row to itself, so no number has two writers; the
admin process adds the rows up. The counts of a process that has ended stay, and the next one in its row goes on
adding to them: sums never fall, whoever crashes.

Cells are doubles, aligned: one is read and written whole. Writing one costs 0.1 µs.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from edge.rules.background_tasks import BackgroundTask
from edge.rules.outcomes import Cause, Phase
from edge.rules.snapshots import WorkerSnapshot

BOUNDS_MS = (
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    30_000,
    60_000,
)
"""Upper edges of the buckets. One scale for all times: own overhead takes 0.05 ms, a cold start 30 s and more."""

CORE_RESULTS = ("route", "not_modified", "unknown", "rejected", "error", "timeout")
"How a question to the core API can end."
RESTARTS = ("crashed", "stalled", "bad_message", "admin_crashed", "admin_stalled", "admin_bad_message")
"Why a process was started in place of another: it ended, its loop stood still, or it sent what it may not send."
RESULTS = ("success", "failed")
LOWEST_STATUS, STATUSES = 100, 900
"A status has three digits; backends may invent some."
GAUGES = (
    "client_connections",
    "exchanges",
    "links_idle",
    "links_open",
    "routes",
    "routes_ready",
    "questions",
    "unknown_hosts",
    "environments",
    "core_api_up",
    "backends_down",
    "buffered_bytes",
)
"Members of a snapshot that go up and down."
COUNTERS = (
    "client_connections_accepted",
    "client_connections_refused",
    "idle_clients_closed",
    "buffers_cut",
    "links_opened",
    "links_reused",
    "route_hits",
    "route_stale",
    "route_misses",
    "unknown_hits",
    "lower_generation",
    "removal_unconfirmed",
    "removal_held_back",
    "retries_exhausted",
    "probes",
    "reconnects",
)
"Members of a snapshot that only grow."


LISTENERS = 32
"Listeners whose accept queues are published, the first ones of the configuration."


class _Layout:
    """Gives out cells."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        self.size += count
        return self.size - count

    def take_times(self) -> int:
        """A histogram: the sum of milliseconds, then the buckets; the last is everything above the last bound."""
        return self.take(1 + len(BOUNDS_MS) + 1)


_layout = _Layout()
# who writes here
BEGUN, ALIVE, SLOT, PID, HEARTBEAT, LAG = (_layout.take(1) for _ in range(6))
# requests
OUTCOMES = _layout.take(len(Phase) * len(Cause))
STATUS = _layout.take(STATUSES)
ATTEMPTS, RETRIES = _layout.take(len(Cause)), _layout.take(len(Cause))
BYTES_IN, BYTES_OUT = _layout.take(1), _layout.take(1)
TOTAL, FIRST_BYTE, CONNECT, RESOLVE, OVERHEAD = (_layout.take_times() for _ in range(5))
CORE = {result: _layout.take_times() for result in CORE_RESULTS}
LOOP_LAG = _layout.take_times()
# from snapshots
GAUGE = {name: _layout.take(1) for name in GAUGES}
COUNTER = {name: _layout.take(1) for name in COUNTERS}
LOG_WRITTEN, LOG_DROPPED = _layout.take(1), _layout.take(1)
# of whoever counts in the row, by the master
QUEUES = _layout.take(LISTENERS)
# workers and admin process
TASK_FAILED = {task.value: _layout.take(1) for task in BackgroundTask}
CONTROL_REFUSED = _layout.take(1)
# the master's
RELOADS = {result: _layout.take(1) for result in RESULTS}
LAST_RELOAD_GOOD, LAST_RELOAD_TIME = _layout.take(1), _layout.take(1)
RESTARTED = {reason: _layout.take(1) for reason in RESTARTS}
UPGRADES = {result: _layout.take(1) for result in RESULTS}
SIZE = _layout.size

OUTCOME_AT = {
    phase: {cause: OUTCOMES + p * len(Cause) + c for c, cause in enumerate(Cause)} for p, phase in enumerate(Phase)
}
ATTEMPT_AT = {cause: ATTEMPTS + c for c, cause in enumerate(Cause)}
RETRY_AT = {cause: RETRIES + c for c, cause in enumerate(Cause)}


class Row:
    """One process's numbers."""

    __slots__ = ("_bases", "cells")

    def __init__(self, cells: "memoryview[float]") -> None:
        self.cells = cells
        self._bases: dict[int, float] = {}
        "What its counters from snapshots were when this process took it over."

    # by the process that counts

    def begin(self, slot: int, pid: int, now: float, *, serves: bool = True) -> None:
        """This process counts here from now on. `serves`: it is a worker."""
        cells = self.cells
        cells[SLOT], cells[PID], cells[HEARTBEAT], cells[LAG] = slot, pid, now, 0.0
        cells[BEGUN], cells[ALIVE] = 1.0, serves
        self._bases = {cell: cells[cell] for cell in (*COUNTER.values(), LOG_WRITTEN, LOG_DROPPED)}

    def alive_at(self, now: float) -> None:
        """The loop turns."""
        self.cells[HEARTBEAT] = now

    def beat(self, now: float, lag: float) -> None:
        """The loop of a worker turns. `lag`: seconds by which it was later than it should have been."""
        self.alive_at(now)
        self.cells[LAG] = lag
        observe(self.cells, LOOP_LAG, lag * 1_000)

    def publish(self, snapshot: WorkerSnapshot, log_written: int, log_dropped: int) -> None:
        """What is kept where it happens, and not counted here one by one."""
        cells = self.cells
        for name, cell in GAUGE.items():
            cells[cell] = getattr(snapshot, name)
        for name, cell in COUNTER.items():
            cells[cell] = self._bases.get(cell, 0.0) + getattr(snapshot, name)
        cells[LOG_WRITTEN] = self._bases.get(LOG_WRITTEN, 0.0) + log_written
        cells[LOG_DROPPED] = self._bases.get(LOG_DROPPED, 0.0) + log_dropped

    # by workers and by the admin process

    def task_failed(self, task: BackgroundTask) -> None:
        """A background task has failed, and is started again."""
        self.cells[TASK_FAILED[task.value]] += 1

    def control_refused(self, count: int) -> None:
        """So many connections to the control channel were not from workers of this edge."""
        self.cells[CONTROL_REFUSED] += count

    # by the master

    def publish_queue(self, listener: int, length: int) -> None:
        """So many wait to be accepted by this worker, on the listener of this number."""
        if listener < LISTENERS:
            self.cells[QUEUES + listener] = length

    def ended(self) -> None:
        """The process is gone: it has nothing in hand, and its counts stay."""
        for cell in (ALIVE, LAG, *GAUGE.values(), *range(QUEUES, QUEUES + LISTENERS)):
            self.cells[cell] = 0.0

    def started(self, wall_time: float) -> None:
        """The configuration was read for the first time."""
        self.cells[LAST_RELOAD_TIME] = wall_time

    def reloaded(self, done: bool, wall_time: float) -> None:
        """A reload succeeded, or left everything as it was."""
        self.cells[RELOADS[RESULTS[not done]]] += 1
        self.cells[LAST_RELOAD_GOOD] = done
        if done:
            self.cells[LAST_RELOAD_TIME] = wall_time

    def restarted(self, reason: str) -> None:
        """A process was started in place of one that ended by itself; `reason` is one of `RESTARTS`."""
        self.cells[RESTARTED[reason]] += 1

    def upgraded(self, done: bool) -> None:
        """Another version took over, or did not."""
        self.cells[UPGRADES[RESULTS[not done]]] += 1

    # by whoever wants to know

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

    @property
    def heartbeat(self) -> float:
        """When the loop last turned, monotonic seconds."""
        return self.cells[HEARTBEAT]


class Board:
    """The shared memory. Row 0 is the master's. Pages that nobody wrote to take no room."""

    def __init__(self, rows: int = 512) -> None:
        self.rows = rows
        self._memory = memoryview(mmap.mmap(-1, rows * SIZE * 8)).cast("d")
        self._memory[BEGUN] = 1.0

    def row(self, number: int) -> Row:
        """The row of this number."""
        return Row(self._memory[number * SIZE : (number + 1) * SIZE])

    def used(self) -> list[Row]:
        """Rows in which somebody ever counted; the master's first."""
        rows = (self.row(number) for number in range(self.rows) if self._memory[number * SIZE + BEGUN])
        return list(rows)


def observe(cells: "memoryview[float]", times: int, ms: float) -> None:
    """Count a time in the histogram that begins there."""
    cells[times] += ms
    # Left: a time that equals a bound belongs to it, as the label `le` says.
    cells[times + 1 + bisect_left(BOUNDS_MS, ms)] += 1


def summed(rows: Iterable[Row]) -> Sequence[float]:
    """Cell by cell."""
    lists = [row.cells.tolist() for row in rows]
    return [sum(column) for column in zip(*lists, strict=True)] if lists else [0.0] * SIZE
