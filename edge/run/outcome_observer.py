"""Tells a function of ended exchanges, for tests and measurements."""

from collections.abc import Callable

from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import Request


class OutcomeObserver:
    """An `OutcomeLog` that calls a function."""

    def __init__(self, observe: Callable[[Outcome], None]) -> None:
        self._observe = observe

    def write(self, outcome: Outcome, request: Request | None = None) -> None:
        """Call the function."""
        self._observe(outcome)
