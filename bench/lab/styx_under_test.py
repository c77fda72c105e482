"""Runs `styx serve` with further settings, and reads its admin API."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from bench.lab.servers import START_DEADLINE, STYX_YAML, Server, free_ports, serving


class Counts(msgspec.Struct):
    """What is of interest in a worker's overview."""

    exchanges: int
    client_connections: int
    links_busy: int


class _Told(msgspec.Struct):
    content: Counts


class _Overview(msgspec.Struct):
    workers: list[_Told]


@dataclass(frozen=True, slots=True)
class StyxUnderTest:
    """A running styx."""

    server: Server
    admin_port: int
    output: Path
    "Its standard output and standard error."

    async def counts(self) -> Counts:
        """What is open and in flight now. Raises aiohttp.ClientError, TimeoutError."""
        url = f"http://127.0.0.1:{self.admin_port}/v1/overview"
        time_limit = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=time_limit) as session, session.get(url) as response:
            [worker] = msgspec.json.decode(await response.read(), type=_Overview).workers
            return worker.content


@asynccontextmanager
async def styx_under_test(
    directory: Path,
    core_api_url: str,
    more: str,
    *,
    core: int | None = None,
    time_limit: float = START_DEADLINE,
    listener: str = "",
    log: str = "/dev/null",
    workers: int = 1,
) -> AsyncIterator[StyxUnderTest]:
    """Runs until the end of the block. `more`: further sections of the configuration; `listener`: settings of the
    listener besides its address; `log`: the access log, which is not written by default."""
    port, admin_port = free_ports(2)
    config = directory / "styx.yaml"
    usual = STYX_YAML.format(
        port=port, core_api_url=core_api_url, admin_port=admin_port, log=log, flush_interval="1s"
    )
    usual = usual.replace(f':{port}"}}', f':{port}", {listener}}}') if listener else usual
    config.write_text(usual.replace("workers: 1\n", f"workers: {workers}\n") + more)
    command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
    async with serving("styx", command, directory=directory, port=port, core=core, time_limit=time_limit) as server:
        yield StyxUnderTest(server, admin_port, directory / "styx.out")
