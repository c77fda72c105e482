"""Logs problems with lookups, a bounded number of lines: each hostname may have one at each lookup."""

import logging
from collections.abc import Callable

from edge.rules.event_rate_limit import EventBudget

log = logging.getLogger("styx.resolver")


class LookupProblems:
    """The log of the problems of one worker's lookups."""

    __slots__ = ("_budget", "_clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = EventBudget()

    def record(self, hostname: str, code: str, message: str) -> None:
        """Log a problem, unless there are too many such lines."""
        left_out = self._budget.take(self._clock())
        if left_out is not None:
            log.warning(
                "route lookup problem",
                extra={"code": code, "hostname": hostname, "reason": message, "left_out_before": left_out},
            )
