"""The admin server: health, metrics, routes and commands, for operators and their tools.

It uses aiohttp and is not on the path of any proxied request. It listens on `admin.address`, for reading, and on
the Unix socket `admin.socket`, for commands too. `rules/admin_access.py` decides who may do what;
`admin_connections.py` limits the connections.
"""

import asyncio
import hmac
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from edge import BUILD, __version__
from edge.admin.admin_connections import Bounds, Connection, Connections
from edge.admin.admin_messages import (
    DrainRequest,
    Explanation,
    OperatorDrain,
    Overview,
    RouteSourceState,
    RunningVersion,
    Scope,
)
from edge.admin.commands.admin_responses import json_response, problem, render_errors
from edge.admin.commands.known_names import nothing_known, similar_names, user_name, why_not_drained
from edge.admin.commands.openapi import description
from edge.admin.commands.operator_api import OperatorApi
from edge.admin.control_api import ControlApi
from edge.admin.explain_text import render_explanation
from edge.admin.health import Health
from edge.admin.metrics.top_handler import top_sites
from edge.admin.status_page.status_page import StatusPage
from edge.admin.status_page.status_records import Rights
from edge.rules.admin_access import PAGE, Caller, Denial, TokenCheck, acts, denial, may_act
from edge.rules.balancing.drains import KINDS, TooManyDrains
from edge.rules.routing.freshness import Freshness
from edge.rules.routing.hostname_text import hostname_in
from edge.rules.settings.values import Address

BACKLOG = 1024
MOST_SECONDS = 7 * 86400
"Longest drain, in seconds. The core API is the place for a longer one."
MOST_LISTED = 1000
"Most routes in one page of the list."
FRESHNESS = tuple(freshness.value for freshness in Freshness)
ADDRESSES = (
    ("/", "the status page, for browsers; this list, for others"),
    ("/livez", "is the process alive? 200 or 503"),
    ("/readyz", "should it get requests? 200, or 503 with the reason"),
    ("/metrics", "for Prometheus, in its text format or as OpenMetrics"),
    ("/v1/version", "version of styx and of Python, and whether styx is compiled, as JSON"),
    ("/v1/openapi.json", "the OpenAPI description of all this"),
    ("/v1/overview", "version, readiness, the admin socket and counters of each worker, as JSON"),
    ("/v1/status", "what the status page shows, as JSON; /v1/status/stream: each second, as server-sent events"),
    ("/v1/rights", "may this caller change something? as JSON"),
    ("/v1/routes", "cached routes of each worker, as JSON: ?from=0&limit=100&site=acme&freshness=stale"),
    ("/v1/routes/{host}/explain", "route and backends of a hostname or URL in each worker, as JSON or text/plain"),
    (
        "/v1/top",
        "environments with most requests, most failures, and the slowest of the busiest, as JSON: ?limit=20",
    ),
    ("/v1/drains", "the current drains; POST {kind, name, seconds, force} to drain, with 0 seconds to end it"),
    ("/v1/invalidate", "POST {kind, name}: look these routes up again"),
    ("/v1/config", "the settings in force, each with where it comes from, as JSON"),
    ("/v1/clients", "the clients with most connections, requests in flight and unknown hostnames, as JSON"),
    (
        "/v1/log-level",
        "the level of the event log; POST {level, seconds} to override it, with 0 seconds to end that",
    ),
    ("/v1/reload", "POST: read the configuration again; responds when it is done"),
    ("/v1/upgrade", "POST: let the installed version take over; responds when it is done or has failed"),
)
"The addresses that the index lists, in its order."

CONNECTION = web.RequestKey("connection", Connection)
"Key under which a request holds its connection."

_KEEP_SOCKET_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"The process that bound a Unix socket removes its file, not asyncio."

T = TypeVar("T")

log = structlog.get_logger("styx.admin")


