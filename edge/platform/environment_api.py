"""Creates, resizes and removes environments, as customers of the platform do."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from edge.platform.containers.container import ContainerFailed, Make
from edge.platform.containers.nginx_container import Binaries
from edge.platform.reconciler import Reconciler
from edge.platform.registry import EnvironmentSpec, Goal, Registry, StoredEnvironment


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wanted numbers of containers; an absent one stays as it is."""

    containers: Goal | None = None
    standby: Goal | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentApi:
    """Sets the goals of environments, and waits until the reconciler has reached them."""

    registry: Registry
    reconciler: Reconciler
    default_make: Make
    "Make of containers of environments that do not specify one."
    goal_timeout: float
    "Seconds until a goal that is not reached is reported as an error; the reconciler goes on trying."

    async def create(self, members: Mapping[str, object]) -> StoredEnvironment:
        """Create an environment and return when its containers are up (or asleep, if its recipe says so).

        `members`: those of EnvironmentSpec. Raises msgspec.ValidationError, NameTaken, ContainerFailed.
        """
        spec = msgspec.convert({"make": self.default_make, **members}, EnvironmentSpec)
        if spec.make == "nginx":
            Binaries.find()  # fail now and name the missing packages, instead of retrying for ever
        self.registry.add_environment(spec)
        await self._settled(spec.site, spec.environment)
        return self.registry.environment(spec.site, spec.environment)

    def resize(self, site: str, environment: str, size: Size) -> None:
        """Set the goal without waiting for it. Raises UnknownName."""
        self.registry.set_goal(site, environment, containers=size.containers, standby=size.standby)

    async def resized(self, site: str, environment: str, size: Size) -> StoredEnvironment:
        """Set the goal and return when it is reached. Raises UnknownName, ContainerFailed."""
        self.resize(site, environment, size)
        await self._settled(site, environment)
        return self.registry.environment(site, environment)

    async def remove(self, site: str, environment: str) -> None:
        """Stop all containers, then remove the environment. Raises UnknownName."""
        await self.resized(site, environment, Size(containers=0, standby=0))
        self.registry.remove_environment(site, environment)

    async def _settled(self, site: str, environment: str) -> None:
        try:
            async with asyncio.timeout(self.goal_timeout):
                await self.reconciler.settled(site, environment)
        except TimeoutError:
            why = self.reconciler.failures.get((site, environment), "containers are still starting")
            raise ContainerFailed(
                f"{environment} of {site} did not reach its goal within {self.goal_timeout:g} s: {why}"
            ) from None
