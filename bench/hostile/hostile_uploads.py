"""Uploads to containers that do not know `Expect`, and to those that refuse one early and hang up.

    clients, one upload after another each ──► edge ──► two containers
                   core 1                     core 0        core 1

styx, HAProxy and nobody (direct) have their turn with the same uploads. A client writes all that it can before it
reads, as most do: a response that is not there when its write fails is lost.
"""

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from bench.lab.peers import HAPROXY_TOP, haproxy_command
from bench.lab.plain_http import request_head
from bench.lab.procfs import Cores
from bench.lab.programs import need
from bench.lab.servers import Server, free_ports, serving, styx
from bench.report import table, verdict
from bench.stubs.fixed_routes import fixed_routes

HOST = "site.test"
HAPROXY_CONF = (
    HAPROXY_TOP
    + """\
frontend edge
    bind 127.0.0.1:{port} backlog 4096
    default_backend site
backend site
    balance leastconn
    http-reuse always
    server s1 127.0.0.1:{first}
    server s2 127.0.0.1:{second}
"""
)
MIB = 1 << 20
CHUNK = 32 * 1024
TIMEOUT = 5.0
"Seconds for one response."
MOST_RATIO, MOST_MORE_MS = 1.2, 20.0
"Goal: p99 of uploads at most this multiple of that without an edge, and so many milliseconds more."


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileUploadsPlan:
    """How much is measured."""

    uploads: int = 1000
    "Half of them of known length, half in chunks, with each edge."
    size: int = MIB
    refused: int = 40
    "Uploads that are refused early: half of them of known length, half in chunks."
    refused_size: int = 5 * MIB
    clients: int = 2
    seconds: float = 5.0
    "At most, of the uploads with each edge."
    edges: tuple[str, ...] = ("direct", "haproxy", "styx")
    checkout: Path | None = None
    "The folder of another version of styx."


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of one kind of uploads with one edge."""

    kind: str
    edge: str
    uploads: int
    arrived: int
    "Responses of the container that arrived whole."
    p50_ms: float
    p99_ms: float
    first_ms: float
    "The very first upload; the others do not count it."


@dataclass(slots=True)
class HostileUploadsReport:
    """All results; good when the goals are met by styx."""

    results: list[Result] = field(default_factory=list)

    def of(self, kind: str, edge: str) -> Result | None:
        return next((result for result in self.results if (result.kind, result.edge) == (kind, edge)), None)

    def met(self, result: Result) -> bool:
        """Uploads that are taken are as fast as without an edge, and as many 413s arrive as with HAProxy."""
        if result.kind.startswith("refused"):
            haproxy = self.of(result.kind, "haproxy")
            return result.arrived >= (haproxy.arrived if haproxy is not None else result.uploads)
        direct = self.of(result.kind, "direct")
        fast = direct is None or result.p99_ms <= MOST_RATIO * direct.p99_ms + MOST_MORE_MS
        return fast and result.arrived == result.uploads

    @property
    def good(self) -> bool:
        return all(self.met(result) for result in self.results if result.edge == "styx")

    def text(self) -> str:
        heading = ("uploads", "edge", "sent", "arrived", "p50 ms", "p99 ms", "first ms", "")
        return table(heading, map(self._row, self.results))

    def _row(self, result: Result) -> tuple[str, ...]:
        times = (f"{ms:.1f}" for ms in (result.p50_ms, result.p99_ms, result.first_ms))
        cell = verdict(met=self.met(result)) if result.edge == "styx" else ""
        return (result.kind, result.edge, str(result.uploads), str(result.arrived), *times, cell)


@dataclass(frozen=True, slots=True)
class Upload:
    """What is sent, and the status of the response for which the container is known."""

    path: str
    size: int
    chunked: bool
    status: int

    def parts(self) -> Iterator[bytes]:
        """Of the wire."""
        length = {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(self.size)}
        yield request_head(HOST, f"POST {self.path}", length)
        for at in range(0, self.size, CHUNK):
            piece = b"x" * min(CHUNK, self.size - at)
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece
        if self.chunked:
            yield b"0\r\n\r\n"


class Client:
    """One after the other; a new connection where the last one was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None

    def send(self, upload: Upload) -> bool:
        """Whether the container's response arrived. Blocks."""
        try:
            sock = self._sock = self._sock or socket.create_connection(("127.0.0.1", self._port), TIMEOUT)
            # As curl and Python's own do, or the last bytes wait 40 ms for an acknowledgement now and then.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return False
        with suppress(OSError):  # then a response may be there all the same
            for part in upload.parts():
                sock.sendall(part)
        response = b""
        with suppress(OSError):
            while (whole := _whole(response)) is None and (data := sock.recv(65536)):
                response += data
        whole = _whole(response)
        if whole is None or b"\r\nconnection: close\r\n" in response.lower():
            self.close()
        return whole == upload.status

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _whole(response: bytes) -> int | None:
    """The status, if all of a response of known length is there."""
    head, blank, body = response.partition(b"\r\n\r\n")
    _, given, length = head.lower().partition(b"content-length: ")
    if not blank or not given or len(body) < int(length.split(b"\r\n")[0]):
        return None
    return int(head.split(b" ")[1])


