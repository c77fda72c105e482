"""The client of the core API for certificates: one request for each question, with four results.

    200    a certificate                       503 with Retry-After    it is being issued
    304    the known one still holds           404                     there is none

Every other response is a failed question (CoreApiError): "could not ask" must never become "there is none".
"""

import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from edge.net.routing.core_api import CoreApiError, failed_request
from edge.net.routing.core_api_session import SessionHolder, core_api_session
from edge.rules.certificates.certificate_records import CertificateResponse
from edge.rules.routing.route_validation import LONGEST_ETAG
from edge.rules.settings import CoreApiSettings

MAX_RESPONSE: Final = 256 * 1024
"Bytes of one response; two chains with their keys have 10 KiB."
LONGEST_RETRY: Final = 3600.0
"Seconds of Retry-After that are believed."
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


class CertificateResult(NamedTuple):
    """The result of a question."""

    response: CertificateResponse | None
    "None = there is no certificate, unless one of the next two says otherwise."
    not_modified: bool = False
    "The certificate that is known is still valid."
    retry_after: float | None = None
    "It is being issued: seconds after which to ask again."
    cache_control: str | None = None
    etag: str | None = None


class CertificateSource(Protocol):
    """Answers questions for certificates, one hostname at a time."""

    async def ask(self, hostname: str, etag: str | None) -> CertificateResult:
        """Ask for the certificate of this hostname. Raises CoreApiError. The caller enforces the deadline."""

    async def close(self) -> None:
        """End, and close what is open."""


class CoreApiCertificates:
    """The core API as a source of certificates, with a pool of connections of its own, so that questions for routes
    do not wait behind certificates that are being issued."""

    def __init__(
        self,
        settings: CoreApiSettings,
        observe: Callable[[str, float], None] = lambda result, seconds: None,
        *,
        session: Callable[[CoreApiSettings, aiohttp.ClientTimeout], aiohttp.ClientSession] = core_api_session,
    ) -> None:
        """`observe` receives the result of each question and its duration in seconds. `session` makes the pool."""
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
        url = URL(f"{self._settings.url}/v1/certificates/{quote(hostname, safe='')}", encoded=True)
        headers = {"Accept": "application/json"}
        if etag is not None:
            headers["If-None-Match"] = etag
        async with self._sessions.open().get(url, headers=headers, allow_redirects=False) as response:
            status, cache_control = response.status, response.headers.get("Cache-Control")
            if status == 404:
                return CertificateResult(None, cache_control=cache_control)
            if status == 304 and etag is not None:
                return CertificateResult(None, not_modified=True, cache_control=cache_control, etag=etag)
            retry_after = response.headers.get("Retry-After")
            if status == 503 and retry_after is not None:
                return CertificateResult(None, retry_after=_seconds(retry_after))
            if status != 200:
                raise _failure(status)
            certificate = self._decoded(await _body(response))
            return CertificateResult(
                certificate, cache_control=cache_control, etag=_usable_etag(response.headers.get("ETag"))
            )

    def _decoded(self, body: bytes) -> CertificateResponse:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_response(f"a response that is no certificate: {error}") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while not response.content.at_eof() and len(body) <= MAX_RESPONSE:
        body += await response.content.read(MAX_RESPONSE + 1 - len(body))
    if len(body) > MAX_RESPONSE:
        raise _bad_response(f"a response of more than {MAX_RESPONSE} bytes")
    return body


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


def _failure(status: int) -> CoreApiError:
    failed = status >= 500 or status == 429
    refused = 400 <= status < 500 and status not in (401, 403)
    return CoreApiError(
        f"status {status}",
        service_failed=failed,
        about_hostname=refused and not failed,
        code="core_api_failed" if failed else "core_api_bad_response",
    )


def _bad_response(message: str) -> CoreApiError:
    return CoreApiError(message, service_failed=False, code="core_api_bad_response")


def _usable_etag(etag: str | None) -> str | None:
    """The ETag if it is short, printable ASCII, else None: it is kept, and sent back unchanged."""
    is_usable = etag is not None and len(etag) <= LONGEST_ETAG and etag.isascii() and etag.isprintable()
    return etag if is_usable else None
