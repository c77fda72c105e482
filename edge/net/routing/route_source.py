"""The interface of a source of routes, as a worker uses it.

There are two kinds of sources. `core_api.url` selects the one that is used:

    asked     resolves one hostname at a time; each worker has its own client (`CoreApi`)
    pushed    publishes all its routes, such as a file. The admin process reads it for the whole edge and publishes
              a `RouteSet`, to which all workers switch together: each has `PushedRoutes`

To add a pushed source (Docker, Consul, ...): write one class with the members of `PushedSource`, and register it
with one line in `SOURCES`, both in `run/routes/pushed_sources.py`. The function that checks its URL goes into
`SOURCE_URLS` in `rules/settings/values.py`, under the same name, with what explanations call it. Nothing else
distinguishes sources.

To add an asked source: write a class with the members of `RouteSource`, and select it in `route_source`. Its result
for a hostname is one of three (`LookupResult`), or it raises CoreApiError: "the lookup failed" must never become
"there is no such hostname".
"""

from collections.abc import Callable
from typing import Protocol

from edge.net.routing.core_api import CoreApi, LookupResult
from edge.net.routing.pushed_routes import PushedRoutes
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings


class RouteSource(Protocol):
    """Resolves hostnames to routes."""

    up: bool
    "Whether the source worked at the last lookup."

    async def ask(self, hostname: str, etag: str | None) -> LookupResult:
        """Look up the route of this hostname. Raises CoreApiError. The caller enforces the deadline."""

    def timed_out(self) -> None:
        """Record that the caller's deadline passed before there was a response."""

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Apply these settings from now on."""

    async def close(self) -> None:
        """End, and close what is open."""


def route_source(
    settings: CoreApiSettings,
    observe: Callable[[str, float], None],
    policy: BackendPolicy,
    pushed: PushedRoutes,
) -> RouteSource:
    """The source that the settings select.

    `observe` receives the result of each lookup and its duration in seconds. `policy` restricts the addresses of
    the backends in responses of a core API.
    """
    return CoreApi(settings, observe, policy) if not settings.is_pushed else pushed
