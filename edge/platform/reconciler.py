"""The reconciler: starts and stops containers until each environment has reached its goal.

Each change of an environment pokes the reconciler. It compares wanted and existing containers, starts and retires
some, and compares again until there is no difference. No timer runs while all goals are reached. Each environment
has at most one driver task at a time; environments do not wait for each other.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from edge.platform.containers.container import Role
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
    """Drives environments to their goals. `notice`: seconds that a surplus container drains before it stops."""

    registry: Registry
    fleet: Fleet
    notice: float = 0.2
    failures: dict[Key, str] = field(default_factory=dict)
    "The last error of each environment that has not reached its goal."
    _drivers: "dict[Key, asyncio.Task[None]]" = field(default_factory=dict)

    def poke(self, site: str, environment: str) -> None:
        """Start a driver for a changed environment, unless it has one."""
        key = (site, environment)
        if key not in self._drivers:
            self._drivers[key] = asyncio.get_running_loop().create_task(self._drive(key))

    async def settled(self, site: str, environment: str) -> None:
        """Return when the environment has reached its goal."""
        driver = self._drivers.get((site, environment))
        if driver is not None:
            await asyncio.shield(driver)

    async def stop(self) -> None:
        """Cancel all drivers."""
        drivers = list(self._drivers.values())
        for driver in drivers:
            driver.cancel()
        await asyncio.gather(*drivers, return_exceptions=True)

    async def _drive(self, key: Key) -> None:
        pause = FIRST_PAUSE
        try:
            while actions := self._actions(key):
                results = await asyncio.gather(*actions, return_exceptions=True)
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
            # There is no await between the last comparison and this line, so a later poke starts a new driver.
            self._drivers.pop(key, None)
            self.failures.pop(key, None)

    def _actions(self, key: Key) -> list[Coroutine[Any, Any, None]]:
        """The launches and retirements that the goal requires now."""
        try:
            environment = self.registry.environment(*key)
        except UnknownName:
            return []
        actions: list[Coroutine[Any, Any, None]] = []
        for role, goal in zip(ROLES, (environment.containers, environment.standby), strict=True):
            rows = [row for row in self.registry.containers(*key) if row.role == role and row.state != "draining"]
            actions += [self.fleet.launch(environment, role) for _ in range(goal - len(rows))]
            # Retire the youngest, because the older ones are warm.
            actions += [self.fleet.retire(row.id, self.notice) for row in rows[goal:]]
        return actions
