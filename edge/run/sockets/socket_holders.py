"""Says which programs of this machine listen on an address, as far as this process may see them (proc(5))."""

import ipaddress
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge.rules.settings.values import Address

LISTENS = "0A"
"The state of a TCP socket that listens, in /proc/net/tcp (proc_pid_net(5))."
ACCEPTS = 0x10000
"The flag of a Unix socket that listens (__SO_ACCEPTCON), in /proc/net/unix."
TABLES = ("tcp", "tcp6")


def is_listened_on(address: Address) -> bool:
    """Whether a program listens on this address. A host that is a name counts as any address."""
    return bool(_inodes(address))


def programs_on(address: Address) -> set[str]:
    """The names of the programs that listen on this address, but for those that this process may not look at."""
    inodes = _inodes(address)
    return {_name_of(pid) for pid in _pids() if inodes & _inodes_of(pid)} - {""}


def _inodes(address: Address) -> set[str]:
    """The listening sockets of this address."""
    return set(_unix_inodes(address.path) if address.path else _tcp_inodes(address))


def _tcp_inodes(address: Address) -> Iterator[str]:
    wanted = _numeric(address.host)
    for host, port, inode in _tcp_listeners():
        if port == address.port and (wanted is None or host == wanted or host.is_unspecified):
            yield inode


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that this host is; None = any."""
    try:
        numeric = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if numeric.is_unspecified else numeric


def _tcp_listeners() -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, str]]:
    """Address, port and inode of each TCP socket that listens."""
    for table in TABLES:
        for fields in _rows(table):
            if fields[3] == LISTENS:
                host, _, port = fields[1].partition(":")
                yield _decoded(host), int(port, 16), fields[9]


def _decoded(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address in /proc/net/tcp: words of four bytes in the order of this machine."""
    words = bytes.fromhex(text)
    order = -1 if sys.byteorder == "little" else 1
    address = ipaddress.ip_address(b"".join(words[at : at + 4][::order] for at in range(0, len(words), 4)))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _unix_inodes(path: str) -> Iterator[str]:
    for fields in _rows("unix"):
        if len(fields) > 7 and int(fields[3], 16) & ACCEPTS and fields[7] == path:
            yield fields[6]


def _rows(table: str) -> list[list[str]]:
    """The rows of a table in /proc/net, without its heading; none if it cannot be read."""
    try:
        lines = Path("/proc/net", table).read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []
    return [line.split(maxsplit=7 if table == "unix" else -1) for line in lines]


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdecimal()]


def _inodes_of(pid: str) -> set[str]:
    """The sockets that a process has open; none if this process may not look."""
    found = set()
    with suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{entry}")
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found


def _name_of(pid: str) -> str:
    """The name of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
