"""The addresses on which this edge listens, which no backend may have.

A backend at one of them would be a request loop, or would expose the admin API.
"""

import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

from edge.rules.settings import Address, Settings

LOOPBACK_NAMES = {"localhost": ("127.0.0.1", "::1")}


def is_local(address: str) -> bool:
    """Whether this IP address is one of this machine's: the kernel would use it as source and destination.

    A connected UDP socket shows that; no packet is sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if ip_address(address).is_loopback:
            return True
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return ip_address(str(probe.getsockname()[0])) == ip_address(address)
    except (OSError, ValueError):
        return False


class OwnAddresses:
    """The addresses of one edge: those of its settings, and those of its listening sockets once they are open."""

    def __init__(self, settings: Settings, *, is_local: Callable[[str], bool] = is_local) -> None:
        self._is_local = is_local
        self._by_port: dict[int, set[str]] = {}
        "IP addresses by port; 0.0.0.0 or :: = every address of this machine."
        self._paths: set[str] = set()
        "Paths of Unix sockets."
        self.add(settings.admin.address)
        if settings.admin.socket_address is not None:
            self.add(settings.admin.socket_address)
        for listener in settings.listeners:
            self.add(listener.address)

    def add(self, address: Address) -> None:
        """Add an address on which this edge listens. Port 0, not yet chosen by the system, adds nothing."""
        if address.path:
            self._paths.add(os.path.realpath(address.path))
        elif address.port:
            hosts = LOOPBACK_NAMES.get(address.host, (address.host or "::",))
            self._by_port.setdefault(address.port, set()).update(hosts)

    def add_socket(self, sock: socket.socket) -> None:
        """Add the address of a listening socket."""
        name = sock.getsockname()
        if isinstance(name, tuple):
            self.add(Address(str(name[0]), int(name[1])))

    def holds(self, address: str, port: int) -> bool:
        """Whether this edge listens on this IP address and port, or on the Unix socket at this path."""
        if address.startswith("/"):
            return os.path.realpath(address) in self._paths
        hosts = self._by_port.get(port)
        if not hosts:
            return False
        return address in hosts or (not hosts.isdisjoint(("0.0.0.0", "::")) and self._is_local(address))
