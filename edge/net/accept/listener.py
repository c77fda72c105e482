"""Listening sockets: opened, handed to the loop, closed."""

import asyncio
import errno
import ipaddress
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from edge.net.accept.accept_chain import InfoOf, NewConnection, StepFactory
from edge.net.accept.accept_queue import AcceptQueue, accept_queue
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader, proxies_only
from edge.net.h1.h1_connection import H1Connection
from edge.net.transport.tcp_keepalive import watch_peer
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.proxy_protocol import ProxiedClient
from edge.rules.settings import ListenerSettings, TimeoutSettings
from edge.rules.settings.values import Address

PRIVILEGED = (
    " (low ports need root or CAP_NET_BIND_SERVICE: AmbientCapabilities= in systemd, or the sysctl "
    "net.ipv4.ip_unprivileged_port_start)"
)


_FILE_STAYS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"The file of a Unix socket is the business of whoever bound it: others accept there, too."


def open_listener(address: Address, *, beside: bool = False, private: bool = False) -> socket.socket:
    """A bound socket; whoever accepts on it makes it listen. Raises OSError with the address in its text.

    `beside`: one more for an address that we hold already, of whose connections it gets its share. The first one
    insists on an address that nobody else listens on: SO_REUSEPORT would share it silently with another styx.
    `private`: the file of a Unix socket is for its owner alone, from the first moment.
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
    """A stale socket file of a process that is gone is replaced; a live one is somebody else's, and so is one of
    another user."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            os.unlink(path)
        with _umask(mask):
            sock.bind(path)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return sock


def _is_stale(path: str) -> bool:
    """Whether this is a socket, of ours and no link to one, on which nobody listens."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        return False
    # Without waiting: on one whose owner stands still many may wait.
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


class Listener:
    """Accepts client connections on one socket.

    The loop accepts one connection in each of its turns; those that wait behind it are accepted along with it, for
    `budget` seconds at most. To look whether any do takes 0.3 microseconds. (Several handles of the loop on one
    socket would cost each connection that comes alone 2.4 for every handle; an accept loop of ours only, 12.)
    """

    def __init__(
        self, sock: socket.socket, settings: ListenerSettings, context: WorkerContext, *, budget: float = 0.001
    ) -> None:
        name, forwarding = sock.getsockname(), context.settings.forwarding
        self.port = int(name[1]) if isinstance(name, tuple) else 0
        "0 for a Unix socket."
        self._sock = sock
        self._context = context
        self._budget = budget
        self._server: asyncio.Server | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        "Connections that are accepted, and not handed to their protocol yet."
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        self._waits = waiting.poll
        "Told 0 ms, whether anybody waits. (To accept in vain costs many times as much.)"
        self._backlog = settings.backlog
        self._trusted = forwarding.trusted if settings.trusted is None else settings.trusted
        self._info_of: InfoOf = self._peer_of
        self._steps: tuple[StepFactory, ...] = (H1Connection,)
        "What has a new connection, in this order."
        if settings.proxy_protocol:
            self._info_of = proxies_only(context, self._peer_of)
            self._steps = (partial(ProxyProtocolReader, proxied_peer=self._proxied_peer), H1Connection)
        self._via = forwarding.via_name.encode("ascii")
        self.reconfigure(context.timeouts)

    def reconfigure(self, timeouts: TimeoutSettings) -> None:
        """Watch by these settings whether clients are still there that connect from now on."""
        watch_peer(self._sock, timeouts.unacknowledged, stall=timeouts.write_stall)

    @property
    def queue(self) -> AcceptQueue | None:
        """What waits now; None = nobody knows, as of a Unix socket."""
        return accept_queue(self._sock)

    async def start(self) -> None:
        """Begin to accept."""
        loop = self._context.loop
        # The loop says listen() once more: without the backlog it would cut it down to its own 100.
        if self._sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                self._accepted, sock=self._sock, backlog=self._backlog, **_FILE_STAYS
            )
        else:
            self._server = await loop.create_server(self._accepted, sock=self._sock, backlog=self._backlog)

    async def stop(self) -> None:
        """Accept what waits, and then no more. Connections that are there stay.

        Whatever waits in a socket that is closed for good is reset by the kernel.
        """
        if self._server is None:
            return
        with suppress(OSError):
            for _ in range(self._backlog):
                if not self._waits(0):
                    break
                self._begin(self._sock.accept()[0])
        self._server.close()
        self._server = None
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accepted(self) -> asyncio.Protocol:
        """For a connection that the loop has accepted."""
        self._accept_others()
        return self._connection()

    def _accept_others(self) -> None:
        if not self._waits(0):
            return
        clock, most = self._context.clock, self._context.connection_limiter.accepted_at_once
        end = clock() + self._budget
        with suppress(OSError):  # too many open files: later
            while len(self._beginning) < most and self._waits(0) and clock() < end:
                self._begin(self._sock.accept()[0])

    def _begin(self, accepted: socket.socket) -> None:
        task = self._context.loop.create_task(self._hand_over(accepted), name="begin a connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _hand_over(self, accepted: socket.socket) -> None:
        try:
            await self._context.loop.connect_accepted_socket(self._connection, accepted)
        except OSError:  # reset meanwhile
            accepted.close()

    def _connection(self) -> asyncio.Protocol:
        return NewConnection(self._context, self._info_of, self._steps)

    def _peer_of(self, name: object) -> ClientInfo | None:
        """What is said about a client at this address; None = it has none any more, it was reset.

        A Unix socket's client is local, and trusted.
        """
        if self._sock.family == socket.AF_UNIX:
            return ClientInfo("127.0.0.1", port=self.port, trusted=True, via=self._via)
        if not isinstance(name, tuple):
            return None
        return self._peer(_plain(str(name[0])), self.port)

    def _proxied_peer(self, proxied: ProxiedClient) -> ClientInfo:
        """The same about one that a PROXY header names."""
        return self._peer(proxied.address, proxied.port)

    def _peer(self, address: str, port: int) -> ClientInfo:
        trusted = False
        if self._trusted:
            parsed = ipaddress.ip_address(address)
            trusted = any(parsed in network for network in self._trusted)
        return ClientInfo(address, port=port, trusted=trusted, via=self._via)


def _plain(address: str) -> str:
    """An IPv4 client of an IPv6 socket without the prefix that it has there."""
    inner = address.removeprefix("::ffff:")
    return address if ":" in inner else inner
