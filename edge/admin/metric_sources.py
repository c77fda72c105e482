"""The types of which rows of the metrics table are made: kinds of metrics, and the sources of their values."""

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple

from edge.rules.pages.template_files import PagesState
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState

BOUNDS_MS: Final = (
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
"""Upper bounds of the buckets, milliseconds. One scale for all times: the overhead is 0.05 ms, a cold start 30 s
and more."""
LOWEST_STATUS: Final = 100
STATUSES: Final = 900
"Number of statuses of three digits; backends may send ones that no RFC defines."
LISTENERS: Final = 32
"Number of listeners that have numbers of their own: the first ones of the configuration."
SITES: Final = 64
"Number of sites that `metrics.sites` may name."


class MetricType(StrEnum):
    """The types of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    "A histogram of times, in seconds; the shared memory holds milliseconds."


class Across(Enum):
    """How the numbers of several processes are combined into the samples of one metric."""

    SUM = "sum"
    MAX = "max"
    "The highest of all running workers: for things that most workers know alike."
    MIN = "min"
    "The lowest of all running workers."
    EACH = "each"
    "One sample for each worker slot, with the label `worker`; two processes in one slot are added up."


class Recorded(NamedTuple):
    """A number that is written to the row of the process when the event happens, one cell for each label value."""

    label: str = ""
    "Empty = it has none."
    values: tuple[str, ...] = ("",)
    across: Across = Across.SUM

    @property
    def labels(self) -> tuple[str, ...]:
        return _labels(self.label, self.across)


class WorkerNumber(NamedTuple):
    """A number that a worker holds anyway, in the object that uses it."""

    key: str
    "Its name in `GET /v1/overview`."
    read: Callable[[Any], float]
    "Reads it from a `run.worker.Worker`, which may not be imported here."
    value: str = ""
    "The value of the label; of several labels, joined by commas."


class Published(NamedTuple):
    """Numbers that are read from the worker at each heartbeat, and copied to its row."""

    numbers: tuple[WorkerNumber, ...]
    label: str = ""
    "Several are joined by commas."
    across: Across = Across.SUM

    @property
    def labels(self) -> tuple[str, ...]:
        return _labels(self.label, self.across)


class Outcomes(NamedTuple):
    """The matrix of phases and causes in which finished exchanges are counted."""

    labels: tuple[str, ...]
    "Some of `blame`, `phase` and `cause`."


class Statuses(NamedTuple):
    """One cell for each status of three digits."""

    labels: tuple[str, ...] = ("code",)


class AcceptQueues(NamedTuple):
    """Numbers that the master writes to the rows of the workers, one cell for each listener."""

    labels: tuple[str, ...] = ("worker", "listener")


class ProcessNumber(NamedTuple):
    """A number of each process, which the process writes to its own row (`metrics/process_usage.py`)."""

    labels: tuple[str, ...] = ("process", "worker")


class NamedGroup(Enum):
    """Things that the settings name, and that have numbers of their own. The value is the label."""

    LISTENER = "listener"
    SITE = "site"

    @property
    def most(self) -> int:
        """The number of them that have numbers: the first ones of the settings."""
        return LISTENERS if self is NamedGroup.LISTENER else SITES


class Named(NamedTuple):
    """One number for each thing of a group and each label value (`metrics/named_slots.py`)."""

    group: NamedGroup
    label: str = ""
    values: tuple[str, ...] = ("",)

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.group.value, *([self.label] if self.label else []))


class EdgeState(NamedTuple):
    """State that only the admin process holds, once for the whole edge."""

    changes: StreamState
    routes_file: RouteFileState
    now: float
    "On the clock of `changes`."
    pages: PagesState = PagesState()


class EdgeNumber(NamedTuple):
    """A number that is read from the state of the admin process at each scrape."""

    read: Callable[[EdgeState], float | None]
    "Returns None when there is no sample now."
    labels: tuple[str, ...] = ()


class BuildInfo(NamedTuple):
    """The running versions of styx and Python, and whether styx is compiled."""

    labels: tuple[str, ...] = ("version", "build", "python")


Source = Recorded | Published | Outcomes | Statuses | AcceptQueues | ProcessNumber | Named | EdgeNumber | BuildInfo


class Metric(NamedTuple):
    """One row of the table."""

    type: MetricType
    name: str
    help: str
    source: Source

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels


def _labels(label: str, across: Across) -> tuple[str, ...]:
    return tuple(name for name in (("worker" if across is Across.EACH else ""), *label.split(",")) if name)
