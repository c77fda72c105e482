"""A core API that sends interim responses without end ends its own connection, and takes nobody's time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from edge.net.routing.bounded_connector import MOST_INTERIMS, PIECE, BoundedConnector, BoundedResponses
from edge.net.routing.core_api import CoreApi, CoreApiError
from edge.rules.settings import CoreApiSettings
from tests.support.fake_transports import FakeTransport

INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
BODY = b"x" * (20 * PIECE)
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

Responds = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_server(respond: Responds) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await respond(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_few_are_no_trouble_in_each_response_of_a_connection() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(MOST_INTERIMS * INTERIM + FINAL)

    async with a_server(respond) as url, aiohttp.ClientSession(connector=BoundedConnector(limit=1)) as session:
        for _ in range(3):
            async with session.get(url) as response:
                assert (response.status, await response.read()) == (200, BODY)


async def test_too_many_end_the_request() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write((MOST_INTERIMS + 1) * INTERIM + FINAL)

    async with a_server(respond) as url, aiohttp.ClientSession(connector=BoundedConnector()) as session:
        with pytest.raises(aiohttp.ServerDisconnectedError, match="more than 32 interim responses"):
            await session.get(url)


async def test_a_lookup_fails_and_says_why() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(1000 * INTERIM)
            await writer.drain()

    async with a_server(respond) as url:
        api = CoreApi(CoreApiSettings(url=url), lambda result, seconds: None)
        with pytest.raises(CoreApiError, match="interim responses") as caught:
            await api.ask("a.test", None)
        assert caught.value.service_failed
        await api.close()


async def test_what_follows_is_not_parsed() -> None:
    """uvloop delivers up to 256 KiB at once, and goes on with the next in the same turn."""
    taken = 0

    class Counted(BoundedResponses):
        def feed_data(self, data: Any, size: int = 0) -> None:
            nonlocal taken
            taken += 1
            super().feed_data(data, size)

    responses = Counted(asyncio.get_running_loop())
    transport = FakeTransport(responses)
    responses.connection_made(transport)
    responses.set_response_params()
    for _ in range(10):
        responses.data_received(16 * PIECE // len(INTERIM) * INTERIM)
    assert MOST_INTERIMS < taken <= PIECE // len(INTERIM) + 1
    assert transport.is_closing()
    assert isinstance(responses.exception(), aiohttp.ServerDisconnectedError)
