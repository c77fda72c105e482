"""Builds the snapshots of the demo's page from the state of the platform, of the load generator and of styx."""

import asyncio
from typing import Final

from edge.demo.page.demo_load import LOADS, MOST_RATE, DemoLoad
from edge.demo.page.demo_records import (
    DemoContainer,
    DemoServer,
    DemoSite,
    DemoSnapshot,
    DemoStart,
    DemoUpkeep,
)
from edge.demo.page.request_dots import RequestDots
from edge.demo.page.styx_view import StyxView
from edge.platform.pocket_platform import PocketPlatform
from edge.platform.registry import ContainerRow, StoredEnvironment
from edge.platform.upkeep.migration_dragon import server_heat

MOST_SITES: Final = 8
MOST_CONTAINERS: Final = 120
"Containers that are shown."
MOST_GOAL: Final = 20
"Containers of one site that the page asks for."


def name_of(site: str, environment: str) -> str:
    """The name of an environment on the page."""
    return site if environment == "live" else f"{environment}-{site}"


class DemoState:
    """The source of the snapshots."""

    def __init__(self, platform: PocketPlatform, load: DemoLoad, dots: RequestDots, view: StyxView) -> None:
        self._platform = platform
        self._load = load
        self._dots = dots
        self._view = view

    def start(self, *, status_page: str, styx: str) -> None:
        """Set what does not change."""
        self._start = DemoStart(
            status_page=status_page,
            styx=styx,
            most_rate=MOST_RATE,
            most_goal=MOST_GOAL,
            most_sites=MOST_SITES,
            loads=list(LOADS),
        )

    def history(self) -> DemoStart:
        return self._start

    async def snapshot(self) -> DemoSnapshot:
        """Everything now, and the requests since the last snapshot."""
        platform = self._platform
        environments = platform.registry.environments()[:MOST_SITES]
        rows = [
            row
            for environment in environments
            for row in platform.registry.containers(environment.site, environment.environment)
        ]
        recipes = {(known.site, known.environment): known for known in environments}
        last = platform.dragon.last
        return DemoSnapshot(
            core_api_up=platform.core_api_up,
            lookups=platform.lookups.total(),
            sites=[self._site(environment) for environment in environments],
            servers=self._servers(),
            containers=[self._container(row, recipes[row.site, row.environment]) for row in rows[:MOST_CONTAINERS]],
            not_shown=max(0, len(rows) - MOST_CONTAINERS),
            reaper=DemoUpkeep(platform.reaper.on, platform.reaper.seconds, platform.reaper.acted),
            dragon=DemoUpkeep(
                platform.dragon.on,
                platform.dragon.seconds,
                platform.dragon.acted,
                f"{last.container}: {last.source} → {last.target}" if last else "",
            ),
            traffic=self._load.count.now(self._load.rate),
            drawn_each=self._dots.drawn_each,
            dots=self._dots.take(asyncio.get_running_loop().time(), self._refused_by()),
            styx_retries=self._view.retries,
        )

    def _refused_by(self) -> dict[str, list[str]]:
        """By request id, the containers that refused it, in order; of those whose dots are not made yet."""
        refused_by: dict[str, list[str]] = {}
        for container, request_id in self._platform.fleet.refusals:
            refused_by.setdefault(request_id, []).append(container)
        return refused_by

    def _site(self, environment: StoredEnvironment) -> DemoSite:
        name = name_of(environment.site, environment.environment)
        return DemoSite(
            site=name,
            path=f"{environment.site}/{environment.environment}",
            hostname=environment.hostnames[0],
            goal=environment.containers,
            standby=environment.standby,
            load=self._load.choice.get(name, "light"),
            rate=round(self._load.count.rates.get(name, 0.0), 1),
        )

    def _servers(self) -> list[DemoServer]:
        servers = self._platform.fleet.servers
        heat = server_heat(servers, self._platform.dragon.candidates())
        return [DemoServer(name, round(heat[name], 1)) for name in servers]

    def _container(self, row: ContainerRow, environment: StoredEnvironment) -> DemoContainer:
        container, wakefulness = self._platform.fleet[row.id], self._platform.reaper.wakefulness(row)
        activity, faults = container.activity(), container.faults()
        seen = self._view.containers.get((row.site, row.environment, row.id))
        in_flight = activity.in_flight if activity.in_flight is not None else seen.in_flight if seen else 0
        return DemoContainer(
            id=row.id,
            site=name_of(row.site, row.environment),
            server=row.server,
            port=row.port,
            role=row.role,
            state=row.state,
            booting=activity.booting,
            listening=container.listening,
            full=faults.full,
            slow=faults.slow,
            in_flight=in_flight,
            workers=environment.recipe.workers,
            queue=environment.recipe.queue,
            served=activity.served,
            kept_by=wakefulness.kept_by,
            due_in=wakefulness.due_in if self._platform.reaper.on else None,
            seen=seen,
        )
