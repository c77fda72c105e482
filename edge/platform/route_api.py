"""The core API: serves the route of a hostname, and a stream of events that invalidate routes.

    GET /v1/routes/{hostname}   200 route | 304 unchanged | 404 no such hostname | 400 not a hostname
    GET /v1/changes             server-sent events: invalidate
                                401 for both without the token

It serves the content of the registry, which does not record that a container was killed, is full or is slow.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from edge.platform.change_log import EVERYTHING, ChangeLog, ReaderLost
from edge.platform.containers.container import Role, State
from edge.platform.registry import Registry

LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOSTNAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BackendDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """One container, as edges see it."""

    id: str
    address: str
    port: int
    server: str
    role: Role
    state: State
    tls: bool = False


class RouteDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The route of one hostname."""

    hostname: str
    site: str
    environment: str
    generation: int
    backends: list[BackendDocument]
    maintenance: bool
    redirect: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheControl:
    """Seconds in the Cache-Control of responses (RFC 9111, RFC 5861)."""

    max_age: int = 60
    stale_while_revalidate: int = 600
    stale_if_error: int = 86400
    unknown_max_age: int = 10
    "max-age of 404 responses."

    @property
    def known(self) -> str:
        return (
            f"max-age={self.max_age}, stale-while-revalidate={self.stale_while_revalidate}, "
            f"stale-if-error={self.stale_if_error}"
        )

    @property
    def unknown(self) -> str:
        return f"max-age={self.unknown_max_age}"


def problem(status: int, sentence: str, **headers: str) -> web.Response:
    """An error response: JSON with a sentence for people."""
    body = msgspec.json.encode({"status": status, "error": sentence})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, body=body, content_type=JSON, headers=named)


def token_guard(token: str | None) -> Middleware:
    """Middleware that requires this bearer token, and responds 401 without it. None = no token is required."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is not None and request.headers.get("Authorization") != f"Bearer {token}":
            sentence = "Send the core API's token as `Authorization: Bearer ...`."
            return problem(401, sentence, WWW_Authenticate="Bearer")
        return await handler(request)

    return guard


@dataclass(slots=True)
class RouteApi:
    """The handlers of the core API. `lookups` counts lookups by hostname, 304 and 404 included."""

    registry: Registry
    changes: ChangeLog
    freshness: CacheControl = field(default_factory=CacheControl)
    heartbeat: float = 5.0
    "Seconds of silence on the stream before a comment is sent; the contract allows 10 at most."
    tls: bool = False
    "Whether containers speak TLS."
    lookups: Counter[str] = field(default_factory=Counter)

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/routes/{hostname}", self.route, allow_head=False)
        app.router.add_get("/v1/changes", self.stream, allow_head=False)
        app.on_shutdown.append(self._end_streams)

    async def _end_streams(self, _: web.Application) -> None:
        self.changes.lose_all()

    async def route(self, request: web.Request) -> web.StreamResponse:
        hostname = request.match_info["hostname"].lower()
        if len(hostname) > 253 or not HOSTNAME.fullmatch(hostname):
            return problem(400, f"{hostname[:300]!r} cannot be a hostname: labels of a-z 0-9 - joined by dots.")
        self.lookups[hostname] += 1
        body = self._route_body(hostname)
        if body is None:
            sentence = f"No environment has the hostname {hostname}."
            return problem(404, sentence, Cache_Control=self.freshness.unknown)
        tag = hashlib.blake2b(body, digest_size=12).hexdigest()
        headers = {"Cache-Control": self.freshness.known, "ETag": f'"{tag}"'}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=JSON, headers=headers)

    def _route_body(self, hostname: str) -> bytes | None:
        """The encoded route; None for an unknown hostname."""
        environment = self.registry.environment_of(hostname)
        if environment is None:
            return None
        rows = self.registry.containers(environment.site, environment.environment)
        route = RouteDocument(
            hostname=hostname,
            site=environment.site,
            environment=environment.environment,
            generation=environment.generation,
            backends=[BackendDocument(r.id, r.address, r.port, r.server, r.role, r.state, self.tls) for r in rows],
            maintenance=environment.maintenance,
            redirect=environment.redirect,
        )
        return msgspec.json.encode(route)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)

        def hang_up() -> None:
            # abort, not close: close waits for the write buffer, and an edge that does not read never empties it.
            if request.transport is not None:
                request.transport.abort()

        with self.changes.reader(request.headers.get("Last-Event-ID"), hang_up) as reader:
            try:
                await response.write(b": welcome\n\n")
                if not reader.resumed:
                    await response.write(self.changes.frame(EVERYTHING, reader.seen))
                while True:
                    await response.write(await self.changes.next(reader, self.heartbeat))
            except (ReaderLost, ConnectionError):
                return response
