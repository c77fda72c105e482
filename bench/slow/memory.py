"""Memory of styx while one side is far slower than the other: bodies are streamed, not stored.

download: a container sends as fast as it can, the client reads 1 MiB/s
upload:   the client sends as fast as it can, a container reads 1 MiB/s
"""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.lab.plain_http import Broken, Connection, request_head
from bench.lab.procfs import Memory, memory
from bench.lab.programs import BenchFailed
from bench.lab.servers import Server, styx
from bench.report import table, verdict
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform

MIB = 1 << 20
GOAL = 8 * MIB
"Most growth of the resident memory."

SIZE = 1 << 30
RATE = MIB
"Bytes a second that the slow side takes."
PIECE = 64 * 1024
"Read or written at once, and the receive buffer of the slow client."
SAMPLE_EVERY = 0.5
HOST = "live-memory.localhost"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """`seconds`: after which each transfer is cut off."""

    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Course:
    """The memory of styx during one transfer."""

    direction: str
    start: Memory
    samples: list[Memory]
    moved: int
    "Bytes that the client read or could write."

    @property
    def growth(self) -> int:
        return max(sample.resident for sample in self.samples) - self.start.resident

    @property
    def anonymous_growth(self) -> int:
        return max(sample.anonymous for sample in self.samples) - self.start.anonymous

    @property
    def met(self) -> bool:
        return self.growth < GOAL


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Both directions."""

    courses: list[Course]

    @property
    def good(self) -> bool:
        return all(course.met for course in self.courses)

    def text(self) -> str:
        heading = ("memory", "MiB moved", "VmRSS at start", "growth", "RssAnon growth", "goal", "")
        rows = [
            (
                f"{course.direction} of 1 GiB at 1 MiB/s",
                f"{course.moved / MIB:.0f}",
                f"{course.start.resident / MIB:.1f} MiB",
                f"{course.growth / MIB:.2f} MiB",
                f"{course.anonymous_growth / MIB:.2f} MiB",
                f"< {GOAL // MIB} MiB",
                verdict(met=course.met),
            )
            for course in self.courses
        ]
        return table(heading, rows)


async def run(plan: MemoryPlan) -> MemoryReport:
    """Raises BenchFailed."""
    async with PocketPlatform(PlatformSpec(make="builtin")) as platform:
        await platform.create_environment("memory", hostnames=[HOST], service_time=0)
        transfers = {"download": _download, "upload": _upload}
        # A process of its own for each: memory that one piled up and freed would be there for the other.
        url = platform.core_api_url
        return MemoryReport(await asyncio.gather(*(_direction(url, plan, *item) for item in transfers.items())))


async def _direction(core_api_url: str, plan: MemoryPlan, direction: str, transfer: "Transfer") -> Course:
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        async with styx(Path(name), core_api_url) as server:
            await _warm_up(server)
            return await _course(server, direction, transfer, plan.seconds)


async def _warm_up(server: Server) -> None:
    """Whatever is done for the first time (code is loaded, buffers are made) is done before the start."""
    try:
        connection = await Connection.open(server.port)
        try:
            for line, body in ((f"GET /bytes/{MIB}", b""), ("POST /orders", bytes(MIB))):
                reply = await connection.send_request(HOST, line, {}, body)
                if reply.status != 200:
                    raise BenchFailed(f"{line}: {reply.status} {reply.body[:200]!r}")
        finally:
            connection.close()
    except Broken as error:
        raise BenchFailed(f"styx did not respond: {error}") from error


Transfer = Callable[[socket.socket, list[int]], Awaitable[None]]
"Moves bytes over a connection to styx for ever, and adds the size of each piece to the list."


async def _course(server: Server, direction: str, transfer: Transfer, seconds: float) -> Course:
    loop = asyncio.get_running_loop()
    start = memory(server.pid)
    samples, moved = [start], [0]
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        moving = asyncio.ensure_future(transfer(sock, moved))
        deadline = loop.time() + seconds
        while loop.time() < deadline and not moving.done():
            await asyncio.sleep(SAMPLE_EVERY)
            samples.append(memory(server.pid))
        moving.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await moving
    if sum(moved) < RATE * seconds / 2:
        raise BenchFailed(f"{direction}: only {sum(moved)} bytes in {seconds:g} s: nothing was shown")
    return Course(direction, start, samples, sum(moved))


async def _download(sock: socket.socket, moved: list[int]) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request_head(HOST, f"GET /bytes/{SIZE}", {}))
    due = loop.time()
    while piece := await loop.sock_recv(sock, PIECE):
        moved.append(len(piece))
        due += len(piece) / RATE
        await asyncio.sleep(max(0.0, due - loop.time()))


async def _upload(sock: socket.socket, moved: list[int]) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request_head(HOST, f"POST /sip/{RATE}", {"Content-Length": str(SIZE)}))
    piece = bytes(PIECE)
    for _ in range(SIZE // PIECE):
        await loop.sock_sendall(sock, piece)
        moved.append(PIECE)
