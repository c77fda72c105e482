"""Sets the TCP options that detect a vanished peer: a machine that lost power or network closes no connection.

Sent data must be acknowledged in time (TCP_USER_TIMEOUT, RFC 5482), and on an idle connection the kernel sends
probes that the kernel of the other end acknowledges (SO_KEEPALIVE, RFC 9293, section 3.8.4). In Linux an accepted
socket inherits both from its listening socket, so that a connection costs no system call.
"""

import socket
from contextlib import suppress
from typing import Protocol

PROBES = 3
"Unacknowledged probes after which a connection is dead. (Linux ignores the number when TCP_USER_TIMEOUT is set.)"


class SocketOptions(Protocol):
    """A socket, or the `TransportSocket` of a transport."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def set_keepalive(sock: SocketOptions, seconds: float, *, stall: float = 0.0) -> None:
    """Let the kernel end the connection when the other end acknowledges nothing for `seconds`; 0 = the defaults of
    the kernel.

    `stall`: seconds for which the other end may be alive and take no bytes; the user timeout is at least as long,
    because Linux does not distinguish the two. Sockets other than TCP are left as they are.
    """
    idle = max(1, round(seconds / 2))
    interval = max(1, round(seconds / 2 / PROBES))
    timeout = int(max(seconds, stall) * 1000) if seconds else 0
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(bool(seconds)))
        if seconds:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
