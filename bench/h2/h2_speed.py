"""CPU per request of styx and nginx over TLS, by h2load: 1, 10 and 100 streams, 64 KiB; memory of idle connections.

Both have the same certificate and the same backends, run on the same core, and have their turns in each round. The
figure is the median of the ratios of the rounds.
"""

import asyncio
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trustme

from bench.fuzz_h2 import frames as f
from bench.fuzz_h2.frames import PREFACE, Frame, encoded, frames_of, literal_block
from bench.h2.h2_client import get
from bench.h2.h2load import h2load
from bench.lab import peers
from bench.lab.peers import HOST, LARGE_PATH, NGINX_CONF, TINY_PATH, nginx_command, nginx_names
from bench.lab.procfs import KIB, Cores, memory, run_seconds
from bench.lab.programs import BenchFailed, program
from bench.lab.servers import Server, free_ports, serving
from bench.report import SceneFact
from bench.stubs.fixed_routes import fixed_routes

CLIENTS = 10
"Connections of h2load."
IDLE = 400
"Idle connections whose memory is measured."
MEMORY_GOAL = 32.0
STYX_YAML = """\
listeners: [{{address: "127.0.0.1:{port}", tls: true}}]
tls: {{certificates: "file:{directory}/certificates"}}
core_api: {{url: "{core_api_url}"}}
admin: {{address: "127.0.0.1:{admin_port}"}}
workers: 1
edge_name: bench
access_log: {{path: "{directory}/styx.log", flush_interval: 1s}}
log: {{level: warning}}
drain: {{delay: 0s}}
limits: {{requests_per_connection: 1000000000, handshakes_per_client: 0}}
pool: {{idle_per_backend: 128}}
"""


class Case(NamedTuple):
    """One load, and the goal for its ratio to nginx."""

    name: str
    streams: int
    "At once, on each connection."
    path: str
    goal: float


CASES = (
    Case("1 stream", 1, TINY_PATH, 1.6),
    Case("10 streams", 10, TINY_PATH, 1.0),
    Case("100 streams", 100, TINY_PATH, 1.0),
    Case("64 KiB, 10 streams", 10, LARGE_PATH, 1.3),
)


async def speed(rounds: int, seconds: float, compiled: Path | None) -> list[SceneFact]:
    """`compiled`: a checkout to measure instead of this one. Raises BenchFailed."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="styx-bench-")))
        cores = Cores.split()
        stack.enter_context(cores.reserved())
        _write_certificate(directory)
        ports = await stack.enter_async_context(peers.backends(directory))
        styx = await stack.enter_async_context(_styx(directory, ports, cores.proxy, compiled))
        nginx = await stack.enter_async_context(_nginx(directory, ports, cores.proxy))
        idle = await _idle(styx, nginx)  # first: what the loads leave free would be used again
        return [*[await _compare(case, styx, nginx, rounds, seconds) for case in CASES], idle]


async def _compare(case: Case, styx: Server, nginx: Server, rounds: int, seconds: float) -> SceneFact:
    ours, theirs = [], []
    for _ in range(rounds + 1):  # the first one warms up
        theirs.append(await _cpu(nginx, case, seconds))
        ours.append(await _cpu(styx, case, seconds))
    ratio = median(one / other for one, other in zip(ours[1:], theirs[1:], strict=True))
    seen = f"{median(ours[1:]):.1f} / {median(theirs[1:]):.1f} us: {ratio:.2f} x"
    return SceneFact("speed", f"CPU of a request, {case.name}", seen, f"<= {case.goal:g} x", ratio <= case.goal)


async def _cpu(server: Server, case: Case, seconds: float) -> float:
    """Microseconds of CPU for each request."""
    before = run_seconds(server.pid)
    result = await h2load(
        *("-D", f"{seconds:g}", "-c", CLIENTS, "-m", case.streams, f"--connect-to=127.0.0.1:{server.port}"),
        f"https://{HOST}{case.path}",
    )
    if result.succeeded < 100 or result.started - result.succeeded > CLIENTS * case.streams:
        raise BenchFailed(f"{server.name}: {result.succeeded} of {result.started} succeeded: {result.text[-600:]}")
    return 1e6 * (run_seconds(server.pid) - before) / result.succeeded


def _write_certificate(directory: Path) -> None:
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    folder = directory / "certificates"
    folder.mkdir()
    (folder / f"{HOST}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / f"{HOST}.key").write_bytes(issued.private_key_pem.bytes())


@asynccontextmanager
async def _styx(directory: Path, ports: Sequence[int], core: int, home: Path | None) -> AsyncIterator[Server]:
    port, admin_port = free_ports(2)
    async with fixed_routes("bench", ports) as url:
        config = directory / "styx.yaml"
        config.write_text(STYX_YAML.format(port=port, admin_port=admin_port, core_api_url=url, directory=directory))
        command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
        if home is not None:
            command = [program("env"), "-C", str(home), *command]
        async with serving("styx", command, directory=directory, port=port, core=core) as server:
            yield server


@asynccontextmanager
async def _nginx(directory: Path, ports: Sequence[int], core: int) -> AsyncIterator[Server]:
    (port,) = free_ports(1)
    pair = f"ssl_certificate {directory}/certificates/{HOST}.pem; "
    pair += f"ssl_certificate_key {directory}/certificates/{HOST}.key; ssl_protocols TLSv1.2 TLSv1.3;"
    text = NGINX_CONF.format(
        **nginx_names("nginx", directory),
        port=port,
        hosts=HOST,
        ssl="",
        certificate="",
        access_log=f"access_log {directory}/nginx.log line buffer=64k flush=1s;",
        servers="\n".join(f"        server 127.0.0.1:{backend};" for backend in ports),
    )
    conf = text.replace(f"listen 127.0.0.1:{port} ", f"{pair} listen 127.0.0.1:{port} ssl http2 ")
    command = nginx_command(conf, directory)
    async with serving("nginx", command, directory=directory, port=port, core=core) as server:
        yield server


# idle connections


async def _idle(styx: Server, nginx: Server) -> SceneFact:
    ours, theirs = await _memory(styx), await _memory(nginx)
    seen = f"{ours:.1f} / {theirs:.1f} KiB"
    return SceneFact("speed", "memory of an idle connection", seen, f"<= {MEMORY_GOAL:g} KiB", ours <= MEMORY_GOAL)


async def _memory(server: Server) -> float:
    """KiB of each connection that had one request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    await _close([await _used(server, context) for _ in range(100)])
    before = memory(server.pid).anonymous
    writers = [await _used(server, context) for _ in range(IDLE)]
    await asyncio.sleep(1.0)
    grown = memory(server.pid).anonymous - before
    await _close(writers)
    return grown / IDLE / KIB


async def _used(server: Server, context: ssl.SSLContext) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=HOST)
    block = literal_block([(n, b"https" if n == b":scheme" else v) for n, v in get(HOST, TINY_PATH)])
    head = Frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, block)
    writer.write(PREFACE + encoded([Frame(f.SETTINGS, 0, 0), head, Frame(f.SETTINGS, f.ACK, 0)]))
    data = b""
    async with asyncio.timeout(10.0):
        while not any(x.stream == 1 and x.kind == f.DATA and x.flags & f.END_STREAM for x in frames_of(data)[0]):
            piece = await reader.read(65536)
            if not piece:
                raise BenchFailed(f"{server.name} closed a connection: {data[:200]!r}")
            data += piece
    return writer


async def _close(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.1)
