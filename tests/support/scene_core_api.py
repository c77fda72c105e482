"""A scripted core API: serves routes from a dict; can fail, be silent, hold its answers, and be stopped."""

import asyncio
import json
from typing import Any

from aiohttp import web

LONG = "max-age=60, stale-while-revalidate=600, stale-if-error=86400"
STALE = "max-age=0, stale-while-revalidate=600, stale-if-error=86400"
EXPIRED = "max-age=0, stale-while-revalidate=0, stale-if-error=86400"


class ScriptedCoreApi:
    """Answers from `routes`. `trouble`: None, a status, "silent" or "garbage"."""

    def __init__(self) -> None:
        self.routes: dict[str, dict[str, Any]] = {}
        self.certificates: dict[str, dict[str, Any]] = {}
        self.certificates_asked: list[str] = []
        "Hostnames whose certificate was asked for, in order."
        self.first: dict[str, dict[str, Any]] = {}
        "Routes that are told once, before those in `routes`."
        self.lookups: list[str] = []
        "Hostnames asked for, in order."
        self.headers: list[dict[str, str]] = []
        self.trouble: int | str | None = None
        self.stumbles = ""
        "It fails for hostnames with this in them."
        self.cache_control: str | None = LONG
        self.etags = False
        self.etag = ""
        "Instead of one made of the generation."
        self.answer: bytes | None = None
        "Sent instead of the route."
        self.port = 0
        self._opened = asyncio.Event()
        self._opened.set()
        self._asked = asyncio.Semaphore(0)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Keep answers back until `release`."""
        self._opened.clear()

    def release(self) -> None:
        self._opened.set()

    async def asked(self) -> str:
        """Wait for a lookup that no earlier call waited for."""
        async with asyncio.timeout(100):
            await self._asked.acquire()
        return self.lookups[-1]

    async def _certificate(self, request: web.Request) -> web.Response:
        hostname = request.match_info["hostname"]
        self.certificates_asked.append(hostname)
        await self._opened.wait()
        found = self.certificates.get(hostname)
        return web.Response(status=404) if found is None else web.json_response(found)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/routes/{hostname}", self._route)
        app.router.add_get("/v1/certificates/{hostname}", self._certificate)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _route(self, request: web.Request) -> web.StreamResponse:
        hostname = request.match_info["hostname"]
        self.lookups.append(hostname)
        self.headers.append(dict(request.headers))
        self._asked.release()
        await self._opened.wait()
        if self.trouble == "silent":
            await asyncio.Event().wait()
        if self.stumbles and self.stumbles in hostname:
            return web.Response(status=500)
        if isinstance(self.trouble, int):
            return web.Response(status=self.trouble)
        headers = {} if self.cache_control is None else {"Cache-Control": self.cache_control}
        route = self.first.pop(hostname, None) or self.routes.get(hostname)
        if route is None:
            return web.json_response({"error": "no such hostname"}, status=404, headers=headers)
        etag = self.etag or f'"{route["generation"]}"'
        if self.etags:
            headers["ETag"] = etag
            if request.headers.get("If-None-Match") == etag:
                return web.Response(status=304, headers=headers)
        body = b"{not json" if self.trouble == "garbage" else self.answer or json.dumps(route).encode()
        return web.Response(body=body, content_type="application/json", headers=headers)
