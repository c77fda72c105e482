"""Containers of many sites in one process: each responds with the name of its own site, not with `Host`.

`python -m bench.stubs.site_containers PLAN RESULT`: two JSON files. PLAN: how many containers each site has;
RESULT: their ports, written when all of them listen. Serves until it is ended.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from bench.lab.programs import BenchFailed
from bench.lab.servers import spawn, until
from bench.stubs.echo_backend import Echo
from edge.platform.child_process import ChildProcess

ANY_SITE = ""
"In a plan: containers that respond for the site of each request."


@asynccontextmanager
async def site_containers(
    plan: Mapping[str, int], directory: Path
) -> AsyncIterator[tuple[ChildProcess, dict[str, list[int]]]]:
    """The process, and the ports of each site; until the end of the block. Raises BenchFailed."""
    todo, result = directory / "containers.json", directory / "ports.json"
    todo.write_bytes(msgspec.json.encode(plan))
    child = spawn("bench.stubs.site_containers", directory, todo, result)
    try:
        if not await until(lambda: result.exists() or child.ended.is_set()) or not result.exists():
            raise BenchFailed(f"the containers did not come up: {child.last_words()}")
        yield child, msgspec.json.decode(result.read_bytes(), type=dict[str, list[int]])
    finally:
        child.kill()
        await child.ended.wait()


async def _serve(plan: Path, result: Path) -> None:
    loop = asyncio.get_running_loop()
    counts = msgspec.json.decode(plan.read_bytes(), type=dict[str, int])  # noqa: ASYNC240
    servers = {
        site: [await loop.create_server(partial(Echo, site), "127.0.0.1", 0, backlog=1024) for _ in range(count)]
        for site, count in counts.items()
    }
    ports = {site: [server.sockets[0].getsockname()[1] for server in these] for site, these in servers.items()}
    part = result.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(ports))
    part.rename(result)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
