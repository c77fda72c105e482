"""An ACME authority of Debian (pebble), with a DNS server that knows every name; and a gate before the edge that
holds back the authority's questions."""

import asyncio
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from edge.demo.free_ports import free_port
from tests.support.processes.process_verbs import DEADLINE, listens

needs_pebble = pytest.mark.skipif(
    not (shutil.which("pebble") and shutil.which("pebble-challtestsrv")), reason="pebble is not installed"
)


class Pebble:
    """The authority. It asks for proofs at `http_port` of 127.0.0.1."""

    def __init__(self, home: Path, http_port: int) -> None:
        home.mkdir()
        self._home, self._log = home, home / "pebble.log"
        self._port, self._dns, self._management = free_port(), free_port(), free_port()
        authority, certificate = trustme.CA(), home / "pebble.pem"
        self.ca_file = home / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (home / "pebble.key").write_bytes(issued.private_key_pem.bytes())
        settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(certificate),
            "privateKey": str(home / "pebble.key"),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        (home / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> str:
        """The settings of styx for this authority, in one line of YAML."""
        url = f"https://localhost:{self._port}/dir"
        return f'{{directory_url: "{url}", accept_terms: true, ca_file: "{self.ca_file}"}}'

    def orders(self) -> int:
        """How many orders it has accepted."""
        return self._log.read_text().count("Added order ") if self._log.exists() else 0

    async def start(self) -> None:
        dns = f"127.0.0.1:{self._dns}"
        nothing = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "")
        self._spawn("pebble-challtestsrv", "-dns01", dns, "-management", f"127.0.0.1:{self._management}", *nothing)
        self._spawn("pebble", "-config", str(self._home / "pebble.json"), "-dnsserver", dns)
        async with asyncio.timeout(DEADLINE):
            while not (listens(self._port) and listens(self._management)):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)

    async def answers_nothing_for(self, hostname: str) -> None:
        """Let this name lead to an address where nobody listens."""
        body = json.dumps({"host": f"{hostname}.", "addresses": ["127.0.0.99"]}).encode()
        address = f"http://127.0.0.1:{self._management}/add-a"
        await asyncio.to_thread(lambda: urllib.request.urlopen(address, body, timeout=DEADLINE).close())

    async def stop(self) -> None:
        for process in self._running:
            process.kill()
            await asyncio.to_thread(process.wait)
        self._running.clear()

    def _spawn(self, *command: str) -> None:
        environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "10"}
        with self._log.open("ab") as log:
            self._running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environ))


class ProofGate:
    """Passes connections on to the edge, once it is open."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self.port = free_port()
        self.is_open, self.asked = asyncio.Event(), asyncio.Event()
        self.is_open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ProofGate"]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        async with server:
            yield self
            self.is_open.set()

    def close(self) -> None:
        """Hold back what comes from now on."""
        self.is_open.clear()
        self.asked.clear()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.set()
        await self.is_open.wait()
        with suppress(OSError):
            request = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n")
            edge_reader, edge_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            edge_writer.write(request + b"Connection: close\r\n\r\n")
            writer.write(await edge_reader.read())
            edge_writer.close()
            await writer.drain()
        writer.close()
