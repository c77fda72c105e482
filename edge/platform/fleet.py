"""The fleet: the running containers, and the actions on them.

The fleet records the actions of the *platform* (start, retire, move, sleep, wake) in the registry. It does not
record faults (killed, full, slow), which edges have to detect: see edge.platform.containers.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import structlog

from edge.platform.change_log import ChangeLog
from edge.platform.containers.builtin_container import BuiltinContainer
from edge.platform.containers.container import Container, ContainerSpec, ContainerTls, Recipe, Role, State
from edge.platform.containers.nginx_container import NginxContainer
from edge.platform.pki import PocketPki
from edge.platform.registry import ContainerRow, Registry, StoredEnvironment, UnknownName

Leave = Literal["another", "nothing"]

MOST_REFUSALS = 1000
"Refused requests that are remembered."

log = structlog.get_logger(__name__)


class Fleet:
    """All containers of the platform. `directory` holds the files of those that have any."""

    def __init__(
        self,
        registry: Registry,
        changes: ChangeLog,
        directory: Path,
        *,
        rand: random.Random,
        servers: int,
        pki: PocketPki | None = None,
        notice: float = 0.2,
    ) -> None:
        """`pki`: issues the certificates of containers; None = they speak plain HTTP."""
        self._registry = registry
        self._changes = changes
        self._directory = directory
        self._rand = rand
        self._pki = pki
        self.servers = [f"srv-{number}" for number in range(1, servers + 1)]
        self.refusals: deque[tuple[str, str]] = deque(maxlen=MOST_REFUSALS)
        "(container id, X-Request-Id) of the last refusals of builtin containers."
        self._notice = notice
        "Seconds between the news of a move and the end of the old port."
        self._turns: dict[str, asyncio.Lock] = {}
        "By container: one action of the platform at a time."
        self._live: dict[str, Container] = {}
        self._others: list[Container] = []
        self._ids: set[str] = set()

    def __getitem__(self, container_id: str) -> Container:
        """The running container of this id. Raises UnknownName."""
        self._registry.container(container_id)
        return self._live[container_id]

    @contextlib.asynccontextmanager
    async def _turn(self, container_id: str) -> AsyncIterator[Container]:
        """Wait until no other action of the platform is under way at this container. Raises UnknownName."""
        self._registry.container(container_id)
        async with self._turns.setdefault(container_id, asyncio.Lock()):
            yield self[container_id]

    async def launch(self, environment: StoredEnvironment, role: Role) -> None:
        """Start one more container and add it to the registry. Raises ContainerFailed or OSError."""
        row = self._new_row(environment, role)
        container = self._build(row.id, environment)
        try:
            await (container.sleep() if environment.recipe.asleep else container.start())
            self._live[row.id] = container
            self._register(row, container)
        except BaseException:
            self._live.pop(row.id, None)
            await container.kill()
            container.dismiss()
            raise
        log.info(
            "container up",
            code="container_up",
            container=row.id,
            site=row.site,
            environment=row.environment,
            port=container.port,
        )

    def _register(self, row: ContainerRow, container: Container) -> None:
        registered = ContainerRow(
            id=row.id,
            site=row.site,
            environment=row.environment,
            address=row.address,
            port=container.port,
            # Chosen after the start, not before, because containers of one environment start at the same time.
            server=self._pick_server(row.site, row.environment),
            role=row.role,
            state=container.state,
        )
        self._registry.add_container(registered)

    async def retire(self, container_id: str, notice: float) -> None:
        """Mark a container as draining, remove it from the registry after `notice` seconds, and stop it.

        Does nothing if it does not exist any more.
        """
        with contextlib.suppress(UnknownName):
            self._registry.set_state(container_id, "draining")
        await asyncio.sleep(notice)
        async with self._turns.setdefault(container_id, asyncio.Lock()):
            with contextlib.suppress(UnknownName):
                self._registry.remove_container(container_id)
            container = self._live.get(container_id)
            if container is not None:
                await container.stop()
                container.dismiss()
                # At the very end, so that `stop_all` still finds it if this task is cancelled.
                self._live.pop(container_id, None)
                log.info("container down", code="container_down", container=container_id)
        self._turns.pop(container_id, None)

    async def move(
        self, container_id: str, *, to: str | None = None, leave: Leave = "nothing", announce: bool = True
    ) -> None:
        """Move a container to a port of another server, or of the server `to`. Raises UnknownName.

        The new port is open and announced before the old one is closed, so that no request is lost by the move.
        leave: what listens at the old port afterwards: nothing, or a container of another site ("another").
        announce=False: no change event is published, so that an edge notices only at its next lookup.
        """
        if to is not None and to not in self.servers:
            raise UnknownName(f"there is no server {to}: there are {', '.join(self.servers)}")
        async with self._turn(container_id) as container:
            old_port = container.port
            await container.move()
            try:
                row = self._registry.container(container_id)
                server = to or self._pick_server(row.site, row.environment, not_on=row.server)
                with contextlib.nullcontext() if announce else self._changes.muted():
                    self._registry.relocate(container_id, port=container.port, server=server)
                if announce:
                    await asyncio.sleep(self._notice)
            finally:
                await container.leave_old_port(keep_idle=announce and leave == "nothing")
        if leave == "another":
            await self._start_another(row.address, old_port)

    async def _start_another(self, address: str, port: int) -> None:
        """Start a container of another site at this address and port."""
        new_id = self._new_id()
        spec = ContainerSpec(
            id=new_id,
            site="another",
            environment="live",
            recipe=Recipe(service_time=0),
            address=address,
            port=port,
            tls=self._tls_of(new_id),
        )
        other = BuiltinContainer(spec, rand=self._rand)
        self._others.append(other)
        await other.start()

    async def sleep(self, container_id: str, *, still: Callable[[], bool] = lambda: True) -> bool:
        """Put a container to sleep if `still` is true when it is its turn; returns that. Raises UnknownName."""
        async with self._turn(container_id) as container:
            if not still():
                return False
            await container.sleep()
            return True

    async def wake(self, container_id: str) -> None:
        """Boot a sleeping container. Raises UnknownName."""
        async with self._turn(container_id) as container:
            await container.wake()

    async def stop_all(self) -> None:
        """Stop all containers concurrently; the registry stays as it is."""
        containers = [*self._live.values(), *self._others]
        self._live.clear()
        self._others.clear()
        await asyncio.gather(*(container.stop() for container in containers))
        for container in containers:
            container.dismiss()

    # -- building a container --

    def _build(self, container_id: str, environment: StoredEnvironment) -> Container:
        spec = ContainerSpec(
            id=container_id,
            site=environment.site,
            environment=environment.environment,
            recipe=environment.recipe,
            tls=self._tls_of(container_id),
            directory=self._directory / container_id,
        )
        if environment.recipe.make == "nginx":
            return NginxContainer(spec, on_state_change=self._on_state_change)
        return BuiltinContainer(
            spec, rand=self._rand, on_state_change=self._on_state_change, on_refusal=self._on_refusal
        )

    def _on_refusal(self, container_id: str, request_id: str) -> None:
        self.refusals.append((container_id, request_id))

    def _tls_of(self, container_id: str) -> ContainerTls | None:
        return None if self._pki is None else self._pki.for_container(container_id)

    def _on_state_change(self, container_id: str, state: State) -> None:
        # A starting container is not in the registry yet, and a draining one stays draining.
        with contextlib.suppress(UnknownName):
            if self._registry.container(container_id).state != "draining":
                self._registry.set_state(container_id, state)

    def _new_row(self, environment: StoredEnvironment, role: Role) -> ContainerRow:
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
            # Begin with a letter, because some programs take an id of digits only for a number.
            new = self._rand.choice("abcdef") + f"{self._rand.randrange(4096):03x}"
            if new not in self._ids:
                self._ids.add(new)
                return new

    def _pick_server(self, site: str, environment: str, *, not_on: str | None = None) -> str:
        """The server with the fewest containers of this environment; among equals, the fewest containers of all."""
        here = [row.server for row in self._registry.containers(site, environment)]
        everywhere = self._registry.containers_per_server()
        choice = [server for server in self.servers if server != not_on] or self.servers
        return min(choice, key=lambda server: (here.count(server), everywhere.get(server, 0)))
