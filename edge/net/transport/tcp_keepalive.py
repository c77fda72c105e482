"""TCP asks whether the other end is still there: a machine that lost power, or its network, says no goodbye.

What was sent must be acknowledged in time (TCP_USER_TIMEOUT, RFC 5482), and on a quiet connection the kernel sends
probes that the other end's kernel answers (SO_KEEPALIVE, RFC 9293, section 3.8.4). Linux hands both on from a
listening socket to what is accepted on it, so that no connection costs a system call.
"""

import socket
from contextlib import suppress
from typing import Protocol

PROBES = 3
"Unanswered ones within the time that a connection has. (Linux counts none where TCP_USER_TIMEOUT is set.)"


class Adjustable(Protocol):
    """A socket, or what a transport shows of one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def watch_peer(sock: Adjustable, seconds: float, *, stall: float = 0.0) -> None:
    """The other end may acknowledge nothing for so many seconds; 0 = for as long as the kernel likes.

    `stall`: one that is there, but takes no bytes, has at least so long: for Linux that is the same. Sockets that
    are not of TCP are left alone.
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
