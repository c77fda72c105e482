"""The pocket platform: registry, containers, reconciler and core API, built and run in the loop of the caller.

async with PocketPlatform(PlatformSpec(port=9900)) as platform:
    await platform.create_environment("acme", containers=2)
    print(platform.core_api_url)

      registry ──changed──► change log ──events──► edges
         ▲  │ └────changed──► reconciler
 questions  │                    │ launch, retire
core API ◄──┘                    ▼
         management API ──────► fleet ──► containers
"""

import contextlib
import random
import shutil
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import structlog
from aiohttp import web

from edge.platform.change_log import ChangeLog
from edge.platform.containers import Container, Make, Role
from edge.platform.environment_api import EnvironmentApi, Size
from edge.platform.fleet import Fleet, Leave
from edge.platform.manage_api import ManageApi, told_errors
from edge.platform.reconciler import Reconciler
from edge.platform.registry import PlatformEnvironment, Registry
from edge.platform.route_api import CacheLifetimes, RouteApi, token_guard

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlatformSpec:
    """How one pocket platform is built."""

    db: str = ":memory:"
    "SQLite file; environments in it are served again after a restart."
    address: str = "127.0.0.1"
    port: int = 0
    "Of the core API; 0 = any free one."
    make: Make = "builtin"
    "Make of containers for environments that do not say."
    freshness: CacheLifetimes = field(default_factory=CacheLifetimes)
    heartbeat: float = 5.0
    "Seconds of silence on the change stream before a comment."
    token: str | None = None
    "Bearer token that the core API asks for; None = it asks for none."
    servers: int = 6
    "srv-1 to srv-N: names over which containers are spread."
    notice: float = 0.2
    "Seconds a surplus container is draining before it is stopped."
    patience: float = 30.0
    "Seconds within which an environment has to reach its goal."
    seed: int | None = None
    "Of container ids and service times; None = different each time."


class PocketPlatform:
    """See above. Not started by its constructor; `start`, `stop`, or `async with`."""

    def __init__(self, spec: PlatformSpec | None = None) -> None:
        self.spec = spec = spec or PlatformSpec()
        self.changes = ChangeLog(uuid.uuid4().hex[:8])
        # A registry in memory forgets its generations, and an edge never lets an older one replace a newer: begin
        # where no earlier run can have been.
        self.registry = Registry(spec.db, self._on_change, first_generation=int(time.time()))
        self._directory = Path(tempfile.gettempdir(), f"styx-{uuid.uuid4().hex[:12]}")
        rand = random.Random(spec.seed)
        self.fleet = Fleet(self.registry, self.changes, self._directory, rand=rand, servers=spec.servers)
        self._reconciler = Reconciler(self.registry, self.fleet, spec.notice)
        self._environment_api = EnvironmentApi(self.registry, self._reconciler, spec.make, spec.patience)
        self._routes = RouteApi(self.registry, self.changes, spec.freshness, spec.heartbeat)
        self._runner: web.AppRunner | None = None
        self._port = spec.port

    def _on_change(self, site: str, environment: str, hostnames: tuple[str, ...]) -> None:
        for hostname in hostnames:
            self.changes.publish({"hostname": hostname})
        self.changes.publish({"site": site, "environment": environment})
        self._reconciler.poke(site, environment)

    async def start(self) -> None:
        """Bring known environments up and answer questions. Raises OSError if the port is taken."""
        self.registry.remove_all_containers()
        try:
            for known in self.registry.environments():
                self._reconciler.poke(known.site, known.environment)
                await self._reconciler.settled(known.site, known.environment)
            await self.start_core_api()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything and remove what it made. Only once."""
        await self.stop_core_api()
        await self._reconciler.stop()
        await self.fleet.stop_all()
        self.registry.close()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)

    async def __aenter__(self) -> "PocketPlatform":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- core API --

    @property
    def core_api_url(self) -> str:
        """Valid after `start`, and the same after `stop_core_api` and `start_core_api`."""
        return f"http://{self.spec.address}:{self._port}"

    @property
    def core_api_port(self) -> int:
        return self._port

    @property
    def questions(self) -> Counter[str]:
        """How often each hostname was asked for; `.total()` for all."""
        return self._routes.questions

    async def start_core_api(self) -> None:
        """Answer questions, on the port of the last time."""
        app = web.Application(middlewares=[told_errors, token_guard(self.spec.token)])
        self._routes.add_to(app)
        ManageApi(self.registry, self.fleet, self._environment_api).add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.spec.address, self._port).start()
        self._port = self._runner.addresses[0][1]
        log.info("core_api_up", url=self.core_api_url)

    async def stop_core_api(self) -> None:
        """Be gone for edges: connections are cut, new ones refused. Containers go on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- environments and containers --

    async def create_environment(
        self, site: str, environment: str = "live", **wishes: object
    ) -> PlatformEnvironment:
        """Create an environment; usable when this returns. `wishes`: the other members of EnvironmentSpec.

        Raises msgspec.ValidationError, NameTaken, ContainerFailed.
        """
        return await self._environment_api.create({"site": site, "environment": environment, **wishes})

    async def remove_environment(self, site: str, environment: str = "live") -> None:
        """Raises UnknownName."""
        await self._environment_api.remove(site, environment)

    async def set_goal(
        self, site: str, environment: str = "live", *, containers: int | None = None, standby: int | None = None
    ) -> PlatformEnvironment:
        """Set the wanted numbers and return when they are reached. Raises UnknownName, ContainerFailed."""
        return await self._environment_api.resized(site, environment, Size(containers=containers, standby=standby))

    def container(self, container_id: str) -> Container:
        """Raises UnknownName."""
        return self.fleet[container_id]

    def containers(self, site: str, environment: str = "live", *, role: Role | None = None) -> list[Container]:
        """Oldest first; of both roles, or of one."""
        rows = self.registry.containers(site, environment)
        return [self.fleet[row.id] for row in rows if role in (None, row.role)]

    async def move(self, container_id: str, *, leave: Leave = "nothing", announce: bool = True) -> None:
        """See Fleet.move. Raises UnknownName."""
        await self.fleet.move(container_id, leave=leave, announce=announce)
