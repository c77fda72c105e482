"""The metrics: one table with their prose, and the collector that reads it when Prometheus asks.

`prometheus_client` only writes the text; the numbers lie on the board, which all processes share (`board.py`): no
worker is asked, so one that stands still holds nothing up. A row of the table says where its numbers are, so a
metric is declared in one place and nowhere else.

Labels are member names of `Phase` and `Blame` in lower case, values of `Cause`, HTTP statuses, slots of workers:
bounded by construction. A hostname is never a label: there are 100,000, and the client chooses what it sends.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from http import HTTPStatus
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge import __version__
from edge.admin import board as at
from edge.admin.board import BOUNDS_MS, Board, Row, summed
from edge.rules.changes import StreamState
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase, Retry

LE = (*(str(ms / 1_000) for ms in BOUNDS_MS), "+Inf")
STATUSES = frozenset(HTTPStatus) | {499, 560}
"Statuses with a label of their own; a backend may invent others, which count by their class (`5xx`)."


class Sources(NamedTuple):
    """Where the numbers of one scrape come from."""

    sums: Sequence[float]
    "All rows added up, cell by cell."
    workers: Sequence[Row]
    "Of workers that live."
    listeners: Sequence[str]
    "Addresses, in the order of the configuration."


Labels = tuple[str, ...]
Number = tuple[Labels, float]
Times = tuple[Labels, int]
"Where the histogram begins."


class Counter(NamedTuple):
    """A number that only grows."""

    name: str
    prose: str
    labels: Labels
    read: Callable[[Sources], Iterable[Number]]

    def family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self.prose, labels=self.labels)

    def told(self, sources: Sources) -> Metric:
        family = self.family()
        for labels, value in self.read(sources):
            family.add_metric(labels, value)
        return family


class Gauge(NamedTuple):
    """A number that goes up and down."""

    name: str
    prose: str
    labels: Labels
    read: Callable[[Sources], Iterable[Number]]

    def family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.prose, labels=self.labels)

    def told(self, sources: Sources) -> Metric:
        family = self.family()
        for labels, value in self.read(sources):
            family.add_metric(labels, value)
        return family


class Seconds(NamedTuple):
    """A histogram of times."""

    name: str
    prose: str
    labels: Labels
    read: Callable[[Sources], Iterable[Times]]

    def family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.prose, labels=self.labels)

    def told(self, sources: Sources) -> Metric:
        family = self.family()
        for labels, start in self.read(sources):
            counts = sources.sums[start + 1 : start + 1 + len(LE)]
            family.add_metric(labels, list(zip(LE, accumulate(counts), strict=True)), sources.sums[start] / 1_000)
        return family


def _sum(cell: int) -> Callable[[Sources], Iterable[Number]]:
    return lambda sources: [((), sources.sums[cell])]


def _most(name: str) -> Callable[[Sources], Iterable[Number]]:
    """What each worker has for itself, most of it the same as the others."""
    cell = at.GAUGE[name]
    return lambda sources: [((), max((row.cells[cell] for row in sources.workers), default=0.0))]


def _each(cell: int) -> Callable[[Sources], Iterable[Number]]:
    """By worker; two processes in one slot, of which one is about to leave, are added up."""

    def read(sources: Sources) -> Iterable[Number]:
        return _added(((str(row.slot),), row.cells[cell]) for row in sources.workers)

    return read


def _queues(sources: Sources) -> Iterable[Number]:
    """By worker and listener; two processes in one slot accept from the same queue."""
    lengths: dict[Labels, float] = {}
    for row in sources.workers:
        for number, listener in enumerate(sources.listeners[: at.LISTENERS]):
            labels = (str(row.slot), listener)
            lengths[labels] = max(lengths.get(labels, 0.0), row.cells[at.QUEUES + number])
    return lengths.items()


def _times(start: int) -> Callable[[Sources], Iterable[Times]]:
    return lambda _: [((), start)]


def _cells(**labels_and_cells: dict[str, int]) -> Callable[[Sources], Iterable[Number]]:
    """A cell for each value of one label."""
    [cells] = labels_and_cells.values()
    return lambda sources: [((value,), sources.sums[cell]) for value, cell in cells.items()]


def _added(numbers: Iterable[Number]) -> Iterable[Number]:
    sums: dict[Labels, float] = {}
    for labels, value in numbers:
        sums[labels] = sums.get(labels, 0.0) + value
    return sums.items()


def _name(member: Enum) -> str:
    return member.name.lower()


def _outcomes(sources: Sources) -> Iterator[tuple[Phase, Cause, float]]:
    for phase, cells in at.OUTCOME_AT.items():
        for cause, cell in cells.items():
            if count := sources.sums[cell]:
                yield phase, cause, count


def _blame_and_phase(sources: Sources) -> Iterable[Number]:
    return _added(
        ((_name(VERDICTS[cause].blame), _name(phase)), count) for phase, cause, count in _outcomes(sources)
    )


def _causes(sources: Sources) -> Iterable[Number]:
    return _added(((cause.value,), count) for _, cause, count in _outcomes(sources))


def _codes(sources: Sources) -> Iterable[Number]:
    counts = sources.sums[at.STATUS : at.STATUS + at.STATUSES]
    return _added(
        ((str(status) if status in STATUSES else f"{status // 100}xx",), count)
        for status, count in enumerate(counts, at.LOWEST_STATUS)
        if count
    )


def _results(sources: Sources) -> Iterator[Number]:
    """Zeros included for what an attempt is likely to meet: a rate needs its first zero."""
    for cause, cell in at.ATTEMPT_AT.items():
        count = sources.sums[cell]
        if count or cause is Cause.FINE or VERDICTS[cause].blame is Blame.BACKEND:
            yield (cause.value,), count


def _retries(sources: Sources) -> Iterator[Number]:
    for cause, cell in at.RETRY_AT.items():
        count = sources.sums[cell]
        if count or VERDICTS[cause].retry is not Retry.NEVER:
            yield (cause.value,), count


def _core_times(_: Sources) -> Iterator[Times]:
    for result, start in at.CORE.items():
        yield (result,), start


def _links(sources: Sources) -> Iterator[Number]:
    idle, every = sources.sums[at.GAUGE["links_idle"]], sources.sums[at.GAUGE["links_open"]]
    yield ("idle",), idle
    yield ("busy",), every - idle


def _lookups(sources: Sources) -> Iterator[Number]:
    for label, name in (("hit", "route_hits"), ("stale", "route_stale"), ("miss", "route_misses")):
        yield (label,), sources.sums[at.COUNTER[name]]
    yield ("unknown",), sources.sums[at.COUNTER["unknown_hits"]]


def _not_accepted(sources: Sources) -> Iterator[Number]:
    for name in ("lower_generation", "removal_unconfirmed", "removal_held_back"):
        yield (name,), sources.sums[at.COUNTER[name]]


def _core_api_up(sources: Sources) -> Iterator[Number]:
    """Down as soon as one worker says so."""
    yield (), min((row.cells[at.GAUGE["core_api_up"]] for row in sources.workers), default=0.0)


def _last_reload(sources: Sources) -> Iterator[Number]:
    never = not any(sources.sums[cell] for cell in at.RELOADS.values())
    yield (), 1.0 if never else sources.sums[at.LAST_RELOAD_GOOD]


def _build(_: Sources) -> Iterator[Number]:
    yield (__version__, platform.python_version()), 1


METRICS: tuple[Counter | Gauge | Seconds, ...] = (
    # requests
    Counter(
        "styx_requests_total",
        "Requests finished, by who ended them and in which phase.",
        ("blame", "phase"),
        _blame_and_phase,
    ),
    Counter("styx_responses_total", "Requests finished, by the status of the answer.", ("code",), _codes),
    Counter(
        "styx_causes_total",
        "Requests finished, by cause: `fine`, or what went wrong.",
        ("cause",),
        _causes,
    ),
    Gauge("styx_requests_in_flight", "Requests in hand now.", ("worker",), _each(at.GAUGE["exchanges"])),
    Counter(
        "styx_request_body_bytes_total",
        "Body bytes taken from clients.",
        (),
        _sum(at.BYTES_IN),
    ),
    Counter(
        "styx_response_body_bytes_total",
        "Body bytes handed to clients.",
        (),
        _sum(at.BYTES_OUT),
    ),
    Seconds("styx_request_seconds", "Head of the request to end of the answer.", (), _times(at.TOTAL)),
    Seconds(
        "styx_resolve_seconds",
        "Waiting for the core API; requests with a cached route are not in it.",
        (),
        _times(at.RESOLVE),
    ),
    Seconds(
        "styx_connect_seconds",
        "Connecting to a backend; requests on a kept connection are not in it.",
        (),
        _times(at.CONNECT),
    ),
    Seconds(
        "styx_first_byte_seconds",
        "Request written to first byte of the answer; requests that nobody answered are not in it.",
        (),
        _times(at.FIRST_BYTE),
    ),
    Seconds(
        "styx_overhead_seconds",
        "What styx itself added until the request was sent: without waiting for the core API or for a connection. "
        "Only requests without a body that were sent once.",
        (),
        _times(at.OVERHEAD),
    ),
    # attempts
    Counter("styx_attempts_total", "Tries at one backend, by how they ended.", ("result",), _results),
    Counter(
        "styx_retries_total",
        "Attempts after the first, by the cause of the failed one.",
        ("cause",),
        _retries,
    ),
    Counter(
        "styx_retries_exhausted_total",
        "Retries that a budget did not allow.",
        (),
        _sum(at.COUNTER["retries_exhausted"]),
    ),
    Counter(
        "styx_probes_total",
        "Copies of requests sent to backends on probation; nobody waits for their answers.",
        (),
        _sum(at.COUNTER["probes"]),
    ),
    Counter(
        "styx_reconnects_total",
        "Connects in the background to backends that are down.",
        (),
        _sum(at.COUNTER["reconnects"]),
    ),
    Gauge(
        "styx_backends_down",
        "Backends that a worker could not connect to, and tries to. Each worker counts for itself.",
        (),
        _sum(at.GAUGE["backends_down"]),
    ),
    # connections
    Gauge(
        "styx_client_connections",
        "Connections of clients now.",
        ("worker",),
        _each(at.GAUGE["client_connections"]),
    ),
    Counter(
        "styx_client_connections_accepted_total",
        "Connections of clients since the start.",
        (),
        _sum(at.COUNTER["client_connections_accepted"]),
    ),
    Counter(
        "styx_client_connections_refused_total",
        "Connections of clients closed at once: one too many, or not begun as their listener asks for.",
        (),
        _sum(at.COUNTER["client_connections_refused"]),
    ),
    Gauge(
        "styx_accept_queue",
        "Connections of clients that wait to be accepted, as the master last saw them; a socket that all workers "
        "share is told of each.",
        ("worker", "listener"),
        _queues,
    ),
    Counter(
        "styx_idle_clients_closed_total",
        "Idle connections of clients closed because others needed their place.",
        (),
        _sum(at.COUNTER["idle_clients_closed"]),
    ),
    Gauge(
        "styx_buffered_bytes",
        "Bytes kept for clients that read or send slowly, by worker (limits.buffers).",
        ("worker",),
        _each(at.GAUGE["buffered_bytes"]),
    ),
    Counter(
        "styx_buffer_limit_cuts_total",
        "Connections of clients cut off because all buffers together were too large.",
        (),
        _sum(at.COUNTER["buffers_cut"]),
    ),
    Gauge("styx_backend_connections", "Connections to backends now.", ("state",), _links),
    Counter(
        "styx_backend_connections_opened_total",
        "Connections to backends since the start.",
        (),
        _sum(at.COUNTER["links_opened"]),
    ),
    Counter(
        "styx_backend_connections_reused_total",
        "Attempts that found a kept connection.",
        (),
        _sum(at.COUNTER["links_reused"]),
    ),
    # routes
    Gauge("styx_routes", "Hostnames with a cached route, in the worker that has most.", (), _most("routes")),
    Gauge(
        "styx_routes_ready",
        "Those that a request finds at once, in the worker that has most; the others are kept compact.",
        (),
        _most("routes_ready"),
    ),
    Gauge(
        "styx_core_api_questions",
        "Hostnames that the core API is being asked for, by worker; those included that wait for their turn.",
        ("worker",),
        _each(at.GAUGE["questions"]),
    ),
    Gauge(
        "styx_unknown_hosts",
        "Hostnames cached as unknown to the core API, in the worker that has most.",
        (),
        _most("unknown_hosts"),
    ),
    Gauge(
        "styx_environments",
        "Environments with a cached route, in the worker that has most.",
        (),
        _most("environments"),
    ),
    Counter(
        "styx_route_lookups_total",
        "Requests by what the cache knew: a fresh route (hit), an old one (stale), nothing (miss), or that there "
        "is no such hostname (unknown).",
        ("result",),
        _lookups,
    ),
    Counter(
        "styx_routes_not_accepted_total",
        "Answers of the core API that did not replace a known route: of a lower generation; without backends and "
        "not confirmed; held back because many environments lost theirs at once.",
        ("reason",),
        _not_accepted,
    ),
    Seconds("styx_core_api_seconds", "Questions to the core API, by how they ended.", ("result",), _core_times),
    Gauge(
        "styx_core_api_up",
        "1 = the last question of every worker to the core API was answered.",
        (),
        _core_api_up,
    ),
    # styx itself
    Counter("styx_log_lines_total", "Lines of the access log written.", (), _sum(at.LOG_WRITTEN)),
    Counter(
        "styx_log_lines_dropped_total",
        "Lines of the access log lost: the reader is slow or gone, or the disk is full.",
        (),
        _sum(at.LOG_DROPPED),
    ),
    Gauge(
        "styx_worker_up",
        "Processes in this slot; two while one of them finishes what it has.",
        ("worker",),
        _each(at.ALIVE),
    ),
    Gauge(
        "styx_loop_lag_last_seconds",
        "How late the loop's latest heartbeat was; one comes every quarter of a second.",
        ("worker",),
        _each(at.LAG),
    ),
    Seconds("styx_loop_lag_seconds", "How late the heartbeats of the loops were.", (), _times(at.LOOP_LAG)),
    Counter(
        "styx_worker_restarts_total",
        "Processes started in place of one that ended by itself.",
        ("reason",),
        _cells(reason=at.RESTARTED),
    ),
    Counter(
        "styx_background_failures_total",
        "Failures of background tasks and timers; each is logged, and the task is started again.",
        ("task",),
        _cells(task=at.TASK_FAILED),
    ),
    Counter(
        "styx_control_connections_refused_total",
        "Connections to the control channel that were closed at once: not from a worker of this edge.",
        (),
        _sum(at.CONTROL_REFUSED),
    ),
    Counter("styx_reloads_total", "Reloads of the configuration.", ("result",), _cells(result=at.RELOADS)),
    Gauge(
        "styx_last_reload_success",
        "1 = the last reload succeeded, or there was none yet.",
        (),
        _last_reload,
    ),
    Gauge(
        "styx_last_reload_timestamp_seconds",
        "When the running configuration was read, seconds since the epoch.",
        (),
        _sum(at.LAST_RELOAD_TIME),
    ),
    Counter("styx_upgrades_total", "Upgrades to another version.", ("result",), _cells(result=at.UPGRADES)),
    Gauge("styx_build_info", "Always 1; the labels tell what runs.", ("version", "python"), _build),
)


class StyxCollector(Collector):
    """Reads the table at each scrape."""

    def __init__(self, board: Board, listeners: Sequence[str] = ()) -> None:
        self._board = board
        self._listeners = listeners

    def describe(self) -> Iterable[Metric]:
        return [metric.family() for metric in METRICS]

    def collect(self) -> Iterable[Metric]:
        rows = self._board.used()
        sources = Sources(summed(rows), [row for row in rows if row.alive], self._listeners)
        return [metric.told(sources) for metric in METRICS]


class ChangesCollector(Collector):
    """The stream of changes: one for the whole edge, read by the admin process itself."""

    def __init__(self, state: StreamState, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        state = self._state
        up, silence = (
            "1 = the core API tells what changes.",
            "Since the last sign of life of the stream of changes.",
        )
        yield GaugeMetricFamily("styx_changes_up", up, value=float(state.connected))
        if state.heard_at >= 0.0:
            yield GaugeMetricFamily("styx_changes_silence_seconds", silence, value=self._clock() - state.heard_at)
        yield CounterMetricFamily("styx_changes_total", "Changes that the core API told.", value=state.events)
        gaps = "Times that all routes became stale, for changes may have been missed."
        yield CounterMetricFamily("styx_changes_gaps_total", gaps, value=state.gaps)


def new_registry(
    board: Board, changes: StreamState | None = None, *, listeners: Sequence[str] = ()
) -> CollectorRegistry:
    """A registry of its own: the library's global one would carry state from test to test. `listeners`: their
    addresses."""
    registry = CollectorRegistry()
    if changes is not None:
        registry.register(ChangesCollector(changes, time.monotonic))
    registry.register(StyxCollector(board, listeners))
    ProcessCollector(registry=registry)
    return registry
