"""The accept queue of a listening socket: connections that the kernel has made and nobody has accepted yet."""

import socket
import struct
from typing import NamedTuple

# struct tcp_info (linux/tcp.h): of a listening socket, tcpi_unacked is the length of its accept queue, and
# tcpi_sacked the most that it may hold.
_QUEUE = struct.Struct("24xII")


class AcceptQueue(NamedTuple):
    """How many wait, and how many may."""

    length: int
    limit: int


def accept_queue(sock: socket.socket) -> AcceptQueue | None:
    """Of this listening socket; None = it is not one of TCP, or closed. Takes a microsecond."""
    try:
        return AcceptQueue(*_QUEUE.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size)))
    except OSError:
        return None
