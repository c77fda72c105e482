"""The live containers, and everything that may be done to one.

The fleet keeps the registry in step with what the *platform* does (start, retire, move, sleep, wake). What merely
happens to a container (killed, full, slow) it does not write down: see edge.platform.containers.
"""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Literal

import structlog

from edge.platform.builtin_container import BuiltinContainer
from edge.platform.change_log import ChangeLog
from edge.platform.containers import Container, ContainerSpec, Recipe, Role, State
from edge.platform.nginx_container import NginxContainer
from edge.platform.registry import ContainerRow, PlatformEnvironment, Registry, UnknownName

Leave = Literal["stranger", "nothing"]

log = structlog.get_logger(__name__)


class Fleet:
    """All containers of the platform. `directory` holds the files of those that need some."""

    def __init__(
        self, registry: Registry, changes: ChangeLog, directory: Path, *, rand: random.Random, servers: int
    ) -> None:
        self._registry = registry
        self._changes = changes
        self._directory = directory
        self._rand = rand
        self._servers = [f"srv-{number}" for number in range(1, servers + 1)]
        self._live: dict[str, Container] = {}
        self._strangers: list[Container] = []
        self._ids: set[str] = set()

    def __getitem__(self, container_id: str) -> Container:
        """Raises UnknownName."""
        self._registry.container(container_id)
        return self._live[container_id]

    async def launch(self, environment: PlatformEnvironment, role: Role) -> None:
        """Start one more container and enter it. Raises ContainerFailed or OSError."""
        row = self._new_row(environment, role)
        container = self._build(row.id, environment)
        try:
            await (container.sleep() if environment.recipe.asleep else container.start())
            self._live[row.id] = container
            self._enter(row, container)
        except BaseException:
            self._live.pop(row.id, None)
            await container.kill()
            container.dismiss()
            raise
        log.info("container_up", container=row.id, site=row.site, environment=row.environment, port=container.port)

    def _enter(self, row: ContainerRow, container: Container) -> None:
        entered = ContainerRow(
            id=row.id,
            site=row.site,
            environment=row.environment,
            address=row.address,
            port=container.port,
            # Chosen now and not before the start: containers of one environment start at the same time.
            server=self._pick_server(row.site, row.environment),
            role=row.role,
            state=container.state,
        )
        self._registry.add_container(entered)

    async def retire(self, container_id: str, notice: float) -> None:
        """Draining for `notice` seconds, then out of the registry, then stopped. Nothing if it is gone."""
        with contextlib.suppress(UnknownName):
            self._registry.set_state(container_id, "draining")
        await asyncio.sleep(notice)
        with contextlib.suppress(UnknownName):
            self._registry.remove_container(container_id)
        container = self._live.get(container_id)
        if container is not None:
            await container.stop()
            container.dismiss()
            # Last of all: cut short in the middle, it is still found by `stop_all`.
            self._live.pop(container_id, None)
            log.info("container_down", container=container_id)

    async def move(self, container_id: str, *, leave: Leave = "nothing", announce: bool = True) -> None:
        """To another server and port. Raises UnknownName.

        leave: what answers at the old port afterwards. announce=False: the event is lost on its way, so that an
        edge finds out only by asking again.
        """
        container = self[container_id]
        old_port = container.port
        await container.move()
        row = self._registry.container(container_id)
        server = self._pick_server(row.site, row.environment, not_on=row.server)
        with contextlib.nullcontext() if announce else self._changes.muted():
            self._registry.relocate(container_id, port=container.port, server=server)
        if leave == "stranger":
            await self._settle_stranger(row.address, old_port)

    async def _settle_stranger(self, address: str, port: int) -> None:
        spec = ContainerSpec(
            id=self._new_id(),
            site="stranger",
            environment="live",
            recipe=Recipe(service_time=0),
            address=address,
            port=port,
        )
        stranger = BuiltinContainer(spec, rand=self._rand)
        self._strangers.append(stranger)
        await stranger.start()

    async def sleep(self, container_id: str) -> None:
        """Raises UnknownName."""
        await self[container_id].sleep()

    async def wake(self, container_id: str) -> None:
        """Raises UnknownName."""
        await self[container_id].wake()

    async def stop_all(self) -> None:
        """Stop every container at once; the registry is left as it is."""
        everyone = [*self._live.values(), *self._strangers]
        self._live.clear()
        self._strangers.clear()
        await asyncio.gather(*(container.stop() for container in everyone))
        for container in everyone:
            container.dismiss()

    # -- making one --

    def _build(self, container_id: str, environment: PlatformEnvironment) -> Container:
        spec = ContainerSpec(
            id=container_id,
            site=environment.site,
            environment=environment.environment,
            recipe=environment.recipe,
            directory=self._directory / container_id,
        )
        if environment.recipe.make == "nginx":
            return NginxContainer(spec, told=self._on_state)
        return BuiltinContainer(spec, rand=self._rand, told=self._on_state)

    def _on_state(self, container_id: str, state: State) -> None:
        # One that is only starting is not entered yet, and one that is leaving stays draining.
        with contextlib.suppress(UnknownName):
            if self._registry.container(container_id).state != "draining":
                self._registry.set_state(container_id, state)

    def _new_row(self, environment: PlatformEnvironment, role: Role) -> ContainerRow:
        return ContainerRow(
            id=self._new_id(),
            site=environment.site,
            environment=environment.environment,
            address="127.0.0.1",
            port=0,
            server="",
            role=role,
            state="running",
        )

    def _new_id(self) -> str:
        while True:
            # A letter first: an id that is all digits is taken for a number somewhere, sooner or later.
            new = self._rand.choice("abcdef") + f"{self._rand.randrange(4096):03x}"
            if new not in self._ids:
                self._ids.add(new)
                return new

    def _pick_server(self, site: str, environment: str, *, not_on: str | None = None) -> str:
        """The server with the fewest containers of this environment, then the fewest of all."""
        here = [row.server for row in self._registry.containers(site, environment)]
        everywhere = self._registry.containers_per_server()
        choice = [server for server in self._servers if server != not_on] or self._servers
        return min(choice, key=lambda server: (here.count(server), everywhere.get(server, 0)))
