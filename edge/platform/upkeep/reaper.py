"""The Reaper: puts containers to sleep that have been idle for a while. Their next request boots them.

A container is kept awake by a request in flight, or by a recent one. The Reaper can say by which, because what
keeps a site awake is often not a visitor, but a monitor or a crawler.
"""

import asyncio
from typing import Final, NamedTuple

import structlog

from edge.platform.containers.container import Activity
from edge.platform.fleet import Fleet
from edge.platform.registry import ContainerRow, Registry
from edge.platform.upkeep.upkeep import Upkeep

IDLE_AFTER: Final = 10.0
"Seconds; hours in production."
LOOKS_PER_PERIOD: Final = 20
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0

log = structlog.get_logger(__name__)


class Wakefulness(NamedTuple):
    """Whether and why a container is awake, as the Reaper sees it."""

    due_in: float | None
    "Seconds until it is put to sleep, if no request comes; None = it is not up to the Reaper."
    kept_by: str
    "What keeps it awake, in words; empty = nothing does, or it is not awake."


def wakefulness(row: ContainerRow, activity: Activity, idle_after: float, *, listening: bool) -> Wakefulness:
    """How long a container stays awake, and why. Pure."""
    if row.state != "running" or not listening:
        return Wakefulness(None, "")
    if activity.in_flight:
        count = activity.in_flight
        kept_by = f"{count} request{'s' * (count > 1)} in flight, last {activity.last_request}"
        return Wakefulness(idle_after, kept_by)
    rest = idle_after - activity.idle_for
    if rest <= 0:
        return Wakefulness(0.0, "")
    what = activity.last_request or "its start"
    when = "just now" if activity.idle_for < 1.0 else f"{activity.idle_for:.0f} s ago"
    return Wakefulness(rest, f"{what}, {when}")


class Reaper(Upkeep):
    """Puts idle containers to sleep. `seconds`: how long a container must have been idle."""

    name = "reaper"

    def __init__(self, registry: Registry, fleet: Fleet, seconds: float = IDLE_AFTER) -> None:
        super().__init__()
        self.seconds = seconds
        self._registry = registry
        self._fleet = fleet

    @property
    def pause(self) -> float:
        return min(max(self.seconds / LOOKS_PER_PERIOD, SHORTEST_PAUSE), LONGEST_PAUSE)

    def wakefulness(self, row: ContainerRow) -> Wakefulness:
        """How long this container stays awake, and why. Raises UnknownName."""
        container = self._fleet[row.id]
        return wakefulness(row, container.activity(), self.seconds, listening=container.listening)

    async def act(self) -> None:
        rows = [
            row
            for environment in self._registry.environments()
            for row in self._registry.containers(environment.site, environment.environment)
            if self._is_due(row.id)
        ]
        await asyncio.gather(*(self._sleep(row) for row in rows))

    def _is_due(self, container_id: str) -> bool:
        return self.wakefulness(self._registry.container(container_id)).due_in == 0.0

    async def _sleep(self, row: ContainerRow) -> None:
        if not await self._fleet.sleep(row.id, still=lambda: self._is_due(row.id)):
            return
        self.acted += 1
        log.info("container put to sleep", code="container_put_to_sleep", container=row.id, site=row.site)
