"""The admin server: health, metrics, and what styx knows, for operators and their tools.

It speaks aiohttp and is not on the path of any proxied request. Who may ask:

- a Unix socket: whoever the file's mode (0600) lets in;
- loopback: every process of the machine, but not web pages. A page whose name its owner points to 127.0.0.1
  (DNS rebinding) makes the browser ask *us*, but with the page's name in `Host`: such requests get 421;
- any other address: whoever has the token. Without one the server refuses to be built.

`/livez` and `/readyz` are open to all: load balancers ask them, and they tell nothing.
"""

import hmac
import os
import socket
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from edge import __version__
from edge.admin.crew import Crew, Drain, Told
from edge.admin.health import Health
from edge.rules.drains import KINDS
from edge.rules.routes import Freshness
from edge.rules.settings_values import Address

OPEN = frozenset({"/livez", "/readyz"})
BACKLOG = 128
MOST_SECONDS = 7 * 86400
"Longest drain. What is longer belongs into the core API."
MOST_LISTED = 1000
"Routes in one page of the list."
FRESHNESS = tuple(freshness.value for freshness in Freshness)
PLAIN_HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}
ADDRESSES = (
    ("/livez", "is the process alive? 200 or 503"),
    ("/readyz", "should it get requests? 200, or 503 with the reason"),
    ("/metrics", "for Prometheus, in its text format or as OpenMetrics"),
    ("/v1/overview", "version, readiness and counters of each worker, as JSON"),
    ("/v1/routes", "cached routes of each worker, as JSON: ?from=0&limit=100&site=acme&freshness=stale"),
    ("/v1/routes/{host}/explain", "what each worker knows of a hostname, and who gets its requests, as JSON"),
    ("/v1/drains", "what is drained; POST {kind, name, seconds} to drain, with 0 seconds to end it"),
    ("/v1/invalidate", "POST {kind, name}: the routes are asked for anew"),
    ("/v1/reload", "POST: read the configuration again; answers when it is done"),
    ("/v1/upgrade", "POST: let the installed version take over; answers when it has, or could not"),
)
"What the index lists, in its order."

T = TypeVar("T")


