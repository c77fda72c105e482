"""A backend without `Expect`: reads an upload to its end, or refuses it early and closes the connection.

`python -m bench.stubs.deaf_backend PORT...`: serves until it is ended. POST /refused gets 413 after 256
KiB, and the connection is closed with the rest of the body unread, as application servers do.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import uvloop

from bench.lab.servers import ROOT, free_ports, until_listening
from edge.platform.child_process import ChildProcess

REFUSED_AFTER = 256 * 1024
LAST_CHUNK = b"0\r\n\r\n"
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"


class Deaf(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        "Bytes of the body that are still to come; of one in chunks it is not known."
        self._chunked = False
        self._allowed = 0
        "Bytes of the body until it is refused."
        self._tail = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not (self._left or self._chunked):
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._head = self._tail = b""
            self._allowed = REFUSED_AFTER if head.startswith(b"POST /refused") else sys.maxsize
            _, given, length = head.lower().partition(b"content-length:")
            self._chunked, self._left = not given, int(length.split(b"\r\n")[0]) if given else 0
        self._take(data)

    def _take(self, data: bytes) -> None:
        self._allowed -= len(data)
        if self._allowed < 0:
            self._transport.write(REFUSED)
            self._transport.close()
            return
        if self._chunked:
            self._tail = (self._tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
            self._chunked = self._tail != LAST_CHUNK
        else:
            self._left -= len(data)
        if not (self._left or self._chunked):
            self._transport.write(TAKEN)


async def main(ports: Sequence[int]) -> None:
    """Serve for ever."""
    for port in ports:
        await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


@asynccontextmanager
async def accepting_backends(directory: Path, count: int) -> AsyncIterator[list[int]]:
    """So many of these backends in one process until the end of the block; gives their ports.

    Raises BenchFailed.
    """
    ports = free_ports(count)
    child = ChildProcess.spawn(
        [sys.executable, "-m", "bench.stubs.deaf_backend", *map(str, ports)],
        log=directory / "deaf.out",
        env={"PYTHONPATH": str(ROOT)},
    )
    try:
        await until_listening("deaf_backend", child, ports[-1])
        yield ports
    finally:
        child.kill()
        await child.ended.wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
