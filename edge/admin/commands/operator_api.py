"""Addresses of the admin API about the edge itself: its settings, its clients, and the level of its event log."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from edge.admin.admin_messages import LogLevelRequest
from edge.admin.commands.admin_responses import json_response, problem
from edge.admin.control_api import ControlApi

LEVELS: Final = ("debug", "info", "warning", "error")
MOST_SECONDS: Final = 86400
"Longest override of the log level, in seconds. `log.level` is the place for a longer one."

ReadBody = Callable[[web.Request, type[LogLevelRequest]], Awaitable[LogLevelRequest]]


class OperatorApi:
    """Handlers of these addresses. `read_body`: reads and decodes the body of a request."""

    def __init__(self, control_api: ControlApi, read_body: ReadBody) -> None:
        self._control_api = control_api
        self._read_body = read_body

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/config", self._configuration),
            web.get("/v1/clients", self._clients),
            web.get("/v1/log-level", self._log_levels),
            web.post("/v1/log-level", self._set_log_level),
        ]

    async def _configuration(self, _: web.Request) -> web.Response:
        return json_response(self._control_api.configuration())

    async def _clients(self, _: web.Request) -> web.Response:
        return json_response(await self._control_api.clients())

    async def _log_levels(self, _: web.Request) -> web.Response:
        return json_response(await self._control_api.log_levels())

    async def _set_log_level(self, request: web.Request) -> web.Response:
        wanted = await self._read_body(request, LogLevelRequest)
        if not 0 <= wanted.seconds <= MOST_SECONDS or (wanted.seconds and wanted.level not in LEVELS):
            return problem(
                422,
                f"level is one of {', '.join(LEVELS)}; seconds are from 0 (end it) to {MOST_SECONDS}: for longer, "
                "set log.level.",
            )
        return json_response(await self._control_api.set_log_level(wanted.level, wanted.seconds))
