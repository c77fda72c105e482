"""Writes the metrics of one worker to its row of the scoreboard: resource usage, and counters kept elsewhere in the
worker."""

from collections.abc import Callable, Iterable, Mapping

from edge.admin.metric_sources import NamedGroup
from edge.admin.metrics import process_usage
from edge.admin.metrics.named_slots import ListenerNumbers, take_slots
from edge.admin.scoreboard import Row
from edge.rules.settings import Settings
from edge.rules.traffic.listener_counts import ListenerCounts


class WorkerNumbers:
    """The row of one worker, but for what is counted there at once. Takes the slots of its listeners and sites."""

    def __init__(self, row: Row, settings: Settings, snapshot: Callable[[], Mapping[str, float]]) -> None:
        """`snapshot`: reads its `Published` numbers."""
        take_slots(row, NamedGroup.SITE, settings.metrics.sites)
        self._row = row
        self._listeners = ListenerNumbers(row, [str(one.address) for one in settings.listeners])
        self._snapshot = snapshot
        self._usage_due = 0.0

    def beat(self, now: float, lag: float) -> None:
        """Record a heartbeat. `lag`: seconds by which it was late."""
        self._row.beat(now, lag)
        if now >= self._usage_due:
            self._usage_due = now + process_usage.PERIOD
            self._row.publish_usage(process_usage.read_usage())

    def publish(self, listeners: Iterable[ListenerCounts]) -> None:
        """Write the numbers that are counted where they are used."""
        self._row.publish(self._snapshot())
        self._listeners.publish(listeners)
