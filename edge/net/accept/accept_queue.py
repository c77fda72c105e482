"""Reads the accept queue of a listening socket: connections that the kernel has established and no worker has
accepted yet."""

import socket
import struct
from typing import NamedTuple

# struct tcp_info (linux/tcp.h): of a listening socket, tcpi_unacked is the length of its accept queue, and
# tcpi_sacked the most that it may hold.
_QUEUE = struct.Struct("24xII")


class AcceptQueue(NamedTuple):
    """The number of connections in the queue, and the most that it may hold."""

    length: int
    limit: int


def accept_queue(sock: socket.socket) -> AcceptQueue | None:
    """Read the accept queue of a listening socket; None = not a TCP socket, or closed. Takes a microsecond."""
    try:
        return AcceptQueue(*_QUEUE.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size)))
    except OSError:
        return None
