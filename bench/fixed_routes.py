"""The smallest core API that keeps the contract: one answer for all hostnames, and a stream of no changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

HEARTBEAT = 5.0
FRESHNESS = "max-age=60, stale-while-revalidate=600, stale-if-error=86400"
ETAG = '"1"'


@asynccontextmanager
async def fixed_routes(site: str, ports: Sequence[int]) -> AsyncIterator[str]:
    """Serves the route to backends b1, b2, ... on these ports of this machine; gives the URL."""
    app = web.Application()
    backends = [
        {
            "id": f"b{n}",
            "address": "127.0.0.1",
            "port": port,
            "server": f"srv-{n}",
            "role": "active",
            "state": "running",
        }
        for n, port in enumerate(ports, 1)
    ]

    async def route(request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": FRESHNESS, "ETag": ETAG}
        if request.headers.get("If-None-Match") == ETAG:
            return web.Response(status=304, headers=headers)
        told = {
            "hostname": request.match_info["hostname"],
            "site": site,
            "environment": "live",
            "generation": 1,
            "backends": backends,
            "maintenance": False,
            "redirect": None,
        }
        return web.Response(body=msgspec.json.encode(told), content_type="application/json", headers=headers)

    app.router.add_get("/v1/routes/{hostname}", route)
    app.router.add_get("/v1/changes", _silence)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _silence(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Cache-Control": "no-store"})
    stream.content_type = "text/event-stream"
    await stream.prepare(request)
    while True:
        await stream.write(b": nothing\n\n")
        await asyncio.sleep(HEARTBEAT)
