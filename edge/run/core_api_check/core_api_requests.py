"""Asks a core API as styx does, with the same token and certificates, and records what comes back.

Nothing is judged here. What is read is bounded: a response by `MOST_BYTES`, a stream by `MOST_OF_STREAM`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from edge.net.routing.core_api_session import core_api_session
from edge.rules.core_api.change_judgement import AT_ONCE, StreamReading, events_in
from edge.rules.core_api.contract_findings import CoreApiReply
from edge.rules.core_api.route_judgement import MOST_BYTES
from edge.rules.http.sse import TooLong
from edge.rules.settings import CoreApiSettings

MOST_OF_STREAM: Final = 1024 * 1024
"Bytes of a change stream that are read."


class CoreApiRequests:
    """One session with a core API. `async with` closes it."""

    def __init__(self, settings: CoreApiSettings) -> None:
        """Reads the files of the token and the certificates. Raises OSError."""
        self._settings = settings
        self._session = core_api_session(settings, aiohttp.ClientTimeout(total=None))

    async def __aenter__(self) -> "CoreApiRequests":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def route(self, hostname: str, etag: str | None = None) -> CoreApiReply:
        """Look a hostname up; `etag` is sent as If-None-Match."""
        return await self._get(f"/v1/routes/{quote(hostname, safe='')}", etag)

    async def certificate(self, hostname: str) -> CoreApiReply:
        """Ask for the certificate of a hostname."""
        return await self._get(f"/v1/certificates/{quote(hostname, safe='')}", None)

    async def _get(self, path: str, etag: str | None) -> CoreApiReply:
        headers = {"Accept": "application/json"} | ({} if etag is None else {"If-None-Match": etag})
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._reply(path, headers, began)
        except TimeoutError:
            return CoreApiReply(error=f"no response within {self._settings.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return CoreApiReply(error=f"no usable response: {type(error).__name__}: {error}".rstrip(": "))

    async def _reply(self, path: str, headers: Mapping[str, str], began: float) -> CoreApiReply:
        async with self._session.get(self._url(path), headers=headers, allow_redirects=False) as response:
            body = b""
            while not response.content.at_eof() and len(body) <= MOST_BYTES:
                body += await response.content.read(MOST_BYTES + 1 - len(body))
            fields = {name.lower(): response.headers[name] for name in response.headers}
            if response.version == aiohttp.HttpVersion10:
                fields.setdefault("connection", "close")
            return CoreApiReply(response.status, fields, body, time.monotonic() - began)

    async def stream(self, last_id: str, seconds: float, enough: Callable[[StreamReading], bool]) -> StreamReading:
        """Read the change stream for some seconds, or until there is `enough`. `last_id`: "" = from now on."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        headers |= {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with asyncio.timeout(self._settings.timeout) as limit:
                get = self._session.get(self._url("/v1/changes"), headers=headers, allow_redirects=False)
                async with get as response:
                    limit.reschedule(None)
                    if response.status != 200 or response.content_type != "text/event-stream":
                        return StreamReading(response.status, response.content_type)
                    return await _read(response, seconds, enough)
        except TimeoutError:
            return StreamReading(error=f"no head of a response within {self._settings.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return StreamReading(error=f"no usable response: {type(error).__name__}: {error}".rstrip(": "))

    def _url(self, path: str) -> URL:
        return URL(f"{self._settings.url}{path}", encoded=True)


async def _read(
    response: aiohttp.ClientResponse, seconds: float, enough: Callable[[StreamReading], bool]
) -> StreamReading:
    began, size = time.monotonic(), 0
    pieces: list[tuple[float, bytes]] = []
    reading = StreamReading(response.status, response.content_type, pieces)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for piece in response.content.iter_any():
                pieces.append((time.monotonic() - began, piece))
                size += len(piece)
                reading = reading._replace(seconds=pieces[-1][0])
                if size > MOST_OF_STREAM or enough(reading):
                    return reading
            return reading._replace(seconds=time.monotonic() - began, ended=True)
    return reading._replace(seconds=time.monotonic() - began)


def has_heartbeat(reading: StreamReading) -> bool:
    """Whether something came later than at the beginning of the stream."""
    return reading.seconds > AT_ONCE


def has_event(reading: StreamReading) -> bool:
    """Whether a whole event came."""
    try:
        return bool(events_in(reading))
    except TooLong:
        return True
