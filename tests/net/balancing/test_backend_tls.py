"""TLS to backends, over real sockets: who is there, and whose session is used."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from edge.net.balancing.backend_tls import BackendTls, WrongBackendError
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_tls import ClientTls, ClientTlsFiles, client_context
from edge.net.tls.tls_contexts import load_pair
from edge.net.transport.socket_state import has_input, input_poll
from tests.support.tls_parts import TLS12, TLS13, Application, ca, issue

NAMES = "{id}.containers.internal"
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - what is waited for raises no event
            await asyncio.sleep(0.001)


class Connection(Application):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.news.set()

    async def ask(self, data: bytes) -> bytes:
        self.news.clear()
        self.transport.write(data)
        async with asyncio.timeout(100):
            await self.news.wait()
        return self.received


class Container:
    """A server that wants a client certificate, echoes, and keeps what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.peers: list[Any] = []
        self.received = b""


@asynccontextmanager
async def container(backend_id: str, *, version: ssl.TLSVersion = TLS13, port: int = 0) -> AsyncIterator[Container]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    ca().configure_trust(context)
    load_pair(context, issue(f"{backend_id}.containers.internal"))
    found = Container(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.peers.append(writer.get_extra_info("peercert"))
        try:
            while data := await reader.read(65536):
                found.received += data
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


@pytest.fixture
def client(tmp_path: Path) -> ClientTls:
    ours = issue("edge.internal")
    (tmp_path / "ca.pem").write_bytes(ca().cert_pem.bytes())
    (tmp_path / "edge.pem").write_bytes(ours.chain)
    (tmp_path / "edge.key").write_bytes(ours.key)
    files = ClientTlsFiles(*(str(tmp_path / name) for name in ("ca.pem", "edge.pem", "edge.key")))
    return ClientTls(files, client_context(files))


class Edge:
    def __init__(self, client: ClientTls) -> None:
        self.bios = BioPair()
        self.tls = BackendTls(asyncio.get_running_loop(), client, NAMES, self.bios)

    async def connect(self, backend_id: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        made = await self.tls.connect(
            backend_id,
            lambda factory: loop.create_connection(factory, "127.0.0.1", port),
            lambda: Connection(self.bios),
        )
        assert isinstance(made, Connection)
        return made


@VERSIONS
async def test_both_sides_show_their_certificates(client: ClientTls, version: ssl.TLSVersion) -> None:
    edge = Edge(client)
    async with container("b7c1", version=version) as backend:
        made = await edge.connect("b7c1", backend.port)
        assert await made.ask(b"GET") == b"GET"
        assert backend.peers[0]["subjectAltName"] == (("DNS", "edge.internal"),)
        assert edge.bios.is_empty
        made.transport.abort()


async def test_another_container_on_the_port_gets_no_byte_of_a_request(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("another") as backend:
        with pytest.raises(WrongBackendError, match="b7c1"):
            await edge.connect("b7c1", backend.port)
        assert not backend.received
        assert edge.tls.wrong == 1
        assert edge.bios.is_empty
        made = await edge.connect("another", backend.port)
        assert await made.ask(b"x") == b"x"
        made.transport.abort()


@pytest.mark.parametrize("backend_id", ["", "a b", "*", "b7c1.containers.internal\0", "-", "10.0.0.1/"])
async def test_an_id_that_no_certificate_can_have(client: ClientTls, backend_id: str) -> None:
    with pytest.raises(WrongBackendError):
        await Edge(client).connect(backend_id, 1)


async def test_something_that_speaks_no_tls(client: ClientTls) -> None:
    edge = Edge(client)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ssl.SSLError):
            await edge.connect("b7c1", server.sockets[0].getsockname()[1])
        assert edge.bios.is_empty


async def test_a_connection_that_ends_in_the_handshake(client: ClientTls) -> None:
    edge = Edge(client)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectionError):
            await edge.connect("b7c1", server.sockets[0].getsockname()[1])


async def test_a_backend_that_sends_nothing_is_left_when_the_time_is_over(client: ClientTls) -> None:
    edge, gone = Edge(client), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await edge.connect("b7c1", server.sockets[0].getsockname()[1])
        await asyncio.wait_for(gone.wait(), 100)


@VERSIONS
@pytest.mark.parametrize("stays_open", [True, False])
async def test_a_session_is_fetched_once_and_used_many_times(
    client: ClientTls, version: ssl.TLSVersion, stays_open: bool
) -> None:
    edge = Edge(client)
    async with container("b7c1", version=version) as backend:
        first = await edge.connect("b7c1", backend.port)
        assert await first.ask(b"1") == b"1"
        if not stays_open:
            first.transport.abort()
            await until(lambda: bool(first.lost))
        for _ in range(5):
            again = await edge.connect("b7c1", backend.port)
            assert await again.ask(b"2") == b"2"
            again.transport.abort()
        assert (edge.tls.handshakes, edge.tls.resumed) == (6, 5)
        first.transport.abort()


async def test_sessions_of_one_backend_are_not_those_of_another(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend, container("other") as other:
        made = await edge.connect("b7c1", backend.port)
        assert await made.ask(b"1") == b"1"
        with pytest.raises(WrongBackendError):
            await edge.connect("b7c1", other.port)
        assert edge.tls.resumed == 0
        made.transport.abort()


async def test_with_new_client_certificates_new_sessions_begin(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend:
        for _ in range(2):
            made = await edge.connect("b7c1", backend.port)
            assert await made.ask(b"1") == b"1"
        assert edge.tls.resumed == 1
        await client.reload()
        again = await edge.connect("b7c1", backend.port)
        assert await again.ask(b"1") == b"1"
        assert edge.tls.resumed == 1
        for connection in (made, again):
            connection.transport.abort()


@VERSIONS
async def test_session_tickets_on_an_idle_connection_are_no_bytes_of_the_backend(
    client: ClientTls, version: ssl.TLSVersion
) -> None:
    """The pool asks before it uses a connection again; under TLS 1.3 tickets come after the handshake."""
    edge = Edge(client)
    async with container("b7c1", version=version) as backend:
        made = await edge.connect("b7c1", backend.port)
        poll = input_poll(made.transport)
        if version is TLS13:
            made.transport.pause_reading()  # so that the loop does not take the tickets
            await until(lambda: has_input(made.transport))
        assert not poll()
        assert edge.bios.is_empty
        made.transport.resume_reading()
        assert await made.ask(b"1") == b"1"
        made.transport.pause_reading()
        backend_wrote = b"unasked"
        made.transport.write(backend_wrote)
        await until(lambda: bool(poll()))
        made.transport.abort()