class AdminServer:
    """Serves from `start` to `stop`.

    `users`: user ids that may send commands over a Unix socket; by default root and the user of this process.
    `page`: the status page. `source`: the state of the source of routes, as far as it concerns a hostname.
    """

    def __init__(
        self,
        address: Address,
        *,
        health: Health,
        registry: CollectorRegistry,
        control_api: ControlApi,
        token: str = "",
        users: Collection[int] | None = None,
        page: StatusPage | None = None,
        source: Callable[[str], RouteSourceState] = lambda hostname: RouteSourceState("core API"),
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    ) -> None:
        self.address = address
        "Address it listens on; after `start` with the port that the system chose for port 0."
        if not (token or address.is_local):
            raise ValueError(f"admin address {address} is neither loopback nor a Unix socket: it needs a token")
        self._token = token
        self._users = frozenset({0, os.geteuid()} if users is None else users)
        self._bounds = bounds
        self._health = health
        self._rendered = make_aiohttp_handler(registry)
        self._rendering = asyncio.Lock()
        self._control_api = control_api
        self._page = page
        self._source = source
        self._socket = address.path
        "Path of the Unix socket that takes commands."
        self._runner: web.AppRunner | None = None
        self._connections: Connections
        self._servers: list[asyncio.Server] = []

    def __repr__(self) -> str:
        return f"<AdminServer {self.address}>"

    async def start(self, sock: socket.socket, admin_socket: socket.socket | None = None) -> None:
        """Accept on these bound sockets: `sock` of `address`, and the Unix socket for commands if there is one."""
        if self._page is not None:
            self._page.start()
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            lingering_time=self._bounds.linger,
            auto_decompress=False,
            logger=_logger(),
        )
        await runner.setup()
        assert runner.server is not None
        self._runner, self._connections = runner, Connections(runner.server, self._bounds)
        self._connections.start()
        if not self.address.path:
            self.address = replace(self.address, port=sock.getsockname()[1])
        if admin_socket is not None:
            self._socket = admin_socket.getsockname()
        loop = asyncio.get_running_loop()
        for each in (sock, *([admin_socket] if admin_socket is not None else [])):
            new = self._connections.factory(each)
            if each.family == socket.AF_UNIX:
                server = await loop.create_unix_server(new, sock=each, backlog=BACKLOG, **_KEEP_SOCKET_FILE)
            else:
                server = await loop.create_server(new, sock=each, backlog=BACKLOG)
            self._servers.append(server)

    async def stop(self) -> None:
        """Close the listening sockets; requests in flight have one second. Does nothing when it was not started."""
        if self._runner is None:
            return
        for server in self._servers:
            server.close()
        if self._page is not None:
            await self._page.stop()
        self._connections.stop()
        await self._runner.cleanup()
        self._servers, self._runner = [], None

    def use_token(self, token: str) -> None:
        """Replace the token from the next request on.

        Call it only where a token is configured: a token file must not close an address that is open.
        """
        self._token = token

    def _app(self) -> web.Application:
        app = web.Application(
            middlewares=[self._timed, render_errors, self._guarded], client_max_size=self._bounds.body_bytes
        )
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/v1/", _list_addresses),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/v1/version", self._version),
                web.get("/v1/openapi.json", _openapi),
                web.get("/v1/overview", self._overview),
                web.get("/v1/rights", self._rights),
                web.get("/v1/routes", self._routes),
                web.get("/v1/routes/{host}/explain", self._explained),
                web.get("/v1/top", partial(top_sites, self._control_api)),
                web.get("/v1/drains", self._drains),
                web.post("/v1/drains", self._drain),
                web.post("/v1/invalidate", self._invalidate),
                *OperatorApi(self._control_api, self._body).routes(),
                web.post("/v1/reload", self._command),
                web.post("/v1/upgrade", self._command),
            ]
        )
        if self._page is not None:
            app.add_routes(
                [
                    web.get("/status/{name:.+}", self._page.files.named),
                    web.get("/v1/status", self._page.snapshot),
                    web.get("/v1/status/stream", self._status_stream, allow_head=False),
                ]
            )
        return app

    @web.middleware
    async def _timed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = self._connections.of(request)
        if connection is None:
            return web.Response()  # never sent: the connection was closed meanwhile
        request[CONNECTION] = connection
        connection.request_begins(acts=acts(request.method))
        try:
            return await handler(request)
        finally:
            connection.request_handled()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request[CONNECTION]
        path = "/v1/" if request.path == PAGE and not self._wants_page(request) else request.path
        why = denial(request.method, path, request.headers, self._caller(request), self.address)
        if why is not None:
            return self._denied(why, connection)
        if acts(request.method):
            user = "token" if connection.user is None else connection.user
            log.info("operator command", code="admin_command", path=request.path, user=user)
        return await handler(request)

    def _caller(self, request: web.Request) -> Caller:
        connection = request[CONNECTION]
        return Caller(
            unix=connection.user is not None,
            trusted=connection.user in self._users,
            token=self._checked(request.headers.get(hdrs.AUTHORIZATION, "")),
        )

    def _wants_page(self, request: web.Request) -> bool:
        return self._page is not None and "text/html" in request.headers.get(hdrs.ACCEPT, "")

    def _checked(self, authorization: str) -> TokenCheck:
        if not (self._token and authorization):
            return TokenCheck.ABSENT
        scheme, _, presented = authorization.partition(" ")
        # Bytes: compare_digest rejects text that is not ASCII. It takes the same time for every wrong token.
        right = hmac.compare_digest(presented.strip().encode("utf-8", "surrogateescape"), self._token.encode())
        return TokenCheck.RIGHT if right and scheme.lower() == "bearer" else TokenCheck.WRONG

    def _denied(self, why: Denial, connection: Connection) -> web.Response:
        path = self._socket if why.lacks_right and connection.is_local else ""
        detail = why.detail
        if why.lacks_right and not (self._socket or self._token):
            detail += " There is neither: set admin.socket or admin.token_file."
        if why.status == 401:
            return problem(401, detail, socket=path, WWW_Authenticate="Bearer")
        return problem(why.status, detail, socket=path)

    # -- one method for each address --------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        if self._page is None or not self._wants_page(request):
            return await _list_addresses(request)
        return await self._page.files.index(request)

    async def _rights(self, request: web.Request) -> web.Response:
        return json_response(Rights(may_act(request.headers, self._caller(request), self.address)))

    async def _status_stream(self, request: web.Request) -> web.StreamResponse:
        assert self._page is not None
        return await self._page.stream(request, request[CONNECTION].response_goes_on)

    async def _livez(self, _: web.Request) -> web.Response:
        return self._health_response(self._health.live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._health_response(self._health.ready)

    def _health_response(self, passed: bool) -> web.Response:
        return web.Response(text=self._health.text + "\n", status=200 if passed else 503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        async with self._rendering:
            # Rendering takes milliseconds: do it once per turn of the loop, so that health checks come between.
            await asyncio.sleep(0)
            return await self._rendered(request)

    async def _version(self, _: web.Request) -> web.Response:
        return json_response(RunningVersion(__version__, BUILD, platform.python_version()))

    async def _overview(self, _: web.Request) -> web.Response:
        health = self._health
        replies = await self._control_api.snapshots()
        return json_response(
            Overview(__version__, BUILD, health.stage, health.reason, replies.workers, replies.silent, self._socket)
        )

    async def _routes(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            start, most = int(query.get("from", "0")), int(query.get("limit", "100"))
        except ValueError:
            return problem(422, "from and limit are numbers.")
        freshness = query.get("freshness", "")
        if start < 0 or not 1 <= most <= MOST_LISTED or freshness not in ("", *FRESHNESS):
            return problem(
                422, f"from is at least 0, limit 1 to {MOST_LISTED}, freshness one of {', '.join(FRESHNESS)}."
            )
        return json_response(await self._control_api.routes(start, most, query.get("site", ""), freshness))

    async def _explained(self, request: web.Request) -> web.Response:
        as_text = "text/plain" in request.headers.get(hdrs.ACCEPT, "")
        try:
            host = hostname_in(request.match_info["host"])
        except ValueError as error:
            return web.Response(text=f"{error}.\n") if as_text else problem(422, f"{error}.")
        replies = await self._control_api.explain(host)
        issuance = await self._control_api.issuance(host)
        is_ordered = issuance is not None and issuance.state != "none"
        if not is_ordered and replies.workers and all(bytes(reply.content) == b"null" for reply in replies.workers):
            nothing = await nothing_known(self._control_api, host)
            return web.Response(text=f"{nothing}\n") if as_text else problem(404, nothing)
        similar = await similar_names(self._control_api, host, replies)
        explanation = Explanation(replies.workers, replies.silent, self._source(host), similar, issuance)
        if as_text:
            return web.Response(text=render_explanation(explanation))
        return json_response(explanation)

    async def _drains(self, _: web.Request) -> web.Response:
        return json_response(self._control_api.drains())

    async def _drain(self, request: web.Request) -> web.Response:
        drain = await self._body(request, DrainRequest)
        if drain.kind not in KINDS:
            return problem(422, f"kind is one of {', '.join(KINDS)}, not {drain.kind!r}")
        if not drain.name or not 0 <= drain.seconds <= MOST_SECONDS:
            return problem(
                422, f"A drain has a name, and lasts for seconds from 0 (end it) to {MOST_SECONDS} (7 days)."
            )
        if not drain.force and (why := await why_not_drained(self._control_api, drain)):
            return problem(404, why)
        by = user_name(request[CONNECTION].user)
        until = time.time() + drain.seconds if drain.seconds else 0.0
        try:
            replies = await self._control_api.drain(OperatorDrain(drain.kind, drain.name, drain.seconds, by, until))
        except TooManyDrains as error:
            return problem(409, f"{error}.")
        log.info(
            "drain changed",
            code="drain_set",
            kind=drain.kind,
            name=drain.name,
            seconds=drain.seconds,
            user=by,
        )
        return json_response(replies)

    async def _invalidate(self, request: web.Request) -> web.Response:
        scope = await self._body(request, Scope)
        return json_response(await self._control_api.invalidate(scope.kind, scope.name))

    async def _command(self, request: web.Request) -> web.Response:
        result = await self._control_api.command(request.path.rpartition("/")[2])
        return json_response(result, status=200 if result.done else 422)

    async def _body(self, request: web.Request, kind: type[T]) -> T:
        """Read and decode the body.

        Raises msgspec.DecodeError, and aiohttp's exceptions for a body that is too large (413) or too slow (408).
        """
        if (request.content_length or 0) > self._bounds.body_bytes:
            raise web.HTTPRequestEntityTooLarge(self._bounds.body_bytes, request.content_length or 0)
        try:
            async with asyncio.timeout(self._bounds.body):
                return msgspec.json.decode(await request.read(), type=kind)
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error


async def _openapi(_: web.Request) -> web.Response:
    return json_response(description())


async def _list_addresses(_: web.Request) -> web.Response:
    width = max(len(address) for address, _ in ADDRESSES)
    lines = [f"styx {__version__}", "", *(f"{address:<{width}}  {prose}" for address, prose in ADDRESSES)]
    return web.Response(text="\n".join(lines) + "\n")


class _NoMalformedRequests(logging.Filter):
    """Drops events about malformed HTTP requests: with them every local user could fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _logger() -> logging.Logger:
    logger = logging.getLogger("styx.admin.http")
    if not logger.filters:
        logger.addFilter(_NoMalformedRequests())
    return logger
