"""Reserves the port of a container, also while the container does not listen.

A reserved port is bound and does not listen: the kernel refuses connections, and no other program gets the port. A
killed container has to restart on the same port, and without the reservation the kernel may give that port to an
outgoing connection.
"""

import asyncio
import contextlib
import errno
import select
import socket
from asyncio.trsock import TransportSocket

BIND_DEADLINE = 2.0
"Seconds to wait for a port whose previous owner is closing it."

BACKLOG = 1024

ACCEPT_DEADLINE = 1.0
"Seconds for a server to accept what waits for it, before it closes."

QUIET_TURNS = 4
"Turns of the loop without a waiting connection: asyncio needs some between its accept and the first callback."


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def has_waiting(sock: socket.socket | TransportSocket) -> bool:
    """Whether connections wait in the queue of a listening socket. Its close would reset them."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def until_all_are_accepted(sock: socket.socket | TransportSocket) -> None:
    """Wait until no connection waits in the queue of a listening socket, or for ACCEPT_DEADLINE."""
    deadline = asyncio.get_running_loop().time() + ACCEPT_DEADLINE
    quiet_turns = 0
    while quiet_turns < QUIET_TURNS and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)  # the loop, or another process, accepts meanwhile; no event tells of it
        quiet_turns = 0 if has_waiting(sock) else quiet_turns + 1


class ReservedPort:
    """A bound port. `take` passes its socket to the caller, `reserve` binds the port again."""

    def __init__(self, address: str, sock: socket.socket) -> None:
        self.address = address
        self.port: int = sock.getsockname()[1]
        self._socket: socket.socket | None = sock

    @classmethod
    async def bind(cls, address: str, port: int = 0) -> "ReservedPort":
        """Bind address:port (0 = any). Raises OSError when another program holds the port."""
        deadline = asyncio.get_running_loop().time() + BIND_DEADLINE
        while True:
            try:
                return cls(address, _bind(address, port))
            except OSError as error:
                # The previous owner may still be closing it: an event loop closes sockets one turn later.
                late = asyncio.get_running_loop().time() > deadline
                if error.errno != errno.EADDRINUSE or port == 0 or late:
                    raise
                await asyncio.sleep(0.01)

    async def take(self) -> socket.socket:
        """Return the bound socket; the caller owns it from now on."""
        if self._socket is None:
            self._socket = (await ReservedPort.bind(self.address, self.port))._socket
        sock, self._socket = self._socket, None
        assert sock is not None
        return sock

    async def reserve(self) -> None:
        """Bind the port again after its listener has been closed; if that fails, `take` tries again."""
        if self._socket is None:
            with contextlib.suppress(OSError):
                self._socket = (await ReservedPort.bind(self.address, self.port))._socket

    def release(self) -> None:
        """Close the socket; other programs may get the port."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
