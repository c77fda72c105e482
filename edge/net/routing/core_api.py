"""The client of the platform's core API: one request for each lookup, with three results (docs/contracts.md).

Only status 404 means that a hostname does not exist. Every other response without a route is a failed lookup
(CoreApiError), and must never become a 404 at the client.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp
import msgspec

from edge.net.routing.core_api_session import SessionHolder
from edge.net.secret_files import SecretFileError
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_validation import LONGEST_ETAG, BackendPolicy, InvalidResponse, Remark, checked
from edge.rules.settings import CoreApiSettings
from edge.rules.settings.values import THE_CORE_API

MAX_RESPONSE = 1024 * 1024
"Bytes of one response; a route of 30 backends has 4 KiB."


class CoreApiError(Exception):
    """A lookup failed: there was no response, or the response is not usable.

    `service_failed`: the service itself does not work, whatever hostname it is asked for (no connection, 5xx, 429).
    Otherwise nothing follows for other hostnames, because a client has chosen this one. `about_hostname`: the
    service has rejected the hostname by its status (400, 410). `connected`: False if there was no connection, so
    that the hostname cannot be the reason. `code`: the stable code of the log event.
    """

    def __init__(
        self,
        message: str,
        *,
        service_failed: bool = True,
        about_hostname: bool = False,
        connected: bool = True,
        code: str = "core_api_failed",
    ) -> None:
        super().__init__(message)
        self.service_failed = service_failed
        self.about_hostname = about_hostname
        self.connected = connected
        self.code = code


def failed_request(error: aiohttp.ClientError | OSError | ValueError) -> CoreApiError:
    """A request without a response."""
    connected = not isinstance(error, (aiohttp.ClientConnectorError, SecretFileError))
    return CoreApiError(f"{type(error).__name__}: {error}", connected=connected)


def error_of_status(status: int) -> CoreApiError:
    """The error of a response with a status that has no meaning for a lookup."""
    failed, refused = status >= 500 or status == 429, 400 <= status < 500 and status not in (401, 403)
    code = "core_api_failed" if failed else "core_api_bad_response"
    about = refused and not failed
    return CoreApiError(f"status {status}", service_failed=failed, about_hostname=about, code=code)


def bad_response(message: str) -> CoreApiError:
    """The error of a response whose body cannot be used."""
    return CoreApiError(message, service_failed=False, code="core_api_bad_response")


async def whole_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of a response. Raises CoreApiError if it has more than `most` bytes."""
    body = b""
    while not response.content.at_eof() and len(body) <= most:
        body += await response.content.read(most + 1 - len(body))
    if len(body) > most:
        raise bad_response(f"a response of more than {most} bytes")
    return body


class LookupResult(NamedTuple):
    """The result of a lookup.

    `route`: None if there is no such hostname. `not_modified`: the route that is known is still valid.
    """

    route: RouteResponse | None
    not_modified: bool
    cache_control: str | None
    etag: str | None
    deliberate: bool = False
    "Whether a removal is certainly no mistake, so that the removal guard does not hold it back."
    remarks: Sequence[Remark] = ()
    "Faults in the response; the parts with faults are not used."
    source: str = THE_CORE_API
    "The source of the route, as `styx explain` shows it."


class CoreApi:
    """The core API client of one worker, with a pool of connections."""

    def __init__(
        self, settings: CoreApiSettings, observe: Callable[[str, float], None], policy: BackendPolicy | None = None
    ) -> None:
        """`observe` receives the result of each lookup and its duration in seconds. `policy`: the addresses that
        backends may have; None = any."""
        self._policy = policy or BackendPolicy()
        self._settings = settings
        self._observe = observe
        self._decoder = msgspec.json.Decoder(RouteResponse)
        self._sessions = SessionHolder(settings)
        self.up = True
        "Whether the core API worked at the last lookup."

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Apply these settings; the token is read again. Requests in flight are finished with the old settings."""
        self._settings = settings
        self._sessions.renew(settings)

    async def close(self) -> None:
        """Close all connections."""
        await self._sessions.close()

    async def ask(self, hostname: str, etag: str | None) -> LookupResult:
        """Look up the route of this hostname; `etag` is sent as If-None-Match.

        Raises CoreApiError. The caller enforces the deadline.
        """
        began = time.monotonic()
        try:
            result = await self._ask(hostname, etag)
        except CoreApiError as error:
            self.up = error.about_hostname
            self._observe("error" if error.service_failed else "rejected", time.monotonic() - began)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.up = False
            self._observe("error", time.monotonic() - began)
            raise failed_request(error) from error
        self.up = True
        kind = "not_modified" if result.not_modified else "route" if result.route is not None else "unknown"
        self._observe(kind, time.monotonic() - began)
        return result

    def timed_out(self) -> None:
        """Record that the caller's deadline passed before there was a response."""
        self.up = False
        self._observe("timeout", self._settings.timeout)

    async def _ask(self, hostname: str, etag: str | None) -> LookupResult:
        async with self._sessions.look_up("routes", hostname, etag) as response:
            cache_control = response.headers.get("Cache-Control")
            if response.status == 404:
                return LookupResult(None, False, cache_control, None)
            if response.status == 304 and etag is not None:
                return LookupResult(None, True, cache_control, etag)
            if response.status != 200:
                raise error_of_status(response.status)
            body = await whole_body(response, MAX_RESPONSE)
            try:
                route = self._decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise bad_response(f"a response that is not a route: {error}") from error
            try:
                route, remarks = checked(route, hostname, self._policy)
            except InvalidResponse as error:
                raise CoreApiError(str(error), service_failed=False, code=error.code) from error
            etag = usable_etag(response.headers.get("ETag"))
            return LookupResult(route, False, cache_control, etag, remarks=remarks)


def usable_etag(etag: str | None) -> str | None:
    """The ETag if it is short, printable ASCII, else None: it is stored, and sent back unchanged."""
    return (
        etag if etag is not None and len(etag) <= LONGEST_ETAG and etag.isascii() and etag.isprintable() else None
    )
