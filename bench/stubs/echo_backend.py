"""A container that echoes requests, and a core API that returns it for every hostname, in one process.

`python -m bench.stubs.echo_backend FILE`: writes the URL of the core API into the file, and serves until it is
ended.
"""

import asyncio
import sys
from pathlib import Path
from random import random
from typing import cast

import uvloop

from bench.lab.availability_load import CRLF2, echo
from bench.stubs.any_host_routes import routes_to

SLOWEST = 0.02
"Seconds until a response; even from nothing to this, so that requests are in flight whenever something happens."


class Echo(asyncio.Protocol):
    """One connection of the edge; it has one request at a time."""

    def __init__(self, site: str = "") -> None:
        """`site`: whose container this is, whatever `Host` says; "" = the site of the hostname."""
        self._site = site
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, blank, body = self._data.partition(CRLF2)
        if not blank:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(fields.get("content-length", 0)):
            return
        self._data = b""
        method, target, _ = first.split(" ")
        response = echo(method, self._site or fields["host"], target, body)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(response)
        asyncio.get_running_loop().call_later(random() * SLOWEST, self._transport.write, head + response)


async def main(where: Path) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    async with routes_to(lambda _: port) as url:
        part = where.with_suffix(".part")
        part.write_text(url)
        part.rename(where)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