async def play(plan: HostileUploadsPlan) -> HostileUploadsReport:
    """Raises BenchFailed."""
    need("haproxy", "taskset")
    cores, report = Cores.split(), HostileUploadsReport()
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name, cores.reserved():
        for edge in plan.edges:
            for chunked in (False, True):
                # Edges that have not learned anything yet.
                async with _edge(edge, Path(name), cores.proxy, plan) as port:
                    report.results += await asyncio.to_thread(_measure, plan, edge, port, chunked=chunked)
    return report


def _measure(plan: HostileUploadsPlan, edge: str, port: int, *, chunked: bool) -> list[Result]:
    """Uploads that are taken first, then those that are refused."""
    framing = "chunked" if chunked else "length"
    taken = Upload("/taken", plan.size, chunked, 200)
    refused = Upload("/refused", plan.refused_size, chunked, 413)
    return [
        _played(f"taken, {framing}", edge, port, taken, plan.uploads // 2, plan),
        _played(f"refused, {framing}", edge, port, refused, plan.refused // 2, plan),
    ]


def _played(kind: str, edge: str, port: int, upload: Upload, count: int, plan: HostileUploadsPlan) -> Result:
    began = time.monotonic()
    first = Client(port)
    arrived = [first.send(upload)]
    first_ms = (time.monotonic() - began) * 1e3
    first.close()
    end = began + plan.seconds / 2

    def one_after_another(number: int) -> list[tuple[bool, float]]:
        client, done = Client(port), []
        for _ in range(number, count, plan.clients):
            start = time.monotonic()
            if start > end:
                break
            done.append((client.send(upload), (time.monotonic() - start) * 1e3))
        client.close()
        return done

    with ThreadPoolExecutor(plan.clients) as threads:
        done = [one for several in threads.map(one_after_another, range(1, 1 + plan.clients)) for one in several]
    times = [ms for _, ms in done] or [0.0]
    arrived += [whole for whole, _ in done]
    return Result(
        kind=kind,
        edge=edge,
        uploads=len(arrived),
        arrived=sum(arrived),
        p50_ms=median(times),
        p99_ms=quantiles([*times, times[-1]], n=100)[98],
        first_ms=first_ms,
    )


@asynccontextmanager
async def _edge(name: str, directory: Path, core: int, plan: HostileUploadsPlan) -> AsyncIterator[int]:
    """Its port; two containers behind it."""
    async with AsyncExitStack() as stack:

        async def start(called: str, command: list[str], port: int, core: int | None = None) -> Server:
            return await stack.enter_async_context(
                serving(called, command, directory=directory, port=port, core=core)
            )

        first, second, port = free_ports(3)
        for backend in (first, second):
            command = [sys.executable, "-m", "bench.stubs.deaf_backend", str(backend)]
            await start(f"deaf-{backend}", command, backend)
        if name == "direct":
            yield first
        elif name == "haproxy":
            conf = HAPROXY_CONF.format(maxconn=4096, port=port, first=first, second=second)
            yield (await start(name, haproxy_command(conf, directory), port, core)).port
        else:
            url = await stack.enter_async_context(fixed_routes("site", [first, second]))
            server = await stack.enter_async_context(styx(directory, url, core=core, checkout=plan.checkout))
            yield server.port


if __name__ == "__main__":
    print(asyncio.run(play(HostileUploadsPlan())).text())
