"""PROXY headers of both versions: valid and invalid ones, with any split of the bytes."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.http.proxy_protocol import (
    MAX_BINARY,
    MAX_TEXT,
    BadProxyHeader,
    ProxiedClient,
    Read,
    read_proxy_header,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
FOUR = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + (56324).to_bytes(2) + (443).to_bytes(2)
SIX = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + FOUR[8:]
LONG = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def binary(command: int, family: int, rest: bytes = b"", *, length: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(rest) if length is None else length).to_bytes(2) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


GOOD: dict[str, tuple[bytes, ProxiedClient | None]] = {
    "tcp4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", ProxiedClient("192.0.2.7", 443, 56324)),
    "tcp4, longest": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ProxiedClient("255.255.255.255", 65535, 65535),
    ),
    "tcp4, shortest": (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ProxiedClient("0.0.0.0", 0, 0)),
    "tcp6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", ProxiedClient("2001:db8::7", 443, 56324)),
    "tcp6, spelled out": (
        b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 :: 1 80\r\n",
        ProxiedClient("2001:db8::7", 80, 1),
    ),
    "tcp6, longest": (
        b"PROXY TCP6 %b %b 65535 65535\r\n" % (LONG, LONG),
        ProxiedClient(LONG.decode(), 65535, 65535),
    ),
    "tcp6, an IPv4 client": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 80\r\n", ProxiedClient("192.0.2.7", 80, 1)),
    "tcp6, the same in hexadecimal": (
        b"PROXY TCP6 ::ffff:c000:207 ::1 1 80\r\n",
        ProxiedClient("192.0.2.7", 80, 1),
    ),
    "unknown": (b"PROXY UNKNOWN\r\n", None),
    "unknown, longest": (b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (LONG, LONG), None),
    "unknown, and nonsense": (b"PROXY UNKNOWN \r\x00 \n   TCP4 a b\r\r\n", None),
    "v2 tcp4": (binary(0x21, 0x11, FOUR), ProxiedClient("192.0.2.7", 443, 56324)),
    "v2 tcp6": (binary(0x21, 0x21, SIX), ProxiedClient("2001:db8::7", 443, 56324)),
    "v2 tcp6, an IPv4 client": (
        binary(0x21, 0x21, IPv6Address("::ffff:192.0.2.7").packed + SIX[16:]),
        ProxiedClient("192.0.2.7", 443, 56324),
    ),
    "v2 tlvs": (
        binary(0x21, 0x11, FOUR + tlv(4, b"") + tlv(2, b"shop.test") + tlv(0xEE, bytes(300))),
        ProxiedClient("192.0.2.7", 443, 56324),
    ),
    "v2 of the largest size": (
        binary(0x21, 0x21, SIX + tlv(4, bytes(MAX_BINARY - 16 - 36 - 3))),
        ProxiedClient("2001:db8::7", 443, 56324),
    ),
    "v2 unix": (binary(0x21, 0x31, bytes(216)), None),
    "v2 unix and a tlv": (binary(0x21, 0x31, bytes(216) + tlv(4, b"abc")), None),
    "v2 unspecified": (binary(0x21, 0x00), None),
    "v2 unspecified, and whatever": (binary(0x21, 0x00, b"\x01\x02"), None),
    "v2 local": (binary(0x20, 0x00), None),
    "v2 local, family ignored": (binary(0x20, 0xFF, b"\x01\x02"), None),
    "v2 local, addresses ignored": (binary(0x20, 0x11, FOUR), None),
}

# Each is the shortest beginning that proves it: one byte less may still become a header.
BAD: dict[str, bytes] = {
    "a request": b"G",
    "a request whose method is alike": b"PROXY /",
    "another word": b"PROXZ",
    "lower case": b"p",
    "tls": b"\x16",
    "an empty line and a request": b"\r\nG",
    "two empty lines and a request": b"\r\n\r\nG",
    "two spaces": b"PROXY  ",
    "another family": b"PROXY TCP5",
    "a longer family": b"PROXY TCP44",
    "udp": b"PROXY UD",
    "unknown in lower case": b"PROXY u",
    "a longer unknown": b"PROXY UNKNOWN4",
    "no family": b"PROXY \r",
    "nothing but the family": b"PROXY TCP4\r",
    "a letter in an IPv4 address": b"PROXY TCP4 1.2.3.a",
    "an IPv6 address where IPv4 belongs": b"PROXY TCP4 :",
    "three numbers": b"PROXY TCP4 1.2.3 ",
    "five numbers": b"PROXY TCP4 1.2.3.4.5 ",
    "256": b"PROXY TCP4 256.0.0.1 ",
    "a leading zero": b"PROXY TCP4 10.0.0.01 ",
    "an IPv4 address that goes on": b"PROXY TCP4 111.111.111.1111",
    "no address": b"PROXY TCP4  ",
    "a tab": b"PROXY TCP4 1.2.3.4\t",
    "a wrong destination": b"PROXY TCP4 1.2.3.4 1.2.3.444 ",
    "an IPv4 address where IPv6 belongs": b"PROXY TCP6 1.2.3.4 ",
    "three colons": b"PROXY TCP6 1:::2 ",
    "two gaps": b"PROXY TCP6 1::2::3 ",
    "nine groups": b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ",
    "five digits": b"PROXY TCP6 ::12345 ",
    "a zone": b"PROXY TCP6 fe80::1%",
    "brackets": b"PROXY TCP6 [",
    "an IPv6 address that goes on": b"PROXY TCP6 " + b"1" * 46,
    "a port too large": b"PROXY TCP4 1.2.3.4 5.6.7.8 65536",
    "a port of six digits": b"PROXY TCP4 1.2.3.4 5.6.7.8 123456",
    "a port with a leading zero": b"PROXY TCP4 1.2.3.4 5.6.7.8 08",
    "a port with a sign": b"PROXY TCP4 1.2.3.4 5.6.7.8 +",
    "no port": b"PROXY TCP4 1.2.3.4 5.6.7.8  ",
    "a wrong second port": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2a",
    "an empty second port": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \r",
    "one port": b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r",
    "three ports": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
    "a bare line feed": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    "a bare carriage return": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rG",
    "two carriage returns": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r",
    "no end": b"PROXY UNKNOWN ".ljust(MAX_TEXT - 1, b"x"),
    "an end too late": b"PROXY UNKNOWN ".ljust(MAX_TEXT - 2, b"x") + b"\rx",
    "v2, another signature": SIGNATURE[:-1] + b"\r",
    "version 1": SIGNATURE + b"\x11",
    "version 3": SIGNATURE + b"\x31",
    "an unknown command": SIGNATURE + b"\x22",
    "udp over IPv4": SIGNATURE + b"\x21\x12",
    "udp over IPv6": SIGNATURE + b"\x21\x22",
    "unix datagrams": SIGNATURE + b"\x21\x32",
    "an unknown family": SIGNATURE + b"\x21\x41",
    "a family of no transport": SIGNATURE + b"\x21\x10",
    "an unknown transport": SIGNATURE + b"\x21\x13",
    "v2, too long": SIGNATURE + b"\x21\x11\x10",
    "v2, one byte too long": SIGNATURE + b"\x21\x11\x0f\xf1",
    "local, too long": SIGNATURE + b"\x20\x00\xff",
    "no addresses": SIGNATURE + b"\x21\x11\x00\x00",
    "half an address": SIGNATURE + b"\x21\x11\x00\x0b",
    "IPv4 addresses where IPv6 belong": SIGNATURE + b"\x21\x21\x00\x0c",
    "half a unix address": SIGNATURE + b"\x21\x31\x00\xd7",
    "a tlv of one byte": binary(0x21, 0x11, FOUR + b"\x04"),
    "a tlv without a whole length": binary(0x21, 0x11, FOUR + b"\x04\x00"),
    "a tlv that is too long": binary(0x21, 0x21, SIX + tlv(4, b"") + b"\x04\x00\x02\x00"),
    "a tlv beyond unix addresses": binary(0x21, 0x31, bytes(216) + b"\x04\x00\x01"),
}


def verdict(data: bytes) -> Read | str | None:
    try:
        return read_proxy_header(data)
    except BadProxyHeader:
        return "bad"


@pytest.mark.parametrize("what", GOOD)
def test_valid_headers(what: str) -> None:
    header, proxied = GOOD[what]
    assert [n for n in range(len(header)) if verdict(header[:n]) is not None] == []
    for rest in (b"", b"G", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", header, bytes(10_000)):
        assert verdict(header + rest) == (proxied, len(header))


@pytest.mark.parametrize("what", BAD)
def test_invalid_headers_are_found_at_the_byte_that_proves_it(what: str) -> None:
    data = BAD[what]
    assert [n for n in range(len(data)) if verdict(data[:n]) is not None] == []
    for rest in (b"", b"\n", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(5000)):
        assert verdict(data + rest) == "bad"


def test_messages_of_errors() -> None:
    with pytest.raises(BadProxyHeader, match="not an address of its family"):
        read_proxy_header(b"PROXY TCP4 1.2.3 ")


Pair = tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]

ports = st.integers(0, 65535)
fours = st.ip_addresses(v=4)
sixes = st.ip_addresses(v=6)
pairs = st.tuples(fours, fours) | st.tuples(sixes, sixes)


def plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@given(pairs, ports, ports, st.binary(max_size=20))
def test_any_connection_in_v1(
    addresses: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
    source: int,
    port: int,
    rest: bytes,
) -> None:
    one, two = addresses
    header = f"PROXY TCP{one.version} {one} {two} {source} {port}\r\n".encode()
    assert verdict(header + rest) == (ProxiedClient(plain(one), port, source), len(header))
    assert not any(verdict(header[:n]) for n in range(len(header)))


tlvs = st.lists(st.builds(tlv, st.integers(0, 255), st.binary(max_size=40)), max_size=5).map(b"".join)


@given(pairs, ports, ports, tlvs, st.binary(max_size=20))
def test_any_connection_in_v2(addresses: Pair, source: int, port: int, tlvs: bytes, rest: bytes) -> None:
    one, two = addresses
    family = 0x11 if one.version == 4 else 0x21
    header = binary(0x21, family, one.packed + two.packed + source.to_bytes(2) + port.to_bytes(2) + tlvs)
    assert verdict(header + rest) == (ProxiedClient(plain(one), port, source), len(header))
    assert not any(verdict(header[:n]) for n in range(len(header)))


@st.composite
def mutated(draw: st.DrawFn, start: bytes = b"") -> bytes:
    """A header, of those with this start, in which something was replaced, put in or left out."""
    data = bytearray(draw(st.sampled_from([header for header, _ in GOOD.values() if header.startswith(start)])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, min(len(data), 130)))
        size = draw(st.integers(0, 2))
        put = st.sampled_from([b"", b" ", b"0", b"9", b".", b":", b"\r", b"\n", b"\r\n", b"TCP6"])
        data[at : at + size] = draw(put | st.binary(max_size=3))
    return bytes(data)


@given(mutated())
def test_a_verdict_is_final(data: bytes) -> None:
    """With any split of the bytes: more are needed until there is a verdict, and then it does not change."""
    verdicts = [verdict(data[:n]) for n in range(len(data) + 1)]
    known = [each for each in verdicts if each is not None]
    assert verdicts == [None] * (len(verdicts) - len(known)) + known[:1] * len(known)
    if known and isinstance(known[0], tuple):
        assert known[0][1] == len(verdicts) - len(known)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY UNKNOWN ", SIGNATURE, SIGNATURE + b"\x20\x00"]), st.binary())
def test_there_is_always_a_verdict_in_the_end(start: bytes, more: bytes) -> None:
    assert verdict((start + more).ljust(MAX_BINARY, b"\x00")) is not None


_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]*) (0|[1-9][0-9]*)\r\n")


@settings(max_examples=200)
@given(mutated(b"PROXY TCP"))
def test_v1_against_another_parser(data: bytes) -> None:
    """The other parser is a pattern for the line, and inet_pton for the addresses."""
    line = data[: data.find(b"\r\n", 0, MAX_TEXT) + 2]
    found = _LINE.fullmatch(line)
    good = found is not None and int(found[4]) <= 65535 and int(found[5]) <= 65535
    if found is not None and good:
        family = socket.AF_INET if found[1] == b"4" else socket.AF_INET6
        try:
            source, _ = (socket.inet_pton(family, part.decode()) for part in (found[2], found[3]))
        except OSError:
            good = False
    result = verdict(data)
    assert isinstance(result, tuple) == good
    if good and isinstance(result, tuple) and result[0] is not None:
        address = IPv4Address(source) if len(source) == 4 else IPv6Address(source)
        assert result[0].address == plain(address)
