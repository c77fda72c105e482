"""Sources of routes that are pushed: what one must be able to do, and the register of those that there are.

`net/routing/route_source.py` tells how to add one.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol

from edge.net.background import Background
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import CoreApiSettings, Settings
from edge.run.routes.route_file_reader import RoutesFileReader
from edge.run.routes.route_set_store import RouteSetStore


class PushedSource(Protocol):
    """Says by itself which routes there are. The admin process makes one of each class at its start, with a place
    to keep the last good routes (`RouteSetStore`), a function that publishes a set, and `background` for tasks."""

    state: RouteFileState
    "What the metrics tell of it."

    @staticmethod
    def read_now(location: str) -> RouteSet:
        """What it says now. Blocking; `location` is what follows its name in `core_api.url`. Raises OSError when it
        cannot be read, SettingsError with the faults of what was read, and ValueError."""

    def reconfigure(self, settings: Settings) -> None:
        """Read and publish from now on, if `core_api.url` names this source; stop if it does not."""

    async def take_now(self) -> tuple[bool, list[str]]:
        """Publish what it says now, as a reload orders. Returns whether it can be used, and in words what is
        different or what is wrong with it; True and nothing while it is not in use."""

    async def stop(self) -> None:
        """Read no more."""


SOURCES: Final = {
    "file": RoutesFileReader,
}
"By the name with which `core_api.url` begins."

Publish = Callable[[RouteSet], Awaitable[None]]


class PushedSources:
    """All of them, of which the settings name at most one."""

    def __init__(self, store: RouteSetStore, publish: Publish, background: Background) -> None:
        self._sources: Mapping[str, PushedSource] = {
            name: source(store, publish, background=background) for name, source in SOURCES.items()
        }
        self._settings: CoreApiSettings | None = None

    @property
    def state(self) -> RouteFileState:
        """Of the one in use."""
        settings = self._settings
        name = settings.source if settings is not None and settings.is_pushed else next(iter(self._sources))
        return self._sources[name].state

    def __iter__(self) -> Iterator[PushedSource]:
        return iter(self._sources.values())

    def reconfigure(self, settings: Settings) -> None:
        """Read the one that these settings name, if they do, and no other."""
        self._settings = settings.core_api
        for source in self:
            source.reconfigure(settings)

    async def take_now(self) -> tuple[bool, list[str]]:
        """Publish what the one in use says now. See `PushedSource.take_now`."""
        if self._settings is None or not self._settings.is_pushed:
            return True, []
        return await self._sources[self._settings.source].take_now()

    async def stop(self) -> None:
        """Read no more."""
        for source in self:
            await source.stop()


def read_now(settings: CoreApiSettings) -> RouteSet | None:
    """What the source that these settings name says now; None = they name none. Raises what
    `PushedSource.read_now` raises."""
    return SOURCES[settings.source].read_now(settings.location) if settings.is_pushed else None
