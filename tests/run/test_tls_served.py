"""A running edge with TLS: sessions survive the process that made them."""

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from edge.demo.free_ports import free_port
from edge.net.tls.tls_contexts import PemPair, load_pair
from tests.support.processes.edges import REQUEST, text
from tests.support.processes.process_verbs import DEADLINE, ROOT, is_alive
from tests.support.sample_revocations import revocation_list
from tests.support.tls_parts import TLS12, TLS13, client_context, issue


class Visitor:
    """Comes again and again, with the session that it got last; each time on a connection of its own."""

    def __init__(self, port: int, version: ssl.TLSVersion, shows: PemPair | None = None) -> None:
        self._port = port
        self._context = client_context(version=version)
        if shows is not None:
            load_pair(self._context, shows)
        self._session: ssl.SSLSession | None = None

    async def resumes(self) -> bool:
        return await asyncio.to_thread(self._visit)

    async def is_let_in(self) -> bool:
        try:
            await self.resumes()
        except (ssl.SSLError, ConnectionError):
            return False
        return True

    def _visit(self) -> bool:
        raw = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
        with self._context.wrap_socket(raw, server_hostname="a.test", session=self._session) as connection:
            connection.sendall(REQUEST)
            if not (received := connection.recv(65536)):
                raise ConnectionResetError("closed behind the handshake")
            assert received.startswith(b"HTTP/1.1 503 ")
            self._session = connection.session
            return bool(connection.session_reused)


