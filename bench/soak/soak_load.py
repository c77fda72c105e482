"""The clients of `soak`, in a process of their own: steady ones, which must be served, and restless ones.

`python -m bench.soak.soak_load LOAD RESULT`: two JSON files. The steady ones are an open loop of requests for
sites whose containers move, sleep and refuse, but do not fail: each must get a 200. The restless ones leave in the
middle, read slowly, come with noise, and request from sites that come and go.
"""

import asyncio
import ssl
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from random import Random

import msgspec
import uvloop

from bench.h2.h2_client import H2Wire, NotProcessed, get
from bench.lab.availability_load import Lost
from bench.lab.paced_load import percentile
from bench.lab.plain_http import Broken, Connection, Reply
from bench.lab.task_files import play_task
from bench.soak.restless_clients import RestlessClients, SoakTargets
from edge.platform.containers.sample_site import BLOCK

KIB = 1024
MOST = 48
"""Clients of either sort that are under way at once. One that is due beyond does not come: when the machine is busy
with something else, the load must not become a flood, whose memory would stay."""
FAILED = 20
"Failures that are kept with their details."
KEPT = 24
"Idle connections that are kept of each kind; the longest idle one is closed for another."
H2_WIRES = 4
STREAMS_PER_WIRE = 400
TRIES = 3
TIME_LIMIT = 20.0


class SoakLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent."""

    targets: SoakTargets
    rate: float
    "Steady requests a second."
    restless_rate: float
    "Restless clients a second."
    seconds: float
    seed: int
    warm_ups: list[float]
    "Seconds at which as many clients as there may be come at once, so that no later peak of memory is higher."


class SoakFault(msgspec.Struct, frozen=True, kw_only=True):
    """A steady request that was not served."""

    kind: str
    what: str
    at: float
    "Seconds after the start."
    host: str


class SoakResult(msgspec.Struct, kw_only=True):
    """What came back."""

    offered: int = 0
    left_out: int = 0
    "Clients that did not come: MOST were under way."
    steady: dict[str, dict[str, int]] = {}
    "By kind of request, then by status or by what was wrong."
    faults: list[SoakFault] = []
    restless: dict[str, dict[str, int]] = {}
    "By kind of client."
    closed_between: int = 0
    "Kept connections that the server closed while they were idle."
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    late_p99_ms: float = 0.0


class Unexpected(Exception):
    """A response that is not the right one; the text says why."""


class SteadyClients:
    """Sends the requests that must be served."""

    def __init__(self, load: SoakLoad, rand: Random) -> None:
        self._targets = load.targets
        self._rand = rand
        self._tls = ssl.create_default_context(cafile=load.targets.ca)
        self._h2_tls = ssl.create_default_context(cafile=load.targets.ca)
        self._h2_tls.set_alpn_protocols(["h2"])
        self._idle: dict[str, deque[Connection]] = {}
        self._wires: dict[str, tuple[H2Wire, int]] = {}
        "By listener and number: the connection, and how many streams it has had."
        self.closed_between = 0

    def draw(self) -> tuple[str, Callable[[str], Awaitable[None]]]:
        """A kind of request, by its share, and what sends it."""
        kinds = (
            (34, "page", self._page),
            (8, "page, new connection", self._page_anew),
            (12, "post", self._post),
            (2, "upload of 256 KiB", self._upload),
            (10, "64 KiB", self._large),
            (1, "1 MiB", self._very_large),
            (12, "page over TLS", self._page_over_tls),
            (2, "page over TLS, new connection", self._page_over_tls_anew),
            (4, "64 KiB over TLS", self._large_over_tls),
            (8, "stream", self._stream),
            (4, "stream over TLS", self._stream_over_tls),
            (2, "stream of 64 KiB over TLS", self._large_stream_over_tls),
            (1, "stream of 1 MiB", self._very_large_stream),
        )
        [(_, name, send)] = self._rand.choices(kinds, [share for share, _, _ in kinds])
        return name, send

    def close(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        for wire, _ in self._wires.values():
            wire.close()

    # HTTP/1.1

    async def _page(self, host: str) -> None:
        _expect_page(await self._get(host, "/"), host)

    async def _page_anew(self, host: str) -> None:
        _expect_page(await self._on_new("", host, "GET /"), host)

    async def _post(self, host: str) -> None:
        await self._send_body(host, self._rand.randrange(1, 4 * KIB))

    async def _upload(self, host: str) -> None:
        await self._send_body(host, 256 * KIB)

    async def _send_body(self, host: str, size: int) -> None:
        reply = await self._on_new("", host, "POST /", b"x" * size)
        _expect(200, reply.status, reply.fields.get("x-styx-error", ""))
        if msgspec.json.decode(reply.body).get("bytes") != size:
            raise Unexpected("body lost on the way")

    async def _large(self, host: str) -> None:
        _expect_bytes(await self._get(host, f"/bytes/{64 * KIB}"), 64 * KIB)

    async def _very_large(self, host: str) -> None:
        _expect_bytes(await self._get(host, f"/chunked/{1024 * KIB}"), 1024 * KIB)

    async def _page_over_tls(self, host: str) -> None:
        _expect_page(await self._get(host, "/", over_tls=True), host)

    async def _page_over_tls_anew(self, host: str) -> None:
        _expect_page(await self._on_new(host, host, "GET /"), host)

    async def _large_over_tls(self, host: str) -> None:
        _expect_bytes(await self._get(host, f"/bytes/{64 * KIB}", over_tls=True), 64 * KIB)

    async def _get(self, host: str, path: str, *, over_tls: bool = False) -> Reply:
        """On a kept connection; as browsers do, again on a new one if the server has closed the kept one."""
        server_name = host if over_tls else ""
        idle = self._idle.setdefault(server_name, deque())
        while idle:
            connection = idle.pop()
            if connection.is_closed:
                self.closed_between += 1
                connection.close()
                continue
            try:
                reply = await self._send(connection, idle, host, f"GET {path}")
            except Broken:
                self.closed_between += 1
                break
            return reply
        return await self._on_new(server_name, host, f"GET {path}")

    async def _on_new(self, server_name: str, host: str, line: str, body: bytes = b"") -> Reply:
        targets = self._targets
        source = targets.source()
        if server_name:
            connection = await Connection.open(targets.https, self._tls, server_name, source)
        else:
            connection = await Connection.open(targets.http, source=source)
        keeping = self._idle.setdefault(server_name, deque()) if line.startswith("GET") else None
        return await self._send(connection, keeping, host, line, body)

    async def _send(
        self, connection: Connection, idle: deque[Connection] | None, host: str, line: str, body: bytes = b""
    ) -> Reply:
        reply = None
        try:
            reply = await connection.send_request(host, line, {}, body)
        finally:
            if reply is not None and connection.usable and idle is not None:
                idle.append(connection)
                if len(idle) > KEPT:
                    idle.popleft().close()
            else:
                connection.close()
        return reply

    # HTTP/2

    async def _stream(self, host: str) -> None:
        await self._stream_of(host, "/", over_tls=False)

    async def _stream_over_tls(self, host: str) -> None:
        await self._stream_of(host, "/", over_tls=True)

    async def _large_stream_over_tls(self, host: str) -> None:
        await self._stream_of(host, f"/bytes/{64 * KIB}", over_tls=True)

    async def _very_large_stream(self, host: str) -> None:
        await self._stream_of(host, f"/bytes/{1024 * KIB}", over_tls=False)

    async def _stream_of(self, host: str, path: str, *, over_tls: bool) -> None:
        for _ in range(TRIES):
            wire = await self._wire(host, over_tls=over_tls)
            fields = get(host, path, scheme="https" if over_tls else "http")
            with suppress(NotProcessed):
                response = await wire.request(fields)
                break
            self.closed_between += 1
        else:
            raise Lost("never begun")
        _expect(200, response.status, response.fields.get(b"x-styx-error", b"").decode())
        reply = Reply(response.status, {}, bytes(response.body))
        if path == "/":
            _expect_page(reply, host)
        else:
            _expect_bytes(reply, int(path.rpartition("/")[2]))

    async def _wire(self, host: str, *, over_tls: bool) -> H2Wire:
        """One of a few connections, over TLS that for this hostname; a new one after many streams."""
        key = host if over_tls else f"plain {self._rand.randrange(H2_WIRES)}"
        wire, streams = self._wires.get(key, (None, 0))
        if wire is None or wire.is_gone or wire.is_leaving or streams >= STREAMS_PER_WIRE:
            if wire is not None:
                wire.leave()
            targets, source = self._targets, self._targets.source()
            if over_tls:
                wire = await H2Wire.open(targets.https, source, tls=self._h2_tls, host=host)
            else:
                wire = await H2Wire.open(targets.h2, source)
            streams = 0
        self._wires[key] = wire, streams + 1
        return wire


def _expect(expected: int, status: int, why: str) -> None:
    if status != expected:
        raise Unexpected(f"{status} {why}".strip())


def _expect_page(reply: Reply, host: str) -> None:
    _expect(200, reply.status, reply.fields.get("x-styx-error", ""))
    if f"<title>{host.partition('.')[0]}</title>".encode() not in reply.body:
        raise Unexpected("page of another site")


def _expect_bytes(reply: Reply, size: int) -> None:
    _expect(200, reply.status, reply.fields.get("x-styx-error", ""))
    if len(reply.body) != size or reply.body[: len(BLOCK)] != BLOCK[:size]:
        raise Unexpected("wrong body")


class SoakGenerator:
    """Plays one load."""

    def __init__(self, load: SoakLoad) -> None:
        self._load = load
        self._rand = Random(load.seed)
        self._steady = SteadyClients(load, self._rand)
        self._restless = RestlessClients(load.targets, self._rand)
        self._statuses: dict[str, Counter[str]] = {}
        self._result = SoakResult()
        self._began = 0.0
        self._latencies: list[float] = []
        self._late: list[float] = []

    async def play(self) -> SoakResult:
        self._began = time.monotonic()
        self._load.targets.begin(self._began)
        async with asyncio.TaskGroup() as clients:
            clients.create_task(self._arrivals(self._load.rate, self._one))
            clients.create_task(self._arrivals(self._load.restless_rate, self._restless.one))
        self._steady.close()
        result = self._result
        result.steady = {kind: dict(statuses) for kind, statuses in sorted(self._statuses.items())}
        result.restless = {kind: dict(statuses) for kind, statuses in sorted(self._restless.seen.items())}
        result.closed_between = self._steady.closed_between
        self._latencies.sort()
        if self._latencies:
            result.p50_ms, result.p99_ms = (1e3 * percentile(self._latencies, share) for share in (50.0, 99.0))
            result.late_p99_ms = 1e3 * percentile(sorted(self._late), 99.0)
        return result

    async def _arrivals(self, rate: float, client: Callable[[float], Awaitable[None]]) -> None:
        moments, under_way, end = self._moments(rate), 0, self._began + self._load.seconds

        async def one(due: float) -> None:
            nonlocal under_way
            under_way += 1
            try:
                await client(due)
            finally:
                under_way -= 1

        async with asyncio.TaskGroup() as clients:
            while (due := next(moments)) < end:
                if due > (now := time.monotonic()):
                    await asyncio.sleep(due - now)
                if under_way < MOST:
                    clients.create_task(one(due))
                else:
                    self._result.left_out += 1

    def _moments(self, rate: float) -> Iterator[float]:
        """When clients come: at random, and many at once in warm-ups."""
        due = self._began
        warm_ups = [self._began + seconds for seconds in self._load.warm_ups]
        while True:
            due += self._rand.expovariate(rate)
            while warm_ups and due > warm_ups[0]:
                yield from [warm_ups.pop(0)] * MOST
            yield due

    async def _one(self, due: float) -> None:
        self._late.append(time.monotonic() - due)
        self._result.offered += 1
        kind, send = self._steady.draw()
        host = self._rand.choice(self._load.targets.steady)
        statuses = self._statuses.setdefault(kind, Counter())
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await send(host)
        except (Broken, Lost, Unexpected, TimeoutError, OSError) as error:
            what = str(error) or type(error).__name__
            statuses[what] += 1
            if len(self._result.faults) < FAILED:
                at = time.monotonic() - self._began
                self._result.faults.append(SoakFault(kind=kind, what=what, at=at, host=host))
        else:
            statuses["200"] += 1
            self._latencies.append(time.monotonic() - due)


if __name__ == "__main__":
    play_task(SoakLoad, lambda load: uvloop.run(SoakGenerator(load).play()))
