"""The environment of the scenes of `outages`: a running styx, its core API or routes file, and the sites."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from bench.lab.plain_http import Broken, Connection
from bench.operations.operate_scenes import Play
from bench.report import Fact
from bench.routing.unknown_host_load import UnknownHostClients
from bench.stubs.core_api_stub import GENERATION, CoreApiStub, Known
from bench.stubs.fixed_routes import backend_entry
from bench.stubs.site_containers import ANY_SITE
from edge.platform.child_process import ChildProcess

KNOWN = [f"known-{n}.test" for n in range(50)]
"Hostnames under load, each a site of its own."
COLD, REFUSED, CLIENT_HOSTS = "cold-", "refused-", "many-"
"""How other hostnames that exist begin: requested once each, and expected to work; requested once each while the
core API is in trouble with them; requested once in advance, so that the edge knows many."""
CONTAINERS = {**dict.fromkeys(KNOWN, 2), ANY_SITE: 3}
"How many containers each site has. All other sites share those of ANY_SITE."
FRESHNESS = "max-age=2, stale-while-revalidate=600, stale-if-error=86400"
"So short that every known hostname is looked up several times in each scene."
DELAY = 0.003
"Seconds that the core API takes for a response."
SERVERS = 10

Which = Callable[[str], bool]
"Of which hostnames something is so."


def every(hostname: str) -> bool:
    return True


def none(hostname: str) -> bool:
    return False


def half(hostname: str) -> bool:
    """About half of all hostnames, always the same ones."""
    return bool(crc32(hostname.encode()) & 1)


def other_half(hostname: str) -> bool:
    return not half(hostname)


@dataclass
class Sites:
    """What is true of all sites, as far as the core API or the routes file says it."""

    ports: dict[str, list[int]]
    "Of the containers of each site, by its hostname."
    generation: int = GENERATION
    without_backends: Which = none
    missing: Which = none
    "Hostnames of which the core API says that they do not exist."

    def known(self, hostname: str) -> Known | None:
        """What the core API says; None = 404."""
        label = hostname.partition(".")[0]
        exists = hostname in self.ports or label.startswith((COLD, REFUSED, CLIENT_HOSTS))
        if not exists or self.missing(hostname):
            return None
        backends = [] if self.without_backends(hostname) else self._backends(hostname)
        return Known(label, backends, self.generation)

    def ports_of(self, hostname: str) -> list[int]:
        return self.ports.get(hostname, self.ports[ANY_SITE])

    def _backends(self, hostname: str) -> list[dict[str, object]]:
        numbered = enumerate(self.ports_of(hostname))
        first = crc32(hostname.encode())
        return [backend_entry(f"c{n}", port, f"srv-{(first + n) % SERVERS}") for n, port in numbered]

    def file(self, hostnames: Sequence[str]) -> str:
        """The routes file with these hostnames."""
        lines = ["routes:"]
        for hostname in hostnames:
            backends = ", ".join(f'{{address: "127.0.0.1:{port}"}}' for port in self.ports_of(hostname))
            lines.append(f"- {{hostnames: [{hostname}], backends: [{backends}]}}")
        return "\n".join([*lines, ""])


@dataclass
class Stage(Play):
    """What a scene has at hand."""

    sites: Sites
    core: CoreApiStub
    routes_file: Path
    listed: list[str]
    "Hostnames in the routes file."
    directory: Path
    containers: ChildProcess
    direct_port: int
    "Of a container that no site has."
    moved_ports: dict[str, list[int]] = field(default_factory=dict)
    "Of other containers of the sites, to which the scene may move them."
    unknown_host_clients: UnknownHostClients | None = None
    engine_url: str = ""
    "Of the Redis that the edge shares, if it does."
    kills: list[float] = field(default_factory=list)
    "When workers were stopped to be killed."
    facts: list[Fact] = field(default_factory=list)

    def write_routes(self, text: str) -> None:
        """In place, as an editor or a shell redirection does."""
        self.routes_file.write_text(text)

    async def first_completed(self, hostname: str, time_limit: float) -> float | None:
        """Seconds until somebody who asks for it over and over, on new connections, gets a 200; None = never."""
        began = time.monotonic()
        while time.monotonic() - began < time_limit:
            try:
                connection = await Connection.open(self.edge.port)
                try:
                    if (await connection.send_request(hostname, "GET /first/0", {})).status == 200:
                        return time.monotonic() - began
                finally:
                    connection.close()
            except Broken:
                pass
            await asyncio.sleep(0.05)
        return None

    async def moved(self, before: dict[str, list[int]], time_limit: float) -> float | None:
        """Seconds until all workers have the known hostnames where they are now, and not `before`; None = never."""
        began, left = time.monotonic(), list(KNOWN)
        while left and time.monotonic() - began < time_limit:
            left = [hostname for hostname in left if not await self._has_moved(hostname, before[hostname])]
            await asyncio.sleep(0.2)
        return None if left else time.monotonic() - began

    async def _has_moved(self, hostname: str, before: list[int]) -> bool:
        explained = await self.edge.request_admin(f"/v1/routes/{hostname}/explain")
        if explained is None:
            return False
        now = self.sites.ports_of(hostname)
        return all(b":%d" % port in explained for port in now) and not any(
            b":%d" % port in explained for port in before
        )
