"""Opens listening sockets and accepts client connections on them."""

import asyncio
import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from edge.net.accept.accept_queue import AcceptQueue, accept_queue
from edge.net.accept.new_clients import NewClients
from edge.net.transport.tcp_keepalive import set_keepalive
from edge.net.worker_context import WorkerContext
from edge.rules.settings import ListenerSettings, TimeoutSettings
from edge.rules.settings.values import Address

PRIVILEGED = (
    " (low ports need root or CAP_NET_BIND_SERVICE: AmbientCapabilities= in systemd, or the sysctl "
    "net.ipv4.ip_unprivileged_port_start)"
)


_FILE_STAYS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"The file of a Unix socket is removed by the process that bound it, because other workers accept on it, too."


def open_listener(address: Address, *, beside: bool = False, private: bool = False) -> socket.socket:
    """Open and bind a socket; the caller makes it listen. Raises OSError with the address in its text.

    `beside`: one more socket for an address that this edge holds already; the kernel gives it a share of the
    connections. The first socket is bound without SO_REUSEPORT, so that it fails on an address where another
    process listens: with it, the address would be shared silently with another styx. `private`: the file of a Unix
    socket is accessible to its owner only, from its creation on.
    """
    if address.path:
        return _open_unix(address.path, 0o177 if private else None)
    host = address.host or "::"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not address.host else 1)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, address.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = PRIVILEGED if error.errno == errno.EACCES else ""
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}{hint}") from error
    return sock


def _open_unix(path: str, mask: int | None) -> socket.socket:
    """Open and bind a Unix socket, with `mask` as umask. A stale socket file, whose process is gone, is replaced; a
    file that is in use, or belongs to another user, is not. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if is_stale(path):
            os.unlink(path)
        with _umask(mask):
            sock.bind(path)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return sock


def is_stale(path: str) -> bool:
    """Whether this path is a socket, not a link to one, that belongs to this user or root and has no listener."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        return False
    # Non-blocking: the accept queue may be full when the owner is stalled.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


@contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    if mask is None:
        yield
        return
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


AT_ONCE: Final = 6
"""Connections that are accepted along with the loop's one in a turn. Each costs the loop some 40
microseconds, and a ClientHello more: established connections wait for a bounded time only."""


class Listener:
    """Accepts client connections on one socket.

    The loop accepts one connection in each of its turns; the listener accepts those queued behind it along with it,
    at most `at_once` and for at most `budget` seconds. A poll for queued connections takes 0.3 microseconds.
    (Several loop handles on one socket would cost 2.4 microseconds per handle for each connection that comes alone;
    an accept loop of our own instead of the loop's, 12.)
    """

    def __init__(
        self,
        sock: socket.socket,
        settings: ListenerSettings,
        context: WorkerContext,
        *,
        budget: float = 0.001,
        at_once: int = AT_ONCE,
    ) -> None:
        name = sock.getsockname()
        self.port = int(name[1]) if isinstance(name, tuple) else 0
        "The port of the socket; 0 for a Unix socket."
        self._sock = sock
        self._context = context
        self._budget = budget
        self._at_once = at_once
        self._server: asyncio.Server | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        "Accepted connections that are not attached to their protocol yet."
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._poll_queue = poll.poll
        "Called with 0 ms: whether a connection is queued. (An accept in vain costs many times as much.)"
        self._backlog = settings.backlog
        self.clients = NewClients(sock.family == socket.AF_UNIX, self.port, settings, context)
        "Makes the protocols of new connections."
        self.reconfigure(context.timeouts)

    def reconfigure(self, timeouts: TimeoutSettings) -> None:
        """Set TCP keep-alive and user timeout for clients that connect from now on."""
        set_keepalive(self._sock, timeouts.unacknowledged, stall=timeouts.write_stall)

    @property
    def accepted(self) -> int:
        """Connections accepted so far."""
        return self.clients.accepted

    @property
    def queue(self) -> AcceptQueue | None:
        """The accept queue now; None = unknown, as for a Unix socket."""
        return accept_queue(self._sock)

    async def start(self) -> None:
        """Begin to accept."""
        loop = self._context.loop
        # The loop calls listen() again: without `backlog` it would reduce the queue to its default of 100.
        if self._sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                self._accepted, sock=self._sock, backlog=self._backlog, **_FILE_STAYS
            )
        else:
            self._server = await loop.create_server(self._accepted, sock=self._sock, backlog=self._backlog)

    async def stop(self) -> None:
        """Accept all queued connections, then stop accepting. Established connections stay.

        When the last descriptor of a listening socket is closed, the kernel resets the connections in its queue.
        """
        if self._server is None:
            return
        with suppress(OSError):
            for _ in range(self._backlog):
                if not self._poll_queue(0):
                    break
                self._begin(self._sock.accept()[0])
        self._server.close()
        self._server = None
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accepted(self) -> Any:
        """Return the protocol for a connection that the loop has accepted, and accept those queued behind it."""
        self._accept_others()
        return self.clients.connection()

    def _accept_others(self) -> None:
        if not self._poll_queue(0):
            return
        clock, limit = self._context.clock, min(self._at_once, self._context.connection_limiter.accepted_at_once)
        end = clock() + self._budget
        with suppress(OSError):  # too many open files: try again with the next connection
            while len(self._beginning) < limit and self._poll_queue(0) and clock() < end:
                self._begin(self._sock.accept()[0])

    def _begin(self, accepted: socket.socket) -> None:
        task = self._context.loop.create_task(self._hand_over(accepted), name="begin a connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _hand_over(self, accepted: socket.socket) -> None:
        try:
            await self._context.loop.connect_accepted_socket(self.clients.connection, accepted)
        except OSError:  # reset by the client meanwhile
            accepted.close()
