"""A core API that returns a route to two containers on one port for every hostname."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec


@asynccontextmanager
async def routes_to(port_of: Callable[[str], int]) -> AsyncIterator[str]:
    """A core API that names two containers on one port for every hostname. The environment is the first label,
    so what one earns costs no other. Gives the URL."""

    open_now: set[asyncio.StreamWriter] = set()
    all_closed = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        all_closed.clear()
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                hostname = head.split(b" ", 2)[1].decode("latin-1").rpartition("/")[2]
                body = msgspec.json.encode(_route(hostname, port_of(hostname)))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=3600\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            open_now.discard(writer)
            if not open_now:
                all_closed.set()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in open_now:
            writer.close()
        if open_now:
            await all_closed.wait()


def _route(hostname: str, port: int) -> dict[str, object]:
    endpoint = {"address": "127.0.0.1", "port": port, "server": "srv-1", "role": "active", "state": "running"}
    return {
        "hostname": hostname,
        "site": hostname.partition(".")[0] if hostname.endswith(".test") else "other",
        "environment": "live",
        "generation": 1,
        "backends": [{"id": name, **endpoint} for name in ("b1", "b2")],
        "maintenance": False,
        "redirect": None,
    }
