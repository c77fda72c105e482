"""Changes on their way to the workers: what is told in short succession goes in one message, each change once."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.pending_changes import PendingChanges

log = logging.getLogger("styx.hub")


class ChangeBatches:
    """The first of them is told in the next turn of the loop, those that follow `interval` seconds later."""

    def __init__(
        self,
        tell: Callable[[list[Change]], None],
        *,
        interval: float = 0.02,
        pending: PendingChanges | None = None,
    ) -> None:
        self._tell = tell
        self._interval = interval
        self._pending = PendingChanges() if pending is None else pending
        self._not_before = float("-inf")
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, changes: Iterable[Change]) -> None:
        """Tell these, soon."""
        self._pending.add(changes)
        self._wait()

    def stop(self) -> None:
        """Tell no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._pending.due_at(now)
        if due is None:
            return
        due = max(due, self._not_before)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_later(max(0.0, due - now), self._tell_them)

    def _tell_them(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._not_before = now + self._interval
        changes = self._pending.take_all(now)
        if self._pending.overflows and EVERYTHING in changes:
            log.warning(
                "too many changes to tell apart",
                extra={"code": "changes_overflow", "untold": self._pending.overflows},
            )
            self._pending.overflows = 0
        self._wait()
        if changes:
            self._tell(changes)
