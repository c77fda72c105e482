"""Collects all metrics at each scrape of Prometheus.

The numbers are in memory that all processes share (`scoreboard.py`). A scrape sends nothing to workers, so a
stalled worker does not delay it. `prometheus_client` only writes the text.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from edge import BUILD, __version__
from edge.admin import metric_sources as sources
from edge.admin.metric_sources import (
    BOUNDS_MS,
    LISTENERS,
    LOWEST_STATUS,
    STATUSES,
    Across,
    EdgeState,
    Metric,
    MetricType,
    NamedGroup,
)
from edge.admin.metrics.named_slots import identity, slots_by_owner
from edge.admin.scoreboard import QUEUES, RESIDENT, TIMES, Layout, Row, Scoreboard, summed
from edge.rules.outcomes import VERDICTS, Cause, Phase
from edge.rules.pages.template_files import PagesState
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState

LE: Final = (*(str(ms / 1_000) for ms in BOUNDS_MS), "+Inf")
STANDARD_STATUSES: Final = frozenset(HTTPStatus) | {499, 560}
"Statuses with a label value of their own; a backend may send others, which count by their class (`5xx`)."
OWN_LABELS: Final = [
    {"phase": phase.name.lower(), "cause": cause.value, "blame": VERDICTS[cause].blame.name.lower()}
    for phase in Phase
    for cause in Cause
]
"Labels of each cell of the matrix of outcomes."
STATUS_LABELS: Final = [
    (str(status) if status in STANDARD_STATUSES else f"{status // 100}xx",)
    for status in range(LOWEST_STATUS, LOWEST_STATUS + STATUSES)
]

Sample = tuple[tuple[str, ...], float]
"Label values, and the number."


class Scrape(NamedTuple):
    """The numbers that one scrape reads."""

    layout: Layout
    sums: Sequence[float]
    "All rows added up, cell by cell."
    workers: Sequence[Row]
    "Rows of running workers."
    rows: Sequence[Row]
    "Rows in which a process ever counted; the master's first."
    named: Mapping[NamedGroup, Sequence[str]]
    "Listeners and sites of the configuration, in its order."
    slots: Mapping[NamedGroup, Sequence[tuple[Row, Mapping[float, int]]]]
    "Each row with the slots of its listeners and sites, by owner."
    edge: EdgeState


class MetricsCollector(Collector):
    """Turns the scoreboard into metrics at each scrape."""

    def __init__(
        self,
        board: Scoreboard,
        named: Mapping[NamedGroup, Sequence[str]],
        edge_state: Callable[[], EdgeState],
    ) -> None:
        self._board = board
        self._named = named
        self._edge_state = edge_state

    def describe(self) -> Iterable[Family]:
        return map(_family, self._board.layout.metrics)

    def collect(self) -> Iterable[Family]:
        rows = self._board.used()
        workers = [row for row in rows if row.alive]
        slots = {
            group: [(row, slots_by_owner(row, group, self._board.layout)) for row in rows] for group in NamedGroup
        }
        scrape = Scrape(self._board.layout, summed(rows), workers, rows, self._named, slots, self._edge_state())
        return [_collected(metric, scrape) for metric in scrape.layout.metrics]


def new_registry(
    board: Scoreboard,
    changes: StreamState | None = None,
    routes_file: RouteFileState | None = None,
    pages: PagesState | None = None,
    *,
    listeners: Sequence[str] = (),
    sites: Sequence[str] = (),
) -> CollectorRegistry:
    """Build a registry with all metrics of the edge. `listeners`: addresses of the listeners; `sites`: those with
    numbers of their own. Both may change later.

    The library's global registry is not used, because it would carry state from test to test.
    """
    stream, file, pages = changes or StreamState(), routes_file or RouteFileState(), pages or PagesState()
    registry = CollectorRegistry()
    named = {NamedGroup.LISTENER: listeners, NamedGroup.SITE: sites}
    registry.register(MetricsCollector(board, named, lambda: EdgeState(stream, file, time.monotonic(), pages)))
    ProcessCollector(registry=registry)
    return registry


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    match metric.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case MetricType.GAUGE:
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case MetricType.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _collected(metric: Metric, scrape: Scrape) -> Family:
    family = _family(metric)
    if isinstance(family, HistogramMetricFamily):
        for values, cells in _histograms(metric, scrape):
            buckets = list(zip(LE, accumulate(cells[1:]), strict=True))
            family.add_metric(values, buckets, cells[0] / 1_000)
    else:
        for labels, number in _samples(metric, scrape):
            family.add_metric(labels, number)
    return family


def _samples(metric: Metric, scrape: Scrape) -> Iterable[Sample]:
    match metric.source:
        case sources.Recorded() | sources.Published() as source:
            return _of_cells(source, scrape.layout.cells[metric.name], scrape)
        case sources.Outcomes(labels):
            return _of_outcomes(labels, scrape)
        case sources.Statuses():
            return _of_statuses(scrape.layout.cells[metric.name][""], scrape)
        case sources.AcceptQueues():
            return _of_queues(scrape)
        case sources.ProcessNumber():
            return _of_processes(scrape.layout.cells[metric.name][""], scrape)
        case sources.Named() as source:
            return _of_named(source, scrape.layout.cells[metric.name], scrape)
        case sources.EdgeNumber(read):
            number = read(scrape.edge)
            return [] if number is None else [((), number)]
        case sources.BuildInfo():
            return [((__version__, BUILD, platform.python_version()), 1)]


def _of_cells(
    source: sources.Recorded | sources.Published, cells: dict[str, int], scrape: Scrape
) -> Iterable[Sample]:
    for value, cell in cells.items():
        labels = tuple(value.split(",")) if value else ()
        if source.across is Across.EACH:
            yield from _added(((str(row.slot), *labels), row.cells[cell]) for row in scrape.workers)
        elif source.across is Across.SUM:
            yield labels, scrape.sums[cell]
        else:
            pick = max if source.across is Across.MAX else min
            yield labels, pick((row.cells[cell] for row in scrape.workers), default=0.0)


def _of_outcomes(labels: tuple[str, ...], scrape: Scrape) -> Iterable[Sample]:
    counts = scrape.sums[scrape.layout.outcomes : scrape.layout.outcomes + len(OWN_LABELS)]
    return _added(
        (tuple(own[label] for label in labels), count) for own, count in zip(OWN_LABELS, counts, strict=True)
    )


def _of_statuses(start: int, scrape: Scrape) -> Iterable[Sample]:
    counts = scrape.sums[start : start + STATUSES]
    return _added(zip(STATUS_LABELS, counts, strict=True))


def _of_queues(scrape: Scrape) -> Iterable[Sample]:
    """Lengths by worker and listener; two processes in one slot accept from the same queue."""
    lengths: dict[tuple[str, ...], float] = {}
    for row in scrape.workers:
        for number, listener in enumerate(scrape.named.get(NamedGroup.LISTENER, ())[:LISTENERS]):
            labels = (str(row.slot), listener)
            lengths[labels] = max(lengths.get(labels, 0.0), row.cells[QUEUES + number])
    return lengths.items()


def _of_processes(at: int, scrape: Scrape) -> Iterable[Sample]:
    """Of each running process that has told its numbers; two workers in one slot are added."""
    return _added((_process(row, scrape.rows[0]), row.cells[at]) for row in scrape.rows if row.cells[RESIDENT])


def _process(row: Row, master: Row) -> tuple[str, str]:
    if row.alive:
        return "worker", str(row.slot)
    return ("master" if row is master else "admin"), ""


def _of_named(source: sources.Named, cells: Mapping[str, int], scrape: Scrape) -> Iterable[Sample]:
    for value, start in cells.items():
        for name, (count,) in _sums_of_named(source.group, start, 1, scrape):
            yield (name, *([value] if value else [])), count


def _histograms(metric: Metric, scrape: Scrape) -> Iterable[tuple[list[str], Sequence[float]]]:
    """Labels, and sum and buckets, of each histogram of a metric."""
    for value, start in scrape.layout.cells[metric.name].items():
        if isinstance(metric.source, sources.Named):
            for name, sums in _sums_of_named(metric.source.group, start, TIMES, scrape):
                yield [name], sums
        else:
            yield ([value] if value else []), scrape.sums[start : start + TIMES]


def _sums_of_named(
    group: NamedGroup, start: int, size: int, scrape: Scrape
) -> Iterator[tuple[str, Sequence[float]]]:
    """The numbers of each thing of a group, of all processes that had it. `size`: cells of one slot."""
    for name in scrape.named.get(group, ())[: group.most]:
        sums, owner = [0.0] * size, identity(name)
        for row, slot_of in scrape.slots[group]:
            if owner in slot_of:
                at = start + slot_of[owner] * size
                sums = [a + b for a, b in zip(sums, row.cells[at : at + size].tolist(), strict=True)]
        yield name, sums


def _added(samples: Iterable[Sample]) -> Iterator[Sample]:
    sums: dict[tuple[str, ...], float] = {}
    for labels, number in samples:
        sums[labels] = sums.get(labels, 0.0) + number
    yield from sums.items()
