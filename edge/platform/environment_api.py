"""What customers do with the platform: create an environment, change how big it is, give it up."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from edge.platform.containers import ContainerFailed, Make
from edge.platform.nginx_container import Binaries
from edge.platform.reconciler import Reconciler
from edge.platform.registry import EnvironmentSpec, Goal, PlatformEnvironment, Registry


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wanted numbers of containers; absent = as it is."""

    containers: Goal | None = None
    standby: Goal | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentApi:
    """Environments are created, resized and removed here."""

    registry: Registry
    reconciler: Reconciler
    default_make: Make
    "Make of containers for those who do not say."
    patience: float
    "Seconds until a goal that is not reached becomes an error; the reconciler goes on trying."

    async def create(self, wishes: Mapping[str, object]) -> PlatformEnvironment:
        """Create an environment and return when its containers are up (or asleep, if so wished).

        `wishes`: the members of EnvironmentSpec. Raises msgspec.ValidationError, NameTaken, ContainerFailed.
        """
        spec = msgspec.convert({"make": self.default_make, **wishes}, EnvironmentSpec)
        if spec.make == "nginx":
            Binaries.find()  # fail now, with a word, rather than by trying for ever
        self.registry.add_environment(spec)
        await self._settled(spec.site, spec.environment)
        return self.registry.environment(spec.site, spec.environment)

    def resize(self, site: str, environment: str, size: Size) -> None:
        """Set the goal; the reconciler does the rest. Raises UnknownName."""
        self.registry.set_goal(site, environment, containers=size.containers, standby=size.standby)

    async def resized(self, site: str, environment: str, size: Size) -> PlatformEnvironment:
        """Set the goal and return when it is reached. Raises UnknownName, ContainerFailed."""
        self.resize(site, environment, size)
        await self._settled(site, environment)
        return self.registry.environment(site, environment)

    async def remove(self, site: str, environment: str) -> None:
        """Stop its containers, then forget it. Raises UnknownName."""
        await self.resized(site, environment, Size(containers=0, standby=0))
        self.registry.remove_environment(site, environment)

    async def _settled(self, site: str, environment: str) -> None:
        try:
            async with asyncio.timeout(self.patience):
                await self.reconciler.settled(site, environment)
        except TimeoutError:
            why = self.reconciler.failures.get((site, environment), "containers are still starting")
            raise ContainerFailed(
                f"{environment} of {site} did not reach its goal within {self.patience:g} s: {why}"
            ) from None
