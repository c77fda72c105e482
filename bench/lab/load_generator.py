"""An open-loop load generator in a process of its own: requests are sent when due, however slow responses are.

`python -m bench.lab.load_generator SCHEDULE RESULT`: two JSON files. Latency counts from when a request was due,
not from when it was sent, so that a generator that falls behind cannot hide it.
"""

import asyncio
import math
import ssl
from collections import Counter, deque
from pathlib import Path
from random import Random
from zlib import crc32

import msgspec
import uvloop

from bench.lab.plain_http import Broken, Connection, Reply
from bench.lab.start_signal import report_ready, wait_for_start
from bench.lab.task_files import play_task


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Poisson arrivals; each goes to the next port in turn, has its own order id, and every other one is a POST."""

    ports: list[int]
    host: str
    path: str
    rate: float
    seconds: float
    seed: int
    name: str
    "Order ids begin with it."
    post_every: int = 2
    "One request of so many is a POST."
    body: int = 0
    "Bytes of a POST at most; its size is drawn."
    demand_ms: float = 0.0
    "Mean work of a request, log-normal and as wide as its mean, which it sends in X-Demand-Ms; 0 = it does not."
    hosts: list[str] = []
    "Each request is for one of these, at random; empty = for `host`."
    begins: str = ""
    "File with the moment at which it begins, see `bench.lab.start_signal`; empty = at once."
    ca: str = ""
    "File of the authority that is trusted: requests are sent over TLS, for `host`; empty = plain HTTP."
    warm_up: float = 0.0
    "Requests that are due earlier are sent and not counted."


FAILED = 20
SIGMA = math.sqrt(math.log(2.0))
"Of a log-normal distribution whose standard deviation is its mean."
MEAN_OF_IT = math.exp(SIGMA * SIGMA / 2)


class LoadResult(msgspec.Struct, kw_only=True):
    """What came back."""

    offered: int = 0
    statuses: dict[str, int] = {}
    'By "200", "503 all_refused", or "broken" with the reason.'
    failed: list[str] = []
    "Order ids of the first FAILED that got anything else."
    completed: list[str] = []
    "Order ids that got a 200."
    latencies_ms: list[float] = []
    "Of those."
    all_ms: list[float] = []
    "Of all that got a response, whatever its status."
    late_ms: list[float] = []
    "How much later than due each request was sent."

    @property
    def p99_ms(self) -> float:
        """Of the latencies of 200s, without interpolation; infinite if there are none."""
        times = sorted(self.latencies_ms)
        return times[int(len(times) * 0.99)] if times else math.inf


class LoadGenerator:
    """Plays one schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._load_result = LoadResult()
        self._statuses: Counter[str] = Counter()
        self._idle: dict[int, deque[Connection]] = {port: deque() for port in schedule.ports}
        self._tls = ssl.create_default_context(cafile=schedule.ca) if schedule.ca else None

    async def play(self) -> LoadResult:
        schedule = self._schedule
        loop, rand = asyncio.get_running_loop(), Random(schedule.seed)
        start = due = await self._start()
        number = 0
        async with asyncio.TaskGroup() as requests:
            while (due := due + rand.expovariate(schedule.rate)) < start + schedule.seconds:
                demand = rand.lognormvariate(0.0, SIGMA) * schedule.demand_ms / MEAN_OF_IT
                await asyncio.sleep(max(0.0, due - loop.time()))
                counted = due >= start + schedule.warm_up
                host = rand.choice(schedule.hosts) if schedule.hosts else schedule.host
                requests.create_task(self._one(number, due, demand, host, counted=counted))
                number += 1
                self._load_result.offered += counted
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._load_result.statuses = dict(self._statuses)
        return self._load_result

    async def _start(self) -> float:
        if not self._schedule.begins:
            return asyncio.get_running_loop().time() + 0.1
        report_ready(Path(self._schedule.begins))
        return await wait_for_start(Path(self._schedule.begins))

    async def _one(self, number: int, due: float, demand: float, host: str, *, counted: bool) -> None:
        schedule, load_result = self._schedule, self._load_result if counted else LoadResult()
        statuses = self._statuses if counted else Counter()
        method = "GET" if number % schedule.post_every else "POST"
        order = f"{schedule.name}-{method.lower()}-{number}"
        loop = asyncio.get_running_loop()
        load_result.late_ms.append(1e3 * (loop.time() - due))
        try:
            reply = await self._send_request(
                schedule.ports[number % len(schedule.ports)], method, host, order, demand
            )
        except Broken as error:
            statuses[f"broken {error}"] += 1
            load_result.failed += [order] * (len(load_result.failed) < FAILED)
            return
        statuses[f"{reply.status} {reason(reply)}".strip()] += 1
        load_result.all_ms.append(1e3 * (loop.time() - due))
        if reply.status != 200:
            load_result.failed += [order] * (len(load_result.failed) < FAILED)
        else:
            load_result.completed.append(order)
            load_result.latencies_ms.append(1e3 * (loop.time() - due))

    async def _send_request(self, port: int, method: str, host: str, order: str, demand: float) -> Reply:
        idle = self._idle[port]
        name = host if self._tls is not None else None
        connection = idle.pop() if idle else await Connection.open(port, self._tls, name)
        try:
            schedule = self._schedule
            fields = {"X-Order-Id": order, **({"X-Demand-Ms": f"{demand:.3f}"} if demand else {})}
            size = crc32(order.encode()) % (schedule.body + 1) if method == "POST" else 0
            return await connection.send_request(host, f"{method} {schedule.path}", fields, b"x" * size)
        finally:
            if connection.usable:
                idle.append(connection)
            else:
                connection.close()


def reason(reply: Reply) -> str:
    """Why it is not the application's own response; empty when it is."""
    return reply.fields.get("x-styx-error") or reply.fields.get("x-styx-refused") or ""


if __name__ == "__main__":
    play_task(Schedule, lambda schedule: uvloop.run(LoadGenerator(schedule).play()))
