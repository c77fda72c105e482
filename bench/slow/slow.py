"""The effect of thousands of slow clients on normal ones, and when slow ones are cut off.

slow heads, slow bodies ──►        ──► backend
                            styx
normal arrivals         ──►        ──► backend
       core 1              core 0      core 1

Normal traffic alone and beside the slow clients, in turn; each round gives one ratio of the two p99s. The arrivals
are of fixed rate and do not wait for responses; latency counts from when a request was due, so a generator that is
late makes the figures worse, never better. How much worse, a third phase shows: the slow clients talk to a socket
that nobody reads, and share nothing with the normal traffic but the core of its generator.
"""

import asyncio
import os
import resource
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

from bench.lab.load_generator import Schedule
from bench.lab.load_process import run_schedule, run_task
from bench.lab.plain_http import TIMEOUT
from bench.lab.procfs import Cores, cpu_seconds
from bench.lab.programs import BenchFailed
from bench.lab.styx_under_test import styx_under_test
from bench.slow import slow_clients
from bench.slow.slow_clients import SlowLoad, SlowResult
from bench.slow.slow_report import Phase, SlowReport
from bench.slow.slow_report import SlowPlan as SlowPlan
from bench.stubs.any_host_routes import routes_to
from bench.stubs.listening import listening

HOST, SLOW_HOST = "normal.test", "slow.test"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OPEN_FILES = 3
"Descriptors of one process for each slow client, at most, and a reserve."


async def run(plan: SlowPlan) -> SlowReport:
    """Raises BenchFailed."""
    cores = Cores.split()
    report = SlowReport(plan)
    timeouts = f"timeouts: {{head: {plan.head:g}s, body: {plan.body:g}s}}\n"
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name, _room(plan), cores.reserved():
        directory = Path(name)
        async with (
            _backend(2 * plan.due("body")) as port,
            routes_to(lambda _: port) as url,
            styx_under_test(directory, url, timeouts, core=cores.proxy) as styx,
        ):
            bench = _Bench(plan, directory, styx.server.pid, styx.server.port)
            await bench.normal(1.0, seed=0)
            for number in range(1, plan.rounds + 1):
                report.alone.append(await bench.normal(plan.seconds, seed=number))
                with _deaf(plan) as deaf:
                    _, phase = await bench.with_slow_clients(deaf, number)
                report.elsewhere.append(phase)
                result, phase = await bench.with_slow_clients(styx.server.port, number)
                report.beside.append(phase)
                report.results.append(result)
    return report


class _Bench:
    """One styx, and the processes that are let loose on it."""

    def __init__(self, plan: SlowPlan, directory: Path, pid: int, port: int) -> None:
        self._plan = plan
        self._directory = directory
        self._pid = pid
        self._port = port

    async def normal(self, seconds: float, seed: int) -> Phase:
        """Normal traffic for so long; the same seed gives the same arrivals."""
        schedule = Schedule(
            ports=[self._port],
            host=HOST,
            path="/",
            rate=self._plan.rate,
            seconds=seconds,
            seed=seed,
            name="normal",
        )
        began, styx, others = time.monotonic(), cpu_seconds(self._pid), _others(self._pid)
        load_result = await run_schedule(schedule, self._directory, may_be_fruitless=True)
        span = time.monotonic() - began
        if len(load_result.latencies_ms) < 20:
            raise BenchFailed(f"normal traffic got no response: {load_result.statuses}")
        styx, others = cpu_seconds(self._pid) - styx, _others(self._pid) - others
        return Phase(load_result, load_result.offered / seconds, styx / span, others / span)

    async def with_slow_clients(self, port: int, number: int) -> tuple[SlowResult, Phase]:
        """The same with the slow clients there; then the last of them is waited for."""
        plan = self._plan
        stay = plan.ramp + plan.seconds + 1
        load = SlowLoad(
            port=port,
            host=SLOW_HOST,
            heads=plan.heads,
            bodies=plan.bodies,
            ramp=plan.ramp,
            seconds=stay,
            time_limit=max(stay, plan.due("body")) + 5,
            seed=number,
            until_cut=port == self._port,
            polite=plan.polite,
        )
        longest = load.seconds + load.time_limit + 5 + 2 * TIMEOUT
        slow = asyncio.create_task(
            run_task(slow_clients.__name__, load, SlowResult, self._directory, time_limit=longest)
        )
        try:
            await asyncio.sleep(plan.ramp + 1)
            phase = await self.normal(plan.seconds, seed=number)
            return await slow, phase
        finally:
            slow.cancel()


def _others(pid: int) -> float:
    """CPU seconds of the bench and its children, but for styx."""
    return cpu_seconds(os.getpid()) - cpu_seconds(pid)


@contextmanager
def _room(plan: SlowPlan) -> Iterator[None]:
    """Open files for all connections, in every process that is started. Raises BenchFailed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 1000 + OPEN_FILES * (plan.heads + plan.bodies)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchFailed(f"needs {needed} open files, the hard limit is {hard}: raise nofile")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _deaf(plan: SlowPlan) -> Iterator[int]:
    """A port where the kernel takes connections and bytes, and nobody ever looks at them."""
    with socket.create_server(("127.0.0.1", 0), backlog=plan.heads + plan.bodies + 1) as listening:
        yield listening.getsockname()[1]


@asynccontextmanager
async def _backend(time_limit: float) -> AsyncIterator[int]:
    """Responds to normal requests; to slow ones it sends nothing, and leaves after `time_limit`. Gives its port."""
    open_now: set[asyncio.Transport] = set()
    async with listening(
        lambda: _Backend(time_limit, open_now), open_now, lambda transport: transport.abort()
    ) as port:
        yield port


class _Backend(asyncio.Protocol):
    """One connection from styx."""

    def __init__(self, time_limit: float, open_now: set[asyncio.Transport]) -> None:
        self._time_limit = time_limit
        self._open_now = open_now
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_now.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._open_now.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.endswith(b"\r\n\r\n"):  # normal requests have no bodies
            assert self._transport is not None
            slow = b" /slow " in self._data
            self._transport.write(CONTINUE if slow else RESPONSE)
            self._data = b""
            if slow:
                # What comes of the body fits into the buffer of the socket. Reading it would keep this process
                # busy, and normal requests would wait for that too.
                self._transport.pause_reading()
                asyncio.get_running_loop().call_later(self._time_limit, self._transport.abort)
