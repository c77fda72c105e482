"""Where routes come from: what a source of routes must be able to do for a worker.

There are two kinds, and `core_api.url` names the one that is used:

    asked     answers "where is this hostname?", one hostname at a time; each worker has one (`CoreApi`)
    pushed    says by itself which routes there are, such as a file. The admin process reads it for the whole edge
              and publishes a `RouteSet`, which all workers put in force together: each has `PushedRoutes`

How to add a source that is pushed (Docker, Consul, ...): write one class with the members of `PushedSource`, and
register it with one line in `SOURCES`, both in `run/routes/pushed_sources.py`. The function that checks its URL
goes to `SOURCE_URLS` in `rules/settings/values.py`, by the same name; a test compares the two. Nothing else tells
sources apart.

How to add one that is asked: write a class with the members of `RouteSource`, and choose it in `route_source`.
It says one of three things about a hostname (`CoreAnswer`), or raises CoreApiError: "could not ask" is never "there
is no such hostname".
"""

from collections.abc import Callable
from typing import Protocol

from edge.net.routing.core_api import CoreAnswer, CoreApi
from edge.net.routing.pushed_routes import PushedRoutes
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings


class RouteSource(Protocol):
    """Answers "where is this hostname?"."""

    up: bool
    "Whether the last question was answered."

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Who serves this hostname? Raises CoreApiError; the deadline is the caller's."""

    def timed_out(self) -> None:
        """The caller's deadline passed before there was an answer."""

    def reconfigure(self, settings: CoreApiSettings) -> None:
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
    return CoreApi(settings, observe, policy) if not settings.is_pushed else pushed
