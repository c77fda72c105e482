"""TLS over a transport, in memory: Python's own client on the other side."""

import ssl

import pytest

from edge.net.tls import tls_transport
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_contexts import TlsProfile, base_context
from edge.net.tls.tls_transport import TlsTransport
from tests.support.fake_transports import turns
from tests.support.tls_parts import TLS12, TLS13, Application, MemoryConnection, client_context, issue

VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
PAIRS = [issue("site.test")]


def connection(bios: BioPair, version: ssl.TLSVersion = TLS13, *, keeps_half: bool = False) -> MemoryConnection:
    """A connection after its handshake."""
    made = MemoryConnection(bios, client_context(version=version), PAIRS, keeps_half=keeps_half)
    made.shake_hands()
    assert len(made.done) == 1
    return made


@VERSIONS
@pytest.mark.parametrize("size", [1, 7, 600, 1 << 20])
async def test_bytes_go_both_ways_however_they_are_cut(version: ssl.TLSVersion, size: int) -> None:
    made = MemoryConnection(BioPair(), client_context(version=version), PAIRS)
    made.shake_hands(size=size)
    made.app.then = lambda data: made.transport.write(data.upper())
    made.send(b"get " * 20, size)
    assert made.app.received == b"get " * 20
    assert made.read() == b"GET " * 20


@VERSIONS
async def test_what_comes_with_the_end_of_the_handshake_is_handed_over(version: ssl.TLSVersion) -> None:
    made = MemoryConnection(BioPair(), client_context(version=version), PAIRS)
    made.shake_hands(with_last=b"GET / HTTP/1.1\r\n\r\n")
    assert made.done == [b"GET / HTTP/1.1\r\n\r\n" if version is TLS13 else b""]
    assert made.app.received == b"GET / HTTP/1.1\r\n\r\n"


async def test_several_pieces_are_one_record() -> None:
    made = connection(BioPair())
    made.transport.writelines([b"head", b"", b"body", b"!"])
    assert made.read() == b"headbody!"
    assert made.records == 1


@VERSIONS
async def test_long_bodies_both_ways(version: ssl.TLSVersion) -> None:
    made = connection(BioPair(), version)
    body = bytes(range(256)) * 1200
    made.transport.write(body)
    assert made.read() == body
    made.send(body, 256 * 1024)
    await turns()
    assert made.app.received == body
    assert made.raw.small_reads, "a long body is read in small pieces"


# before the handshake


async def test_the_socket_is_taken_over_once() -> None:
    made = MemoryConnection(BioPair(), client_context(), PAIRS)
    taken: list[object] = []
    usual = made.raw.set_protocol

    def set_protocol(protocol: object) -> None:
        taken.append(protocol)
        usual(protocol)

    made.raw.set_protocol = set_protocol  # type: ignore[method-assign]
    first = Application(made.bios)
    made.transport = TlsTransport(made.raw, None, made.bios)
    made.transport.wait(first)
    with pytest.raises(ssl.SSLWantReadError):
        made.client.do_handshake()
    hello = made.from_client.read()
    made.deliver(hello, 100)
    assert first.received == hello
    made.transport.begin(made, hello, made.server)
    made.take()
    made.client.do_handshake()
    made.send(b"GET")
    assert (made.done, made.app.received, first.received) == ([b"GET"], b"GET", hello)
    assert taken == [made.transport], "each further time, the loop would stop reading and start again"


async def test_a_connection_that_ends_before_the_handshake() -> None:
    bios = BioPair()
    made = MemoryConnection(bios, client_context(), PAIRS)
    first = Application(bios)
    made.transport = TlsTransport(made.raw, None, bios)
    made.transport.wait(first)
    gone = ConnectionResetError()
    made.transport.connection_lost(gone)
    assert (first.lost, made.lost) == ([gone], [])


# one pair of BIOs for all


