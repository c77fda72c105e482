"""The migration dragon: moves containers from the hottest to the emptiest server, all the time.

It does not wait for trouble: servers are emptied, patched and filled again, and sites grow. Because containers move
every day, nothing may depend on where one is.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from edge.platform.fleet import Fleet
from edge.platform.registry import Registry
from edge.platform.upkeep.upkeep import Upkeep

PAUSE: Final = 1.0
AWAKE_HEAT: Final = 1.0
"Heat of a container that is awake and idle, in requests per second: it takes memory."
MEMORY: Final = 0.7
"Part of the old rate that stays at each look."

log = structlog.get_logger(__name__)


class Movable(NamedTuple):
    """A container that can be moved."""

    id: str
    server: str
    heat: float
    moved_at: float
    "When it was moved last; the one that has stayed longest is taken first."


class Migration(NamedTuple):
    """A move that is due."""

    container: str
    source: str
    target: str


def server_heat(servers: Iterable[str], candidates: Iterable[Movable]) -> dict[str, float]:
    """Sum of the heat of the containers of each server."""
    heat = dict.fromkeys(servers, 0.0)
    for candidate in candidates:
        heat[candidate.server] = heat.get(candidate.server, 0.0) + candidate.heat
    return heat


def next_migration(
    servers: Sequence[str], placed: Mapping[str, int], candidates: Sequence[Movable]
) -> Migration | None:
    """The next move: from the hottest server to the one with the fewest containers; the coolest among equals. Pure.

    Only the half of the containers that have stayed longest is moved, so that the same one is not carried round and
    round. `placed`: number of containers by server, those that cannot be moved included. None = there is nothing to
    move, or nowhere to go.
    """
    heat = server_heat(servers, candidates)
    rested = sorted(candidates, key=lambda candidate: candidate.moved_at)[: (len(candidates) + 1) // 2]
    if not rested:
        return None
    source = max((candidate.server for candidate in rested), key=lambda server: heat[server])
    others = [server for server in servers if server != source]
    if not others:
        return None
    target = min(others, key=lambda server: (placed.get(server, 0), heat[server]))
    chosen = next(candidate for candidate in rested if candidate.server == source)
    return Migration(chosen.id, source, target)


class MigrationDragon(Upkeep):
    """Moves one container after another. `seconds`: the pause between two moves.

    `is_announced`: whether edges can learn of a move now. While they cannot, it rests: they would look for the
    container at its old port.
    """

    name = "dragon"

    def __init__(
        self, registry: Registry, fleet: Fleet, seconds: float = PAUSE, *, is_announced: Callable[[], bool]
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.last: Migration | None = None
        self._registry = registry
        self._fleet = fleet
        self._is_announced = is_announced
        self._moved_at: dict[str, float] = {}
        self._served: dict[str, tuple[float, int, float]] = {}
        "By container: when it was looked at, its requests until then, its rate per second."

    @property
    def pause(self) -> float:
        return self.seconds

    async def act(self) -> None:
        if not self._is_announced():
            return
        migration = next_migration(self._fleet.servers, self._registry.containers_per_server(), self.candidates())
        if migration is None:
            return
        await self._fleet.move(migration.container, to=migration.target)
        self._moved_at[migration.container] = asyncio.get_running_loop().time()
        self.last = migration
        self.acted += 1
        log.info(
            "container migrated",
            code="container_migrated",
            container=migration.container,
            source=migration.source,
            target=migration.target,
        )

    def candidates(self) -> list[Movable]:
        """All containers that can be moved, with their heat now."""
        now = asyncio.get_running_loop().time()
        rows = [
            row
            for environment in self._registry.environments()
            for row in self._registry.containers(environment.site, environment.environment)
            if row.state == "running" and self._fleet[row.id].listening
        ]
        known = {row.id for row in rows}
        self._served = {name: seen for name, seen in self._served.items() if name in known}
        self._moved_at = {name: at for name, at in self._moved_at.items() if name in known}
        return [Movable(r.id, r.server, self._heat(r.id, now), self._moved_at.get(r.id, 0.0)) for r in rows]

    def _heat(self, container_id: str, now: float) -> float:
        served = self._fleet[container_id].activity().served or 0
        at, before, rate = self._served.get(container_id, (now, served, 0.0))
        if now > at:
            rate = MEMORY * rate + (1 - MEMORY) * (served - before) / (now - at)
        self._served[container_id] = (now, served, rate)
        return AWAKE_HEAT + rate
