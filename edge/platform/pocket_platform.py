"""The pocket platform: registry, containers, reconciler and core API, run in the event loop of the caller.

async with PocketPlatform(PlatformSpec(port=9900)) as platform:
    await platform.create_environment("acme", containers=2)
    print(platform.core_api_url)

      registry ──changed──► change log ──events──► edges
         ▲  │ └────changed──► reconciler
  lookups  │                    │ launch, retire
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

from edge.platform.certificate_api import CertificateApi
from edge.platform.change_log import ChangeLog
from edge.platform.containers.container import Container, Make, Role
from edge.platform.environment_api import EnvironmentApi, Size
from edge.platform.fleet import Fleet, Leave
from edge.platform.manage_api import ManageApi, render_errors
from edge.platform.pki import PocketPki
from edge.platform.reconciler import Reconciler
from edge.platform.registry import Registry, StoredEnvironment
from edge.platform.route_api import CacheControl, RouteApi, token_guard
from edge.platform.upkeep.migration_dragon import MigrationDragon
from edge.platform.upkeep.reaper import Reaper

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlatformSpec:
    """The configuration of a pocket platform."""

    db: str = ":memory:"
    "SQLite file; its environments are started again after a restart."
    address: str = "127.0.0.1"
    port: int = 0
    "Port of the core API; 0 = any free one."
    make: Make = "builtin"
    "Make of containers of environments that do not specify one."
    freshness: CacheControl = field(default_factory=CacheControl)
    heartbeat: float = 5.0
    "Seconds of silence on the change stream before a comment."
    token: str | None = None
    "Bearer token that the core API requires; None = none."
    tls: bool = False
    "Whether there are certificates for hostnames, and containers speak TLS (`pki.py`)."
    servers: int = 6
    "Number of servers over which containers are spread; they are named srv-1 to srv-N."
    notice: float = 0.2
    "Seconds for which a surplus container is draining before it is stopped."
    goal_timeout: float = 30.0
    "Seconds within which an environment has to reach its goal."
    seed: int | None = None
    "Seed of container ids and service times; None = a random one."


class PocketPlatform:
    """A platform that runs from `start` to `stop`, or inside `async with`."""

    def __init__(self, spec: PlatformSpec | None = None) -> None:
        self.spec = spec = spec or PlatformSpec()
        self.changes = ChangeLog(uuid.uuid4().hex[:8])
        # A registry in memory loses its generations, and an edge never replaces a newer generation by an older one:
        # begin above those of all earlier runs.
        self.registry = Registry(spec.db, self._on_change, first_generation=int(time.time()))
        self._directory = Path(tempfile.gettempdir(), f"styx-{uuid.uuid4().hex[:12]}")
        rand = random.Random(spec.seed)
        self.pki = PocketPki(self._directory / "pki") if spec.tls else None
        self.fleet = Fleet(
            self.registry,
            self.changes,
            self._directory,
            rand=rand,
            servers=spec.servers,
            pki=self.pki,
            notice=spec.notice,
        )
        self._reconciler = Reconciler(self.registry, self.fleet, spec.notice)
        self.reaper = Reaper(self.registry, self.fleet)
        self.dragon = MigrationDragon(self.registry, self.fleet, is_announced=lambda: self.core_api_up)
        self.manage_api = ManageApi(
            self.registry,
            self.fleet,
            EnvironmentApi(self.registry, self._reconciler, spec.make, spec.goal_timeout),
            (self.reaper, self.dragon),
        )
        self._routes = RouteApi(self.registry, self.changes, spec.freshness, spec.heartbeat, spec.tls)
        self._runner: web.AppRunner | None = None
        self._port = spec.port

    def _on_change(self, site: str, environment: str, hostnames: tuple[str, ...]) -> None:
        for hostname in hostnames:
            self.changes.publish({"hostname": hostname})
        self.changes.publish({"site": site, "environment": environment})
        self._reconciler.poke(site, environment)

    async def start(self) -> None:
        """Start stored environments and the core API. Raises OSError if the port is taken."""
        self.registry.remove_all_containers()
        try:
            if self.pki is not None:
                self.pki.write()
            for known in self.registry.environments():
                self._reconciler.poke(known.site, known.environment)
                await self._reconciler.settled(known.site, known.environment)
            await self.start_core_api()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything and remove the directory of the containers. Call it only once."""
        await self.reaper.stop()
        await self.dragon.stop()
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
    def core_api_up(self) -> bool:
        return self._runner is not None

    @property
    def core_api_port(self) -> int:
        return self._port

    @property
    def lookups(self) -> Counter[str]:
        """Number of lookups by hostname; `.total()` for all."""
        return self._routes.lookups

    async def start_core_api(self) -> None:
        """Start the core API, on the same port as before."""
        app = web.Application(middlewares=[render_errors, token_guard(self.spec.token)])
        self._routes.add_to(app)
        if self.pki is not None:
            CertificateApi(self.registry, self.pki, self.spec.freshness).add_to(app)
        self.manage_api.add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.spec.address, self._port).start()
        self._port = self._runner.addresses[0][1]
        log.info("core API up", code="core_api_up", url=self.core_api_url)

    async def stop_core_api(self) -> None:
        """Stop the core API: connections are closed, new ones refused. Containers go on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- environments and containers --

    async def create_environment(
        self, site: str, environment: str = "live", **members: object
    ) -> StoredEnvironment:
        """Create an environment and return when it is usable. `members`: the other ones of EnvironmentSpec.

        Raises msgspec.ValidationError, NameTaken, ContainerFailed.
        """
        return await self.manage_api.environment_api.create({"site": site, "environment": environment, **members})

    async def remove_environment(self, site: str, environment: str = "live") -> None:
        """Stop and remove an environment. Raises UnknownName."""
        await self.manage_api.environment_api.remove(site, environment)

    async def set_goal(
        self, site: str, environment: str = "live", *, containers: int | None = None, standby: int | None = None
    ) -> StoredEnvironment:
        """Set the wanted numbers and return when they are reached. Raises UnknownName, ContainerFailed."""
        size = Size(containers=containers, standby=standby)
        return await self.manage_api.environment_api.resized(site, environment, size)

    def container(self, container_id: str) -> Container:
        """The running container of this id. Raises UnknownName."""
        return self.fleet[container_id]

    def containers(self, site: str, environment: str = "live", *, role: Role | None = None) -> list[Container]:
        """The containers of an environment, oldest first; of both roles, or of one."""
        rows = self.registry.containers(site, environment)
        return [self.fleet[row.id] for row in rows if role in (None, row.role)]

    async def move(self, container_id: str, *, leave: Leave = "nothing", announce: bool = True) -> None:
        """Move a container to a port of another server, as `Fleet.move` does. Raises UnknownName."""
        await self.fleet.move(container_id, leave=leave, announce=announce)
