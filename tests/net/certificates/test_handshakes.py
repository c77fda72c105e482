"""From the first bytes of a client to its handshake, in memory: hello, certificate, context, OpenSSL."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.certificates.certificate_resolver import CertificateResolver
from edge.net.certificates.core_api_certificates import CertificateResult
from edge.net.deferred_queue import DeferredQueue
from edge.rules.certificates.certificate_table import CertificateTable
from edge.rules.certificates.certificates import Certificate
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.settings import LimitSettings, RouteSettings, TlsSettings
from edge.rules.tls.client_hello import Alert, BadClientHello, ClientHelloReader, alert_record
from tests.support.sample_certificates import Authority, authority
from tests.support.scripted_certificates import ScriptedSource, response_of

CA = authority()
assert CA.issuer is not None
NAMES = ("*.shop.test", "shop.test")
TODAY = datetime.now(UTC)
"OpenSSL compares dates with the clock."
BOTH = (CA.leaf(*NAMES, now=TODAY), CA.leaf(*NAMES, kind="rsa", now=TODAY))


def context_of(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(certificate.alpn))
    for pair in certificate.pairs:
        memory = os.memfd_create("certificate")
        try:
            os.write(memory, pair.chain_pem() + pair.key_pem())
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
    return context


class Client:
    """A client of Python's ssl that trusts the root of the test."""

    def __init__(self, hostname: str | None, *, ciphers: str = "", root: Authority | None = CA.issuer) -> None:
        assert root is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = hostname is not None
        context.load_verify_locations(cadata=root.pem)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if ciphers:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.side = context.wrap_bio(self.incoming, self.outgoing, server_hostname=hostname)

    def step(self, data: bytes = b"") -> bytes:
        """Give it these bytes; returns what it sends. Raises ssl.SSLError."""
        if data:
            self.incoming.write(data)
        with suppress(ssl.SSLWantReadError):
            self.side.do_handshake()
        return self.outgoing.read()


class Server:
    """The steps of an accept chain, without sockets."""

    def __init__(self) -> None:
        self.source = ScriptedSource()
        self.resolver = CertificateResolver(
            CertificateTable(TlsSettings(), RouteSettings()),
            self.source,
            UnknownHostLimit(LimitSettings()),
            deferred=DeferredQueue(asyncio.get_running_loop()),
            concurrency=64,
            timeout=5.0,
            clock=asyncio.get_running_loop().time,
            rand=lambda: 0.5,
        )

    async def answer(self, client: Client, *, piece: int = 7) -> ssl.SSLObject | None:
        """Do a handshake with a client. None = it was refused with an alert, which the client has got."""
        reader, data = ClientHelloReader(), client.step()
        hello = None
        for at in range(0, len(data), piece):
            assert hello is None
            hello = reader.feed(data[at : at + piece])
        assert hello is not None
        try:
            if hello.server_name is None:
                raise NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
            deadline = asyncio.get_running_loop().time() + 10.0
            certificate = await self.resolver.lookup(hello.server_name, "192.0.2.7", deadline=deadline)
        except NoCertificate as refused:
            client.step(alert_record(refused.alert))
            return None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        side = context_of(certificate).wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(reader.data)
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
            incoming.write(client.step(outgoing.read()))
        return side


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    server.source.answers["shop.test"] = CertificateResult(response_of(*BOTH, names=NAMES))
    yield server
    await server.resolver.close()


@pytest.mark.parametrize("hostname", ["shop.test", "SHOP.test", "a.shop.test"])
async def test_a_handshake(server: Server, hostname: str) -> None:
    server.source.otherwise = server.source.answers["shop.test"]
    client = Client(hostname, root=CA)
    side = await server.answer(client)
    assert side is not None
    assert side.selected_alpn_protocol() == client.side.selected_alpn_protocol() == "h2"
    assert client.side.version() == "TLSv1.3"


@pytest.mark.parametrize(("ciphers", "which"), [("ECDHE+aECDSA", 0), ("ECDHE+aRSA", 1), ("ECDHE", 0)])
async def test_each_client_gets_the_kind_that_it_supports(server: Server, ciphers: str, which: int) -> None:
    client = Client("shop.test", ciphers=ciphers, root=CA)
    assert await server.answer(client) is not None
    shown = client.side.getpeercert(binary_form=True)
    assert shown is not None
    assert ssl.DER_cert_to_PEM_cert(shown) == BOTH[which].chain[: len(ssl.DER_cert_to_PEM_cert(shown))]


async def test_an_unknown_name(server: Server) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await server.answer(Client("other.test"))


async def test_the_core_api_is_gone(server: Server) -> None:
    server.source.otherwise = OSError("a fault")
    with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
        await server.answer(Client("other.test"))


async def test_an_address(server: Server) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await server.answer(Client(None))
    assert server.source.lookups == []


async def test_a_client_that_is_no_client() -> None:
    reader = ClientHelloReader()
    with pytest.raises(BadClientHello) as raised:
        reader.feed(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
    client = Client("shop.test")
    client.step()
    with pytest.raises(ssl.SSLError, match="UNEXPECTED_MESSAGE"):
        client.step(alert_record(raised.value.alert))
