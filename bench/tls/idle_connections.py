"""What an idle TLS connection takes, after a response of 64 KiB: of styx, and of nginx.

A connection has sent such a response, and is kept. The first ones are not counted: they make room in allocators.
"""

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.lab import peers
from bench.lab.procfs import memory
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server
from bench.report import Fact, facts_table, none_missed
from bench.tls.tls_lab import HOST, ONE_CLIENT, TlsLab, core_api, tls_styx

KIB = 1 << 10
BEFORE = 100
"Connections that are open before memory is looked at."
COUNTED = 500
MOST_KIB = 18.0
TIMEOUT = 10.0


@dataclass(slots=True)
class IdleReport:
    """By proxy: bytes of heap for each idle connection."""

    each: dict[str, float] = field(default_factory=dict)

    def facts(self) -> list[Fact]:
        found = []
        for proxy, taken in self.each.items():
            goal, met = (f"<= {MOST_KIB:g} KiB", taken <= MOST_KIB * KIB) if proxy == "styx" else ("", None)
            found.append(Fact(f"an idle connection of {proxy}", f"{taken / KIB:.1f} KiB", goal, met))
        return found

    @property
    def good(self) -> bool:
        return none_missed(self.facts())

    def text(self) -> str:
        return facts_table("after 64 KiB over TLS", self.facts())


async def play(directory: Path) -> IdleReport:
    """Raises BenchFailed."""
    need("nginx")
    async with AsyncExitStack() as stack:
        lab = TlsLab(directory)
        lab.write()
        ports = await stack.enter_async_context(peers.backends(directory, 1))
        url = await stack.enter_async_context(core_api(lab, ports))
        setup = peers.ProxySetup(access_log=False, tls=lab.bundle)
        report = IdleReport()
        for proxy in (
            await stack.enter_async_context(tls_styx(directory, url, more=ONE_CLIENT, access_log=False)),
            await stack.enter_async_context(peers.nginx(directory, ports, setup)),
        ):
            report.each[proxy.name] = await asyncio.to_thread(_taken, proxy, str(lab.ca))
        return report


def _taken(proxy: Server, ca: str) -> float:
    context = ssl.create_default_context(cafile=ca)
    opened: list[ssl.SSLSocket] = []
    try:
        opened += [_connection(proxy.port, context) for _ in range(BEFORE)]
        before = memory(proxy.pid).anonymous
        opened += [_connection(proxy.port, context) for _ in range(COUNTED)]
        return (memory(proxy.pid).anonymous - before) / COUNTED
    finally:
        for connection in opened:
            connection.close()


def _connection(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    connection = context.wrap_socket(raw, server_hostname=HOST)
    connection.sendall(f"GET {peers.LARGE_PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    data = b""
    while not data.endswith(peers.LARGE_BODY[-256:]) or len(data) < len(peers.LARGE_BODY):
        piece = connection.recv(65536)
        if not piece:
            raise BenchFailed(f"a response was cut off: {data[:200]!r}")
        data += piece
    return connection
