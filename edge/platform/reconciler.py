"""Drives containers to the goal.

Each change of an environment pokes the reconciler. It compares what is wanted with what is there, does what is
missing, and compares again until nothing is missing. No clock runs while all is as it should be. One environment at
a time has at most one driver; environments do not wait for each other.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from edge.platform.containers import Role
from edge.platform.fleet import Fleet
from edge.platform.registry import Registry, UnknownName

Key = tuple[str, str]
"(site, environment)"

ROLES: tuple[Role, ...] = ("active", "standby")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reconciler:
    """`notice`: seconds a surplus container is draining before it is stopped."""

    registry: Registry
    fleet: Fleet
    notice: float = 0.2
    failures: dict[Key, str] = field(default_factory=dict)
    "Why an environment is not at its goal yet; empty when all is well."
    _drivers: "dict[Key, asyncio.Task[None]]" = field(default_factory=dict)

    def poke(self, site: str, environment: str) -> None:
        """Something of this environment changed."""
        key = (site, environment)
        if key not in self._drivers:
            self._drivers[key] = asyncio.get_running_loop().create_task(self._drive(key))

    async def settled(self, site: str, environment: str) -> None:
        """Return when the environment is at its goal."""
        driver = self._drivers.get((site, environment))
        if driver is not None:
            await asyncio.shield(driver)

    async def stop(self) -> None:
        """Drive no more."""
        drivers = list(self._drivers.values())
        for driver in drivers:
            driver.cancel()
        await asyncio.gather(*drivers, return_exceptions=True)

    async def _drive(self, key: Key) -> None:
        pause = FIRST_PAUSE
        try:
            while deeds := self._missing(key):
                results = await asyncio.gather(*deeds, return_exceptions=True)
                errors = [result for result in results if isinstance(result, Exception)]
                if not errors:
                    pause = FIRST_PAUSE
                    self.failures.pop(key, None)
                    continue
                self.failures[key] = str(errors[0])
                log.error(
                    "goal not reached",
                    code="goal_not_reached",
                    site=key[0],
                    environment=key[1],
                    error=str(errors[0]),
                    retry_in=pause,
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            # No await between the last comparison and this line: whoever pokes later finds no driver.
            self._drivers.pop(key, None)
            self.failures.pop(key, None)

    def _missing(self, key: Key) -> list[Coroutine[Any, Any, None]]:
        """What has to be done now."""
        try:
            environment = self.registry.environment(*key)
        except UnknownName:
            return []
        deeds: list[Coroutine[Any, Any, None]] = []
        for role, goal in zip(ROLES, (environment.containers, environment.standby), strict=True):
            rows = [row for row in self.registry.containers(*key) if row.role == role and row.state != "draining"]
            deeds += [self.fleet.launch(environment, role) for _ in range(goal - len(rows))]
            # The youngest go first: the old ones are warm.
            deeds += [self.fleet.retire(row.id, self.notice) for row in rows[goal:]]
        return deeds
