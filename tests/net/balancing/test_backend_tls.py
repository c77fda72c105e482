"""TLS to backends, over real sockets: who is there, and whose session is used."""

import asyncio
import ctypes
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from edge.net.balancing.backend_sessions import LOSES_SESSIONS, UNUSED_SESSION, BackendSessions
from edge.net.balancing.backend_tls import BackendTls, WrongBackendError
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_tls import ClientTls, ClientTlsFiles, client_context
from edge.net.tls.tls_contexts import load_pair
from edge.net.tls.tls_transport import TlsTransport
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


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library: ten sizes, the eighth is what is in use."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


def malloced() -> int:
    """Bytes that are in use."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    used: int = mallinfo2().sizes[7]
    return used


class Container:
    """A server that wants a client certificate, echoes, and keeps what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.peers: list[Any] = []
        self.received = b""


@asynccontextmanager
async def container(
    backend_id: str, *, version: ssl.TLSVersion = TLS13, port: int = 0, tickets: int = 2
) -> AsyncIterator[Container]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = tickets
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
    def __init__(self, client: ClientTls, *, most_looks: float = 1000.0, look_pause: float = 0.0) -> None:
        self.bios = BioPair()
        self.now = 0.0
        self.sessions = BackendSessions(lambda: self.now, most_looks=most_looks, look_pause=look_pause)
        self._most_looks = most_looks
        self.tls = BackendTls(asyncio.get_running_loop(), client, NAMES, self.bios, self.sessions)

    @property
    def looks(self) -> float:
        return self._most_looks - self.sessions.looks_left

    async def connect(self, backend_id: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        made = await self.tls.connect(
            backend_id,
            lambda factory: loop.create_connection(factory, "127.0.0.1", port),
            lambda: Connection(self.bios),
        )
        assert isinstance(made, Connection)
        return made

    async def connect_and_ask(self, backend_id: str, port: int) -> Connection:
        made = await self.connect(backend_id, port)
        assert await made.ask(b"1") == b"1"
        return made


async def close(*connections: Connection) -> None:
    for connection in connections:
        connection.transport.abort()
    await until(lambda: all(connection.lost for connection in connections))


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
async def test_a_session_is_fetched_once_and_used_many_times(client: ClientTls, version: ssl.TLSVersion) -> None:
    edge = Edge(client)
    async with container("b7c1", version=version) as backend:
        first = await edge.connect_and_ask("b7c1", backend.port)
        assert edge.looks == 0, "nobody needs it yet"
        for _ in range(5):
            await close(await edge.connect_and_ask("b7c1", backend.port))
        await close(first)
        await close(await edge.connect_and_ask("b7c1", backend.port))
        assert (edge.tls.handshakes, edge.tls.resumed, edge.looks) == (7, 6, 1)


@VERSIONS
async def test_a_backend_with_one_connection_at_a_time_is_looked_at_when_that_ends(
    client: ClientTls, version: ssl.TLSVersion
) -> None:
    edge = Edge(client)
    async with container("b7c1", version=version) as backend:
        for _ in range(3):
            await close(await edge.connect_and_ask("b7c1", backend.port))
        assert (edge.tls.handshakes, edge.tls.resumed, edge.looks) == (3, 2, 1)


async def test_the_end_of_a_connection_that_lasted_costs_no_look(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend:
        made = await edge.connect_and_ask("b7c1", backend.port)
        edge.now += 1.1 * UNUSED_SESSION
        await close(made)
        assert edge.looks == 0
        assert "0 known, 0 to come" in repr(edge.tls)


async def test_no_look_at_the_end_after_all_were_dropped(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend:
        made = await edge.connect_and_ask("b7c1", backend.port)
        edge.sessions.forget()
        await close(made)
        assert edge.looks == 0


async def test_a_session_may_expire_while_it_is_looked_for() -> None:
    """Each look at the clock is a little later than the one before."""
    clock = count(0.0, 1e-6)
    sessions = BackendSessions(lambda: next(clock), look_pause=0.0)
    for late in range(20):
        made = TlsTransport(cast(asyncio.Transport, None), None, BioPair())
        made.connection_lost(None)
        made.has_received = True
        sessions.note_full_handshake("b7c1", made, None)
        begun = next(clock)
        clock = count(begun + UNUSED_SESSION - late * 1e-6, 1e-6)
        assert sessions.session_for("b7c1") is None


async def test_no_look_before_the_backend_has_sent_something(client: ClientTls) -> None:
    """In TLS 1.3 the session comes after the handshake."""
    edge = Edge(client)
    async with container("b7c1", tickets=0) as backend:
        made = [await edge.connect("b7c1", backend.port) for _ in range(3)]
        assert edge.looks == 0
        assert await made[-1].ask(b"1") == b"1"
        made.append(await edge.connect("b7c1", backend.port))
        assert edge.looks == 1
        await close(*made)


async def test_a_backend_without_sessions_is_looked_at_once_a_minute(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1", tickets=0) as backend:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(5)]
        assert (edge.tls.resumed, edge.looks) == (0, 1)
        assert "0 known, 0 to come" in repr(edge.tls)
        edge.now += 1.1 * UNUSED_SESSION
        made += [await edge.connect_and_ask("b7c1", backend.port) for _ in range(5)]
        assert (edge.tls.resumed, edge.looks) == (0, 2)
        await close(*made)


async def test_a_full_handshake_beside_a_resumed_one_does_not_replace_the_session(client: ClientTls) -> None:
    """As of a connection that was begun before there was a session."""
    edge = Edge(client)
    async with container("b7c1") as backend:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(2)]
        edge.sessions.note_full_handshake("b7c1.containers.internal", made[-1].transport, None)
        made.append(await edge.connect("b7c1", backend.port))
        assert (edge.tls.resumed, edge.looks) == (2, 1)
        await close(*made)


async def test_a_session_that_a_new_container_refuses_is_replaced(client: ClientTls) -> None:
    edge, made = Edge(client), []
    for _ in range(2):  # each has keys of its own for its tickets
        async with container("b7c1") as backend:
            made += [await edge.connect_and_ask("b7c1", backend.port) for _ in range(3)]
            await close(*made)
    assert (edge.tls.handshakes, edge.tls.resumed, edge.looks) == (6, 4, 2)


async def test_sessions_of_one_backend_are_not_those_of_another(client: ClientTls) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend, container("other") as other:
        made = await edge.connect("b7c1", backend.port)
        assert await made.ask(b"1") == b"1"
        with pytest.raises(WrongBackendError):
            await edge.connect("b7c1", other.port)
        assert edge.tls.resumed == 0
        made.transport.abort()


async def test_sessions_that_nobody_uses_are_forgotten(client: ClientTls) -> None:
    """Where containers come and go, they would add up: each has an id of its own."""
    edge = Edge(client)
    async with container("b7c1") as backend:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(2)]
        for _ in range(3):  # its time begins anew with each use
            edge.now += 0.7 * UNUSED_SESSION
            made.append(await edge.connect_and_ask("b7c1", backend.port))
        assert (edge.tls.handshakes, edge.tls.resumed) == (5, 4)
        edge.now += 1.1 * UNUSED_SESSION
        assert "0 known, 0 to come" in repr(edge.tls)
        made.append(await edge.connect_and_ask("b7c1", backend.port))
        assert (edge.tls.handshakes, edge.tls.resumed) == (6, 4)
        assert "0 known, 1 to come" in repr(edge.tls)
        edge.now += 1.1 * UNUSED_SESSION
        assert "0 known, 0 to come" in repr(edge.tls)
        await close(*made)


async def test_looks_that_lose_memory_have_a_bound(client: ClientTls, caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge(client, most_looks=1.0)
    async with container("b7c1") as backend, container("other") as other:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(3)]
        made += [await edge.connect_and_ask("other", other.port) for _ in range(3)]
        assert (edge.tls.handshakes, edge.tls.resumed) == (6, 2)
        assert [getattr(record, "code", "") for record in caplog.records] == ["backend_sessions_ended"]
        await close(*made)


async def test_looks_that_lose_memory_have_a_pause(client: ClientTls) -> None:
    edge = Edge(client, look_pause=20.0)
    async with container("b7c1") as backend, container("other") as other:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(2)]
        made += [await edge.connect_and_ask("other", other.port) for _ in range(3)]
        assert (edge.tls.resumed, edge.looks) == (1, 1)
        edge.now += 20.0
        made += [await edge.connect_and_ask("other", other.port) for _ in range(2)]
        assert (edge.tls.resumed, edge.looks) == (3, 2)
        await close(*made)


async def test_whether_this_python_loses_sessions(client: ClientTls) -> None:
    edge, looks = Edge(client), 300
    async with container("b7c1") as backend:
        made = await edge.connect("b7c1", backend.port)
        assert await made.ask(b"1") == b"1"
        tls = made.transport.get_extra_info("ssl_object")
        before = malloced()
        for _ in range(looks):
            assert tls.session is not None
        assert (malloced() - before > 1000 * looks) is LOSES_SESSIONS
        made.transport.abort()


@pytest.mark.parametrize("before", [1, 2], ids=["fetched later", "fetched"])
async def test_with_new_client_certificates_new_sessions_begin(client: ClientTls, before: int) -> None:
    edge = Edge(client)
    async with container("b7c1") as backend:
        made = [await edge.connect_and_ask("b7c1", backend.port) for _ in range(before)]
        assert edge.tls.resumed == before - 1
        await client.reload()
        made.append(await edge.connect_and_ask("b7c1", backend.port))
        assert edge.tls.resumed == before - 1
        made.append(await edge.connect_and_ask("b7c1", backend.port))
        assert edge.tls.resumed == before
        await close(*made)


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
