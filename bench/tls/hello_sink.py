"""Takes a flood of ClientHellos elsewhere: refuses those for other names than one, and is silent to the others.

`python -m bench.tls.hello_sink PORT HOST`, until it is killed.
"""

import asyncio
import sys
from typing import cast

import uvloop

ALERT = bytes((21, 3, 1, 0, 2, 2, 112))


class _Sink(asyncio.Protocol):
    def __init__(self, host: bytes) -> None:
        self._host = host
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._host not in data:
            self._transport.write(ALERT)
            self._transport.close()


async def _serve(port: int, host: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Sink(host.encode()), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
