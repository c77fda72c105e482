"""What the scenes of `h2` share: a styx that speaks HTTP/2, a backend, and open loops of streams."""

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import aiohttp

from bench.h2.h2_client import H2Wire, NotProcessed, StreamResponse, get
from bench.lab.availability_load import Lost
from bench.lab.paced_load import percentile
from bench.lab.procfs import Cores
from bench.lab.programs import BenchFailed
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.stubs.fixed_routes import fixed_routes
from bench.stubs.holding_backend import holding_backend

HOST = "site.test"
SETTINGS = "limits: {requests_per_connection: 1000000000}\npool: {idle_per_backend: 128}\n"
_GOAWAYS = re.compile(r'^styx_http2_goaways_total\{[^}]*reason="(\w+)"[^}]*\} ([0-9.e+]+)', re.MULTILINE)


@dataclass(slots=True)
class Latencies:
    """Of requests that were answered, in seconds, from when each was due."""

    seconds: list[float]
    failed: list[str]
    "Why others were not."

    @property
    def p99_ms(self) -> float:
        if not self.seconds:
            raise BenchFailed(f"nothing was answered: {self.failed[:3]}")
        return 1e3 * percentile(sorted(self.seconds), 99.0)


async def goaways(styx: StyxUnderTest) -> dict[str, int]:
    """Connections that the edge has ended so far, by reason."""
    url = f"http://127.0.0.1:{styx.admin_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return {reason: int(float(count)) for reason, count in _GOAWAYS.findall(await response.text())}


async def one(wire: H2Wire, latencies: Latencies, due: float, path: str) -> None:
    """One request, counted from when it was due."""
    try:
        response = await wire.request(get(HOST, path))
    except (Lost, NotProcessed) as error:
        latencies.failed.append(str(error) or "not processed")
        return
    if response.status == 200:
        latencies.seconds.append(response.seen - due)
    else:
        latencies.failed.append(str(response.status))


async def open_loop(wires: Sequence[H2Wire], rate: float, seconds: float, seed: int) -> Latencies:
    """Small requests at random moments, on these connections in turn."""
    latencies, rand = Latencies([], []), Random(seed)
    begin = due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        number = 0
        while (due := due + rand.expovariate(rate)) < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(one(wires[number % len(wires)], latencies, due, "/page"))
            number += 1
    return latencies


async def bursts(wire: H2Wire, streams: int, every: float, seconds: float) -> Latencies:
    """So many streams at once on one connection, again and again."""
    latencies = Latencies([], [])
    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        while (due := time.monotonic()) < end:
            for _ in range(streams):
                group.create_task(one(wire, latencies, due, "/page"))
            await asyncio.sleep(every)
    return latencies


def hold(wire: H2Wire, path: str) -> StreamResponse:
    """Begin a request whose response is not read, beyond one window of it."""
    response = wire.begin(get(HOST, path))
    wire.unread.update(number for number, found in wire.streams.items() if found is response)
    return response


@asynccontextmanager
async def stage() -> AsyncIterator[StyxUnderTest]:
    """A styx on a core of its own, and a backend."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="styx-bench-")))
        cores = Cores.split()
        stack.enter_context(cores.reserved())
        backend = await stack.enter_async_context(holding_backend())
        url = await stack.enter_async_context(fixed_routes("site", [backend.port]))
        styx = styx_under_test(directory, url, SETTINGS, core=cores.proxy, listener="http2: true")
        yield await stack.enter_async_context(styx)
