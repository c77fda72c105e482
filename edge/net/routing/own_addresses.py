"""The addresses on which this edge listens: a backend at one of them would lead requests in a circle, or to the
admin API."""

import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

from edge.rules.settings import Address, Settings

LOOPBACK_NAMES = {"localhost": ("127.0.0.1", "::1")}


def is_local(address: str) -> bool:
    """Whether this IP address is one of this machine's: the kernel would send from it to it. Nothing is sent."""
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
    """Of one edge: the admin server's from the settings, the listeners' as they are opened."""

    def __init__(self, settings: Settings, *, is_local: Callable[[str], bool] = is_local) -> None:
        self._is_local = is_local
        self._by_port: dict[int, set[str]] = {}
        "IP addresses by port; 0.0.0.0 or :: = every address of this machine."
        self._paths: set[str] = set()
        "Of Unix sockets."
        self.add(settings.admin.address)
        if settings.admin.socket_address is not None:
            self.add(settings.admin.socket_address)
        for listener in settings.listeners:
            self.add(listener.address)

    def add(self, address: Address) -> None:
        """This edge listens there. Nothing for a port that is not chosen yet."""
        if address.path:
            self._paths.add(os.path.realpath(address.path))
        elif address.port:
            hosts = LOOPBACK_NAMES.get(address.host, (address.host or "::",))
            self._by_port.setdefault(address.port, set()).update(hosts)

    def add_socket(self, sock: socket.socket) -> None:
        """The same for a listening socket."""
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
