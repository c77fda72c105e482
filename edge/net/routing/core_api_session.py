"""Makes HTTP sessions for the core API: User-Agent, bearer token, certificates, connection limit."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

import aiohttp
from yarl import URL

from edge.net.routing.bounded_connector import BoundedConnector
from edge.net.secret_files import SecretFileError, read_secret
from edge.net.tls.client_tls import ClientTlsFiles, client_context
from edge.rules.settings import CoreApiSettings, IdentitySettings

IDLE_TIMEOUT = 30.0
"Seconds after which an idle connection to the core API is closed."

log = logging.getLogger("styx.core_api")


def core_api_session(settings: CoreApiSettings, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose requests carry the token of the core API, and whose connections show the certificate of the
    edge; the files of both are read now. Who wants new files used makes a new session (`SessionHolder`).

    `timeout` applies to each request. Raises OSError (SecretFileError, ssl.SSLError) when a file cannot be used.
    """
    headers = {"User-Agent": "styx"}
    if token := read_secret(settings.token_file):
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=BoundedConnector(
            limit=settings.concurrency, keepalive_timeout=IDLE_TIMEOUT, ssl=_context(settings.tls)
        ),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
    )


class SessionHolder:
    """The session of one client of the core API, replaced when the settings or the files of the token and the
    certificates have changed. Requests in flight end with the session that they began with."""

    __slots__ = ("_make", "_retired", "_session", "_settings")

    def __init__(
        self,
        settings: CoreApiSettings,
        make: Callable[[CoreApiSettings, aiohttp.ClientTimeout], aiohttp.ClientSession] = core_api_session,
    ) -> None:
        self._settings = settings
        self._make = make
        self._session: aiohttp.ClientSession | None = None
        self._retired: dict[asyncio.Task[None], aiohttp.ClientSession] = {}
        "Tasks that close replaced sessions once their requests have had their time."

    def __repr__(self) -> str:
        return f"<SessionHolder {self._settings.url} {len(self._retired)} retired>"

    def open(self) -> aiohttp.ClientSession:
        """The session for the next request. Raises as `core_api_session`.

        The caller enforces the deadline: of two at the same moment, aiohttp's would swallow the other.
        """
        if self._session is None:
            self._session = self._make(self._settings, aiohttp.ClientTimeout(total=None))
        return self._session

    def look_up(
        self, kind: str, hostname: str, etag: str | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The request for what the core API knows of this hostname: `kind`, such as routes. `etag` is sent as
        If-None-Match. Raises as `core_api_session`."""
        url = URL(f"{self._settings.url}/v1/{kind}/{quote(hostname, safe='')}", encoded=True)
        headers = {"Accept": "application/json"}
        if etag is not None:
            headers["If-None-Match"] = etag
        return self.open().get(url, headers=headers, allow_redirects=False)

    def renew(self, settings: CoreApiSettings) -> None:
        """Apply these settings, and read the files again. When they are no good, such as those of a certificate and
        a key of which only one is new, the session stays, unless it is one of another core API."""
        before, former = self._session, self._settings
        self._settings, self._session = settings, None
        if before is None:
            return
        try:
            self.open()
        except OSError as error:
            log.error(
                "client certificate not used",
                extra={"code": "own_certificate_not_used", "setting": "core_api", "reason": str(error)},
            )
            if settings.url == former.url:
                self._session = before
                return
        task = asyncio.get_running_loop().create_task(_retire(before, former.timeout))
        self._retired[task] = before
        task.add_done_callback(lambda done: self._retired.pop(done, None))

    async def close(self) -> None:
        """Close all connections."""
        retired = dict(self._retired)
        for task in retired:
            task.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        for session in retired.values():  # a task that was cancelled before its first step has closed nothing
            await session.close()
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _retire(session: aiohttp.ClientSession, time_limit: float) -> None:
    try:
        await asyncio.sleep(time_limit)
    finally:
        await session.close()


def _context(identity: IdentitySettings) -> ssl.SSLContext | bool:
    """The context of its connections; True = aiohttp's own. Raises SecretFileError."""
    if identity.ca is None and identity.certificate is None:
        return True
    return checked_context("core_api.tls", identity)


def files_of(identity: IdentitySettings) -> ClientTlsFiles:
    """The files that these settings name."""
    return ClientTlsFiles(identity.ca, identity.certificate, identity.key)


def checked_context(section: str, identity: IdentitySettings) -> ssl.SSLContext:
    """The context of a client with this identity; `section` names the settings in messages. Raises
    SecretFileError."""
    try:
        return client_context(files_of(identity))
    except (OSError, ValueError) as error:
        raise SecretFileError(f"{section}: {getattr(error, 'strerror', None) or error}") from error
