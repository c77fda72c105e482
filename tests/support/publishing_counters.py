"""Request counters that publish whatever they count at once; those of a worker do it at each heartbeat."""

from typing import Any

from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import Row


class PublishingCounters:
    """Has the methods of `RequestCounters` that count."""

    def __init__(self, row: Row) -> None:
        self._counters = RequestCounters(row)

    def __getattr__(self, name: str) -> Any:
        count = getattr(self._counters, name)

        def counted(*args: Any) -> None:
            count(*args)
            self._counters.publish()

        return counted
