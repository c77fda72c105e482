"""A core API that responds, and fails, as a script says, and counts lookups.

Known to it are the hostnames for which `route_of` gives something. Trouble is one of `TROUBLES`, and can change at
any moment: it holds for lookups that are in flight as well.
"""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import web

TROUBLES = ("gone", "500", "hang", "garbage", "slow bytes", "empty list", "older generation")
"""Connections are refused; every response is a 500; no response; 1 MiB of noise; a byte every half second; no
backends; a generation from before, with backends that are not there."""
TROUBLES_OF_SOME = ("400", "nonsense", "other hostname")
"""Of some hostnames only (`concerns`): a 400; a 200 that cannot be understood, of one of several kinds; a 200 about
another hostname (`instead`), as from a cache that mixes up its keys."""
NONSENSE = (
    ("application/json", b'{"hostname": "'),
    ("text/html", b"<!DOCTYPE html><title>Log in</title><p>Please log in."),
    ("application/json", b""),
    ("application/json", b"[]"),
    ("application/json", b'{"hostname": 7, "site": null, "environment": {}, "generation": "x", "backends": 1}'),
)
GENERATION = 1000
DEAD_PORT = 9
HEARTBEAT = 2.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a hostname."""

    site: str
    backends: Sequence[dict[str, object]]
    generation: int = GENERATION


class CoreApiStub:
    """See the module."""

    def __init__(
        self, route_of: Callable[[str], Known | None], *, freshness: str, delay: float, streams: bool = True
    ) -> None:
        """`delay`: seconds that each response takes; `streams`: whether it has a stream of changes."""
        self._streams = streams
        self._route_of = route_of
        self._freshness = freshness
        self._delay = delay
        self.trouble = ""
        self.concerns: Callable[[str], bool] = lambda hostname: True
        "Which hostnames one of TROUBLES_OF_SOME concerns."
        self.instead: Callable[[str], str] = lambda hostname: hostname
        "The hostname that the response is about instead of the requested one, in the trouble of that name."
        self.lookups: Counter[str] = Counter()
        self.moments: list[float] = []
        "When each lookup came, on the loop's clock."
        self.in_flight = self.most_in_flight = 0
        self._readers: set[asyncio.Queue[bytes]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["CoreApiStub"]:
        """Serves until the end of the block."""
        await self._start()
        try:
            yield self
        finally:
            await self._stop()

    async def fall(self, trouble: str) -> None:
        """From now on there is this trouble; "" = none."""
        before, self.trouble = self.trouble, trouble
        if trouble == "gone":
            await self._stop()
        elif before == "gone":
            await self._start()

    def publish(self, *changes: dict[str, object]) -> None:
        """To all who read the stream of changes, in one piece."""
        events = b"".join(b"event: invalidate\ndata: %b\n\n" % msgspec.json.encode(change) for change in changes)
        for reader in self._readers:
            reader.put_nowait(events)

    def most_in_a_second(self, since: float) -> int:
        """Of the lookups since then."""
        return max(Counter(int(moment - since) for moment in self.moments if moment >= since).values(), default=0)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/routes/{hostname}", self._route)
        if self._streams:
            app.router.add_get("/v1/changes", self._changes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _route(self, request: web.Request) -> web.StreamResponse:
        hostname = request.match_info["hostname"]
        self.lookups[hostname] += 1
        self.moments.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._delay)
            return await self._respond(request, hostname)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.Request, hostname: str) -> web.StreamResponse:
        match self.trouble:
            case "500":
                return web.Response(status=500)
            case "hang":
                await asyncio.sleep(3600)
            case "garbage":
                return web.Response(body=os.urandom(1 << 20), content_type="application/json")
            case "slow bytes":
                return await _slowly(request)
            case "400" if self.concerns(hostname):
                return web.Response(status=400)
            case "nonsense" if self.concerns(hostname):
                kind, body = NONSENSE[self.lookups.total() % len(NONSENSE)]
                headers = {"Cache-Control": self._freshness, "Content-Type": kind}
                return web.Response(body=body, headers=headers)
            case "other hostname" if self.concerns(hostname):
                hostname = self.instead(hostname)
        known = self._route_of(hostname)
        if known is None:
            return web.Response(status=404, headers={"Cache-Control": "max-age=10"})
        backends, generation = known.backends, known.generation
        if self.trouble == "empty list":
            backends = []
        elif self.trouble == "older generation":
            generation -= 1
            backends = [{**backend, "port": DEAD_PORT} for backend in backends]
        members = {"hostname": hostname, "site": known.site, "environment": "live"}
        body = msgspec.json.encode({**members, "generation": generation, "backends": backends})
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"Cache-Control": self._freshness, "ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Cache-Control": "no-store"})
        stream.content_type = "text/event-stream"
        await stream.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._readers.add(queue)
        try:
            while True:
                event = b": nothing\n\n"
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        event = await queue.get()
                except TimeoutError:
                    pass
                await stream.write(event)
        finally:
            self._readers.discard(queue)


async def _slowly(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 500
    await response.prepare(request)
    for _ in range(500):
        await response.write(b"{")
        await asyncio.sleep(0.5)
    return response
