"""Credentials of the process at the other end of a Unix socket. The kernel reports them: no process can choose its
own (unix(7)).

SO_PEERCRED       who called connect() or listen() at the other end
SCM_CREDENTIALS   who sent these bytes: also distinguishes processes that hold copies of the same socket
"""

import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_UCRED: Final = struct.Struct("3i")
SPACE: Final = socket.CMSG_SPACE(_UCRED.size)
"Bytes of ancillary data for one set of credentials, and for nothing else: the kernel drops descriptors sent along."


class Credentials(NamedTuple):
    """A process and the user and group that it acts as."""

    pid: int
    "0 = a process outside our PID namespace."
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Credentials:
    """The credentials of the process that connected, or that listens. Raises OSError."""
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def ask_for_senders(sock: socket.socket) -> None:
    """Have the kernel attach the sender's credentials to whatever is sent to this socket. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender_in(ancillary: Iterable[tuple[int, int, bytes]]) -> Credentials | None:
    """The sender in this ancillary data; None = there is none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) == _UCRED.size:
            return Credentials(*_UCRED.unpack(data))
    return None


def parent_of(pid: int) -> int:
    """The parent of a process (proc_pid_stat(5)). Raises OSError when it is gone, or hidden from us."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[1])
