"""A running edge that obtains its certificates from an ACME authority: pebble, and nothing is faked."""

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509

from edge.admin.admin_messages import Explanation
from edge.admin.explain_text import issuance_line
from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from edge.net.acme.issuance_files import IssuanceFiles
from tests.support.pebble import Pebble, ProofGate, needs_pebble
from tests.support.processes.edges import children, text, told
from tests.support.processes.process_verbs import DEADLINE

pytestmark = needs_pebble


class Edge(StyxProcess):
    """Two workers that know some hostnames, and get their certificates from pebble."""

    def __init__(self, home: Path, pebble: Pebble, http: int, known: tuple[str, ...]) -> None:
        certificates, routes = home / "certificates", home / "routes.yaml"
        certificates.mkdir()
        routes.write_text(f"routes: [{{hostnames: {json.dumps(known)}, maintenance: true}}]\n")
        self.files = IssuanceFiles(str(certificates))
        self.certificates, self.tls_port = certificates, free_port()
        plain = f'{{address: "127.0.0.1:{http}"'
        tls = f'tls: {{certificates: "file:{certificates}", acme: {pebble.settings}}}'
        written = text(port=http, core_api=f"file:{routes}", more=tls)
        both = f'{plain}, redirect_to_https: true}}, {{address: "127.0.0.1:{self.tls_port}", tls: true}}'
        super().__init__(written.replace(f"{plain}}}", both))

    def events(self, code: str, **fields: object) -> list[dict[str, Any]]:
        return [event for event in told(self, code) if fields.items() <= event.items()]

    @property
    def issuer(self) -> int:
        return children(self.pid)["issuer"]

    def shake_hands(self, hostname: str) -> x509.Certificate | None:
        """The certificate that a client gets; None = the alert unrecognized_name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=DEADLINE) as raw:
            try:
                with context.wrap_socket(raw, server_hostname=hostname) as connection:
                    return x509.load_der_x509_certificate(connection.getpeercert(True) or b"")
            except ssl.SSLError as error:
                if "UNRECOGNIZED_NAME" not in str(error):
                    raise
                return None

    async def certificate_of(self, hostname: str) -> x509.Certificate:
        """Shake hands again and again, until there is one."""
        async with asyncio.timeout(DEADLINE):
            while True:
                if (found := await asyncio.to_thread(self.shake_hands, hostname)) is not None:
                    return found
                await asyncio.sleep(0.05)

    async def explained(self, hostname: str) -> str:
        _, said = await self.ask_admin(f"/v1/routes/{hostname}/explain")
        return issuance_line(msgspec.json.decode(said, type=Explanation).issuance, time.time())


@asynccontextmanager
async def edge(home: Path, pebble: Pebble, http: int, *known: str) -> AsyncIterator[Edge]:
    """Running, with pebble beside it, until the end of the block."""
    styx = Edge(home, pebble, http, known)
    try:
        await styx.start()
        yield styx
    except BaseException:
        print(styx.log.read_text() if styx.log.exists() else "no log")  # shown with the failure
        raise
    finally:
        await styx.stop()
        await pebble.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - processes raise no event here
            await asyncio.sleep(0.02)


async def test_certificates_come_are_renewed_and_survive_what_fails(tmp_path: Path) -> None:
    """One edge for all, because starting it takes most of the time."""
    http = free_port()
    async with ProofGate(http).serving() as gate:
        pebble = Pebble(tmp_path / "pebble", gate.port)
        known = "a.site.test", "b.site.test", "c.site.test", "elsewhere.test"
        async with edge(tmp_path, pebble, http, *known) as styx:
            await pebble.start()
            await pebble.answers_nothing_for("elsewhere.test")
            await a_first_certificate(styx, pebble)
            await an_order_that_fails(styx)
            await an_issuer_that_dies(styx, pebble, gate)
            await a_renewal(styx)
            await an_authority_that_is_down(styx, pebble)


async def a_first_certificate(styx: Edge, pebble: Pebble) -> None:
    assert styx.shake_hands("stranger.test") is None
    await styx.certificate_of("a.site.test")
    [event] = styx.events("certificate_issued")
    assert (event["hostname"], event["step"]) == ("a.site.test", "first")
    assert modes_of(styx.certificates) == {0o600}
    assert styx.files.record("stranger.test") is None
    assert pebble.orders() == 1
    assert (await styx.explained("a.site.test")).startswith("certificate ordered by styx: renewed in ")


async def an_order_that_fails(styx: Edge) -> None:
    assert styx.shake_hands("elsewhere.test") is None
    await until(lambda: styx.events("certificate_order_failed", hostname="elsewhere.test"))
    said = await styx.explained("elsewhere.test")
    assert said.startswith("order failed: the authority did not get the proof (connection: "), said
    assert "; tried again in " in said
    assert styx.shake_hands("elsewhere.test") is None
    metrics = (await styx.ask_admin("/metrics"))[1]
    assert 'styx_acme_orders_total{result="issued"} 1.0' in metrics
    assert 'styx_acme_orders_total{result="proof_failed"} 1.0' in metrics


async def an_issuer_that_dies(styx: Edge, pebble: Pebble, gate: ProofGate) -> None:
    orders = pebble.orders()
    gate.close()
    assert styx.shake_hands("b.site.test") is None
    await asyncio.wait_for(gate.asked.wait(), DEADLINE)
    os.kill(styx.issuer, signal.SIGKILL)
    await until(lambda: len(styx.events("issuer_began")) == 2)
    gate.is_open.set()
    await styx.certificate_of("b.site.test")
    assert pebble.orders() == orders + 1, "the order was taken up again"
    assert styx.events("certificate_issued", hostname="b.site.test", step="resume")


async def a_renewal(styx: Edge) -> None:
    first, record = styx.shake_hands("a.site.test"), styx.files.record("a.site.test")
    assert record is not None
    life = record.not_after - record.not_before
    assert record.not_before + life * 0.66 < record.renew_at < record.not_before + life * 0.71
    # It is time; the process that finds it out is another one, and knows what was.
    styx.files.save_record(msgspec.structs.replace(record, renew_at=1.0))
    os.kill(styx.issuer, signal.SIGKILL)
    await until(lambda: styx.events("certificate_issued", hostname="a.site.test", step="renew"))
    await until(lambda: styx.shake_hands("a.site.test") != first)
    assert len({event["account"] for event in styx.events("acme_account")}) == 1, "the account is kept"


async def an_authority_that_is_down(styx: Edge, pebble: Pebble) -> None:
    await pebble.stop()
    assert styx.shake_hands("c.site.test") is None
    await until(lambda: styx.events("acme_authority_failed"))
    assert "the authority could not be reached, or failed" in await styx.explained("c.site.test")
    await pebble.start()  # it has forgotten everything, also the account
    await styx.certificate_of("c.site.test")
    record = styx.files.record("c.site.test")
    assert record is not None
    assert record.failures == 0, "no name is to blame"


def modes_of(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}
