"""Batches changes for the workers: those that come in short succession go in one message, each change once."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.pending_changes import PendingChanges

log = logging.getLogger("styx.control")


class ChangeBatches:
    """Sends the first change in the next turn of the loop, and those that follow `interval` seconds later."""

    def __init__(
        self,
        send: Callable[[list[Change]], None],
        *,
        interval: float = 0.02,
        pending: PendingChanges | None = None,
    ) -> None:
        self._send = send
        self._interval = interval
        self._pending = PendingChanges() if pending is None else pending
        self._not_before = float("-inf")
        self._fires_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, changes: Iterable[Change]) -> None:
        """Add these changes to the next batch."""
        self._pending.add(changes)
        self._wait()

    def stop(self) -> None:
        """Send no further batch."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        fires_at = self._pending.due_at(now)
        if fires_at is None:
            return
        fires_at = max(fires_at, self._not_before)
        if self._timer is not None:
            if self._fires_at <= fires_at:
                return
            self._timer.cancel()
        self._fires_at = fires_at
        self._timer = loop.call_later(max(0.0, fires_at - now), self._send_pending)

    def _send_pending(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._not_before = now + self._interval
        changes = self._pending.take_all(now)
        if self._pending.overflows and EVERYTHING in changes:
            log.warning(
                "too many pending changes",
                extra={"code": "changes_overflow", "unpublished": self._pending.overflows},
            )
            self._pending.overflows = 0
        self._wait()
        if changes:
            self._send(changes)
