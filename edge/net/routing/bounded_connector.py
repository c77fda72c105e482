"""The HTTP connector for the core API, which bounds interim responses (RFC 9110, section 15.2).

aiohttp waits for the final response however many interim ones there are. uvloop reads megabytes of them in one turn
of the loop, in which aiohttp parses each: a core API that sends them without end would stop a worker for seconds.
"""

import asyncio
import functools
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

MOST_INTERIMS: Final = 32
"Interim responses before a final one; 100 and 103 come once or twice."
PIECE: Final = 16 * 1024
"Bytes that are parsed before the number is checked: 10 ms."


class BoundedResponses(ResponseHandler):
    """One connection. With too many interim responses it is closed, and its request fails with
    aiohttp.ServerDisconnectedError."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._interims = 0

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE:
            super().data_received(data)
            return
        for start in range(0, len(data), PIECE):
            if self._interims > MOST_INTERIMS:
                return
            super().data_received(data[start : start + PIECE])

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a head with its body; called by aiohttp."""
        if self._interims > MOST_INTERIMS:
            return
        is_interim = 100 <= data[0].code < 200 and data[0].code != 101
        self._interims = self._interims + 1 if is_interim else 0
        if self._interims <= MOST_INTERIMS:
            super().feed_data(data, size)
            return
        self.set_exception(
            aiohttp.ServerDisconnectedError(f"more than {MOST_INTERIMS} interim responses to one request")
        )
        if self.transport is not None:
            self.transport.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """A pool of such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_bounded, self._loop)


def _bounded(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return BoundedResponses(loop)
