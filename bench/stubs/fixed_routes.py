"""A minimal core API: routes that do not change, and a stream of changes that is empty."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
from aiohttp import ClientConnectionResetError, web

HEARTBEAT = 5.0
FRESHNESS = "max-age=60, stale-while-revalidate=600, stale-if-error=86400"
ETAG = '"1"'


@asynccontextmanager
async def fixed_routes(site: str, ports: Sequence[int]) -> AsyncIterator[str]:
    """Serves the route to backends b1, b2, ... on these ports of this machine; gives the URL."""
    backends = [backend_entry(f"b{n}", port, f"srv-{n}") for n, port in enumerate(ports, 1)]
    async with served_routes(lambda hostname: (site, backends)) as url:
        yield url


def backend_entry(name: str, port: int, server: str) -> dict[str, object]:
    """One backend of this machine, as the core API returns it."""
    where = {"id": name, "address": "127.0.0.1", "port": port, "server": server}
    return {**where, "role": "active", "state": "running"}


@asynccontextmanager
async def served_routes(
    route_of: Callable[[str], tuple[str, Sequence[dict[str, object]]]],
    certificate_of: Callable[[str], dict[str, object] | None] = lambda hostname: None,
) -> AsyncIterator[str]:
    """Serves for each hostname its site and backends, and its certificate, if it has one; gives the URL."""
    app = web.Application()

    async def route(request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": FRESHNESS, "ETag": ETAG}
        if request.headers.get("If-None-Match") == ETAG:
            return web.Response(status=304, headers=headers)
        hostname = request.match_info["hostname"]
        site, backends = route_of(hostname)
        response = {
            "hostname": hostname,
            "site": site,
            "environment": "live",
            "generation": 1,
            "backends": backends,
            "maintenance": False,
            "redirect": None,
        }
        return web.Response(body=msgspec.json.encode(response), content_type="application/json", headers=headers)

    async def certificate(request: web.Request) -> web.StreamResponse:
        found = certificate_of(request.match_info["hostname"])
        if found is None:
            return web.Response(status=404)
        headers = {"Cache-Control": FRESHNESS}
        return web.Response(body=msgspec.json.encode(found), content_type="application/json", headers=headers)

    app.router.add_get("/v1/routes/{hostname}", route)
    app.router.add_get("/v1/certificates/{hostname}", certificate)
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
    with suppress(ClientConnectionResetError):  # the edge has ended
        while True:
            await stream.write(b": nothing\n\n")
            await asyncio.sleep(HEARTBEAT)
    return stream
