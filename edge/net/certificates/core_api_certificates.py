"""The client of the core API for certificates: one request for each lookup, with four results.

    200    a certificate                       503 with Retry-After    it is being issued
    304    the known one still holds           404                     there is none

Every other response is a failed lookup (CoreApiError): "could not ask" must never become "there is none".
"""

import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec

from edge.net.routing.core_api import (
    CoreApiError,
    bad_response,
    error_of_status,
    failed_request,
    usable_etag,
    whole_body,
)
from edge.net.routing.core_api_session import SessionHolder, core_api_session
from edge.rules.certificates.certificate_records import CertificateResponse
from edge.rules.settings import CoreApiSettings

MAX_RESPONSE: Final = 256 * 1024
"Bytes of one response; two chains with their keys have 10 KiB."
LONGEST_RETRY: Final = 3600.0
"Seconds of Retry-After that are believed."
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


class CertificateResult(NamedTuple):
    """The result of a lookup."""

    response: CertificateResponse | None
    "None = there is no certificate, unless one of the next two says otherwise."
    not_modified: bool = False
    "The certificate that is known is still valid."
    retry_after: float | None = None
    "It is being issued: seconds after which to ask again."
    cache_control: str | None = None
    etag: str | None = None


class CertificateSource(Protocol):
    """Looks up certificates, one hostname at a time."""

    async def ask(self, hostname: str, etag: str | None) -> CertificateResult:
        """Ask for the certificate of this hostname. Raises CoreApiError. The caller enforces the deadline."""

    async def close(self) -> None:
        """End, and close what is open."""


class CoreApiCertificates:
    """The core API as a source of certificates, with a pool of connections of its own, so that lookups of routes
    do not wait behind certificates that are being issued."""

    def __init__(
        self,
        settings: CoreApiSettings,
        observe: Callable[[str, float], None] = lambda result, seconds: None,
        *,
        session: Callable[[CoreApiSettings, aiohttp.ClientTimeout], aiohttp.ClientSession] = core_api_session,
    ) -> None:
        """`observe` receives the result of each lookup and its duration in seconds. `session` makes the pool."""
        self._settings = settings
        self._observe = observe
        self._sessions = SessionHolder(settings, session)
        self._decoder = msgspec.json.Decoder(CertificateResponse)

    async def close(self) -> None:
        """Close all connections."""
        await self._sessions.close()

    def renew(self) -> None:
        """Read the files of its token and its certificates again."""
        self._sessions.renew(self._settings)

    async def ask(self, hostname: str, etag: str | None) -> CertificateResult:
        """Ask for the certificate of this hostname; `etag` is sent as If-None-Match. Raises CoreApiError. The
        caller enforces the deadline."""
        began = time.monotonic()
        try:
            result = await self._ask(hostname, etag)
        except CoreApiError as error:
            self._observe("error" if error.service_failed else "rejected", time.monotonic() - began)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._observe("error", time.monotonic() - began)
            raise failed_request(error) from error
        self._observe(_kind(result), time.monotonic() - began)
        return result

    async def _ask(self, hostname: str, etag: str | None) -> CertificateResult:
        async with self._sessions.look_up("certificates", hostname, etag) as response:
            status, cache_control = response.status, response.headers.get("Cache-Control")
            if status == 404:
                return CertificateResult(None, cache_control=cache_control)
            if status == 304 and etag is not None:
                return CertificateResult(None, not_modified=True, cache_control=cache_control, etag=etag)
            retry_after = response.headers.get("Retry-After")
            if status == 503 and retry_after is not None:
                return CertificateResult(None, retry_after=_seconds(retry_after))
            if status != 200:
                raise error_of_status(status)
            certificate = self._decoded(await whole_body(response, MAX_RESPONSE))
            return CertificateResult(
                certificate, cache_control=cache_control, etag=usable_etag(response.headers.get("ETag"))
            )

    def _decoded(self, body: bytes) -> CertificateResponse:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise bad_response(f"a response that is no certificate: {error}") from error


def _kind(result: CertificateResult) -> str:
    if result.retry_after is not None:
        return "issuing"
    if result.not_modified:
        return "not_modified"
    return "certificate" if result.response is not None else "absent"


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds (RFC 9110, section 10.2.3); 1 for a date, of which only the other clock knows what it
    means."""
    return min(float(retry_after), LONGEST_RETRY) if _SECONDS.fullmatch(retry_after) else 1.0
