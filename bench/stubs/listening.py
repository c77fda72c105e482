"""Listens in the loop of the bench, and ends what is open when nobody needs it any more."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def listening(
    make: Callable[[], asyncio.BaseProtocol], open_now: Collection[T], end: Callable[[T], None]
) -> AsyncIterator[int]:
    """On a free port of this machine, until the end of the block; gives the port. `make`: the protocol of a new
    connection. `end`: is called with all that is in `open_now` at the end."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, backlog=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in list(open_now):
            end(one)
        await asyncio.sleep(0)  # only then their sockets are closed