async def test_an_exception_of_the_application_leaves_nothing_for_the_next_connection() -> None:
    bios = BioPair()
    first, second = connection(bios), connection(bios)

    def fail(data: bytes) -> None:
        first.transport.write(b"half an answer")
        raise RuntimeError("a bug")

    first.app.then = fail
    with pytest.raises(RuntimeError, match="a bug"):
        first.send(b"to the first")
    assert bios.is_empty
    second.app.then = second.transport.write
    second.send(b"to the second")
    assert (second.app.received, second.read()) == (b"to the second", b"to the second")
    third = connection(bios)
    third.send(b"to the third")
    assert third.app.received == b"to the third"


async def test_an_exception_of_who_waits_for_the_handshake_leaves_nothing() -> None:
    bios = BioPair()
    first = MemoryConnection(bios, client_context(), PAIRS)
    first.app.then = lambda data: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        first.shake_hands(with_last=b"GET")
    assert bios.is_empty
    connection(bios).send(b"GET")


async def test_an_application_may_write_on_other_connections_while_it_reads() -> None:
    bios = BioPair()
    client, backend = connection(bios), connection(bios)
    client.app.then = backend.transport.write
    backend.app.then = client.transport.write
    client.send(b"request")
    assert backend.read() == b"request"
    backend.send(b"response")
    assert client.read() == b"response"


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x20" + bytes(32), b"\x15\x03\x03\x00\x02\x02\x50"]
)
async def test_junk_ends_its_own_connection_only(junk: bytes) -> None:
    bios = BioPair()
    first, second = connection(bios), connection(bios)
    first.deliver(junk + b"and more")
    assert bios.is_empty
    assert first.raw.closed == "close"
    assert first.transport.is_closing()
    await turns()
    assert len(first.app.lost) == 1
    assert isinstance(first.app.lost[0], ssl.SSLError)
    second.send(b"untouched")
    assert second.app.received == b"untouched"


async def test_half_a_record_stays_with_its_connection() -> None:
    bios = BioPair()
    first, second = connection(bios), connection(bios)
    first.client.write(b"in two halves")
    record = first.from_client.read()
    first.deliver(record[:9])
    second.send(b"whole")
    first.deliver(record[9:])
    assert (first.app.received, second.app.received) == (b"in two halves", b"whole")


@VERSIONS
@pytest.mark.parametrize("size", [1, 4096, 16384])
@pytest.mark.parametrize("last", [1, 30, 1000])
@pytest.mark.parametrize("behind", [b"", b"behind it"])
async def test_a_short_read_may_end_a_long_record(
    version: ssl.TLSVersion, size: int, last: int, behind: bytes
) -> None:
    made = connection(BioPair(), version)
    body = bytes(range(256)) * 64
    made.client.write(body[:size])
    record = made.from_client.read()
    made.deliver(record[:-last])
    assert made.app.received == b""
    if behind:
        made.client.write(behind)
    made.deliver(record[-last:] + made.from_client.read())
    assert made.app.received == body[:size] + behind


# the handshake


async def test_a_client_without_a_common_version_gets_an_alert() -> None:
    made = MemoryConnection(BioPair(), client_context(version=TLS12), PAIRS, profile=TlsProfile.MODERN)
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        made.shake_hands()
    assert len(made.failed) == 1
    assert made.bios.is_empty
    await turns()
    assert len(made.lost) == 1, "lost once, and told to who waited for the handshake"


async def test_without_a_context_of_the_host_the_name_is_unrecognized() -> None:
    made = MemoryConnection(BioPair(), client_context(), [])
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        made.shake_hands()
    assert made.bios.is_empty


async def test_a_connection_that_ends_in_the_handshake_is_told_once() -> None:
    made = MemoryConnection(BioPair(), client_context(), PAIRS)
    made.transport.begin(made, b"")
    made.raw.lose(ConnectionResetError())
    assert [type(error) for error in made.lost] == [ConnectionResetError]
    assert not made.app.lost


@VERSIONS
async def test_sessions_are_resumed(version: ssl.TLSVersion) -> None:
    bios, base, client = BioPair(), base_context(TlsProfile.INTERMEDIATE), client_context(version=version)
    first = MemoryConnection(bios, client, PAIRS, base=base)
    first.shake_hands()
    first.transport.write(b"x")
    first.read()
    second = MemoryConnection(bios, client, PAIRS, base=base, session=first.client.session)
    second.shake_hands()
    assert (first.server.session_reused, second.server.session_reused) == (False, True)