class Overview(msgspec.Struct, frozen=True):
    """The answer of `/v1/overview`."""

    version: str
    stage: str
    reason: str
    workers: list[Told]
    silent: list[int]


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which routes are meant: see `rules.changes.Change`."""

    kind: str
    name: str = ""


class Problem(msgspec.Struct, frozen=True):
    """Problem details (RFC 9457): every error of this server."""

    type: str
    title: str
    status: int
    detail: str


def problem(status: int, detail: str, **headers: str) -> web.Response:
    """An error as JSON. Header names are given with underscores."""
    body = Problem("about:blank", HTTPStatus(status).phrase, status, detail)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=named
    )


def is_local_host(header: str, bound: str) -> bool:
    """Whether a `Host` header names this machine, not a page that a browser was lured to."""
    name = header.lower()
    host = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0].removesuffix(".")
    return host in {"localhost", "127.0.0.1", "[::1]", bound.lower(), f"[{bound.lower()}]"}


class AdminServer:
    """Answers on one address from `start` to `stop`. `explain` gives None for a host not asked for yet."""

    def __init__(
        self,
        address: Address,
        *,
        health: Health,
        registry: CollectorRegistry,
        crew: Crew,
        token: str = "",
    ) -> None:
        self.address = address
        "Where it listens; after `start` with the port that the system chose for port 0."
        if not (token or address.is_local):
            raise ValueError(f"admin address {address} is neither loopback nor a Unix socket: it needs a token")
        self._token = token
        self._health = health
        self._metrics = make_aiohttp_handler(registry)
        self._crew = crew
        self._runner: web.AppRunner | None = None
        self._owns_address = True

    def __repr__(self) -> str:
        return f"<AdminServer {self.address}>"

    async def start(self, sock: socket.socket | None = None) -> None:
        """Answer on this socket, which somebody else opened, or open the address (OSError: it is taken)."""
        runner = web.AppRunner(self._app(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            if sock is not None:
                await web.SockSite(runner, sock, backlog=BACKLOG).start()
                self.address = replace(self.address, port=0 if self.address.path else sock.getsockname()[1])
            elif self.address.path:
                await web.SockSite(runner, _private_socket(self.address.path)).start()
            else:
                await web.TCPSite(runner, self.address.host or None, self.address.port).start()
                self.address = replace(self.address, port=runner.addresses[0][1])
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._owns_address = sock is None

    async def stop(self) -> None:
        """Close the address; requests in hand have a second. Does nothing when it was not started."""
        if self._runner is None:
            return
        await self._runner.cleanup()
        self._runner = None
        if self.address.path and self._owns_address:
            _unlink(self.address.path)

    def use_token(self, token: str) -> None:
        """From the next request on. Only where there was one: an open address is never closed by a file."""
        self._token = token

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_told_plainly, self._guarded])
        app.add_routes(
            [
                web.get("/", _index),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/v1/overview", self._overview),
                web.get("/v1/routes", self._routes),
                web.get("/v1/routes/{host}/explain", self._explained),
                web.get("/v1/drains", self._drains),
                web.post("/v1/drains", self._drain),
                web.post("/v1/invalidate", self._invalidate),
                web.post("/v1/reload", self._wished),
                web.post("/v1/upgrade", self._wished),
            ]
        )
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        if self._token:
            if not self._knows_token(request.headers.get(hdrs.AUTHORIZATION, "")):
                return problem(401, "This address needs the admin token.", WWW_Authenticate="Bearer")
        elif not self.address.path and not is_local_host(request.headers.get(hdrs.HOST, ""), self.address.host):
            return problem(421, "Ask by the name localhost or by the address that the server is bound to.")
        elif hdrs.ORIGIN in request.headers and request.method != hdrs.METH_GET:
            # A page may not read our answers, but its browser would send a POST all the same.
            return problem(403, "Web pages may not change anything here.")
        return await handler(request)

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, said = authorization.partition(" ")
        # Bytes: compare_digest refuses text that is not ASCII, and takes the same time for every wrong token.
        right = hmac.compare_digest(said.strip().encode("utf-8", "surrogateescape"), self._token.encode())
        return right and scheme.lower() == "bearer"

    # -- one method for each address --------------------------------------------------------------

    async def _livez(self, _: web.Request) -> web.Response:
        return self._told_health(self._health.live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._told_health(self._health.ready)

    def _told_health(self, well: bool) -> web.Response:
        return web.Response(text=self._health.text + "\n", status=200 if well else 503)

    async def _overview(self, _: web.Request) -> web.Response:
        health = self._health
        answers = await self._crew.snapshots()
        return _json(Overview(__version__, health.stage, health.reason, answers.workers, answers.silent))

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
        return _json(await self._crew.routes(start, most, query.get("site", ""), freshness))

    async def _explained(self, request: web.Request) -> web.Response:
        host = request.match_info["host"].lower().removesuffix(".")
        answers = await self._crew.explain(host)
        if answers.workers and all(bytes(told.told) == b"null" for told in answers.workers):
            return problem(404, f"No request has asked for {host} yet, or its route was forgotten since.")
        return _json(answers)

    async def _drains(self, _: web.Request) -> web.Response:
        return _json(self._crew.drains())

    async def _drain(self, request: web.Request) -> web.Response:
        drain = await _body(request, Drain)
        if drain.kind not in KINDS:
            return problem(422, f"kind is one of {', '.join(KINDS)}, not {drain.kind!r}")
        if not drain.name or not 0 <= drain.seconds <= MOST_SECONDS:
            return problem(422, f"A drain has a name, and seconds from 0 (end it) to {MOST_SECONDS}.")
        return _json(await self._crew.drain(drain))

    async def _invalidate(self, request: web.Request) -> web.Response:
        scope = await _body(request, Scope)
        return _json(await self._crew.invalidate(scope.kind, scope.name))

    async def _wished(self, request: web.Request) -> web.Response:
        granted = await self._crew.wish(request.path.rpartition("/")[2])
        return _json(granted, status=200 if granted.done else 422)


async def _index(_: web.Request) -> web.Response:
    width = max(len(address) for address, _ in ADDRESSES)
    lines = [f"styx {__version__}", "", *(f"{address:<{width}}  {prose}" for address, prose in ADDRESSES)]
    return web.Response(text="\n".join(lines) + "\n")


@web.middleware
async def _told_plainly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as problem details, and the headers that every answer has."""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem(405, f"{request.path} knows {allowed} only.", Allow=allowed)
    except web.HTTPException as error:
        missing = f"There is nothing at {request.path}."
        response = problem(error.status, missing if error.status == 404 else error.reason)
    except msgspec.ValidationError as error:
        response = problem(422, f"The body is not what {request.path} takes: {error}")
    except msgspec.DecodeError as error:
        response = problem(400, f"The body is no JSON: {error}")
    except Exception:
        structlog.get_logger().exception("admin request failed", path=request.path)
        response = problem(500, "The admin server failed; its log says why.")
    response.headers.update(PLAIN_HEADERS)
    return response


async def _body(request: web.Request, kind: type[T]) -> T:
    """Raises msgspec.DecodeError; aiohttp refuses more than a MiB."""
    return msgspec.json.decode(await request.read(), type=kind)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)


def _unlink(path: str) -> None:
    if Path(path).is_socket():
        Path(path).unlink()


def _private_socket(path: str) -> socket.socket:
    """Bound by hand: the mode is right from the first moment, and the umask changed for no other code."""
    _unlink(path)  # left behind by a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock
