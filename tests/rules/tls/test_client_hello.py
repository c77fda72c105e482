"""ClientHellos: of real clients, made by hand, with any split of the bytes, and what is none."""

import contextlib
import ssl
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.rules.certificates.certificate_names import hostname_in
from edge.rules.tls.client_hello import (
    LIMIT,
    NAMES_REMEMBERED,
    USUAL_LIST,
    Alert,
    BadClientHello,
    ClientHello,
    ClientHelloReader,
    NotTls,
    OtherProtocol,
    _server_name,
    _usual_protocols,
    alert_record,
)
from tests.support.hello_builder import (
    alpn,
    captured,
    extension,
    hello,
    records,
    server_name,
    shared_keys,
    ticket,
    vector,
    versions,
)
from tests.support.sample_certificates import authority

CAPTURED = captured()
SHOP = server_name(b"shop.test")
PADDING = extension(21, bytes(50_000))
Verdict = ClientHello | Alert | OtherProtocol | None


def verdict(*parts: bytes, limit: int = LIMIT) -> Verdict:
    """What comes of these bytes, fed one part after the other."""
    reader, found = ClientHelloReader(limit), None
    try:
        for part in parts:
            found = reader.feed(part)
    except BadClientHello as error:
        return error.alert
    except NotTls as error:
        return error.protocol
    return found


def proof(data: bytes) -> int:
    """Bytes after which there is a verdict."""
    reader = ClientHelloReader()
    for at in range(len(data)):
        try:
            if reader.feed(data[at : at + 1]) is not None:
                return at + 1
        except (BadClientHello, NotTls):
            return at + 1
    return -1


BOTH, ALL = (0x0304, 0x0303), (0x0304, 0x0303, 0x0302, 0x0301)
WEB = (b"h2", b"http/1.1")
REAL: dict[str, ClientHello] = {
    "chromium": ClientHello("shop.test", WEB, (39578, *BOTH), b""),
    "curl": ClientHello("shop.test", WEB, ALL, b""),
    "curl_address": ClientHello(None, WEB, ALL, b""),
    "curl_tls12": ClientHello("shop.test", WEB, (0x0303,), b""),
    "node": ClientHello("node.shop.test", WEB, BOTH, b""),
    "openssl": ClientHello("shop.test", WEB, ALL, b""),
    "openssl_no_name": ClientHello(None, (), (0x0303,), b""),
    "python": ClientHello("python.shop.test", (), BOTH, b""),
}


def test_each_captured_hello_is_here() -> None:
    assert REAL.keys() == CAPTURED.keys()


@pytest.mark.parametrize("client", REAL)
def test_hellos_of_real_clients(client: str) -> None:
    data = CAPTURED[client]
    assert verdict(data) == REAL[client]
    assert proof(data) == len(data)
    message = data[5:]
    for sizes in ((1, 1, 1, 1), (4, 1), [50] * 50, [1] * len(message)):
        assert verdict(records(message, sizes)) == REAL[client]


@pytest.fixture
def server_context(tmp_path: Path) -> ssl.SSLContext:
    leaf, context = authority().leaf("shop.test"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "bundle.pem").write_text(leaf.chain + leaf.key)
    context.load_cert_chain(tmp_path / "bundle.pem")
    return context


def resumption(version: ssl.TLSVersion, context: ssl.SSLContext, server: ssl.SSLContext) -> bytes:
    """The hello of a client of this version that has a ticket."""
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(2):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(to_client, to_server, server_hostname="shop.test", session=session)
        other = server.wrap_bio(to_server, to_client, server_side=True)
        first = b""
        for _ in range(4):
            for side in (client, other):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                if not first:
                    first = to_server.read()
                    to_server.write(first)
        with pytest.raises(ssl.SSLWantReadError):  # the tickets of TLS 1.3
            client.read(1)
        session = client.session
    return first


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_of_a_real_client(version: ssl.TLSVersion, server_context: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found = [verdict(resumption(version, context, server_context)) for _ in range(2)]
    one, two = found
    assert isinstance(one, ClientHello)
    assert isinstance(two, ClientHello)
    assert one.server_name == "shop.test"
    assert len(one.ticket) == 16
    assert one.ticket == two.ticket, "both tickets are of the same key"


GOOD: dict[str, tuple[bytes, ClientHello]] = {
    "no extensions": (hello(), ClientHello(None, (), (0x0303,), b"")),
    "an empty list of extensions": (hello(b"", behind=b""), ClientHello(None, (), (0x0303,), b"")),
    "SSL 3.0": (hello(legacy=0x0300), ClientHello(None, (), (0x0300,), b"")),
    "a name": (hello(SHOP), ClientHello("shop.test", (), (0x0303,), b"")),
    "upper case": (hello(server_name(b"SHOP.Test")), ClientHello("shop.test", (), (0x0303,), b"")),
    "a trailing dot": (hello(server_name(b"shop.test.")), ClientHello("shop.test", (), (0x0303,), b"")),
    "an IPv4 address": (hello(server_name(b"192.0.2.7")), ClientHello(None, (), (0x0303,), b"")),
    "an IPv6 address": (hello(server_name(b"2001:db8::7")), ClientHello(None, (), (0x0303,), b"")),
    "a name of 255 bytes": (hello(server_name(b"a" * 255)), ClientHello(None, (), (0x0303,), b"")),
    "a name with spaces": (hello(server_name(b"shop test")), ClientHello(None, (), (0x0303,), b"")),
    "ALPN": (
        hello(alpn(b"h2", b"\x0a\x0a", b"http/1.1")),
        ClientHello(None, (b"h2", b"\n\n", b"http/1.1"), (771,), b""),
    ),
    "versions": (hello(SHOP, versions(0x3A3A, *BOTH)), ClientHello("shop.test", (), (0x3A3A, *BOTH), b"")),
    "a ticket": (hello(ticket(bytes(range(40)))), ClientHello(None, (), (771,), bytes(range(16)))),
    "an empty ticket": (hello(ticket(b"")), ClientHello(None, (), (771,), b"")),
    "a short ticket": (hello(ticket(b"abc")), ClientHello(None, (), (771,), b"abc")),
    "a shared key": (hello(shared_keys([bytes(range(40)), b"x"])), ClientHello(None, (), (771,), bytes(range(16)))),
    "a ticket and a shared key": (
        hello(ticket(b"t" * 40), shared_keys([b"k" * 40])),
        ClientHello(None, (), (771,), b"k" * 16),
    ),
    "unknown extensions": (
        hello(extension(0x0A0A, b""), SHOP, extension(0xFFFF, bytes(9)), extension(0x1A1A, b"\0")),
        ClientHello("shop.test", (), (771,), b""),
    ),
    "50 KB of padding": (hello(PADDING, SHOP), ClientHello("shop.test", (), (771,), b"")),
    "everything at its largest": (
        hello(SHOP, session=b"", suites=bytes(2000), compression=bytes(255)),
        ClientHello("shop.test", (), (771,), b""),
    ),
}

BAD: dict[str, tuple[bytes, Alert]] = {
    "an extension twice": (hello(SHOP, SHOP), Alert.ILLEGAL_PARAMETER),
    "an unknown extension twice": (hello(extension(9999, b""), extension(9999, b"")), Alert.ILLEGAL_PARAMETER),
    "two names": (hello(server_name(b"a.test", b"b.test")), Alert.ILLEGAL_PARAMETER),
    "the same name twice": (hello(server_name(b"a.test", b"a.test")), Alert.ILLEGAL_PARAMETER),
    "a name of another type": (hello(server_name(b"a.test", kind=1)), Alert.DECODE_ERROR),
    "a second name of another type": (
        hello(extension(0, vector(2, b"\0" + vector(2, b"a.test") + b"\1" + vector(2, b"b")))),
        Alert.DECODE_ERROR,
    ),
    "an empty name": (hello(server_name(b"")), Alert.DECODE_ERROR),
    "no name": (hello(server_name()), Alert.DECODE_ERROR),
    "an empty server_name": (hello(extension(0, b"")), Alert.DECODE_ERROR),
    "a name longer than its list": (hello(extension(0, b"\0\x09\0\0\x07a.test")), Alert.DECODE_ERROR),
    "a list shorter than its extension": (hello(extension(0, b"\0\x09\0\0\x06a.test!")), Alert.DECODE_ERROR),
    "half a length in a name": (hello(extension(0, vector(2, b"\0\0"))), Alert.DECODE_ERROR),
    "a NUL in a name": (hello(server_name(b"shop.test\0.evil.test")), Alert.UNRECOGNIZED_NAME),
    "a name that is not ASCII": (hello(server_name("bücher.test".encode())), Alert.UNRECOGNIZED_NAME),
    "a name of 256 bytes": (hello(server_name(b"a" * 256)), Alert.UNRECOGNIZED_NAME),
    "a name of 9 KiB": (hello(server_name(b"a" * 9_000)), Alert.UNRECOGNIZED_NAME),
    "no protocol": (hello(alpn()), Alert.DECODE_ERROR),
    "an empty protocol": (hello(alpn(b"h2", b"")), Alert.DECODE_ERROR),
    "bytes behind the protocols": (hello(extension(16, b"\0\3\2h2!")), Alert.DECODE_ERROR),
    "a protocol beyond its list": (hello(extension(16, b"\0\3\3h2")), Alert.DECODE_ERROR),
    "no version": (hello(versions()), Alert.DECODE_ERROR),
    "half a version": (hello(extension(43, b"\3\3\4\3")), Alert.DECODE_ERROR),
    "bytes behind the versions": (hello(extension(43, b"\2\3\4\0")), Alert.DECODE_ERROR),
    "a shared key that is not the last": (hello(shared_keys([b"k"]), SHOP), Alert.ILLEGAL_PARAMETER),
    "a shared key without a binder": (hello(shared_keys([b"k", b"l"], 1)), Alert.ILLEGAL_PARAMETER),
    "a binder too many": (hello(shared_keys([b"k"], 2)), Alert.ILLEGAL_PARAMETER),
    "no shared key": (hello(shared_keys([], 1)), Alert.DECODE_ERROR),
    "an empty identity": (hello(shared_keys([b"", b"k"])), Alert.DECODE_ERROR),
    "a short binder": (
        hello(extension(41, vector(2, vector(2, b"k") + bytes(4)) + vector(2, vector(1, bytes(31)) + b"\0"))),
        Alert.DECODE_ERROR,
    ),
    "TLS 4": (hello(legacy=0x0400), Alert.PROTOCOL_VERSION),
    "SSL 2.0 in a record": (hello(legacy=0x0002), Alert.PROTOCOL_VERSION),
    "a long session id": (hello(session=bytes(33)), Alert.DECODE_ERROR),
    "no cipher suites": (hello(suites=b""), Alert.DECODE_ERROR),
    "half a cipher suite": (hello(suites=b"\x13\x01\xc0"), Alert.DECODE_ERROR),
    "no compression method": (hello(compression=b""), Alert.DECODE_ERROR),
    "an extension that is too long": (hello(extension(9, b"x")[:-1]), Alert.DECODE_ERROR),
    "half an extension": (hello(b"\0"), Alert.DECODE_ERROR),
    "one byte behind the compression": (hello(behind=b"\0"), Alert.DECODE_ERROR),
    "bytes behind the extensions": (hello(SHOP, behind=b"\0"), Alert.DECODE_ERROR),
    "an empty message": (b"\x01\0\0\0", Alert.DECODE_ERROR),
}
"Messages. Each is found when it is complete."

HELLO = records(hello(SHOP))
RAW: dict[str, tuple[bytes, Verdict]] = {
    "a request": (b"GET ", OtherProtocol.HTTP),
    "another request": (b"OPTIONS ", OtherProtocol.HTTP),
    "HTTP/2 with prior knowledge": (b"PRI ", OtherProtocol.HTTP),
    "a long method": (b"UPDATEREDIRECTREF ", OtherProtocol.HTTP),
    "a PROXY header": (b"PROXY ", OtherProtocol.HTTP),
    "a method that never ends": (b"A" * 25, OtherProtocol.UNKNOWN),
    "a space": (b" ", OtherProtocol.UNKNOWN),
    "lower case": (b"g", OtherProtocol.UNKNOWN),
    "SSH": (b"SSH-2", OtherProtocol.UNKNOWN),
    "an empty line": (b"\r", OtherProtocol.UNKNOWN),
    "a NUL": (b"\0", OtherProtocol.UNKNOWN),
    "SSL 2.0": (b"\x80\x2e\x01", OtherProtocol.SSL_2),
    "SSL 2.0 with padding": (b"\xc0\x2e\x01", OtherProtocol.SSL_2),
    "something like SSL 2.0": (b"\x80\x2e\x02", OtherProtocol.UNKNOWN),
    "an alert": (b"\x15", Alert.UNEXPECTED_MESSAGE),
    "application data": (b"\x17", Alert.UNEXPECTED_MESSAGE),
    "change_cipher_spec": (b"\x14", Alert.UNEXPECTED_MESSAGE),
    "a heartbeat": (b"\x18", Alert.UNEXPECTED_MESSAGE),
    "records of version 2": (b"\x16\x02", Alert.PROTOCOL_VERSION),
    "records of DTLS": (b"\x16\xfe", Alert.PROTOCOL_VERSION),
    "an empty record": (b"\x16\x03\x01\x00\x00", Alert.UNEXPECTED_MESSAGE),
    "an empty record in between": (HELLO[:3] + b"\0\1\1" + b"\x16\x03\x01\x00\x00", Alert.UNEXPECTED_MESSAGE),
    "a long record": (b"\x16\x03\x01\x40\x01", Alert.RECORD_OVERFLOW),
    "another message": (b"\x16\x03\x01\x00\x04\x02", Alert.UNEXPECTED_MESSAGE),
    "another record in between": (HELLO[:3] + b"\0\1\1" + b"\x15", Alert.UNEXPECTED_MESSAGE),
    "HTTP in between": (HELLO[:3] + b"\0\1\1" + b"G", Alert.UNEXPECTED_MESSAGE),
    "a message of 16 MiB": (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", Alert.ILLEGAL_PARAMETER),
    "another message behind the hello": (records(hello(SHOP) + b"\x01"), Alert.UNEXPECTED_MESSAGE),
}
"Each is the shortest beginning that proves it: one byte less may still become a hello, or HTTP."


@pytest.mark.parametrize("what", GOOD)
def test_valid_messages(what: str) -> None:
    message, expected = GOOD[what]
    for data in (records(message), records(message, (1, 2, 3)), records(message, (4, 1), version=0x0303)):
        reader = ClientHelloReader()
        assert reader.feed(data[:-1]) is None
        assert reader.feed(data[-1:]) == expected
        assert bytes(reader.data) == data
        assert reader.feed(b"\x14\x03\x03\x00\x01\x01") == expected, "what comes behind is kept for OpenSSL"
        assert bytes(reader.data) == data + b"\x14\x03\x03\x00\x01\x01"


@pytest.mark.parametrize("what", BAD)
def test_invalid_messages(what: str) -> None:
    message, alert = BAD[what]
    data = records(message)
    assert verdict(data[:-1]) is None
    for sent in (data, data + HELLO, records(message, [1] * len(message))):
        assert verdict(sent) is alert


@pytest.mark.parametrize("what", RAW)
def test_what_is_found_at_the_byte_that_proves_it(what: str) -> None:
    data, expected = RAW[what]
    assert proof(data) == len(data)
    for rest in (b"", b"/ HTTP/1.1\r\n\r\n", HELLO, bytes(70_000)):
        assert verdict(data + rest) is expected


def test_a_failure_is_repeated_and_nothing_is_kept() -> None:
    reader = ClientHelloReader()
    for _ in range(2):
        with pytest.raises(NotTls, match="plain HTTP"):
            reader.feed(b"GET / HTTP/1.1\r\n")
        assert not reader.data


def test_a_hello_of_the_largest_size() -> None:
    message = hello(extension(21, bytes(900)))
    data = records(message)
    assert isinstance(verdict(data, limit=len(data)), ClientHello)
    assert verdict(data, limit=len(data) - 1) is Alert.ILLEGAL_PARAMETER
    assert verdict(data, b"\0", limit=len(data)) is Alert.ILLEGAL_PARAMETER, "what comes behind it counts"
    whole = records(message, [1] * len(message))
    assert isinstance(verdict(whole, limit=len(whole)), ClientHello)
    assert verdict(whole, limit=len(whole) - 1) is Alert.ILLEGAL_PARAMETER, "headers of records count"


def test_no_more_than_the_limit_is_kept() -> None:
    reader = ClientHelloReader(1000)
    data = records(hello(extension(21, bytes(800))), [1] * 2000)
    for at in range(1000):
        assert reader.feed(data[at : at + 1]) is None
    assert len(reader.data) == 1000
    with pytest.raises(BadClientHello, match="more than 1000 bytes"):
        reader.feed(data[1000:1001])
    assert not reader.data


def cuts(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[one:two] for one, two in pairwise(places)]


BOTH_READ = [
    records(hello(server_name(name), versions(*BOTH), suites=b"\x13\x01\xc0\x2b"))
    for name in (b"shop.test", b"SHOP.test.", b"192.0.2.7", b"a b", b"x" * 255)
]
samples = st.sampled_from(
    [
        *CAPTURED.values(),
        *(records(message) for message, _ in (*GOOD.values(), *BAD.values())),
        *(data for data, _ in RAW.values()),
    ]
)


@given(samples, st.lists(st.integers(0, 70_000), max_size=8), st.lists(st.integers(1, 300), max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same(data: bytes, at: list[int], sizes: list[int]) -> None:
    for limit in (LIMIT, 700, 40):
        assert verdict(*cuts(data, at), limit=limit) == verdict(data, limit=limit)
    if data[:1] == b"\x16" and isinstance(found := verdict(data), ClientHello):
        assert verdict(records(data[5:], sizes)) == found or len(data) > 16384 + 5


@given(
    samples,
    st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.integers(0, 70_000), max_size=3),
)
@settings(max_examples=1000, deadline=None)
def test_damaged_hellos(data: bytes, damage: list[tuple[int, int]], at: list[int]) -> None:
    """Nothing else is raised, and where it is cut does not matter."""
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    assert verdict(*cuts(bytes(damaged), at)) == verdict(bytes(damaged))


def name_for_openssl(data: bytes, context: ssl.SSLContext) -> tuple[bool, str | None]:
    """Whether OpenSSL gets as far as to ask for a certificate with these bytes, and for which name."""
    asked: list[str | None] = []
    context.sni_callback = lambda side, name, context: asked.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return bool(asked), asked[0] if asked else None


@given(
    st.sampled_from(
        [*CAPTURED.values(), *(records(message) for message, _ in (*GOOD.values(), *BAD.values())), *BOTH_READ]
    ),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_openssl_reads_the_same_name(
    server_context: ssl.SSLContext, data: bytes, damage: list[tuple[int, int]]
) -> None:
    """Or it refuses the hello for another reason. What is refused here it does not get to see."""
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    found = verdict(bytes(damaged))
    if isinstance(found, ClientHello):
        has_asked, name = name_for_openssl(bytes(damaged), server_context)
        if has_asked:
            assert found.server_name == (None if name is None else hostname_in(name))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=3))
@settings(max_examples=500, deadline=None)
def test_any_bytes(data: bytes, at: list[int]) -> None:
    for sent in (data, b"\x16\x03\x01" + data, records(b"\x01" + vector(3, b"\x03\x03" + bytes(32) + data))):
        assert verdict(*cuts(sent, at)) == verdict(sent)


@given(st.binary(max_size=60), st.sampled_from([0, 16, 35, 41, 43]))
@settings(max_examples=1000, deadline=None)
def test_any_content_of_extensions(data: bytes, kind: int) -> None:
    found = verdict(records(hello(extension(kind, data))))
    assert isinstance(found, ClientHello | Alert)
    if isinstance(found, ClientHello) and kind in (0, 16, 43):
        size = 1 if kind == 43 else 2
        assert int.from_bytes(data[:size]) == len(data) - size, "the only length that agrees"


def seconds(data: bytes, step: int) -> float:
    """CPU seconds, the least of three, to read these bytes in pieces of `step`."""
    least = float("inf")
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    for _ in range(3):
        began = time.process_time()
        verdict(*pieces)
        least = min(least, time.process_time() - began)
    return least


LARGE = {
    "one message": lambda size: records(hello(extension(21, bytes(size)))),
    "extensions": lambda size: records(hello(*(extension(kind + 100, b"") for kind in range(size // 4)))),
    "protocols": lambda size: records(hello(alpn(*[b"x"] * (size // 2)))),
    "identities": lambda size: records(hello(shared_keys([b"k"] * (size // 40)))),
    "records of one byte": lambda size: records(hello(extension(21, bytes(size // 6))), [1] * size),
    "a name of dots": lambda size: records(hello(server_name(b"a." * (size // 2)))),
}


@pytest.mark.parametrize("what", LARGE)
def test_time_is_linear(what: str) -> None:
    """Ten times the bytes take at most thirty times as long (a quadratic reader: a hundred times)."""
    small, large = LARGE[what](6000), LARGE[what](60_000)
    for step in (1, 16384):
        assert seconds(large, step) < 30 * seconds(small, step) + 0.005


def test_the_record_of_an_alert() -> None:
    assert alert_record(Alert.UNRECOGNIZED_NAME) == bytes.fromhex("15 0301 0002 02 70")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = client.wrap_bio(incoming, outgoing, server_hostname="shop.test")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    incoming.write(alert_record(Alert.UNRECOGNIZED_NAME))
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        side.do_handshake()


def test_few_names_are_remembered() -> None:
    for number in range(NAMES_REMEMBERED + 10):
        found = verdict(records(hello(server_name(b"n%d.test" % number))))
        assert isinstance(found, ClientHello)
        assert found.server_name == f"n{number}.test"
    assert _server_name.cache_info().currsize == NAMES_REMEMBERED


def test_only_short_lists_are_remembered() -> None:
    """Anybody can send a list of 64 KiB."""
    _usual_protocols.cache_clear()
    for length in (USUAL_LIST - 3, USUAL_LIST - 2):  # with three bytes of lengths
        read = ClientHelloReader().feed(records(hello(alpn(b"x" * length))))
        assert read is not None
        assert read.alpn == (b"x" * length,)
    assert _usual_protocols.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("offered", "shared"),
    [
        ((), True),
        ((b"http/1.1",), True),
        ((b"http/1.0",), True),
        ((b"spdy/3", b"h2"), True),
        ((b"spdy/3",), False),
        ((b"HTTP/1.1",), False),
        ((b"h2c", b"h", b""), False),
    ],
)
def test_protocols_are_compared_byte_by_byte(offered: tuple[bytes, ...], shared: bool) -> None:
    hello = ClientHello("shop.test", offered, (), b"")
    assert hello.shares_protocol(["h2", "http/1.1"]) is shared
