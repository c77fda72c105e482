"""Certificates, clients and connections in memory for tests of TLS."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import trustme

from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_contexts import PemPair, TlsProfile, base_context, host_context
from edge.net.tls.tls_transport import TlsTransport
from edge.rules.tls.client_hello import Alert
from tests.support.fake_transports import FakeTransport

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@cache
def ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def issue(*names: str, rsa: bool = False, by: trustme.CA | None = None) -> PemPair:
    """A certificate for these names."""
    kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
    issued = (by or ca()).issue_cert(*names, key_type=kind)
    return PemPair(b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes())


def client_context(
    *, version: ssl.TLSVersion | None = None, alpn: Sequence[str] = (), by: trustme.CA | None = None
) -> ssl.SSLContext:
    """Of a client that trusts the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (by or ca()).configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class StubPair:
    def __init__(self, pair: PemPair) -> None:
        self.chain_pem, self.key_pem = (lambda: pair.chain), (lambda: pair.key)


class StubCertificate:
    def __init__(
        self,
        *pairs: PemPair,
        alpn: Sequence[str] = ("http/1.1",),
        names: Sequence[str] = ("shop.test", "other.test"),
    ) -> None:
        self.pairs, self.alpn, self.names = [StubPair(pair) for pair in pairs], alpn, tuple(names)


class StubCertificates:
    """Certificates by name: those in `ready` at once, those in `slow` when `released` is set."""

    def __init__(self, **ready: StubCertificate) -> None:
        self.ready: dict[str, StubCertificate] = dict(ready.items())
        self.slow: dict[str, StubCertificate] = {}
        self.broken: set[str] = set()
        self.refusals: dict[str, NoCertificate] = {}
        "Names that are refused without a look-up."
        self.queued: dict[str, tuple[Callable[[object], None], Callable[[], None]] | None] = {}
        "Names that wait before their look-up, and what to call then."
        self.released = asyncio.Event()
        self.asked: list[str] = []
        self.waiting = 0
        self.results: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.soonest_not_after: float | None = None
        self.faults = 0

    def find(self, name: str) -> StubCertificate | None:
        return self.ready.get(name)

    def refuse(self, name: str, client: str) -> NoCertificate | None:
        return self.refusals.get(name)

    def queue(
        self, name: str, client: str, deadline: float, go_on: Callable[[object], None], refused: Callable[[], None]
    ) -> object:
        if name not in self.queued:
            return None
        self.queued[name] = go_on, refused
        return name

    def leave(self, name: str) -> None:
        self.queued.pop(name, None)

    def explain(self, name: str) -> None:
        return None

    async def lookup(self, name: str, client: str | None, *, deadline: float) -> StubCertificate:
        self.asked.append(name)
        if name in self.broken:
            raise NoCertificate(Alert.INTERNAL_ERROR, "failed")
        if name in self.ready:
            return self.ready[name]
        if name not in self.slow:
            raise NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        self.waiting += 1
        try:
            await self.released.wait()
        finally:
            self.waiting -= 1
        return self.slow[name]


class Application:
    """The protocol above TLS: keeps what it gets. `keeps_half`: it goes on after the end of the other half."""

    def __init__(self, bios: BioPair, *, keeps_half: bool = False) -> None:
        self.bios = bios
        self.keeps_half = keeps_half
        self.received = b""
        self.calls = 0
        self.eof = 0
        self.lost: list[Exception | None] = []
        self.blocked: list[bool] = []
        self.then: Callable[[bytes], object] = lambda data: None
        "What it does with received bytes."

    def data_received(self, data: bytes) -> None:
        assert self.bios.is_empty
        self.calls += 1
        self.received += data
        self.then(data)

    def eof_received(self) -> bool:
        assert self.bios.is_empty
        self.eof += 1
        return self.keeps_half

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.bios.is_empty
        self.lost.append(exc)

    def pause_writing(self) -> None:
        assert self.bios.is_empty
        self.blocked.append(True)

    def resume_writing(self) -> None:
        assert self.bios.is_empty
        self.blocked.append(False)


class MemoryConnection:
    """A TlsTransport as the server, over a FakeTransport, and Python's own client."""

    def __init__(
        self,
        bios: BioPair,
        client: ssl.SSLContext,
        pairs: Sequence[PemPair],
        *,
        name: str | None = "site.test",
        profile: TlsProfile = TlsProfile.INTERMEDIATE,
        base: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        keeps_half: bool = False,
    ) -> None:
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        if name is None:
            client.check_hostname = False
        self.client = client.wrap_bio(self.to_client, self.from_client, server_hostname=name, session=session)
        self.raw = FakeTransport(_Unconnected())
        server: Any = (base or base_context(profile)).wrap_bio(bios.incoming, bios.outgoing, server_side=True)
        server.host_context = host_context(pairs, profile, ["http/1.1"]) if pairs else None
        self.server: ssl.SSLObject = server
        self.transport = TlsTransport(self.raw, server, bios)
        self.app = Application(bios, keeps_half=keeps_half)
        self.bios = bios
        self.done: list[bytes] = []
        self.failed: list[Exception] = []
        self.lost: list[Exception | None] = []
        self.records = 0
        "Records with data that the client has got."

    # HandshakeHandler

    def handshake_done(self, early: bytes) -> None:
        assert self.bios.is_empty
        self.done.append(early)
        self.transport.set_protocol(self.app)  # type: ignore[arg-type]
        if early:
            self.app.data_received(early)

    def handshake_failed(self, error: Exception) -> None:
        assert self.bios.is_empty
        self.failed.append(error)

    def handshake_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    # the client

    def shake_hands(self, *, with_last: bytes = b"", size: int = 1 << 20) -> None:
        """The whole handshake, in pieces of so many bytes; the client sends `with_last` behind its last message."""
        began = False
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = self.from_client.read()
                if not began:
                    began = True
                    self.transport.begin(self, b"")
                self.deliver(data, size)
                if not self.take():
                    raise AssertionError("the server has no answer") from None
        if with_last:
            self.client.write(with_last)
        self.deliver(self.from_client.read(), size)

    def deliver(self, data: bytes, size: int = 1 << 20) -> None:
        """Bytes come from the client's socket."""
        for at in range(0, len(data), size):
            if not self.raw.closed:
                self.raw.protocol.data_received(data[at : at + size])
            assert self.bios.is_empty

    def take(self) -> bool:
        """Give the client what the server has written. Returns whether there was anything."""
        data, self.raw.written = self.raw.written, b""
        self.to_client.write(data)
        return bool(data)

    def send(self, data: bytes, size: int = 1 << 20) -> None:
        """The client sends data."""
        self.client.write(data)
        self.deliver(self.from_client.read(), size)

    def read(self) -> bytes:
        """All data that the server has sent."""
        self.take()
        found = b""
        try:
            while data := self.client.read(16384):
                self.records += 1
                found += data
        except ssl.SSLWantReadError:
            pass
        return found

    def has_ended(self) -> bool:
        """Whether the client has got close_notify."""
        self.take()
        try:
            while self.client.read(16384):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            pass
        return True


class _Unconnected:
    def connection_made(self, transport: Any) -> None:
        pass
