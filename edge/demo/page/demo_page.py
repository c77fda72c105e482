"""The HTTP server of the demo's page: its files, its event stream, and its actions.

    GET   /                          the page
    GET   /v1/demo/stream            server-sent events: `history` once, then five snapshots a second
    PATCH /v1/demo/load              {"rate": 40, "sites": {"acme": "heavy"}}
    PATCH /v1/demo/core-api          {"up": false}
    POST  /v1/demo/heal              undo all faults
    ...   /v1/platform/...           the management API of the platform, here also while the core API is stopped

It listens at a loopback address only, and does nothing that another web page asks for.
"""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import hdrs, web

from edge.admin.status_page.page_files import PageFiles
from edge.admin.status_page.status_stream import StatusStream
from edge.demo.page.demo_load import MOST_RATE, DemoLoad
from edge.demo.page.demo_state import DemoState, name_of
from edge.demo.page.request_dots import RequestDots
from edge.demo.page.styx_view import StyxView
from edge.demo.styx_process import StyxProcess
from edge.platform.manage_api import render_errors
from edge.platform.pocket_platform import PocketPlatform
from edge.platform.registry import UnknownName
from edge.platform.route_api import Handler, problem
from edge.rules.admin_access import NOT_FROM_A_PAGE, acts, came_through_proxy, is_local_host, is_own_page

ADDRESS: Final = "127.0.0.1"
STATIC: Final = Path(__file__).parent / "static"
PERIOD: Final = 0.2
"Seconds between two snapshots."
FIRST_RATE: Final = 40
"Requests per second, until another rate is chosen."
VISITED: Final = "initech"
"The site that has visits only, until something else is chosen: the Reaper's."
MOST_BODY: Final = 4096


class LoadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change of the load; an absent member stays as it is."""

    rate: Annotated[int, msgspec.Meta(ge=0, le=MOST_RATE)] | None = None
    sites: dict[str, Literal["off", "visits", "light", "heavy"]] = {}


class CoreApiBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a start or stop of the core API."""

    up: bool


@web.middleware
async def own_page_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep out other web pages: DNS rebinding, and what they make a browser send (see rules/admin_access.py)."""
    headers = request.headers
    if came_through_proxy(headers) or not is_local_host(headers.get(hdrs.HOST, ""), ADDRESS):
        return problem(421, f"Ask by the address {ADDRESS}, and not through a proxy.")
    from_page = hdrs.ORIGIN in headers or headers.get("Sec-Fetch-Site", "") not in NOT_FROM_A_PAGE
    if acts(request.method) and from_page and not is_own_page(headers, ADDRESS):
        return problem(403, "Another web page may not change anything here.")
    return await handler(request)


class DemoPage:
    """The page, from `async with` on. `port`: a free one."""

    def __init__(self, platform: PocketPlatform, styx: StyxProcess, port: int) -> None:
        self.url = f"http://{ADDRESS}:{port}/"
        pki = platform.pki
        self.load = DemoLoad(
            styx.port,
            self._hostnames,
            on_end=lambda ended: self._dots.add(ended),
            is_wanted=self._is_watched,
            trusted=None if pki is None else str(pki.site_ca),
        )
        self._scheme = "http" if pki is None else "https"
        self._platform = platform
        self._styx = styx
        self._port = port
        self._dots = RequestDots()
        self._view = StyxView(styx.ask_admin, is_wanted=self._is_watched)
        self._state = DemoState(platform, self.load, self._dots, self._view)
        self._stream = StatusStream(self._state, period=PERIOD)
        self._files = PageFiles(STATIC)
        self._status_files = PageFiles()
        self._core_api_turn = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    def _is_watched(self) -> bool:
        return self._stream.subscribers > 0

    def _hostnames(self) -> dict[str, str]:
        environments = self._platform.registry.environments()
        return {name_of(known.site, known.environment): known.hostnames[0] for known in environments}

    async def __aenter__(self) -> "DemoPage":
        self._files.read()
        self._status_files.read()
        styx = self._styx
        self._state.start(
            status_page=f"http://{styx.settings.admin.address}/", styx=f"{self._scheme}://127.0.0.1:{styx.port}"
        )
        self.load.rate = FIRST_RATE
        self.load.choice = {VISITED: "visits", "globex": "heavy"}
        app = web.Application(middlewares=[own_page_only, render_errors], client_max_size=MOST_BODY)
        app.router.add_get("/", self._files.index)
        app.router.add_get("/demo/{name:.+}", self._files.named)
        app.router.add_get("/status/{name:.+}", self._status_files.named)
        app.router.add_get("/v1/demo/stream", self._events, allow_head=False)
        app.router.add_patch("/v1/demo/load", self._set_load)
        app.router.add_patch("/v1/demo/core-api", self._set_core_api)
        app.router.add_post("/v1/demo/heal", self._heal)
        self._platform.manage_api.add_to(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        try:
            self._stack.push_async_callback(runner.cleanup)
            self._stack.push_async_callback(self._stream.stop)
            await runner.setup()
            await web.TCPSite(runner, ADDRESS, self._port).start()
            await self._view.start()
            self._stack.push_async_callback(self._view.stop)
            await self._stack.enter_async_context(self.load)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # -- what it serves --

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._stream.respond(request, lambda: None)

    # -- what it does --

    async def _set_load(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read(), type=LoadBody)
        known = self._hostnames()
        unknown = [site for site in body.sites if site not in known]
        if unknown:
            raise UnknownName(f"there is no site {unknown[0]}: there are {', '.join(known)}")
        if body.rate is not None:
            self.load.rate = body.rate
        self.load.choice |= body.sites
        return web.Response(status=204)

    async def _set_core_api(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read(), type=CoreApiBody)
        async with self._core_api_turn:
            if body.up != self._platform.core_api_up:
                await (self._platform.start_core_api() if body.up else self._platform.stop_core_api())
        return web.Response(status=204)

    async def _heal(self, _: web.Request) -> web.Response:
        """Undo the faults of all containers, and start the core API."""
        for known in self._platform.registry.environments():
            for container in self._platform.containers(known.site, known.environment):
                await container.heal()
        async with self._core_api_turn:
            if not self._platform.core_api_up:
                await self._platform.start_core_api()
        return web.Response(status=204)
