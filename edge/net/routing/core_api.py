"""The client of the platform's core API: one question, three answers (docs/contracts.md).

404 is the only way to say that a hostname does not exist. Everything else that is not a route is "could
not ask", and must never become a 404 at the client.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from edge.net.routing.core_api_session import core_api_session
from edge.rules.routing.route_response import RouteAnswer
from edge.rules.routing.route_validation import LONGEST_ETAG, BackendPolicy, InvalidAnswer, Remark, checked
from edge.rules.routing.routes import Source
from edge.rules.settings import CoreApiSettings

MAX_ANSWER = 1024 * 1024
"Bytes of one answer; a route of 30 backends has 4 KiB."


class CoreApiError(Exception):
    """The core API could not be asked, or its answer could not be understood.

    `service_failed`: the service itself does not work, whatever it is asked (no connection, 5xx, 429). Otherwise
    nothing follows for other hostnames: a client has chosen this one. `about_hostname`: the service has said so
    itself (400, 410). `status`: with which it answered, if that is what is wrong; else 0. `code` is stable.
    """

    def __init__(
        self,
        words: str,
        *,
        service_failed: bool = True,
        about_hostname: bool = False,
        status: int = 0,
        code: str = "core_api_failed",
    ) -> None:
        super().__init__(words)
        self.service_failed = service_failed
        self.about_hostname = about_hostname
        self.status = status
        self.code = code


def _of_status(status: int) -> CoreApiError:
    failed, refused = status >= 500 or status == 429, 400 <= status < 500 and status not in (401, 403)
    code = "core_api_failed" if failed else "core_api_bad_answer"
    about = refused and not failed
    return CoreApiError(f"status {status}", service_failed=failed, about_hostname=about, status=status, code=code)


def _bad_answer(words: str) -> CoreApiError:
    return CoreApiError(words, service_failed=False, code="core_api_bad_answer")


class CoreAnswer(NamedTuple):
    """What the core API said. `route` None = there is no such hostname; `not_modified` = what we have holds."""

    route: RouteAnswer | None
    not_modified: bool
    cache_control: str | None
    etag: str | None
    deliberate: bool = False
    "Whether it is certain that this was not said by mistake."
    remarks: Sequence[Remark] = ()
    "What of it was not as it should be, and is not used."
    source: Source = Source.ASKED
    "What `explain` calls who said it."


class CoreApi:
    """Asks the core API. One per worker; keeps its connections."""

    def __init__(
        self, settings: CoreApiSettings, observe: Callable[[str, float], None], policy: BackendPolicy | None = None
    ) -> None:
        """`policy`: where backends may be; None = anywhere."""
        self._policy = policy or BackendPolicy()
        self._settings = settings
        self._observe = observe
        self._decoder = msgspec.json.Decoder(RouteAnswer)
        self._session: aiohttp.ClientSession | None = None
        self._retired: set[asyncio.Task[None]] = set()
        "Sessions that only finish what was asked through them."
        self.up = True
        "Whether the last question was answered."

    def reconfigure(self, settings: CoreApiSettings) -> None:
        """Ask there, and like that; the token is read anew. Questions in flight are finished as they were asked."""
        if self._session is not None:
            task = asyncio.get_running_loop().create_task(self._retire(self._session, self._settings.timeout))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
        self._settings = settings
        self._session = None

    async def _retire(self, session: aiohttp.ClientSession, time_limit: float) -> None:
        try:
            await asyncio.sleep(time_limit)
        finally:
            await session.close()

    async def close(self) -> None:
        """Close its connections."""
        for task in list(self._retired):
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        """Who serves this hostname? Raises CoreApiError; the deadline is the caller's."""
        began = time.monotonic()
        try:
            answer = await self._ask(hostname, etag)
        except CoreApiError as error:
            self.up = error.about_hostname
            self._observe("error" if error.service_failed else "rejected", time.monotonic() - began)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.up = False
            self._observe("error", time.monotonic() - began)
            raise CoreApiError(f"{type(error).__name__}: {error}") from error
        self.up = True
        result = "not_modified" if answer.not_modified else "route" if answer.route is not None else "unknown"
        self._observe(result, time.monotonic() - began)
        return answer

    def timed_out(self) -> None:
        """The caller's deadline passed before there was an answer."""
        self.up = False
        self._observe("timeout", self._settings.timeout)

    async def _ask(self, hostname: str, etag: str | None) -> CoreAnswer:
        url = URL(f"{self._settings.url}/v1/routes/{quote(hostname, safe='')}", encoded=True)
        headers = {"Accept": "application/json"}
        if etag is not None:
            headers["If-None-Match"] = etag
        async with self._opened().get(url, headers=headers, allow_redirects=False) as response:
            cache_control = response.headers.get("Cache-Control")
            if response.status == 404:
                return CoreAnswer(None, False, cache_control, None)
            if response.status == 304 and etag is not None:
                return CoreAnswer(None, True, cache_control, etag)
            if response.status != 200:
                raise _of_status(response.status)
            body = await response.content.read(MAX_ANSWER + 1)
            while not response.content.at_eof() and len(body) <= MAX_ANSWER:
                body += await response.content.read(MAX_ANSWER + 1 - len(body))
            if len(body) > MAX_ANSWER:
                raise _bad_answer(f"an answer of more than {MAX_ANSWER} bytes")
            try:
                route = self._decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise _bad_answer(f"an answer that is no route: {error}") from error
            try:
                route, remarks = checked(route, hostname, self._policy)
            except InvalidAnswer as error:
                raise CoreApiError(str(error), service_failed=False, code=error.code) from error
            etag = _usable_etag(response.headers.get("ETag"))
            return CoreAnswer(route, False, cache_control, etag, remarks=remarks)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The deadline is the caller's: of two at one moment aiohttp's would swallow the other.
            self._session = core_api_session(self._settings, aiohttp.ClientTimeout(total=None))
        return self._session


def _usable_etag(etag: str | None) -> str | None:
    """It is sent back as it came, and kept with each route."""
    return (
        etag if etag is not None and len(etag) <= LONGEST_ETAG and etag.isascii() and etag.isprintable() else None
    )