class Edge:
    """A master of its own, for whose successor nobody else must care."""

    def __init__(self, directory: Path, asked: str = "") -> None:
        """`asked`: more settings of its listener."""
        pair = issue("a.test")
        certificates = directory / "certificates"
        certificates.mkdir()
        (certificates / "a.test.pem").write_bytes(pair.chain)
        (certificates / "a.test.key").write_bytes(pair.key)
        self.port, self.admin = free_port(), free_port()
        tls = f'tls: {{certificates: "file:{certificates}"}}'
        address = f'127.0.0.1:{self.port}"'
        self.file, self._log = directory / "styx.yaml", directory / "styx.log"
        self.file.write_text(
            text(port=self.port, admin=self.admin, more=tls).replace(address, f"{address}, tls: true{asked}", 1)
        )
        environ = {**os.environ, "RUNTIME_DIRECTORY": str(directory)}
        command = [sys.executable, "-m", "edge", "serve", "-c", str(self.file)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environ)

    def command(self, *words: str) -> str:
        """The output of a command of styx for this edge."""
        command = [sys.executable, "-m", "edge", *words, "--admin", f"127.0.0.1:{self.admin}"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    async def metric(self, series: str) -> float:
        """The value of a series with these labels in /metrics."""
        content = await asyncio.to_thread(fetched, f"http://127.0.0.1:{self.admin}/metrics")
        [value] = re.findall(rf"(?m)^{re.escape(series)} (\S+)$", content)
        return float(value)

    def said(self) -> str:
        return self._log.read_text()

    def served(self) -> int:
        """How often a master has said that it serves."""
        return self._log.read_text().count('"code": "serving"')

    def new_master(self) -> int | None:
        found = re.search(r"process ([0-9]+) serves now", self._log.read_text())
        return None if found is None else int(found[1])

    def workers(self) -> set[int]:
        """Those of the first master that have not been told to leave."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and parent_of(entry) == self.process.pid:
                    words = entry.joinpath("cmdline").read_text()
                    if words.startswith("styx: worker") and "leaving" not in words:
                        found.add(int(entry.name))
            except OSError:
                continue
        return found

    async def end(self) -> None:
        for pid in filter(None, (self.process.pid, self.new_master())):
            if is_alive(pid):
                os.kill(pid, signal.SIGTERM)
        await asyncio.to_thread(self.process.wait)
        successor = self.new_master()
        await until(lambda: successor is None or not is_alive(successor))


def parent_of(entry: Path) -> int:
    return int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - processes raise no event here
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
async def test_sessions_survive_workers_reload_and_upgrade(tmp_path: Path, version: ssl.TLSVersion) -> None:
    edge = Edge(tmp_path)
    visitor = Visitor(edge.port, version)

    async def visits() -> list[bool]:
        return [await visitor.resumes() for _ in range(10)]

    try:
        await until(lambda: edge.served() == 1)
        assert not await visitor.resumes()
        assert await visits() == [True] * 10, "whichever worker it meets"
        before = edge.workers()
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: len(edge.workers() - before) == 1)
        assert await visits() == [True] * 10
        before = edge.workers()
        edge.file.write_text(edge.file.read_text().replace("tls: {", "tls: {ready: 4000, ", 1))
        os.kill(edge.process.pid, signal.SIGHUP)  # other workers, for a setting that is cold
        await until(lambda: not before & edge.workers())
        assert await visits() == [True] * 10
        os.kill(edge.process.pid, signal.SIGUSR2)
        await until(lambda: edge.process.poll() is not None)
        assert edge.new_master() is not None
        assert await visits() == [True] * 10
    finally:
        await edge.end()


async def test_authorities_of_clients_are_swapped_in_place(tmp_path: Path) -> None:
    staff, partners = (trustme.CA(key_type=trustme.KeyType.ECDSA) for _ in range(2))
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(staff.cert_pem.bytes())
    edge = Edge(tmp_path, f", client_ca: {authorities}")
    ann = Visitor(edge.port, TLS13, issue("ann@staff.test", by=staff))
    bob = Visitor(edge.port, TLS13, issue("bob@partners.test", by=partners))

    async def let_in(visitor: Visitor) -> set[bool]:
        return {await visitor.is_let_in() for _ in range(10)}  # at each of two workers

    try:
        await until(lambda: edge.served() == 1)
        assert await ann.is_let_in()
        assert await let_in(ann) == {True}
        assert await let_in(bob) == {False}
        before = edge.workers()
        replacement = tmp_path / "new.pem"
        replacement.write_bytes(partners.cert_pem.bytes())
        replacement.replace(authorities)
        async with asyncio.timeout(DEADLINE):
            while await let_in(bob) != {True}:
                pass
        assert await let_in(ann) == {False}, "nor with a session from before"
        authorities.write_text("no certificate")
        await until(lambda: "client_ca_not_used" in edge.said())
        assert await let_in(bob) == {True}
        assert edge.workers() == before
    finally:
        await edge.end()


async def test_a_certificate_is_revoked_while_styx_runs(tmp_path: Path) -> None:
    staff = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authorities, crl = tmp_path / "clients.pem", tmp_path / "crl.pem"
    authorities.write_bytes(staff.cert_pem.bytes())
    crl.write_bytes(revocation_list(staff))
    pair = issue("ann@staff.test", by=staff)
    edge = Edge(tmp_path, f", client_ca: {authorities}, client_crl: {crl}")
    ann, bob = Visitor(edge.port, TLS13, pair), Visitor(edge.port, TLS13, issue("bob@staff.test", by=staff))
    try:
        await until(lambda: edge.served() == 1)
        assert await ann.is_let_in()
        assert await bob.is_let_in()
        before = edge.workers()
        replacement = tmp_path / "new.pem"
        replacement.write_bytes(revocation_list(staff, [pair]))
        replacement.replace(crl)
        async with asyncio.timeout(DEADLINE):
            while {await ann.is_let_in() for _ in range(10)} != {False}:  # at each of two workers
                pass
        assert await bob.resumes(), "sessions of others go on"
        assert edge.workers() == before
        assert 0 < await edge.metric("styx_client_crl_soonest_end_timestamp_seconds") - time.time() < 2 * 86400
        counted = 'styx_tls_handshakes_total{result="revoked_client_certificate",resumed="",version=""}'
        async with asyncio.timeout(DEADLINE):
            while await edge.metric(counted) < 1:  # workers publish it four times a second
                pass
    finally:
        await edge.end()


async def test_commands_for_certificates(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    try:
        await until(lambda: edge.served() == 1)
        assert not await Visitor(edge.port, TLS13).resumes()
        text = await asyncio.to_thread(edge.command, "explain", "a.test")
        assert text.count("certificate of a.test\n") == 2, "each worker has read it"
        assert f"days left, fresh; from {tmp_path}/certificates; issued by " in text
        told = await asyncio.to_thread(edge.command, "invalidate", "certificate", "a.test")
        assert told == "certificates to be asked for anew: 1\n"
        for counted in (
            'styx_tls_handshakes_total{result="ok",resumed="false",version="1.3"}',
            'styx_certificate_lookups_total{result="fresh"}',
        ):
            async with asyncio.timeout(DEADLINE):
                while await edge.metric(counted) < 1:  # workers publish it four times a second
                    pass
            assert await edge.metric(counted) == 1
    finally:
        await edge.end()


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE) as response:
        content: bytes = response.read()
    return content.decode()
