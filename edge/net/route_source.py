"""Where routes come from: what a source of routes must be able to do, and the two that there are.

One that is asked (`core_api.py`) needs these five members and a line in `route_source`. One that says all it knows
by itself is read by the admin process, which publishes a `RouteSet`; it is `PushedRoutes` in each worker. Each says
one of three things about a hostname (`CoreAnswer`), or raises CoreApiError: "could not ask" is never "there is no
such hostname".
"""

from collections.abc import Callable
from typing import Protocol

from edge.net.core_api import CoreAnswer, CoreApi
from edge.net.pushed_routes import PushedRoutes
from edge.rules.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings


class RouteSource(Protocol):
    """Answers "where is this hostname?"."""

    up: bool
    "Whether the last question was answered."

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Who serves this hostname? Raises CoreApiError; the deadline is the caller's."""

    def timed_out(self) -> None:
        """The caller's deadline passed before there was an answer."""

    def obey(self, settings: CoreApiSettings) -> None:
        """Answer by these settings."""

    async def close(self) -> None:
        """Answer no more."""


def route_source(
    settings: CoreApiSettings,
    observe: Callable[[str, float], None],
    policy: BackendPolicy,
    pushed: PushedRoutes,
) -> RouteSource:
    """The one that the settings name. `observe` is told how each question ended, and after how many seconds;
    `policy` says where backends may be that a core API names."""
    return CoreApi(settings, observe, policy) if settings.file is None else pushed
