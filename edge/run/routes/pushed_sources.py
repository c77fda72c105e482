"""Pushed sources of routes: the interface of one, and the register of all.

`net/routing/route_source.py` says how to add one.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol

from edge.net.background import Background
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import CoreApiSettings, Settings
from edge.run.routes.route_file_reader import RouteFileReader
from edge.run.routes.route_set_store import RouteSetStore


class PushedSource(Protocol):
    """A source that reports all its routes by itself.

    At its start the admin process makes one of each class, with a store for the last good routes (`RouteSetStore`),
    a function that publishes a set, and `background` for tasks.
    """

    state: RouteFileState
    "Its state, for the metrics."

    @staticmethod
    def read_now(location: str) -> RouteSet:
        """Read its routes now. Blocking. `location` is what follows its name in `core_api.url`. Raises OSError when
        it cannot be read, SettingsError with the faults in what was read, and ValueError."""

    def reconfigure(self, settings: Settings) -> None:
        """Read and publish from now on, if `core_api.url` names this source; stop if it does not."""

    async def take_now(self) -> tuple[bool, list[str]]:
        """Publish its routes now, for a reload. Returns whether the source can be used, and line by line what has
        changed or what is wrong with it; True and nothing while it is not in use."""

    async def stop(self) -> None:
        """Stop reading."""


SOURCES: Final = {
    "file": RouteFileReader,
}
"The class of each pushed source, by the name that `core_api.url` begins with."

Publish = Callable[[RouteSet], Awaitable[None]]


class PushedSources:
    """All pushed sources, of which at most one is in use."""

    def __init__(self, store: RouteSetStore, publish: Publish, background: Background) -> None:
        self._sources: Mapping[str, PushedSource] = {
            name: source(store, publish, background=background) for name, source in SOURCES.items()
        }
        self._settings: CoreApiSettings | None = None

    @property
    def state(self) -> RouteFileState:
        """The state of the source in use."""
        settings = self._settings
        name = settings.source if settings is not None and settings.is_pushed else next(iter(self._sources))
        return self._sources[name].state

    def __iter__(self) -> Iterator[PushedSource]:
        return iter(self._sources.values())

    def reconfigure(self, settings: Settings) -> None:
        """Read the source that these settings name, if any, and no other."""
        self._settings = settings.core_api
        for source in self:
            source.reconfigure(settings)

    async def take_now(self) -> tuple[bool, list[str]]:
        """Publish the routes of the source in use now. Returns as `PushedSource.take_now`."""
        if self._settings is None or not self._settings.is_pushed:
            return True, []
        return await self._sources[self._settings.source].take_now()

    async def stop(self) -> None:
        """Stop reading all of them."""
        for source in self:
            await source.stop()


def read_now(settings: CoreApiSettings) -> RouteSet | None:
    """Read the routes of the pushed source in these settings; None = there is none. Raises what
    `PushedSource.read_now` raises."""
    return SOURCES[settings.source].read_now(settings.location) if settings.is_pushed else None