# the end


@VERSIONS
async def test_close_says_so_first(version: ssl.TLSVersion) -> None:
    made = connection(BioPair(), version)
    made.transport.write(b"last")
    made.transport.close()
    assert made.raw.closed == "close"
    assert made.read() == b"last"
    assert made.has_ended()
    made.transport.write(b"too late")
    assert not made.raw.written
    await turns()
    assert made.app.lost == [None]


@VERSIONS
async def test_a_client_that_ends_its_half_is_told_as_such(version: ssl.TLSVersion) -> None:
    made = connection(BioPair(), version)
    made.client.write(b"last")
    with pytest.raises(ssl.SSLError):
        made.client.unwrap()
    made.deliver(made.from_client.read())
    assert (made.app.received, made.app.eof) == (b"last", 1)
    assert made.raw.closed == "close", "nobody keeps the other half"
    await turns()
    assert made.app.lost == [None]


async def test_the_other_half_may_stay_open() -> None:
    made = connection(BioPair(), keeps_half=True)
    with pytest.raises(ssl.SSLError):
        made.client.unwrap()
    made.deliver(made.from_client.read())
    made.transport.write(b"still here")
    assert not made.raw.closed
    assert made.raw.protocol.eof_received(), "the loop must not close it when the socket ends, too"
    assert made.app.eof == 1
    assert made.raw.written


async def test_after_our_half_is_closed_the_other_one_is_still_read() -> None:
    made = connection(BioPair())
    made.transport.write_eof()
    assert made.has_ended()
    made.send(b"the rest")
    assert made.app.received == b"the rest"
    made.transport.write(b"too late")
    assert not made.raw.written
    made.transport.close()
    assert not made.raw.written, "close_notify is sent once"


async def test_an_end_without_close_notify_is_an_error() -> None:
    made = connection(BioPair())
    assert not made.raw.protocol.eof_received()
    made.raw.lose(None)
    assert made.app.eof == 1
    assert [str(error) for error in made.app.lost] == [tls_transport.TRUNCATED]


async def test_abort_says_nothing() -> None:
    made = connection(BioPair())
    made.read()  # the session ticket
    made.transport.abort()
    assert made.raw.closed == "abort"
    assert not made.raw.written


# back-pressure


async def test_pauses_are_the_sockets() -> None:
    made = connection(BioPair())
    made.transport.pause_reading()
    assert made.raw.paused
    made.transport.resume_reading()
    assert not made.raw.paused
    made.raw.protocol.pause_writing()
    made.raw.protocol.resume_writing()
    assert made.app.blocked == [True, False]
    made.transport.set_write_buffer_limits(8192)
    assert made.transport.get_write_buffer_limits() == made.raw.get_write_buffer_limits() == (2048, 8192)
    made.raw.waiting = 77
    assert made.transport.get_write_buffer_size() == 77


async def test_a_costly_read_is_spread_over_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr(tls_transport, "monotonic", clock)  # each look takes more than a turn has
    made = connection(BioPair())
    for number in range(4000):
        made.client.write(b"%d," % number)
    data = made.from_client.read()
    made.deliver(data)
    expected = b"".join(b"%d," % number for number in range(4000))
    assert made.raw.paused, "nothing more is read meanwhile"
    assert expected.startswith(made.app.received)
    assert len(made.app.received) < len(expected) / 4
    made.transport.pause_reading()
    before = made.app.received
    await turns()
    assert made.app.received == before, "nothing is handed over to who has paused"
    made.transport.resume_reading()
    while made.app.received != expected:
        assert made.raw.paused
        calls = made.app.calls
        await turns(1)
        assert made.app.calls <= calls + 1, "one piece in a turn"
    await turns(2)
    assert not made.raw.paused


async def test_the_rest_of_a_costly_read_is_dropped_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100_000))
    monkeypatch.setattr(tls_transport, "monotonic", lambda: float(next(ticks)))
    made = connection(BioPair())
    for _ in range(2000):
        made.client.write(b"x")
    made.deliver(made.from_client.read())
    received = made.app.received
    made.transport.abort()
    await turns()
    assert made.app.received == received
    assert made.app.lost == [None]
