"""A backend that takes every upload and never responds to it, and responds to everything else at once.

A request for /interims gets as many interim responses before its response as an edge may pass on.

`python -m bench.stubs.upload_sink PORT`: serves until it is ended.
"""

import asyncio
import sys
from typing import cast

import uvloop

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERIMS = (b"HTTP/1.1 103 Early Hints\r\nLink: </%b.css>\r\n\r\n" % (b"a" * 900)) * 63
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sink(asyncio.Protocol):
    """One connection of an edge."""

    def __init__(self) -> None:
        self._head = b""
        self._swallows = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._swallows:
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        self._swallows = self._head.startswith(b"POST ")
        if not self._swallows:
            hints = INTERIMS if self._head.startswith(b"GET /interims ") else b""
            self._transport.write(hints + RESPONSE)
        elif b"\r\nexpect:" in self._head.lower():
            self._transport.write(CONTINUE)
        self._head = b""


async def main(port: int) -> None:
    """Serve for ever."""
    await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
