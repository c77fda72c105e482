"""Parser of the PROXY protocol: the header with which a proxy announces its client at the start of a connection.

    v1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\\r\\n           text, at most 107 bytes
    v2   signature, version and command, family, length, addresses, TLVs    bytes, at most 4 KiB here

Both as in HAProxy's proxy-protocol.txt, sections 2.1 and 2.2. There is no detection: the listener is configured to
expect a header, so anything else is an error. It is found at the first byte that proves it (for an address, at its
end; for a TLV, at the end of the header).

The listener decides whose header is believed, by the networks that it trusts.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

MAX_TEXT = 107
"Bytes of the longest v1 header with its CRLF, as the specification says."
MAX_BINARY = 4096
"Bytes of a v2 header. The length field allows 64 KiB; real headers, certificate names included, have below 1 KiB."

_WORD = b"PROXY "
_FAMILIES = (b"TCP4", b"TCP6", b"UNKNOWN")
_PARTS = 4
"Parts of a v1 line after the family: two addresses, two ports."
# The beginning of an address that is not complete yet, by family.
_BEGUN: Mapping[bytes, re.Pattern[bytes]] = {
    b"TCP4": re.compile(rb"[0-9.]{0,15}"),
    b"TCP6": re.compile(rb"[0-9A-Fa-f:.]{0,45}"),  # inet_ntop ends some of them with dots
}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_START = 16
"Bytes of the fixed part, which ends with the length."
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES: Mapping[int, int] = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
"Bytes of the addresses, by family and transport. Datagrams carry no HTTP/1; other values are not assigned."


class BadProxyHeader(ValueError):
    """The connection does not begin with a valid PROXY header."""


class ProxiedClient(NamedTuple):
    """The client that a PROXY header names."""

    address: str
    "Its source address in canonical form; an IPv4-mapped IPv6 address is written as IPv4."
    port: int
    "The destination port: the one on which the proxy accepted the connection."
    client_port: int
    "The source port."


Read = tuple[ProxiedClient | None, int]
"The client (None: the proxy itself, or unknown to it), and the length of the header in bytes."


def read_proxy_header(data: bytes) -> Read | None:
    """Parse the header at the beginning of a connection's bytes; None = more bytes are needed. Raises
    BadProxyHeader."""
    if data.startswith(_WORD):
        return _read_text(data)
    if _WORD.startswith(data):
        return None
    return _read_binary(data)


# v1


def _read_text(data: bytes) -> Read | None:
    end = data.find(b"\r\n", 0, MAX_TEXT)
    whole = end >= 0 or data.endswith(b"\r")
    if end < 0 and len(data) + (1 if whole else 2) > MAX_TEXT:
        raise BadProxyHeader(f"no end within {MAX_TEXT} bytes")
    line = data[len(_WORD) : end] if end >= 0 else data[len(_WORD) :].removesuffix(b"\r")
    family, *parts = line.split(b" ")
    if not whole and not parts:
        if not any(known.startswith(family) for known in _FAMILIES):
            raise BadProxyHeader("an unknown family")
        return None
    if family == b"UNKNOWN":  # "the receiver must ignore anything presented before the CRLF"
        return (None, end + 2) if end >= 0 else None
    if family not in _FAMILIES:
        raise BadProxyHeader("an unknown family")
    proxied = _proxied(family, parts, whole=whole)
    return (proxied, end + 2) if proxied is not None and end >= 0 else None


def _proxied(family: bytes, parts: list[bytes], *, whole: bool) -> ProxiedClient | None:
    """The client in the parts after the family; None = valid so far, but not complete."""
    if len(parts) > _PARTS or (whole and len(parts) < _PARTS):
        raise BadProxyHeader("not two addresses and two ports")
    begun = b"" if whole else parts.pop()
    addresses = [_address(family, part) for part in parts[:2]]
    ports = [_port(part) for part in parts[2:]]
    if whole:
        return ProxiedClient(addresses[0], ports[1], ports[0])
    if len(parts) < 2:
        if _BEGUN[family].fullmatch(begun) is None:
            raise BadProxyHeader("not an address of its family")
    elif begun:
        _port(begun)
    return None


def _address(family: bytes, text: bytes) -> str:
    # The pattern first: IPv6Address would accept a zone, such as %eth0.
    if _BEGUN[family].fullmatch(text) is None:
        raise BadProxyHeader("not an address of its family")
    try:
        if family == b"TCP4":
            return str(IPv4Address(text.decode("ascii")))
        return _plain(IPv6Address(text.decode("ascii")))
    except ValueError:
        raise BadProxyHeader("not an address of its family") from None


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise BadProxyHeader("not a port")
    return int(text)


def _plain(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


# v2


def _read_binary(data: bytes) -> Read | None:
    have = len(data)
    _check_start(data, have)
    if have < _START:
        return None
    command, family, end = data[12], data[13], _START + int.from_bytes(data[14:16])
    if end > MAX_BINARY:
        raise BadProxyHeader(f"longer than {MAX_BINARY} bytes")
    if command == _PROXY and end < _START + _ADDRESS_BYTES[family]:
        raise BadProxyHeader("too short for its addresses")
    if have < end:
        return None
    # LOCAL is the proxy's own connection: its family is ignored, so it is unknown where TLVs would begin.
    if command == _LOCAL or family == _UNSPEC:
        return None, end
    _check_tlvs(data, _START + _ADDRESS_BYTES[family], end)
    if family == _TCP4:
        source, port = int.from_bytes(data[24:26]), int.from_bytes(data[26:28])
        return ProxiedClient(str(IPv4Address(data[16:20])), port, source), end
    if family == _TCP6:
        source, port = int.from_bytes(data[48:50]), int.from_bytes(data[50:52])
        return ProxiedClient(_plain(IPv6Address(data[16:32])), port, source), end
    return None, end


def _check_start(data: bytes, have: int) -> None:
    """Check the first 15 bytes, as many as have been received. Raises BadProxyHeader."""
    if data[:12] != _SIGNATURE[:have]:
        raise BadProxyHeader("neither PROXY nor the signature")
    if have > 12 and data[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader("an unknown version or command")
    if have > 13 and data[12] == _PROXY and data[13] not in _ADDRESS_BYTES:
        raise BadProxyHeader("an unknown family or transport")
    if have > 14 and data[14] >= MAX_BINARY >> 8:
        raise BadProxyHeader(f"longer than {MAX_BINARY} bytes")


def _check_tlvs(data: bytes, at: int, end: int) -> None:
    """Check that the TLVs (type, length, value) fill the header up to `end`. Their values are ignored."""
    while at < end:
        at += 3 + int.from_bytes(data[at + 1 : at + 3])
    if at != end:
        raise BadProxyHeader("a TLV that goes beyond the end")
