"""The metrics: one table with their prose, and the collector that reads it when Prometheus asks.

`prometheus_client` only writes the text; the numbers lie in `Tally`, in the worker's snapshot and in the access
log. A row says where its numbers are, so a metric is declared in one place and nowhere else.

Labels are member names of `Phase` and `Blame` in lower case, values of `Cause`, HTTP statuses: bounded by
construction. A hostname is never a label: there are 100,000 of them, and the client chooses what it sends.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
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
from edge.admin.access_log import AccessLog
from edge.admin.tally import BOUNDS_MS, End, Histogram, Tally
from edge.rules.outcomes import VERDICTS, Blame, Cause, Retry
from edge.rules.snapshots import WorkerSnapshot

LE = (*(str(ms / 1_000) for ms in BOUNDS_MS), "+Inf")
STATUSES = frozenset(HTTPStatus) | {499, 560}
"Statuses with a label of their own; a backend may invent others, which count by their class (`5xx`)."


class Sources(NamedTuple):
    """Where the numbers of one scrape come from."""

    tally: Tally
    worker: WorkerSnapshot
    log: AccessLog


Labels = tuple[str, ...]
Number = tuple[Labels, float]
Times = tuple[Labels, Histogram]


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
        for labels, times in self.read(sources):
            buckets = list(zip(LE, accumulate(times.counts), strict=True))
            family.add_metric(labels, buckets, times.sum_ms / 1_000)
        return family


def _one(read: Callable[[Sources], float]) -> Callable[[Sources], Iterable[Number]]:
    return lambda sources: [((), read(sources))]


def _times(read: Callable[[Tally], Histogram]) -> Callable[[Sources], Iterable[Times]]:
    return lambda sources: [((), read(sources.tally))]


def _ends(key: Callable[[End], Labels]) -> Callable[[Sources], Iterable[Number]]:
    """Requests, summed over all that `key` does not look at."""

    def read(sources: Sources) -> Iterable[Number]:
        sums: dict[Labels, float] = {}
        for end, (count,) in sources.tally.ends.items():
            labels = key(end)
            sums[labels] = sums.get(labels, 0) + count
        return sums.items()

    return read


def _name(member: Enum) -> str:
    return member.name.lower()


def _blame_and_phase(end: End) -> Labels:
    blame, phase, _, _ = end
    return (_name(blame), _name(phase))


def _code(end: End) -> Labels:
    status = end[3]
    return (str(status) if status in STATUSES else f"{status // 100}xx",)


def _cause(end: End) -> Labels:
    return (end[2].value,)


def _results(sources: Sources) -> Iterator[Number]:
    """Zeros included for what an attempt is likely to meet: a rate needs its first zero."""
    for cause, count in sources.tally.attempts.items():
        if count or cause is Cause.FINE or VERDICTS[cause].blame is Blame.BACKEND:
            yield (cause.value,), count


def _retries(sources: Sources) -> Iterator[Number]:
    for cause, count in sources.tally.retries.items():
        if count or VERDICTS[cause].retry is not Retry.NEVER:
            yield (cause.value,), count


def _core_times(sources: Sources) -> Iterator[Times]:
    for result, times in sources.tally.core.items():
        yield (result,), times


def _links(sources: Sources) -> Iterator[Number]:
    worker = sources.worker
    yield ("idle",), worker.links_idle
    yield ("busy",), worker.links_open - worker.links_idle


def _lookups(sources: Sources) -> Iterator[Number]:
    worker = sources.worker
    yield ("hit",), worker.route_hits
    yield ("stale",), worker.route_stale
    yield ("miss",), worker.route_misses
    yield ("unknown",), worker.unknown_hits


def _build(_: Sources) -> Iterator[Number]:
    yield (__version__, platform.python_version()), 1


METRICS: tuple[Counter | Gauge | Seconds, ...] = (
    # requests
    Counter(
        "styx_requests_total",
        "Requests finished, by who ended them and in which phase.",
        ("blame", "phase"),
        _ends(_blame_and_phase),
    ),
    Counter("styx_responses_total", "Requests finished, by the status of the answer.", ("code",), _ends(_code)),
    Counter(
        "styx_causes_total",
        "Requests finished, by cause: `fine`, or what went wrong.",
        ("cause",),
        _ends(_cause),
    ),
    Gauge("styx_requests_in_flight", "Requests in hand now.", (), _one(lambda s: s.worker.exchanges)),
    Counter(
        "styx_request_body_bytes_total",
        "Body bytes taken from clients.",
        (),
        _one(lambda s: s.tally.bytes_in),
    ),
    Counter(
        "styx_response_body_bytes_total",
        "Body bytes handed to clients.",
        (),
        _one(lambda s: s.tally.bytes_out),
    ),
    Seconds("styx_request_seconds", "Head of the request to end of the answer.", (), _times(lambda t: t.total)),
    Seconds(
        "styx_resolve_seconds",
        "Waiting for the core API; requests with a cached route are not in it.",
        (),
        _times(lambda t: t.resolve),
    ),
    Seconds(
        "styx_connect_seconds",
        "Connecting to a backend; requests on a kept connection are not in it.",
        (),
        _times(lambda t: t.connect),
    ),
    Seconds(
        "styx_first_byte_seconds",
        "Request written to first byte of the answer; requests that nobody answered are not in it.",
        (),
        _times(lambda t: t.first_byte),
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
        _one(lambda s: s.worker.retries_exhausted),
    ),
    # connections
    Gauge(
        "styx_client_connections",
        "Connections of clients now.",
        (),
        _one(lambda s: s.worker.client_connections),
    ),
    Counter(
        "styx_client_connections_accepted_total",
        "Connections of clients since the start.",
        (),
        _one(lambda s: s.worker.client_connections_accepted),
    ),
    Counter(
        "styx_client_connections_refused_total",
        "Connections of clients closed at once: one too many, or not begun as their listener asks for.",
        (),
        _one(lambda s: s.worker.client_connections_refused),
    ),
    Gauge("styx_backend_connections", "Connections to backends now.", ("state",), _links),
    Counter(
        "styx_backend_connections_opened_total",
        "Connections to backends since the start.",
        (),
        _one(lambda s: s.worker.links_opened),
    ),
    Counter(
        "styx_backend_connections_reused_total",
        "Attempts that found a kept connection.",
        (),
        _one(lambda s: s.worker.links_reused),
    ),
    # routes
    Gauge("styx_routes", "Hostnames with a cached route.", (), _one(lambda s: s.worker.routes)),
    Gauge(
        "styx_unknown_hosts",
        "Hostnames cached as unknown to the core API.",
        (),
        _one(lambda s: s.worker.unknown_hosts),
    ),
    Gauge("styx_environments", "Environments with a cached route.", (), _one(lambda s: s.worker.environments)),
    Counter(
        "styx_route_lookups_total",
        "Requests by what the cache knew: a fresh route (hit), an old one (stale), nothing (miss), or that there "
        "is no such hostname (unknown).",
        ("result",),
        _lookups,
    ),
    Seconds("styx_core_api_seconds", "Questions to the core API, by how they ended.", ("result",), _core_times),
    Gauge(
        "styx_core_api_up",
        "1 = the last question to the core API was answered.",
        (),
        _one(lambda s: s.worker.core_api_up),
    ),
    # styx itself
    Counter("styx_log_lines_total", "Lines of the access log written.", (), _one(lambda s: s.log.written)),
    Counter(
        "styx_log_lines_dropped_total",
        "Lines of the access log lost: the reader is slow or gone, or the disk is full.",
        (),
        _one(lambda s: s.log.dropped),
    ),
    Gauge("styx_build_info", "Always 1; the labels tell what runs.", ("version", "python"), _build),
)


class StyxCollector(Collector):
    """Reads the table at each scrape."""

    def __init__(self, tally: Tally, snapshot: Callable[[], WorkerSnapshot], log: AccessLog) -> None:
        self._tally = tally
        self._snapshot = snapshot
        self._log = log

    def describe(self) -> Iterable[Metric]:
        return [metric.family() for metric in METRICS]

    def collect(self) -> Iterable[Metric]:
        sources = Sources(self._tally, self._snapshot(), self._log)
        return [metric.told(sources) for metric in METRICS]


def new_registry(tally: Tally, snapshot: Callable[[], WorkerSnapshot], log: AccessLog) -> CollectorRegistry:
    """A registry of its own: the library's global one would carry state from test to test."""
    registry = CollectorRegistry()
    registry.register(StyxCollector(tally, snapshot, log))
    ProcessCollector(registry=registry)
    return registry
