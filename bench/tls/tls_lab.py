"""What the scenes of TLS share: an authority, a core API with certificates, and styx with a TLS listener."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.lab import peers
from bench.lab.servers import STYX_YAML, Server, free_ports, serving
from bench.stubs.fixed_routes import backend_entry, served_routes
from edge.platform.pki import Authority, IssuedPair

HOST = peers.HOST
ONE_CLIENT = "limits: {handshakes_per_client: 0}\n"
"For a load from one address."


@dataclass(slots=True)
class TlsLab:
    """Files of one scene, and who asked the core API for what."""

    directory: Path
    authority: Authority = field(default_factory=lambda: Authority("styx bench"))
    lookups: Counter[str] = field(default_factory=Counter)
    "For certificates, by hostname."
    _issued: dict[str, IssuedPair] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        """File with the authority that clients trust; `write` makes it."""
        return self.directory / "ca.pem"

    @property
    def bundle(self) -> Path:
        """File with the certificate and the key of HOST, for nginx and HAProxy; `write` makes it."""
        return self.directory / "site.pem"

    def write(self) -> None:
        """Write these files."""
        self.ca.write_text(self.authority.pem)
        pair = self.pair(HOST)
        self.bundle.write_text(pair.chain + pair.key)

    def pair(self, name: str) -> IssuedPair:
        """The certificate of a hostname."""
        if name not in self._issued:
            self._issued[name] = self.authority.issue(name)
        return self._issued[name]

    def certificate_of(self, hostname: str) -> dict[str, object] | None:
        """What the core API says; only HOST has a certificate."""
        self.lookups[hostname] += 1
        if hostname != HOST:
            return None
        pair = self.pair(HOST)
        return {"names": [HOST], "generation": 1, "certificates": [pair._asdict()], "alpn": ["h2", "http/1.1"]}


@asynccontextmanager
async def core_api(lab: TlsLab, ports: Sequence[int]) -> AsyncIterator[str]:
    """Serves the route of every hostname to backends on these ports, and the certificate of HOST; gives the URL."""
    backends = [backend_entry(f"b{n}", port, f"srv-{n}") for n, port in enumerate(ports, 1)]
    async with served_routes(lambda hostname: ("bench", backends), lab.certificate_of) as url:
        yield url


@asynccontextmanager
async def tls_styx(
    directory: Path, core_api_url: str, *, core: int | None = None, more: str = "", access_log: bool = True
) -> AsyncIterator[Server]:
    """`styx serve` with one TLS listener, whose default certificate is that of HOST. `more`: further sections of
    the configuration. Raises BenchFailed."""
    port, admin_port = free_ports(2)
    log = directory / "styx.log" if access_log else ""
    usual = STYX_YAML.format(
        port=port, core_api_url=core_api_url, admin_port=admin_port, log=log, flush_interval="1s"
    )
    config = directory / "styx.yaml"
    config.write_text(
        usual.replace(f':{port}"}}]', f':{port}", tls: true}}]', 1) + f"tls: {{default: {HOST}}}\n" + more
    )
    command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
    async with serving("styx", command, directory=directory, port=port, core=core) as server:
        yield server
