"""An edge of a file of routes, and clients that ask for all of its hostnames all the time."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from edge.demo.styx_process import StyxProcess
from tests.support.processes.edges import Kept

KNOWN = [f"site-{n}.test" for n in range(20)]
ENTRY = '  - {{hostnames: [{host}], backends: [{{address: "127.0.0.1:{port}", id: "{id}"}}]}}\n'


class RouteFile:
    """All its hostnames are served by one container."""

    def __init__(self, path: Path, port: int, container: str) -> None:
        self.path = path
        self._port = port
        self._container = container

    def text(self, hosts: Iterable[str] = KNOWN) -> str:
        return "routes:\n" + "".join(ENTRY.format(host=h, port=self._port, id=self._container) for h in hosts)

    def replace(self, *hosts: str) -> None:
        """As careful programs do: another file takes its place."""
        coming = self.path.with_suffix(".coming")
        coming.write_text(self.text(hosts))
        coming.replace(self.path)


async def status(styx: StyxProcess, host: str) -> int:
    """Over a connection of its own, which any worker may get; 0 = it ended without a response."""
    try:
        async with Kept(styx.port) as kept:
            reply = await kept.ask(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    except (OSError, EOFError):
        return 0
    return int(reply.split(b" ")[1]) if reply else 0


async def statuses(styx: StyxProcess, hosts: Iterable[str] = KNOWN, times: int = 1) -> set[int]:
    """Of all of these, so many times each."""
    asked = [host for host in hosts for _ in range(times)]
    return set(await asyncio.gather(*(status(styx, host) for host in asked)))


async def until_it_is(styx: StyxProcess, host: str, wanted: int) -> None:
    """Fails by the time limit of the test."""
    while await status(styx, host) != wanted:
        pass


@asynccontextmanager
async def clients(styx: StyxProcess, hosts: list[str] = KNOWN, most: int = 4) -> AsyncIterator[Counter[int]]:
    """Ask for these one after the other, until the end of the block. What they got, by status; 0 = nothing."""
    got: Counter[int] = Counter()

    async def ask(first: int) -> None:
        n = first
        while True:
            got[await status(styx, hosts[n % len(hosts)])] += 1
            n += 1
            await asyncio.sleep(0.005)

    asking = [asyncio.create_task(ask(n * len(hosts) // most)) for n in range(most)]
    try:
        yield got
    finally:
        for task in asking:
            task.cancel()
        for task in asking:
            with contextlib.suppress(asyncio.CancelledError):
                await task
